//! Takes steps of a deployment on a machine: each is a script of ours over a new ssh connection.

use std::{fmt, fmt::Write as _, time::Duration};

use anyhow::{Result, bail};
use camino::{Utf8Path, Utf8PathBuf};

use crate::{
    destination::Destination,
    process::{Cancel, End, Invocation},
};

const PRELUDE: &str = include_str!("prelude.sh");
const DEPLOYMENT: &str = include_str!("target.sh");

/// What ssh starts, whatever the login shell is: the script takes root, and reads itself from standard input.
const SHELL: &str = "/bin/sh -c 'test \"$(id -u)\" = 0 && exec /bin/sh -s; \
                     PATH=/run/wrappers/bin:$PATH exec sudo -n /bin/sh -s sudo'";

/// An old connection would not show that the machine still takes new ones, so none is shared. Nothing is asked; whether an
/// unknown host key is accepted is for ssh's own configuration to say, which by default asks.
pub const OPTIONS: [&str; 12] = [
    "-T",
    "-S",
    "none",
    "-oControlMaster=no",
    "-oBatchMode=yes",
    "-oConnectTimeout=10",
    "-oConnectionAttempts=1",
    "-oServerAliveInterval=5",
    "-oServerAliveCountMax=3",
    "-oLogLevel=ERROR",
    "-oClearAllForwardings=yes",
    "-oRemoteCommand=none",
];

/// A machine that is reached by ssh.
#[derive(Clone, Debug)]
pub struct Remote {
    pub destination: Destination,
    /// The file that knows its host keys, as the machine of this name; ssh's own files if `None`.
    known: Option<(Utf8PathBuf, String)>,
}

/// What a step said: keys and values in their order.
#[derive(Clone, Debug, Default)]
pub struct Answer(Vec<(String, String)>);

impl Answer {
    /// The lines of ours among those that came; `None` if the step did not come to its end.
    pub fn parse(text: &str) -> Option<Self> {
        let lines = text.lines().filter_map(|line| line.strip_prefix("@drydock "));
        let pairs: Vec<(String, String)> = lines
            .map(|line| line.split_once(' ').unwrap_or((line, "")))
            // What a machine says must not move a terminal's cursor.
            .map(|(key, value)| (key.to_owned(), value.replace(char::is_control, "?")))
            .collect();
        (pairs.last().is_some_and(|(key, _)| key == "end")).then_some(Self(pairs))
    }

    pub fn get<'a>(&'a self, wanted: &'a str) -> Option<&'a str> {
        self.all(wanted).next()
    }

    pub fn all<'a>(&'a self, wanted: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == wanted).map(|(_, value)| value.as_str())
    }
}

/// A word of a POSIX shell's program.
pub struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}'", self.0.replace('\'', r"'\''"))
    }
}

/// Lines of shell that set variables.
pub fn assignments(variables: &[(&str, &str)]) -> String {
    variables.iter().map(|(name, value)| format!("{name}={}\n", Quoted(value))).collect()
}

impl Remote {
    /// The machine that ssh's own configuration finds and knows there.
    pub fn new(destination: Destination) -> Self {
        Self { destination, known: None }
    }

    /// The machine there, if it has the host key that this file has for `name`, and no other machine.
    pub fn known(destination: Destination, file: &Utf8Path, name: &str) -> Self {
        Self { destination, known: Some((file.to_owned(), name.to_owned())) }
    }

    /// Takes a step of a deployment with these variables. The checks are commands of the shell, for the step `verify`.
    /// Errors: as of [`Self::run`].
    pub fn step(
        &self,
        step: &str,
        variables: &[(&str, &str)],
        checks: &[String],
        limit: Duration,
        cancel: &Cancel,
    ) -> Result<Answer> {
        self.run(&script(step, variables, checks), limit, cancel)
    }

    /// Runs a script of ours, which begins with what every script begins with. Errors: the machine cannot be reached, or
    /// the script did not come to its end; whether it had an effect is then unknown.
    pub fn run(&self, script: &str, limit: Duration, cancel: &Cancel) -> Result<Answer> {
        let script = PRELUDE.to_owned() + script;
        let (mut out, mut err) = (String::new(), String::new());
        let ssh = Invocation::new(self.argv([SHELL])).timeout(limit);
        let end = ssh.feed(Some(script.into_bytes()), cancel, &mut |stream, line| {
            let text = if stream == crate::process::Stream::Out { &mut out } else { &mut err };
            let _ = writeln!(text, "{line}");
        })?;
        match Answer::parse(&out) {
            Some(answer) => Ok(answer),
            None => bail!(self.explain(end, &err)),
        }
    }

    fn argv<'a>(&'a self, command: impl IntoIterator<Item = &'a str>) -> Vec<String> {
        let port = self.destination.port.map(|port| format!("-p{port}"));
        let known = self.known.iter().flat_map(|(file, name)| {
            let quoted = file.as_str().replace('"', "\\\"");
            let file = format!("-oUserKnownHostsFile=\"{quoted}\"");
            let strict = [
                "-oGlobalKnownHostsFile=none",
                "-oKnownHostsCommand=none",
                "-oVerifyHostKeyDNS=no",
                "-oStrictHostKeyChecking=yes",
                "-oUpdateHostKeys=no",
            ];
            strict.map(str::to_owned).into_iter().chain([file, format!("-oHostKeyAlias={name}")])
        });
        let head = ["ssh"].into_iter().chain(OPTIONS).map(str::to_owned).chain(known).chain(port);
        let rest = ["--".to_owned(), self.destination.for_ssh()].into_iter();
        head.chain(rest).chain(command.into_iter().map(str::to_owned)).collect()
    }

    /// The machine as a store for `nix copy`, and the ssh options for it. Who is not root takes it by sudo. With `root`, the
    /// store below that folder.
    pub fn store(&self, is_root: bool, root: Option<&str>) -> (String, String) {
        let port = self.destination.port.map(|port| format!(" -p{port}")).unwrap_or_default();
        let daemon = (!is_root).then(|| "remote-program=sudo%20-n%20nix-daemon".to_owned());
        let below = root.map(|root| format!("remote-store=local%3Froot%3D{root}"));
        let settings: Vec<String> = daemon.into_iter().chain(below).collect();
        let settings = if settings.is_empty() { String::new() } else { format!("?{}", settings.join("&")) };
        (format!("ssh-ng://{}{settings}", self.destination.address()), OPTIONS[1..].join(" ") + &port)
    }

    /// Why there was no answer, and what to try.
    fn explain(&self, end: End, said: &str) -> String {
        let said = said.replace('\r', "").replace(|c: char| c.is_control() && c != '\n', "?");
        let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let target = self.destination.for_ssh();
        let port = self.destination.port.map(|port| format!("-p {port} ")).unwrap_or_default();
        let advice = match said.as_str() {
            _ if said.contains("HAS CHANGED") => {
                format!(
                    "try: find out why the machine has another key; `ssh {port}{target}` says which line knows the old one"
                )
            }
            _ if said.contains("Host key verification failed") => {
                format!(
                    "try: `ssh {port}{target}`, and accept its key if it is the one that the machine's console shows"
                )
            }
            _ if said.contains("Permission denied") => {
                format!("try: `ssh {port}{target}`, which needs a key that the machine knows")
            }
            _ if said.contains("sudo:") => {
                "try: root as the user, or a sudo that asks no password (security.sudo.wheelNeedsPassword = false)"
                    .into()
            }
            _ if said.contains("Could not resolve") => {
                "try: `target` in hosts/hosts.toml, or a `Host` in ~/.ssh/config".into()
            }
            _ => format!("try: `ssh {port}{target}`"),
        };
        let why = match (end, lines.is_empty()) {
            (End::TimedOut, _) => "no answer in time".to_owned(),
            _ if said.contains("HAS CHANGED") => {
                let key =
                    lines.iter().find_map(|line| line.strip_suffix('.').filter(|line| line.starts_with("SHA256:")));
                format!(
                    "Host key verification failed: it has another key than before, {}",
                    key.unwrap_or("which is not told")
                )
            }
            (End::Exited(255), false) => lines.join("; "),
            // Of a machine that falls silent ssh says nothing at this log level.
            (End::Exited(255), true) => "the connection broke off".to_owned(),
            (end, true) => end.to_string(),
            (end, false) => format!("{end}: {}", lines.join("; ")),
        };
        format!("{why}\n  {advice}")
    }
}

fn script(step: &str, variables: &[(&str, &str)], checks: &[String]) -> String {
    let checks: String = checks.iter().map(|check| format!("check {}\n", Quoted(check))).collect();
    assignments(&[("step", step)]) + &assignments(variables) + "checks() {\n:\n" + &checks + "}\n" + DEPLOYMENT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_answers_count_and_noise_does_not() {
        let said = "Welcome!\n\n@drydock uid 0\nnews\n\n@drydock failed a.service\n@drydock failed b\u{1b}[2J\n@drydock end 0\n";
        let answer = Answer::parse(said).unwrap();
        assert_eq!(answer.get("uid"), Some("0"));
        assert_eq!(answer.all("failed").collect::<Vec<_>>(), ["a.service", "b?[2J"]);
        assert!(Answer::parse("@drydock uid 0\n").is_none());
    }

    #[test]
    fn what_is_handed_to_a_step_is_never_read_as_shell() {
        let odd = "'; touch /tmp/x; \"$(id)\" `id` \\";
        let text = script("probe", &[("id", odd)], &[odd.to_owned()]);
        let said =
            format!("{text}\n").replace("main </dev/null", "printf %s \"$id\"; check() { printf %s \"$1\"; }; checks");
        let shell = Invocation::new(["sh", "-c", &said]).read(&Cancel::default()).unwrap();
        assert_eq!(shell, format!("{odd}{odd}"));
    }

    #[test]
    fn a_machine_without_root_is_a_store_by_sudo() {
        let remote = Remote::new("admin@[::1]:2222".parse().unwrap());
        let (store, options) = remote.store(false, None);
        assert_eq!(store, "ssh-ng://admin@[::1]?remote-program=sudo%20-n%20nix-daemon");
        let below = "ssh-ng://admin@[::1]?remote-program=sudo%20-n%20nix-daemon&remote-store=local%3Froot%3D/mnt";
        assert_eq!(remote.store(false, Some("/mnt")).0, below);
        assert!(options.starts_with("-S none ") && options.ends_with(" -p2222"), "{options}");
        assert_eq!(remote.argv(["x"])[13..], ["-p2222", "--", "admin@::1", "x"]);
    }
}
