//! Names and what they stand for.

use std::rc::Rc;

use rnix::{
    SyntaxNode,
    ast::{self, HasEntry},
};
use rowan::ast::AstNode as _;

use super::{
    Slice,
    value::{FileId, Found, Item, Key, Lazy, ScopeId, Set, Value},
};
use crate::cache::{
    need::{Need, Pattern},
    scan,
};

pub struct Scope {
    parent: Option<ScopeId>,
    pub file: FileId,
    kind: Kind,
}

enum Kind {
    Top,
    /// `let` or `rec`; the values are evaluated in this very scope.
    Bindings(Set),
    Parameters(Vec<(String, Lazy)>),
    With(Lazy),
}

impl Scope {
    pub fn top(file: FileId) -> Self {
        Self { parent: None, file, kind: Kind::Top }
    }
}

impl Slice<'_> {
    pub fn with_parameters(&mut self, parent: ScopeId, parameters: Vec<(String, Lazy)>) -> ScopeId {
        self.scope(parent, Kind::Parameters(parameters))
    }

    pub fn with_namespace(&mut self, parent: ScopeId, namespace: ast::Expr) -> ScopeId {
        self.scope(parent, Kind::With(Lazy::Expr(namespace, parent)))
    }

    /// The scope of `let` or `rec`, and its bindings as a set.
    pub fn with_bindings(&mut self, parent: ScopeId, holder: &impl HasEntry) -> (ScopeId, Set) {
        let scope = self.scopes.len();
        let set = Set { items: items(holder), scope, outer: parent };
        (self.scope(parent, Kind::Bindings(set.clone())), set)
    }

    fn scope(&mut self, parent: ScopeId, kind: Kind) -> ScopeId {
        let file = self.scopes[parent].file;
        self.scopes.push(Scope { parent: Some(parent), file, kind });
        self.scopes.len() - 1
    }

    /// A copy of a scope and those around it in which no parameter is known.
    pub fn blank(&mut self, scope: ScopeId) -> ScopeId {
        let Some(parent) = self.scopes[scope].parent else { return scope };
        let outer = self.blank(parent);
        let names = match &self.scopes[scope].kind {
            Kind::Parameters(parameters) => Some(parameters.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>()),
            _ => None,
        };
        if let Some(names) = names {
            let unknown = names.into_iter().map(|name| (name, Value::Opaque.into())).collect();
            return self.scope(outer, Kind::Parameters(unknown));
        }
        if outer == parent {
            return scope;
        }
        let kind = match &self.scopes[scope].kind {
            Kind::Bindings(set) => Kind::Bindings(Set { items: set.items.clone(), scope: self.scopes.len(), outer }),
            Kind::With(Lazy::Expr(namespace, _)) => Kind::With(Lazy::Expr(namespace.clone(), outer)),
            Kind::With(_) | Kind::Parameters(_) | Kind::Top => return scope,
        };
        self.scope(outer, kind)
    }

    /// All parameters that can be seen in a scope escape.
    pub fn escape_scopes(&mut self, scope: ScopeId) {
        let mut next = Some(scope);
        while let Some(id) = next {
            next = self.scopes[id].parent;
            if !self.closed_over.insert(id) {
                continue;
            }
            if let Kind::Parameters(parameters) = &self.scopes[id].kind {
                let lazies: Vec<Lazy> = parameters.iter().map(|(_, lazy)| lazy.clone()).collect();
                for lazy in lazies {
                    let value = self.force(&lazy);
                    self.escape(&value);
                }
            }
        }
    }

    /// What a name stands for. Names that are bound nowhere may come from any `with` around.
    pub fn lookup(&mut self, name: &str, scope: ScopeId) -> Value {
        let mut namespaces = Vec::new();
        let mut next = Some(scope);
        while let Some(id) = next {
            next = self.scopes[id].parent;
            match &self.scopes[id].kind {
                Kind::Top => {}
                Kind::Bindings(set) => {
                    let set = set.clone();
                    if set.items.iter().any(|item| item.binds(name)) {
                        let found = self.select(&Value::Set(set), &Key::Static(name.to_owned()));
                        return found.value().unwrap_or(Value::Opaque);
                    }
                }
                Kind::Parameters(parameters) => {
                    if let Some((_, lazy)) = parameters.iter().find(|(bound, _)| bound == name) {
                        let lazy = lazy.clone();
                        return self.force(&lazy);
                    }
                }
                Kind::With(namespace) => namespaces.push(namespace.clone()),
            }
        }
        if name == "builtins" {
            return Value::Builtins;
        }
        if namespaces.is_empty() || matches!(name, "import" | "map" | "throw" | "true" | "false" | "null") {
            return self.known(name);
        }
        let mut values = vec![self.known(name)];
        for namespace in namespaces {
            let namespace = self.force(&namespace);
            if matches!(namespace, Value::Opaque) {
                continue;
            }
            values.extend(self.select(&namespace, &Key::Static(name.to_owned())).value());
        }
        Value::one_of(values)
    }

    /// A function that is known by its name, wherever it comes from: `builtins`, nixpkgs' `lib`.
    pub fn known(&mut self, name: &str) -> Value {
        if let Some((_, need)) = scan::TELLTALES.iter().find(|(word, _)| scan::is_word(name, word)) {
            self.need(need.clone());
            return Value::Opaque;
        }
        let plain = name.strip_prefix("__").unwrap_or(name);
        super::value::Known::named(plain).map_or(Value::Opaque, |known| Value::Known(known, Vec::new()))
    }

    pub fn force(&mut self, lazy: &Lazy) -> Value {
        match lazy {
            Lazy::Expr(expr, scope) => self.eval(expr, *scope),
            Lazy::Value(value) => (**value).clone(),
            Lazy::Attr(set, name, default, scope) => {
                let set = self.force(set);
                let found = self.select(&set, &Key::Static(name.clone()));
                match (found, default) {
                    (Found::Yes(value), _) | (Found::Perhaps(value), None) => value,
                    (Found::Perhaps(value), Some(default)) => {
                        let default = self.eval(default, *scope);
                        Value::one_of([value, default])
                    }
                    (Found::No, Some(default)) => self.eval(default, *scope),
                    (Found::No, None) => Value::Opaque,
                }
            }
        }
    }

    /// The parameters of a function bound to an argument, in the scope that its body sees.
    pub fn bind(&mut self, lambda: &ast::Lambda, outer: ScopeId, argument: &Lazy) -> ScopeId {
        let scope = self.scopes.len();
        let mut parameters = Vec::new();
        match lambda.param() {
            Some(ast::Param::IdentParam(param)) => {
                parameters.extend(param.ident().map(|i| (text(&i), argument.clone())))
            }
            Some(ast::Param::Pattern(pattern)) => {
                for entry in pattern.pat_entries() {
                    let Some(name) = entry.ident().map(|ident| text(&ident)) else { continue };
                    let lazy = Lazy::Attr(Box::new(argument.clone()), name.clone(), entry.default(), scope);
                    parameters.push((name, lazy));
                }
                let whole = pattern.pat_bind().and_then(|bind| bind.ident());
                parameters.extend(whole.map(|ident| (text(&ident), argument.clone())));
            }
            None => {}
        }
        self.with_parameters(outer, parameters)
    }

    /// The text that an attribute's name has, as far as it is known.
    pub fn key(&mut self, attr: &ast::Attr, scope: ScopeId) -> Key {
        let text = match attr {
            ast::Attr::Ident(ident) => return Key::Static(text(ident)),
            ast::Attr::Str(string) => self.text(string, scope),
            ast::Attr::Dynamic(dynamic) => match dynamic.expr().map(|expr| self.eval(&expr, scope)) {
                Some(Value::Text(pattern)) => pattern,
                Some(value) => {
                    self.escape(&value);
                    return Key::Unknown;
                }
                None => return Key::Unknown,
            },
        };
        match (text.fixed(), text.0.as_slice()) {
            (Some(text), _) => Key::Static(text.to_owned()),
            (None, [crate::cache::need::Piece::Host]) => Key::Host,
            _ => Key::Unknown,
        }
    }

    /// A text with what is interpolated in it.
    pub fn text(&mut self, string: &ast::Str, scope: ScopeId) -> Pattern {
        let mut pattern = Pattern::default();
        for part in string.normalized_parts() {
            match part {
                ast::InterpolPart::Literal(text) => pattern.push(crate::cache::need::Piece::Text(text)),
                ast::InterpolPart::Interpolation(part) => {
                    let part = part.expr().map_or_else(Pattern::default, |expr| self.interpolated(&expr, scope));
                    pattern = pattern.append(&part);
                }
            }
        }
        pattern
    }

    /// What is known of an interpolated expression's text.
    pub fn interpolated(&mut self, expr: &ast::Expr, scope: ScopeId) -> Pattern {
        match self.eval(expr, scope) {
            Value::Text(pattern) => pattern,
            value => {
                self.escape(&value);
                Pattern(vec![crate::cache::need::Piece::Unknown])
            }
        }
    }

    pub fn give_up(&mut self, why: &'static str) -> Value {
        self.need(Need::Everything(why));
        Value::Opaque
    }
}

impl Item {
    /// True if it binds the name for sure; names that only evaluation knows bind nothing lexically.
    fn binds(&self, name: &str) -> bool {
        match self {
            Self::Inherit(_, inherited) => inherited == name,
            Self::Bind(path, _) => path.first().is_some_and(|attr| match attr {
                ast::Attr::Ident(ident) => text(ident) == name,
                ast::Attr::Str(string) => {
                    matches!(string.normalized_parts().as_slice(), [ast::InterpolPart::Literal(t)] if t == name)
                }
                ast::Attr::Dynamic(_) => false,
            }),
        }
    }
}

/// The entries of a set or `let`.
pub fn items(holder: &impl HasEntry) -> Rc<Vec<Item>> {
    let mut items = Vec::new();
    for entry in holder.entries() {
        match entry {
            ast::Entry::AttrpathValue(binding) => {
                let path = binding.attrpath().map(|path| path.attrs().collect()).unwrap_or_default();
                items.extend(binding.value().map(|value| Item::Bind(path, value)));
            }
            ast::Entry::Inherit(inherit) => {
                let from = inherit.from().and_then(|from| from.expr());
                for attr in inherit.attrs() {
                    let name = match &attr {
                        ast::Attr::Ident(ident) => text(ident),
                        other => other.syntax().text().to_string().trim_matches('"').to_owned(),
                    };
                    items.push(Item::Inherit(from.clone(), name));
                }
            }
        }
    }
    Rc::new(items)
}

pub fn text(ident: &ast::Ident) -> String {
    ident.syntax().text().to_string()
}

/// The node by which an item is told from others.
pub fn node_of(item: &Item) -> Option<SyntaxNode> {
    match item {
        Item::Bind(_, value) => Some(value.syntax().clone()),
        Item::Inherit(from, _) => from.as_ref().map(|from| from.syntax().clone()),
    }
}
