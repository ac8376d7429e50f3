//! A draft of a row in, the questions that are open asked at the terminal; right answers go into the draft.
#![expect(clippy::print_stderr, reason = "questions go to the terminal, answers to programs")]

use anyhow::Result;

use crate::{
    answers::Answers,
    job::{Artifact, System},
    matrix::{self, Draft},
    process::Cancel,
};

/// Asks for everything that the draft does not say. An empty answer takes what is in brackets. False if the
/// person interrupted.
pub fn rest(draft: &mut Draft, text: &str, cancel: &Cancel) -> Result<bool> {
    questions(draft, text, &Answers::from_terminal(), cancel)
}

fn questions(draft: &mut Draft, text: &str, answers: &Answers, cancel: &Cancel) -> Result<bool> {
    let defaults = matrix::defaults(text);
    let names = |items: Vec<&str>| items.join(" ");
    let system = defaults.system.as_ref().map(System::to_string);
    let artifacts = defaults.artifacts.as_ref().map(|all| names(all.iter().map(|(a, _)| a.as_str()).collect()));
    let tests = defaults.tests.as_ref().map(|all| names(all.iter().map(|(t, _)| t.as_str()).collect()));
    let questions: [(&str, &str, Option<String>); 6] = [
        ("description", "What is it for, in one line?", None),
        ("system", "System", system),
        ("artifacts", "Built as iso, system or both", artifacts),
        ("live", "Base profile of its live medium", defaults.live.clone()),
        ("tests", "VM tests of system, live, install, switch", tests),
        ("tags", "Tags", Some(defaults.tags.as_ref().map(|tags| tags.join(" ")).unwrap_or_default())),
    ];
    for (key, question, default) in questions {
        if is_said(draft, key) || key == "live" && !has_iso(draft, artifacts_of(&defaults)) {
            continue;
        }
        loop {
            match &default {
                Some(default) => eprint!("{question} [{default}]: "),
                None => eprint!("{question} "),
            }
            let Some(answer) = answers.next(cancel)? else { return Ok(false) };
            if answer.is_empty() && default.is_some() {
                break;
            }
            say(draft, key, &answer);
            match draft.wrong(text, key) {
                Some(problem) => {
                    eprintln!("  {}: {}", problem.message, problem.help);
                    unsay(draft, key);
                }
                None => break,
            }
        }
    }
    Ok(true)
}

fn artifacts_of(defaults: &matrix::Keys) -> bool {
    defaults.artifacts.as_ref().is_some_and(|all| all.iter().any(|(artifact, _)| *artifact == Artifact::Iso))
}

fn has_iso(draft: &Draft, by_default: bool) -> bool {
    draft.artifacts.as_ref().map_or(by_default, |all| all.iter().any(|artifact| artifact == "iso"))
}

fn is_said(draft: &Draft, key: &str) -> bool {
    match key {
        "description" => !draft.description.is_empty(),
        "system" => draft.system.is_some(),
        "artifacts" => draft.artifacts.is_some(),
        "live" => draft.live.is_some(),
        "tests" => draft.tests.is_some(),
        _ => draft.tags.is_some(),
    }
}

fn say(draft: &mut Draft, key: &str, answer: &str) {
    let words = || Some(answer.split([' ', ',']).filter(|word| !word.is_empty()).map(str::to_owned).collect());
    match key {
        "description" => draft.description = answer.to_owned(),
        "system" => draft.system = Some(answer.to_owned()),
        "artifacts" => draft.artifacts = words(),
        "live" => draft.live = Some(answer.to_owned()),
        "tests" => draft.tests = words(),
        _ => draft.tags = words(),
    }
}

/// Takes a wrong answer back, so that the default can be chosen after all.
fn unsay(draft: &mut Draft, key: &str) {
    match key {
        "description" => draft.description.clear(),
        "system" => draft.system = None,
        "artifacts" => draft.artifacts = None,
        "live" => draft.live = None,
        "tests" => draft.tests = None,
        _ => draft.tags = None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[defaults]\nsystem = 'x86_64-linux'\nartifacts = ['iso']\nlive = 'minimal'\ntests = ['live']\n";

    fn answered(draft: Draft, answers: &[&str]) -> Result<Draft> {
        let answers = Answers::of(answers);
        let mut draft = Draft { name: "web".to_owned(), ..draft };
        questions(&mut draft, TEXT, &answers, &Cancel::default()).map(|_| draft)
    }

    #[test]
    fn empty_answers_leave_it_to_the_defaults() {
        let draft = answered(Draft::default(), &["serves", "", "", "", "", ""]).unwrap();
        assert_eq!(draft, Draft { name: "web".into(), description: "serves".into(), ..Draft::default() });
    }

    #[test]
    fn a_wrong_answer_is_asked_again() {
        let answers = ["", "serves", "x86", "i686-linux", "isoo", "system", "lve", "system, switch", "a b"];
        let draft = answered(Draft::default(), &answers).unwrap();
        assert_eq!(draft.description, "serves");
        assert_eq!(draft.system.as_deref(), Some("i686-linux"));
        assert_eq!(draft.artifacts.as_deref(), Some(&["system".to_owned()][..]));
        assert_eq!(draft.live, None, "not asked: there is no ISO");
        assert_eq!(draft.tests.as_deref(), Some(&["system".to_owned(), "switch".to_owned()][..]));
        assert_eq!(draft.tags.as_deref(), Some(&["a".to_owned(), "b".to_owned()][..]));
    }

    #[test]
    fn after_a_wrong_answer_the_default_is_still_there() {
        let draft = answered(Draft::default(), &["serves", "x86", "", "isoo", "", "", "lve", "", "A", ""]).unwrap();
        assert_eq!(draft, Draft { name: "web".into(), description: "serves".into(), ..Draft::default() });
    }

    #[test]
    fn what_flags_said_is_not_asked() {
        let said = Draft { description: "d".into(), system: Some("i686-linux".into()), ..Draft::default() };
        let draft = answered(said.clone(), &["", "", "", ""]).unwrap();
        assert_eq!(draft, Draft { name: "web".into(), ..said });
    }

    #[test]
    fn an_input_that_ends_is_an_error() {
        assert!(answered(Draft::default(), &["serves"]).unwrap_err().to_string().contains("nothing was changed"));
    }
}
