//! Understands where a machine is reached by ssh: `[ssh://][user@]host[:port]`.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};

/// Where ssh connects to. No part of it can be taken for an option or be read by a shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    user: Option<String>,
    /// A name, which ssh's own configuration may know, or an address; IPv6 without brackets.
    host: String,
    pub port: Option<u16>,
}

impl Destination {
    /// `[user@]host` as ssh(1) takes it, to which `-p` adds the port. In the URL of a Nix store the same stands.
    pub fn address(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        self.user.iter().map(|user| format!("{user}@")).collect::<String>() + &host
    }

    /// `[user@]host` as ssh(1) takes it, without the brackets that only URLs have.
    pub fn for_ssh(&self) -> String {
        self.user.iter().map(|user| format!("{user}@")).collect::<String>() + &self.host
    }
}

impl FromStr for Destination {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rule = || "a target is [user@]host[:port], such as root@10.0.0.1 or ssh://admin@web:2222".to_owned();
        let rest = text.strip_prefix("ssh://").unwrap_or(text);
        let (user, rest) = rest.split_once('@').map_or((None, rest), |(user, rest)| (Some(user), rest));
        let (host, port, more) = match rest.strip_prefix('[').map(|rest| rest.split_once(']')) {
            Some(Some((host, ""))) => (host, None, ":%"),
            Some(Some((host, rest))) => (host, Some(rest.strip_prefix(':').ok_or_else(rule)?), ":%"),
            Some(None) => return Err(rule()),
            None => rest.split_once(':').map_or((rest, None, ""), |(host, port)| (host, Some(port), "")),
        };
        let plain = |text: &str, more: &str| {
            let good = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c) || more.contains(c);
            !text.is_empty() && !text.starts_with(['-', '.']) && text.chars().all(good)
        };
        if !plain(host, more) || user.is_some_and(|user| !plain(user, "")) {
            return Err(rule());
        }
        let number = |text: &str| text.parse().ok().filter(|port| *port > 0 && !text.starts_with(['+', '0']));
        let port = port.map(|port| number(port).ok_or_else(rule)).transpose()?;
        Ok(Self { user: user.map(str::to_owned), host: host.to_owned(), port })
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        f.pad(&(self.address() + &port))
    }
}

impl Serialize for Destination {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_understood_or_refused() {
        let rows = [
            ("web", "web"),
            ("root@web.example", "root@web.example"),
            ("ssh://admin@10.0.0.1:2222", "admin@10.0.0.1:2222"),
            ("[fe80::1%eth0]:22", "[fe80::1%eth0]:22"),
            ("ssh://root@[::1]", "root@[::1]"),
            ("a_b@c-d", "a_b@c-d"),
        ];
        for (text, expected) in rows {
            assert_eq!(text.parse::<Destination>().map(|d| d.to_string()), Ok(expected.to_owned()), "{text}");
        }
        let bad = [
            "",
            "-oProxyCommand=x",
            "root@-x",
            "-l@web",
            "a b",
            "a;b",
            "$(id)",
            "web:",
            "web:0",
            "web:70000",
            "web:x",
            "http://web",
            "a@b@c",
            ".web",
            "web:+22",
            "web:022",
            "::1",
            "[::1",
            "[::1]x",
            "ssh://",
            "web/path",
            "wéb",
            "a\nb",
        ];
        for text in bad {
            assert!(text.parse::<Destination>().is_err(), "{text}");
        }
        assert_eq!("root@[::1]:2".parse::<Destination>().map(|d| d.for_ssh()), Ok("root@::1".to_owned()));
    }
}
