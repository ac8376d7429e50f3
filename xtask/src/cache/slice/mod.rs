//! flake.nix in, what evaluating one job of any host could read out.
//!
//! The fleet's own Nix files are evaluated as far as is needed to see which files, which rows of hosts.toml
//! and which of the host's folders flow into the job; everything else counts as unknown. A value that reaches
//! something unknown "escapes": from then on all that it could read is needed. docs/caching.md argues why
//! nothing is missed.

mod apply;
mod escape;
mod eval;
mod scope;
mod select;
mod value;

use std::{
    collections::{HashMap, HashSet},
    thread,
};

use rnix::{Root, SyntaxNode, TextRange, ast};

use super::{
    need::{Need, Needs, Origin, Pattern},
    scan,
    tree::{self, Tree},
};
use crate::job::Target;
use value::{FileId, Key, ScopeId, Value};

/// Expressions that are evaluated before following is given up: some dozen times what a fleet needs.
const MOST_STEPS: usize = 30_000;
/// Calls and escapes within each other before following is given up.
const DEEPEST: usize = 2000;
/// Bytes; only what is used becomes memory.
const STACK: usize = 512 << 20;

/// What any host's `target` may depend on.
pub fn needs(tree: &Tree, target: Target) -> Needs {
    // Expressions lie within each other some hundred deep, more than a thread's usual stack holds.
    let followed = thread::scope(|scope| {
        let builder = thread::Builder::new().stack_size(STACK);
        builder.spawn_scoped(scope, || follow(tree, target)).map(|thread| thread.join())
    });
    match followed {
        Ok(Ok(needs)) => needs,
        _ => {
            let why = Need::Everything("following the Nix code failed");
            Needs::from([(why, Origin { file: "flake.nix".into(), line: 1 })])
        }
    }
}

fn follow(tree: &Tree, target: Target) -> Needs {
    let mut slice = Slice::new(tree);
    let in_flake = |name: &str| tree::join(&tree.flake, name).unwrap_or_default();
    slice.need(Need::Below(Pattern::text(in_flake("flake.lock"))));
    let text = target.to_string();
    let path = ["outputs", "hydraJobs"].into_iter().map(|name| Key::Static(name.to_owned()));
    let path = path.chain([Key::Host]).chain(text.split('.').map(|name| Key::Static(name.to_owned())));
    match slice.file(&in_flake("flake.nix")) {
        Some(file) => {
            let mut value = slice.root(file);
            for key in path {
                let outputs = key == Key::Static("outputs".into());
                value = slice.select(&value, &key).value().unwrap_or(Value::Opaque);
                if outputs {
                    value = slice.apply(&value, Value::Inputs { myself: true }.into());
                }
            }
            slice.escape(&value);
        }
        None => slice.need(Need::Everything("flake.nix cannot be read")),
    }
    slice.needs
}

struct Slice<'t> {
    tree: &'t Tree,
    /// hosts.toml from the root of the tree.
    matrix: String,
    files: Vec<File>,
    opened: HashMap<String, Option<FileId>>,
    scopes: Vec<scope::Scope>,
    evaluated: HashMap<(FileId, TextRange, ScopeId), State>,
    escaped: HashSet<(FileId, TextRange, ScopeId, usize)>,
    /// How often each function is being called within itself.
    calls: HashMap<(FileId, TextRange), usize>,
    /// Functions that were followed for whatever they may be called with, and scopes that they closed over.
    widened: HashSet<(FileId, TextRange)>,
    closed_over: HashSet<ScopeId>,
    steps: usize,
    depth: usize,
    /// The expression at hand.
    at: (FileId, usize),
    needs: Needs,
}

struct File {
    path: String,
    text: String,
    expr: ast::Expr,
    scope: ScopeId,
}

enum State {
    Running,
    /// It was asked for its own value on the way.
    Recursive,
    Done(Value),
}

impl<'t> Slice<'t> {
    fn new(tree: &'t Tree) -> Self {
        let matrix = tree::join(&tree.flake, crate::matrix::FILE).unwrap_or_default();
        Self {
            tree,
            matrix,
            files: Vec::new(),
            opened: HashMap::new(),
            scopes: vec![scope::Scope::top(0)],
            evaluated: HashMap::new(),
            escaped: HashSet::new(),
            calls: HashMap::new(),
            widened: HashSet::new(),
            closed_over: HashSet::new(),
            steps: 0,
            depth: 0,
            at: (0, 1),
            needs: Needs::new(),
        }
    }

    fn need(&mut self, need: Need) {
        let (file, line) = self.at;
        let file = self.files.get(file).map_or("flake.nix", |file| file.path.as_str()).to_owned();
        self.needs.entry(need).or_insert(Origin { file, line });
    }

    fn note_place(&mut self, file: FileId, node: &SyntaxNode) {
        self.at = (file, scan::line_of(&self.files[file].text, node));
    }

    /// Opens a file, or the default.nix of a folder, to follow its parts. `None` if it cannot be followed.
    fn file(&mut self, path: &str) -> Option<FileId> {
        if let Some(id) = self.opened.get(path) {
            return *id;
        }
        let whole = if self.tree.is_folder(path) { tree::join(path, "default.nix")? } else { path.to_owned() };
        let opened = self.open(&whole);
        self.opened.insert(path.to_owned(), opened);
        opened
    }

    fn open(&mut self, path: &str) -> Option<FileId> {
        if self.tree.detour(path).is_some() || !self.tree.entries.contains_key(path) {
            return None;
        }
        let text = String::from_utf8(self.tree.read(path)?).ok()?;
        let parsed = Root::parse(&text);
        let expr = parsed.errors().is_empty().then(|| parsed.tree().expr()).flatten()?;
        let id = self.files.len();
        let scope = self.scopes.len();
        self.scopes.push(scope::Scope::top(id));
        self.files.push(File { path: path.to_owned(), text, expr, scope });
        self.need(Need::File(path.to_owned()));
        Some(id)
    }

    fn root(&mut self, file: FileId) -> Value {
        let File { expr, scope, .. } = &self.files[file];
        let (expr, scope) = (expr.clone(), *scope);
        self.eval(&expr, scope)
    }

    fn range_key(&self, node: &SyntaxNode, scope: ScopeId) -> (FileId, TextRange, ScopeId) {
        (self.scopes[scope].file, node.text_range(), scope)
    }
}

#[cfg(test)]
#[path = "../slice_test.rs"]
mod tests;
