//! Examines Nix: version, flakes, trust, features, who builds which system, remote builders.

use std::{sync::mpsc::Receiver, time::Duration};

use rayon::prelude::*;

use super::{Finding, Needs, emulation, sandbox};
use crate::{
    nix::{Nix, Settings, Version, argv, remote},
    process::{Cancel, Invocation},
    vmtest::kvm::Kvm,
};

/// How long a remote builder may take to answer; ssh gives up before, so that its own words are shown.
const BUILDER_DEADLINE: Duration = Duration::from_secs(12);

pub fn examine(needs: &Needs, kvm: &Receiver<Kvm>, cancel: &Cancel) -> Vec<Finding> {
    let nix = match Nix::find(cancel) {
        Ok(nix) => nix,
        Err(error) => {
            let text = error.to_string();
            let found = text.split("\n  try: ").next().unwrap_or(&text);
            let advice = "`ci/setup` installs it on Debian and Ubuntu; elsewhere see https://nixos.org/download";
            return vec![Finding::missing("nix", found, advice)];
        }
    };
    let mut findings = vec![Finding::ok("nix", format!("Nix {}", nix.version))];
    let settings = match nix.settings(cancel) {
        Ok(settings) => settings,
        Err(error) => {
            let advice = "run `nix config show` and mend what it complains about, usually /etc/nix/nix.conf";
            findings.push(Finding::missing("nix-configuration", format!("{error:#}"), advice));
            return findings;
        }
    };
    findings.push(flakes(&settings));
    findings.push(trust(nix.version, cancel));
    findings.push(sandbox::examine(&settings, cancel));
    let probes = remote::probe(nix.version, &settings.builders(), cancel);
    // A builder that is down builds for nobody.
    let live: Vec<String> = probes.iter().filter(|probe| probe.answer.is_ok()).map(|p| p.line.clone()).collect();
    findings.extend(systems(needs, &settings, &live, cancel));
    findings.extend(probes.into_iter().map(|probe| builder(probe, settings.get("system"))));
    findings.extend(features(&settings, kvm.recv().ok().as_ref()));
    findings
}

fn flakes(settings: &Settings) -> Finding {
    let lacking: Vec<&str> = ["nix-command", "flakes"]
        .into_iter()
        .filter(|&wanted| !settings.words("experimental-features").any(|word| word == wanted))
        .collect();
    match lacking.is_empty() {
        true => Finding::ok("flakes", "nix-command and flakes are enabled"),
        false => Finding::warn(
            "flakes",
            format!("not enabled: {}; cargo xtask enables them for itself", lacking.join(", ")),
            "for your own `nix` commands put `experimental-features = nix-command flakes` into /etc/nix/nix.conf",
        ),
    }
}

/// `nix store info`, which was `nix store ping` before 2.19, says whether the daemon trusts us.
fn trust(version: Version, cancel: &Cancel) -> Finding {
    let said = Invocation::new(argv::store_info(version, None)).timeout(BUILDER_DEADLINE).capture(cancel);
    let text = said.map(|said| format!("{}\n{}\n{}", said.stdout, said.stderr, said.end)).unwrap_or_default();
    if text.lines().any(|line| line.trim() == "Trusted: 1") {
        return Finding::ok("trusted-user", "the store takes our options (--builders, system-features)");
    }
    if text.lines().any(|line| line.trim() == "Trusted: 0") {
        return Finding::warn(
            "trusted-user",
            "the Nix daemon does not trust this user, so it ignores --builders and system-features",
            "nothing, if the machine's own nix.conf is right; or add the user to `trusted-users`, which makes it \
             equal to root",
        );
    }
    if text.contains("Store URL") {
        return Finding::warn("trusted-user", "this Nix does not say whether it trusts us", "update Nix to see");
    }
    let said = text.lines().find(|line| line.contains("error")).unwrap_or("no answer in time").trim();
    let advice = "is the daemon running (`systemctl status nix-daemon`)? a full disk stops it too";
    Finding::missing("store", format!("the Nix store does not answer: {said}"), advice)
}

fn systems(needs: &Needs, settings: &Settings, live: &[String], cancel: &Cancel) -> Vec<Finding> {
    let mut systems = needs.systems.clone();
    systems.extend(settings.words("extra-platforms").map(str::to_owned));
    systems.insert(settings.get("system").to_owned());
    let known = |system: &&String| needs.systems.contains(*system) || emulation::can_try(system);
    let systems: Vec<&String> = systems.iter().filter(known).collect();
    let needed = |system: &str| needs.systems.contains(system);
    systems.par_iter().map(|system| emulation::examine(system, needed(system), settings, live, cancel)).collect()
}

fn builder(probe: remote::Probe, native: &str) -> Finding {
    let advice = "check `ssh` to it as the user who runs Nix builds (root where there is a daemon), its host key, \
                  and that Nix is on its PATH; or take it out of `builders`";
    let name = format!("builder {}", probe.uri);
    let life = match probe.answer {
        Ok(life) => life,
        Err(why) => return Finding::warn(name, why, advice),
    };
    let systems: Vec<&str> = remote::systems(&probe.line, native).collect();
    let mut words = format!("{}, answers in {:.1} s", systems.join(" "), life.took.as_secs_f64());
    let features = remote::features(&probe.line);
    for (what, text) in
        [("Nix", life.version.as_str()), ("features", features)].iter().filter(|(_, text)| !text.is_empty())
    {
        words += &format!(", {what} {text}");
    }
    match life.trusts {
        true => Finding::ok(name, words),
        false => Finding::warn(
            name,
            format!("{words}; it does not trust this user, and takes nothing that is not signed"),
            "put the user whom ssh logs in as into `trusted-users` in its nix.conf",
        ),
    }
}

/// What Nix believes of itself, held against what is true.
fn features(settings: &Settings, kvm: Option<&Kvm>) -> Vec<Finding> {
    let has = |feature: &str| settings.words("system-features").any(|word| word == feature);
    let list = settings.get("system-features");
    let mut findings = vec![match has("nixos-test") {
        true => Finding::ok("system-features", list),
        false => Finding::warn(
            "system-features",
            format!("{list}: without nixos-test"),
            "put `extra-system-features = nixos-test` into /etc/nix/nix.conf, or NixOS VM tests are not built here",
        ),
    }];
    findings.extend(match (has("kvm"), kvm) {
        (true, Some(kvm)) if !kvm.works() => Some(Finding::warn(
            "nix-kvm",
            "Nix believes in the feature kvm, which does not work here: VM tests would hang until their time limit",
            format!(
                "put `system-features = {}` into /etc/nix/nix.conf; `cargo xtask test-vm` already keeps Nix from it",
                without_kvm(list)
            ),
        )),
        (false, Some(Kvm::Works)) => Some(Finding::warn(
            "nix-kvm",
            "KVM works, but Nix does not offer the feature kvm to builds",
            "put `extra-system-features = kvm` into /etc/nix/nix.conf, so that VM tests run at full speed",
        )),
        _ => None,
    });
    findings
}

fn without_kvm(features: &str) -> String {
    features.split_whitespace().filter(|&word| word != "kvm").collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    #[test]
    fn what_nix_believes_is_held_against_the_probe() {
        let broken = Kvm::Broken { how: "it hung".into() };
        let rows = [
            ("kvm nixos-test", Some(&broken), Some("system-features = nixos-test`")),
            ("kvm nixos-test", Some(&Kvm::Works), None),
            ("nixos-test", Some(&Kvm::Works), Some("extra-system-features = kvm")),
            ("nixos-test", Some(&Kvm::Absent), None),
            ("kvm nixos-test", None, None),
        ];
        for (list, kvm, expected) in rows {
            let settings = Settings::parse(&format!("system = x\nsystem-features = {list}\n")).unwrap();
            let advice = features(&settings, kvm).into_iter().find(|f| f.check == "nix-kvm").and_then(|f| f.advice);
            assert_eq!(advice.is_some(), expected.is_some(), "{list} {kvm:?}");
            assert!(advice.unwrap_or_default().contains(expected.unwrap_or_default()), "{list} {kvm:?}");
        }
    }

    #[test]
    fn flakes_that_are_off_are_a_warning_only() {
        let settings = Settings::parse("system = x\nexperimental-features = nix-command\n").unwrap();
        let finding = flakes(&settings);
        assert_eq!((finding.state, finding.found.contains("flakes")), (State::Warn, true));
    }
}
