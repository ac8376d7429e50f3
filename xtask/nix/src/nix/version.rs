//! Reads and orders versions of Nix.

use std::fmt;

/// Major and minor version: what behaviour depends on. Patch levels do not change the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    pub major: u32,
    pub minor: u32,
}

impl Version {
    /// Reads `nix (Nix) 2.26.3`, `nix (Lix, like Nix) 2.93.0` and `nix (Determinate Nix 3.6.2) 2.29.0`.
    pub fn parse(text: &str) -> Option<Self> {
        let number = text.strip_prefix("nix ")?.rsplit_once(' ').map_or(text, |(_, last)| last);
        let mut parts = number.split(|c: char| !c.is_ascii_digit()).map(str::parse);
        Some(Self { major: parts.next()?.ok()?, minor: parts.next()?.ok()? })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fork_is_understood() {
        let rows = [
            ("nix (Nix) 2.26.3", Some((2, 26))),
            ("nix (Nix) 2.8.0", Some((2, 8))),
            ("nix (Nix) 2.34pre20260101_abc", Some((2, 34))),
            ("nix (Lix, like Nix) 2.93.0-dev", Some((2, 93))),
            ("nix (Determinate Nix 3.6.2) 2.29.0", Some((2, 29))),
            ("nix", None),
            ("", None),
            ("<html>502</html>", None),
            ("nix (Nix) banana", None),
        ];
        for (text, expected) in rows {
            assert_eq!(Version::parse(text).map(|v| (v.major, v.minor)), expected, "{text}");
        }
    }
}
