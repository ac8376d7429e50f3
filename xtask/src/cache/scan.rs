//! One Nix file in, all it could read out: every path that is written in it, whether or not it is used.

use rnix::{
    Root, SyntaxKind, SyntaxNode,
    ast::{self, AstToken as _, BinOpKind, InterpolPart},
};
use rowan::ast::AstNode as _;

use super::{
    need::{Need, Origin, Pattern},
    tree,
};

/// Text larger than this that does not call itself Nix is not parsed but taken to read everything. Bytes.
const LARGEST: usize = 1 << 20;

/// Words with which a file may learn something that no path in it shows.
pub const TELLTALES: [(&str, Need); 8] = [
    ("dirOf", Need::Everything("`dirOf` leaves the folder that a path names")),
    ("scopedImport", Need::Everything("`scopedImport` is not followed")),
    ("__curPos", Need::Itself("`__curPos` holds the store path of the whole source")),
    ("unsafeGetAttrPos", Need::Itself("`unsafeGetAttrPos` holds the store path of the whole source")),
    ("getFlake", Need::Itself("`getFlake` may read the flake itself")),
    ("fetchGit", Need::Itself("`fetchGit` may read the repository itself")),
    ("fetchTree", Need::Itself("`fetchTree` may read the repository itself")),
    ("fetchMercurial", Need::Itself("`fetchMercurial` may read the repository itself")),
];

/// What the file at `path` could read. A file that is no Nix reads nothing; one that should be Nix and is not
/// could read anything.
pub fn scan(path: &str, content: &[u8]) -> Vec<(Need, Origin)> {
    let named = path.ends_with(".nix");
    let everything = |why| vec![(Need::Everything(why), Origin { file: path.to_owned(), line: 1 })];
    if !named && (content.contains(&0) || content.len() > LARGEST) {
        return if content.contains(&0) { Vec::new() } else { everything("it is too large to be told apart from Nix") };
    }
    let text = String::from_utf8_lossy(content);
    // Whatever parses can be imported under any name; what does not parse cannot.
    match Root::parse(&text) {
        parsed if parsed.errors().is_empty() => Scan { path, text: &text, found: Vec::new() }.of(&parsed.syntax()),
        _ if named => everything("it cannot be parsed"),
        _ => Vec::new(),
    }
}

struct Scan<'a> {
    path: &'a str,
    text: &'a str,
    found: Vec<(Need, Origin)>,
}

impl Scan<'_> {
    fn of(mut self, root: &SyntaxNode) -> Vec<(Need, Origin)> {
        for node in root.descendants() {
            if let Some(literal) = ast::PathRel::cast(node.clone()) {
                self.path_literal(&literal);
            } else if ast::PathSearch::can_cast(node.kind()) && !node.text().to_string().starts_with("<nix/") {
                self.put(Need::Everything("`<…>` is looked up outside the flake"), &node);
            }
        }
        for token in root.descendants_with_tokens().filter_map(rnix::NodeOrToken::into_token) {
            if matches!(token.kind(), SyntaxKind::TOKEN_IDENT | SyntaxKind::TOKEN_CUR_POS)
                && let Some((_, need)) = TELLTALES.iter().find(|(word, _)| is_word(token.text(), word))
                && let Some(node) = token.parent()
            {
                self.put(need.clone(), &node);
            }
        }
        self.found
    }

    fn path_literal(&mut self, literal: &ast::PathRel) {
        let node = literal.syntax();
        let Some(pattern) = relative(self.path, literal, |_| Pattern(vec![super::need::Piece::Unknown])) else {
            return self.put(Need::Everything("a path leaves the flake"), node);
        };
        let (pattern, cut) = pattern.known_part();
        let parent = node.parent();
        let function = parent
            .clone()
            .and_then(ast::Apply::cast)
            .filter(|apply| apply.argument().is_some_and(|argument| argument.syntax() == node));
        let function = function.and_then(|apply| apply.lambda()).map(|f| f.syntax().text().to_string());
        let need = match function.as_deref() {
            Some("import" | "builtins.import") if !cut => Need::Import(pattern),
            Some("readDir" | "builtins.readDir") if !cut => Need::Listing(pattern),
            _ => match parent.as_ref().and_then(|parent| added_text(parent, node)) {
                Some(text) if !cut => match tree::join(&pattern.for_host(""), &text) {
                    Some(path) => Need::Below(Pattern::text(path)),
                    None => Need::Everything("a path leaves the flake"),
                },
                _ => Need::Below(pattern),
            },
        };
        self.put(need, node);
    }

    fn put(&mut self, need: Need, node: &SyntaxNode) {
        let line = line_of(self.text, node);
        self.found.push((need, Origin { file: self.path.to_owned(), line }));
    }
}

/// The line of a node, counted from 1.
pub fn line_of(text: &str, node: &SyntaxNode) -> usize {
    let start = usize::from(node.text_range().start()).min(text.len());
    1 + text.as_bytes()[..start].iter().filter(|byte| **byte == b'\n').count()
}

/// `__name` is another way to write `builtins.name`.
pub fn is_word(written: &str, word: &str) -> bool {
    written == word || written.strip_prefix("__") == Some(word)
}

/// A relative path literal in the file `path`, as a path from the root of the tree; `part` says what is known
/// of an interpolated expression. `None` if it leaves the tree.
pub fn relative(path: &str, literal: &ast::PathRel, mut part: impl FnMut(&ast::Expr) -> Pattern) -> Option<Pattern> {
    let mut pattern = Pattern::default();
    for (index, piece) in literal.parts().into_iter().enumerate() {
        match piece {
            InterpolPart::Literal(text) if index == 0 => {
                let text = text.syntax().text().to_owned();
                let folder = tree::parent(path);
                let joined = tree::join(folder, &text)?;
                // The folder's own `/` is cut off by joining but separates what is interpolated next.
                let slash = if text.ends_with('/') && !joined.is_empty() { "/" } else { "" };
                pattern.push(super::need::Piece::Text(joined + slash));
            }
            InterpolPart::Literal(text) => {
                let text = Pattern::text(text.syntax().text());
                if text.climbs() {
                    return None;
                }
                pattern = pattern.append(&text);
            }
            InterpolPart::Interpolation(interpolation) => pattern = pattern.append(&part(&interpolation.expr()?)),
        }
    }
    Some(pattern)
}

/// The text in `path + "text"`, where nothing in it is interpolated.
fn added_text(parent: &SyntaxNode, left: &SyntaxNode) -> Option<String> {
    let sum = ast::BinOp::cast(parent.clone()).filter(|sum| sum.operator() == Some(BinOpKind::Add))?;
    if sum.lhs()?.syntax() != left {
        return None;
    }
    let ast::Expr::Str(text) = sum.rhs()? else { return None };
    match text.normalized_parts().as_slice() {
        [InterpolPart::Literal(text)] if text.starts_with('/') => Some(text.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(source: &str, expected: &[&str]) {
        let shown: Vec<String> = scan("a/b.nix", source.as_bytes())
            .into_iter()
            .map(|(need, origin)| match need {
                Need::Import(p) => format!("import {} @{}", p.for_host(""), origin.line),
                Need::Below(p) => format!("below {} @{}", p.for_host(""), origin.line),
                Need::Listing(p) => format!("list {} @{}", p.for_host(""), origin.line),
                Need::Everything(_) => "everything".into(),
                Need::Itself(_) => "itself".into(),
                other => format!("{other:?}"),
            })
            .collect();
        assert_eq!(shown, expected, "{source}");
    }

    #[test]
    fn what_a_file_could_read() {
        check("{ x = ./c; }", &["below a/c @1"]);
        check("{\n  imports = [ ../m.nix ];\n}", &["below m.nix @2"]);
        check("import ./c", &["import a/c @1"]);
        check("import ./c { inherit x; }", &["import a/c @1"]);
        check("builtins.readDir ./.", &["list a @1"]);
        check("x: ./. + \"/c/d\"", &["below a/c/d @1"]);
        check("x: ./. + \"/c/${x}\"", &["below a @1"]);
        check("x: ./c/${x}", &["below a/c @1"]);
        check("x: ./c/p-${x}.nix", &["below a/c @1"]);
        check("x: ../${x}", &["below  @1"]);
        check("x: ./${x}/../../y", &["everything"]);
        check("../../x", &["everything"]);
        check("<nixpkgs>", &["everything"]);
        check("import <nix/fetchurl.nix>", &[]);
        check("builtins.dirOf x", &["everything"]);
        check("x: __fetchGit x", &["itself"]);
        check("__curPos.file", &["itself"]);
        check("/etc/passwd", &[]);
        check("{ x = ", &["everything"]);
        assert!(scan("README", b"# not Nix: ./x }").is_empty());
        assert!(scan("logo", b"./x\0").is_empty());
        assert_eq!(scan("plain", b"./x").len(), 1, "any name can be imported");
    }
}
