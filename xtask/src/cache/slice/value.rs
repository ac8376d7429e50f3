//! What an expression is worth as far as it matters which files it reads.

use std::rc::Rc;

use rnix::ast;

use crate::cache::need::Pattern;

/// Names a scope of the slice.
pub type ScopeId = usize;
/// Names a file of the slice.
pub type FileId = usize;

#[derive(Clone, Debug)]
pub enum Value {
    /// Whatever it is, all that it can read is among the needs already.
    Opaque,
    /// A text, perhaps with the host's name in it.
    Text(Pattern),
    /// A path in the flake's tree.
    Path(Pattern),
    /// What `import` of that path gives.
    Import(Pattern),
    /// hosts.toml as `readFile` gives it.
    MatrixText,
    /// hosts.toml as `fromTOML` gives it.
    Matrix,
    /// `host` of hosts.toml.
    Rows,
    /// The host's own row.
    Row,
    /// `defaults` of hosts.toml.
    Defaults,
    Builtins,
    /// The inputs that Nix calls `outputs` with; `myself` unless `self` was removed.
    Inputs {
        myself: bool,
    },
    Function(ast::Lambda, ScopeId),
    Set(Set),
    Known(Known, Vec<Lazy>),
    /// `mapAttrs function set`.
    Mapped(Rc<Value>, Rc<Value>),
    /// `filterAttrs predicate set`.
    Filtered(Rc<Value>, Rc<Value>),
    /// `genAttrs names function`.
    Generated(Box<Lazy>, Rc<Value>),
    /// `left // right`.
    Updated(Rc<Value>, Rc<Value>),
    /// One of several, and evaluation knows which. One of none is where evaluation ends: `throw`.
    OneOf(Vec<Value>),
}

impl Value {
    /// One of the given values.
    pub fn one_of(values: impl IntoIterator<Item = Self>) -> Self {
        let mut all = Vec::new();
        for value in values {
            match value {
                Self::OneOf(several) => all.extend(several),
                Self::Opaque if all.iter().any(|v| matches!(v, Self::Opaque)) => {}
                value => all.push(value),
            }
        }
        if all.len() == 1 { all.remove(0) } else { Self::OneOf(all) }
    }

    pub fn empty_set() -> Self {
        Self::Set(Set { items: Rc::new(Vec::new()), scope: 0, outer: 0 })
    }
}

/// An attribute set that is written out, or the part of one below an attribute.
#[derive(Clone, Debug)]
pub struct Set {
    pub items: Rc<Vec<Item>>,
    /// Where its values are evaluated.
    pub scope: ScopeId,
    /// Where `inherit name;` looks the name up: outside of a recursive set.
    pub outer: ScopeId,
}

#[derive(Clone, Debug)]
pub enum Item {
    /// `path = value`; the path is empty for a whole set that others are merged into.
    Bind(Vec<ast::Attr>, ast::Expr),
    /// `inherit name` or `inherit (from) name`.
    Inherit(Option<ast::Expr>, String),
}

/// A value that is not needed yet.
#[derive(Clone, Debug)]
pub enum Lazy {
    Expr(ast::Expr, ScopeId),
    Value(Box<Value>),
    /// An attribute of another value, or the default, which is evaluated in the scope.
    Attr(Box<Lazy>, String, Option<ast::Expr>, ScopeId),
}

impl From<Value> for Lazy {
    fn from(value: Value) -> Self {
        Self::Value(Box::new(value))
    }
}

/// Functions of Nix and of nixpkgs' `lib` whose workings are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    Import,
    ReadFile,
    FromToml,
    ImportToml,
    ReadDir,
    MapAttrs,
    FilterAttrs,
    OptionalAttrs,
    AttrNames,
    RemoveAttrs,
    GenAttrs,
    /// Also `abort`.
    Throw,
}

impl Known {
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "import" => Self::Import,
            "readFile" => Self::ReadFile,
            "fromTOML" => Self::FromToml,
            "importTOML" => Self::ImportToml,
            "readDir" => Self::ReadDir,
            "mapAttrs" => Self::MapAttrs,
            "filterAttrs" => Self::FilterAttrs,
            "optionalAttrs" => Self::OptionalAttrs,
            "attrNames" => Self::AttrNames,
            "removeAttrs" => Self::RemoveAttrs,
            "genAttrs" => Self::GenAttrs,
            "throw" | "abort" => Self::Throw,
            _ => return None,
        })
    }

    pub fn arity(self) -> usize {
        match self {
            Self::Import
            | Self::ReadFile
            | Self::FromToml
            | Self::ImportToml
            | Self::ReadDir
            | Self::AttrNames
            | Self::Throw => 1,
            Self::MapAttrs | Self::FilterAttrs | Self::OptionalAttrs | Self::RemoveAttrs | Self::GenAttrs => 2,
        }
    }
}

/// The name of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    Static(String),
    /// The name of the host that is asked for.
    Host,
    Unknown,
}

/// What selecting an attribute may give.
#[derive(Clone, Debug)]
pub enum Found {
    No,
    Perhaps(Value),
    Yes(Value),
}

impl Found {
    pub fn value(self) -> Option<Value> {
        match self {
            Self::No => None,
            Self::Perhaps(value) | Self::Yes(value) => Some(value),
        }
    }
}
