//! The step `gate`: judges the results of the jobs before it.
#![expect(clippy::print_stderr, reason = "a verb prints its report")]

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Deserialize;

use crate::{
    diagnostic::{DONE, FAILED, usage},
    flags,
};

/// One job of GitHub's `needs` context.
#[derive(Debug, Deserialize)]
pub struct Need {
    pub result: String,
    #[serde(default)]
    pub outputs: BTreeMap<String, String>,
}

pub fn run(flags: &flags::Gate) -> Result<u8> {
    let needs: BTreeMap<String, Need> = serde_json::from_str(&flags.needs)
        .map_err(|error| usage(format!("--needs is not GitHub's `needs` as JSON: {error}")))?;
    Ok(if opens(&needs) { DONE } else { FAILED })
}

/// Says what became of each job, and whether that is enough.
pub fn opens(needs: &BTreeMap<String, Need>) -> bool {
    let verdicts = judge(needs);
    for (job, verdict) in &verdicts {
        match verdict {
            Ok(word) => eprintln!("{job}: {word}"),
            Err(why) => eprintln!("{job}: {why}"),
        }
    }
    let passed = !verdicts.is_empty() && verdicts.iter().all(|(_, verdict)| verdict.is_ok());
    eprintln!("{}", if passed { "the gate is open" } else { "the gate is closed" });
    passed
}

/// What each job's result means. A job may be skipped only where the plan says that there is nothing to do.
fn judge(needs: &BTreeMap<String, Need>) -> Vec<(&str, Result<&'static str, String>)> {
    let planned = |output: &str| needs.get("plan").and_then(|plan| plan.outputs.get(output)).map(String::as_str);
    let idle = |name: &str| match name {
        "matrix" => planned("any") == Some("false"),
        "program" => planned("compile_on") == Some("[]"),
        _ => false,
    };
    let verdict = |name: &str, need: &Need| match need.result.as_str() {
        "success" => Ok("succeeded"),
        "skipped" if idle(name) => Ok("skipped: there is nothing for it to do"),
        other => Err(format!("{other}, which is not success")),
    };
    needs.iter().map(|(name, need)| (name.as_str(), verdict(name, need))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(json: &str) -> bool {
        run(&flags::Gate { needs: json.to_owned() }).unwrap() == DONE
    }

    #[test]
    fn the_gate_opens_only_when_everything_needed_succeeded() {
        let needs = |plan: &str, any: &str, matrix: &str, report: &str| {
            format!(
                r#"{{"plan":{{"result":"{plan}","outputs":{{"any":"{any}","matrix":"{{}}"}}}},
                "matrix":{{"result":"{matrix}","outputs":{{}}}},"report":{{"result":"{report}"}}}}"#
            )
        };
        let rows = [
            (("success", "true", "success", "success"), true),
            (("success", "false", "skipped", "success"), true),
            (("success", "true", "skipped", "success"), false),
            (("success", "true", "failure", "success"), false),
            (("success", "true", "cancelled", "success"), false),
            (("success", "true", "success", "failure"), false),
            (("failure", "", "skipped", "success"), false),
            (("failure", "false", "skipped", "skipped"), false),
            (("success", "false", "skipped", "skipped"), false),
        ];
        for ((plan, any, matrix, report), expected) in rows {
            assert_eq!(open(&needs(plan, any, matrix, report)), expected, "{plan} {any} {matrix} {report}");
        }
        let program = |compile_on: &str, result: &str| {
            format!(
                r#"{{"plan":{{"result":"success","outputs":{{"any":"true","compile_on":"{compile_on}"}}}},
                "program":{{"result":"{result}"}}}}"#
            )
        };
        let rows = [("[]", "skipped", true), (r#"[\"arm\"]"#, "skipped", false), (r#"[\"arm\"]"#, "success", true)];
        for (compile_on, result, expected) in rows {
            assert_eq!(open(&program(compile_on, result)), expected, "{compile_on} {result}");
        }
        assert!(!open("{}"), "a gate that waits for nothing proves nothing");
    }

    #[test]
    fn what_is_no_json_is_wrong_use() {
        assert!(run(&flags::Gate { needs: "nonsense".into() }).is_err());
    }
}
