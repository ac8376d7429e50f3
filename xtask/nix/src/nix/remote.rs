//! Asks remote builders, given as lines of machines(5), whether they answer. Nix itself tries a dead builder
//! again for every derivation, so it is told only of those that live.

use std::time::Duration;

use rayon::iter::{IntoParallelRefIterator as _, ParallelIterator as _};

use super::{Version, argv};
use crate::process::{Cancel, End, Invocation};

/// How long a builder may take to answer.
const DEADLINE: Duration = Duration::from_secs(10);

/// A builder and what it answered.
#[derive(Clone, Debug)]
pub struct Probe {
    /// The builder's line, as in machines(5).
    pub line: String,
    pub uri: String,
    /// What it answered, or why it did not.
    pub answer: Result<Life, String>,
}

/// A builder's sign of life.
#[derive(Clone, Debug)]
pub struct Life {
    pub took: Duration,
    /// The version of its Nix; empty behind `ssh://`, which does not tell.
    pub version: String,
    /// False if it does not take unsigned paths from this user, without which it can build little.
    pub trusts: bool,
}

/// Lines of machines(5) from one text, as the setting `builders` holds them; `@file` is not followed.
pub fn lines(text: &str) -> Vec<String> {
    let lines = text.split([';', '\n']).map(|line| line.split('#').next().unwrap_or_default().trim());
    lines.filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// The systems that a builder's line offers; `native` where it names none.
pub fn systems<'a>(line: &'a str, native: &'a str) -> impl Iterator<Item = &'a str> {
    let field = line.split_whitespace().nth(1).filter(|field| *field != "-").unwrap_or(native);
    field.split(',')
}

/// The value of NIX_SSHOPTS for whatever reaches builders: what the environment has comes first, and with ssh the first
/// counts. Nix sets none of these, and ssh would wait for a password, or for a machine that has lost its power, for ever.
/// A daemon's ssh does not hear of it.
pub fn ssh_options() -> String {
    let own = std::env::var("NIX_SSHOPTS").unwrap_or_default();
    let options = "-o BatchMode=yes -o ConnectTimeout=8 -o ServerAliveInterval=5 -o ServerAliveCountMax=2";
    format!("{own} {options}").trim().to_owned()
}

/// Asks every builder for a sign of life, all at once, each under a deadline of ten seconds.
pub fn probe(version: Version, lines: &[String], cancel: &Cancel) -> Vec<Probe> {
    lines.par_iter().map(|line| ask(version, line, cancel)).collect()
}

fn ask(version: Version, line: &str, cancel: &Cancel) -> Probe {
    let mut fields = line.split_whitespace();
    let uri = fields.next().unwrap_or_default();
    let key = fields.nth(1).filter(|&key| key != "-");
    let invocation = Invocation::new(argv::store_info(version, Some(&store_uri(uri, key)))).timeout(DEADLINE);
    let answer = match invocation.env("NIX_SSHOPTS", ssh_options()).capture(cancel) {
        Ok(said) if said.end.is_success() => Ok(life(&format!("{}{}", said.stdout, said.stderr), said.elapsed)),
        Ok(said) if said.end == End::TimedOut => Err(format!("no answer in {} s", DEADLINE.as_secs())),
        Ok(said) => {
            let lines: Vec<&str> = said.stderr.lines().map(str::trim).filter(|l| !l.starts_with("Store URL")).collect();
            Err(format!("does not answer: {}", lines.join("; ")))
        }
        Err(error) => Err(format!("{error:#}")),
    };
    Probe { line: line.to_owned(), uri: uri.to_owned(), answer }
}

/// Understands what `nix store info` prints.
fn life(text: &str, took: Duration) -> Life {
    let value = |key: &str| text.lines().find_map(|line| line.trim().strip_prefix(key)).unwrap_or_default().trim();
    Life { took, version: value("Version:").to_owned(), trusts: value("Trusted:") != "0" }
}

/// The system features that a builder's line offers, comma-separated; empty where it names none.
pub fn features(line: &str) -> &str {
    line.split_whitespace().nth(5).filter(|field| *field != "-").unwrap_or_default()
}

/// machines(5): a bare host name means ssh, and the key is a parameter of the store.
fn store_uri(uri: &str, key: Option<&str>) -> String {
    let full = if uri.contains("://") { uri.to_owned() } else { format!("ssh://{uri}") };
    match key {
        Some(key) => format!("{full}{}ssh-key={key}", if full.contains('?') { '&' } else { '?' }),
        None => full,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builders_are_asked_as_nix_would() {
        let rows = [
            (("arm.example", None), "ssh://arm.example"),
            (("ssh-ng://b", Some("/root/.ssh/id")), "ssh-ng://b?ssh-key=/root/.ssh/id"),
            (("ssh://b?compress=true", Some("/k")), "ssh://b?compress=true&ssh-key=/k"),
        ];
        for ((uri, key), expected) in rows {
            assert_eq!(store_uri(uri, key), expected);
        }
    }

    #[test]
    fn lines_and_their_systems() {
        let lines = lines("ssh://a x86_64-linux,aarch64-linux - 4 # big\n ssh://b ; \n");
        assert_eq!(lines, ["ssh://a x86_64-linux,aarch64-linux - 4", "ssh://b"]);
        assert_eq!(systems(&lines[0], "n").collect::<Vec<_>>(), ["x86_64-linux", "aarch64-linux"]);
        assert_eq!(systems(&lines[1], "n").collect::<Vec<_>>(), ["n"]);
        assert_eq!(features("ssh://a x86_64-linux - 4 1 kvm,big-parallel - -"), "kvm,big-parallel");
        assert_eq!([features("ssh://a"), features("ssh://a - - - - -")], [""; 2]);
    }

    #[test]
    fn a_sign_of_life() {
        let rows = [
            ("Store URL: ssh-ng://\nVersion: 2.26.3\nTrusted: 1\n", "2.26.3", true),
            ("Store URL: ssh-ng://x\nVersion: 2.18.1\nTrusted: 0\n", "2.18.1", false),
            ("Store URL: ssh://x\n", "", true),
        ];
        for (text, version, trusts) in rows {
            let life = life(text, Duration::ZERO);
            assert_eq!((life.version.as_str(), life.trusts), (version, trusts), "{text}");
        }
    }
}
