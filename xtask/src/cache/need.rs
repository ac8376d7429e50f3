//! What evaluation may read, in words that hold for every host: paths with the host's name left open.

use std::{collections::BTreeMap, fmt};

use super::tree;

/// A part of a path or a text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Piece {
    Text(String),
    /// The name of the host that is asked for.
    Host,
    /// Something that only evaluation knows.
    Unknown,
}

/// A text some of whose parts are open.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern(pub Vec<Piece>);

impl Pattern {
    pub fn text(text: impl Into<String>) -> Self {
        Self(vec![Piece::Text(text.into())])
    }

    pub fn push(&mut self, piece: Piece) {
        match (self.0.last_mut(), piece) {
            (Some(Piece::Text(before)), Piece::Text(text)) => before.push_str(&text),
            (_, piece) => self.0.push(piece),
        }
    }

    pub fn append(mut self, other: &Self) -> Self {
        other.0.iter().cloned().for_each(|piece| self.push(piece));
        self
    }

    /// The text, if no part of it is open.
    pub fn fixed(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// True if a part goes up a folder, or might after what stands before it.
    pub fn climbs(&self) -> bool {
        self.0.iter().any(|piece| matches!(piece, Piece::Text(text) if text.split('/').any(|part| part == "..")))
    }

    /// As a path in the tree: up to the last folder that is not unknown, and whether something was cut off.
    pub fn known_part(&self) -> (Self, bool) {
        let Some(end) = self.0.iter().position(|piece| *piece == Piece::Unknown) else {
            return (self.clone(), false);
        };
        let mut known = self.0[..end].to_vec();
        while let Some(last) = known.pop() {
            if let Piece::Text(text) = &last
                && let Some(at) = text.rfind('/')
            {
                known.push(Piece::Text(text[..at].to_owned()));
                return (Self(known), true);
            }
        }
        (Self::text(""), true)
    }

    /// The path for one host, from the root of the tree.
    pub fn for_host(&self, host: &str) -> String {
        let whole: String = self
            .0
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => text.as_str(),
                Piece::Host => host,
                Piece::Unknown => "",
            })
            .collect();
        tree::join("", &whole).unwrap_or_default()
    }

    pub fn names_host(&self) -> bool {
        self.0.contains(&Piece::Host)
    }
}

/// Something evaluation may depend on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Need {
    /// This one file, which is followed by its parts.
    File(String),
    /// The path as `import` takes it: a file, or `default.nix` in a folder.
    Import(Pattern),
    /// The path and, if it is a folder, everything below it.
    Below(Pattern),
    /// Names and kinds in a folder.
    Listing(Pattern),
    /// The host's row in hosts.toml.
    Row,
    /// `[defaults]` in hosts.toml.
    Defaults,
    /// The names of all hosts in hosts.toml.
    Names,
    /// Every file; the text says why.
    Everything(&'static str),
    /// Every file, and what `self` tells besides: revision and times.
    Itself(&'static str),
}

/// Where a need comes from: a file of the tree, and a line counted from 1.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    pub file: String,
    pub line: usize,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// Needs, each with the first place that has it.
pub type Needs = BTreeMap<Need, Origin>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_parts_are_cut_at_a_folder() {
        let text = |t: &str| Piece::Text(t.to_owned());
        let rows = [
            (vec![text("hosts/"), Piece::Host, text("/a")], "hosts/web/a", false),
            (vec![text("hosts/"), Piece::Unknown], "hosts", true),
            (vec![text("hosts/"), Piece::Host, text("/x-"), Piece::Unknown, text("/y")], "hosts/web", true),
            (vec![text("hosts/"), Piece::Host, text("-"), Piece::Unknown], "hosts", true),
            (vec![Piece::Unknown, text("/a")], "", true),
        ];
        for (pieces, path, cut) in rows {
            let (known, was_cut) = Pattern(pieces).known_part();
            assert_eq!((known.for_host("web").as_str(), was_cut), (path, cut));
        }
    }
}
