//! A value that something unknown gets hold of: all that it could read becomes a need.

use rowan::ast::AstNode as _;

use super::{
    DEEPEST, Slice, scope,
    value::{Item, Key, Lazy, ScopeId, Set, Value},
};
use crate::cache::need::{Need, Pattern};

impl Slice<'_> {
    pub fn escape(&mut self, value: &Value) {
        if self.depth > DEEPEST {
            self.give_up("the Nix code around the hosts is too involved to be followed");
            return;
        }
        self.depth += 1;
        match value {
            Value::Opaque | Value::Builtins | Value::Text(_) => {}
            Value::Path(pattern) if pattern.climbs() => drop(self.give_up("a path leaves the folder it names")),
            Value::Path(pattern) => self.need(Need::Below(pattern.known_part().0)),
            Value::Import(pattern) => self.need(match pattern.known_part() {
                (_, false) if !pattern.climbs() => Need::Import(pattern.clone()),
                (known, _) if !pattern.climbs() => Need::Below(known),
                _ => Need::Everything("a path leaves the folder it names"),
            }),
            Value::MatrixText | Value::Matrix | Value::Rows => {
                let matrix = Pattern::text(self.matrix.clone());
                self.need(Need::Below(matrix));
            }
            Value::Row => self.need(Need::Row),
            Value::Defaults => self.need(Need::Defaults),
            Value::Inputs { myself: true } => self.need(Need::Itself("the inputs, `self` among them, are handed on")),
            Value::Inputs { myself: false } => {}
            Value::Function(lambda, outer) => {
                let (file, range, outer) = self.range_key(lambda.syntax(), *outer);
                if self.escaped.insert((file, range, outer, 0)) {
                    // Whoever calls it can only hand it what is opaque to us or has escaped before.
                    let scope = self.bind(lambda, outer, &Value::Opaque.into());
                    self.escape_expr(lambda.body(), scope);
                }
            }
            Value::Set(set) => self.escape_set(set),
            Value::Known(_, arguments) => arguments.iter().for_each(|argument| self.escape_lazy(argument)),
            Value::Mapped(a, b) | Value::Filtered(a, b) | Value::Updated(a, b) => {
                self.escape(a);
                self.escape(b);
            }
            Value::Generated(names, function) => {
                self.escape_lazy(names);
                self.escape(function);
            }
            Value::OneOf(values) => values.iter().for_each(|value| self.escape(value)),
        }
        self.depth -= 1;
    }

    fn escape_lazy(&mut self, lazy: &Lazy) {
        let value = self.force(lazy);
        self.escape(&value);
    }

    fn escape_set(&mut self, set: &Set) {
        for item in set.items.iter() {
            match item {
                Item::Inherit(None, name) => {
                    let value = self.lookup(name, set.outer);
                    self.escape(&value);
                }
                Item::Inherit(Some(from), name) => {
                    let from = self.eval(from, set.scope);
                    let value = self.select(&from, &Key::Static(name.clone())).value();
                    value.into_iter().for_each(|value| self.escape(&value));
                }
                Item::Bind(path, value) => {
                    if self.first_escape(item, set.scope) {
                        path.iter().for_each(|attr| drop(self.key(attr, set.scope)));
                        self.escape_expr(Some(value.clone()), set.scope);
                    }
                }
            }
        }
    }

    fn first_escape(&mut self, item: &Item, scope: ScopeId) -> bool {
        let Some(node) = scope::node_of(item) else { return true };
        let (file, range, scope) = self.range_key(&node, scope);
        self.escaped.insert((file, range, scope, 1))
    }
}
