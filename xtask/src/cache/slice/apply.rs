//! Functions and their arguments.

use std::rc::Rc;

use rnix::ast::{self, Expr};
use rowan::ast::AstNode as _;

use super::{
    Slice,
    value::{Known, Lazy, ScopeId, Value},
};
use crate::cache::need::{Need, Pattern};

/// Calls of a function within itself that are followed one by one.
const NESTED: usize = 2;

impl Slice<'_> {
    pub fn apply(&mut self, function: &Value, argument: Lazy) -> Value {
        match function {
            Value::Function(lambda, outer) => {
                let (file, range, _) = self.range_key(lambda.syntax(), *outer);
                let running = self.calls.get(&(file, range)).copied().unwrap_or(0);
                if running >= NESTED {
                    let argument = self.force(&argument);
                    self.escape(&argument);
                    return self.widen(lambda, *outer);
                }
                self.calls.insert((file, range), running + 1);
                let scope = self.bind(lambda, *outer, &argument);
                let value = self.maybe(lambda.body(), scope);
                self.calls.insert((file, range), running);
                value
            }
            Value::Import(pattern) => match self.imported(pattern) {
                Some(value) => self.apply(&value, argument),
                None => self.apply_unknown(function, &argument),
            },
            Value::Known(known, before) => {
                let arguments: Vec<Lazy> = before.iter().cloned().chain([argument]).collect();
                match arguments.len() == known.arity() {
                    true => self.call_known(*known, &arguments),
                    false => Value::Known(*known, arguments),
                }
            }
            Value::OneOf(functions) => {
                let values: Vec<Value> = functions.iter().map(|f| self.apply(f, argument.clone())).collect();
                Value::one_of(values)
            }
            function => self.apply_unknown(function, &argument),
        }
    }

    /// A function that calls itself, for whatever it is called with: all that it could see escapes, then its
    /// body is followed once with nothing known. What it gives is as unknown.
    fn widen(&mut self, lambda: &ast::Lambda, outer: ScopeId) -> Value {
        self.escape_scopes(outer);
        let (file, range, _) = self.range_key(lambda.syntax(), outer);
        if self.widened.insert((file, range)) {
            let before = self.calls.insert((file, range), NESTED);
            let blank = self.blank(outer);
            let scope = self.bind(lambda, blank, &Value::Opaque.into());
            self.escape_expr(lambda.body(), scope);
            self.calls.insert((file, range), before.unwrap_or(0));
        }
        Value::Opaque
    }

    fn apply_unknown(&mut self, function: &Value, argument: &Lazy) -> Value {
        self.escape(function);
        let argument = self.force(argument);
        self.escape(&argument);
        Value::Opaque
    }

    /// The value of an imported file that can be followed.
    pub fn imported(&mut self, pattern: &Pattern) -> Option<Value> {
        let file = self.file(&crate::cache::tree::join("", pattern.fixed()?)?)?;
        Some(self.root(file))
    }

    fn call_known(&mut self, known: Known, arguments: &[Lazy]) -> Value {
        let first = self.force(&arguments[0]);
        match (known, first) {
            (known, Value::OneOf(values)) if known.arity() == 1 => {
                let values: Vec<Value> = values.into_iter().map(|v| self.call_known(known, &[v.into()])).collect();
                Value::one_of(values)
            }
            (Known::Import, Value::Path(pattern)) => Value::Import(pattern),
            (Known::ReadFile, Value::Path(path)) if self.is_matrix(&path) => Value::MatrixText,
            (Known::ImportToml, Value::Path(path)) if self.is_matrix(&path) => Value::Matrix,
            (Known::FromToml, Value::MatrixText) => Value::Matrix,
            (Known::ReadDir, Value::Path(pattern)) if !pattern.known_part().1 => {
                self.need(Need::Listing(pattern));
                Value::Opaque
            }
            (Known::Throw, message) => {
                self.escape(&message);
                Value::OneOf(Vec::new())
            }
            (Known::AttrNames, set) => {
                self.names(&set);
                Value::Opaque
            }
            (Known::MapAttrs, function) => {
                let set = self.force(&arguments[1]);
                Value::Mapped(Rc::new(function), Rc::new(set))
            }
            (Known::FilterAttrs, predicate) => {
                let set = self.force(&arguments[1]);
                Value::Filtered(Rc::new(predicate), Rc::new(set))
            }
            (Known::OptionalAttrs, condition) => {
                self.escape(&condition);
                let set = self.force(&arguments[1]);
                Value::one_of([set, Value::empty_set()])
            }
            (Known::GenAttrs, _) => {
                let function = self.force(&arguments[1]);
                Value::Generated(Box::new(arguments[0].clone()), Rc::new(function))
            }
            (Known::RemoveAttrs, set) => self.without(set, &arguments[1]),
            (_, argument) => {
                self.escape(&argument);
                Value::Opaque
            }
        }
    }

    fn is_matrix(&self, path: &Pattern) -> bool {
        path.fixed().and_then(|path| crate::cache::tree::join("", path)).is_some_and(|path| path == self.matrix)
    }

    /// `removeAttrs set names`; which names, matters only for `self`.
    fn without(&mut self, set: Value, names: &Lazy) -> Value {
        if let (Value::Inputs { .. }, Lazy::Expr(Expr::List(list), _)) = (&set, names) {
            let is_self = |item: Expr| match item {
                Expr::Str(text) => {
                    matches!(text.normalized_parts().as_slice(), [ast::InterpolPart::Literal(name)] if name == "self")
                }
                _ => false,
            };
            if list.items().any(is_self) {
                return Value::Inputs { myself: false };
            }
        }
        let names = self.force(names);
        self.escape(&names);
        Value::one_of([set, Value::empty_set()])
    }

    /// Needs what the attribute names of a set depend on.
    fn names(&mut self, set: &Value) {
        match set {
            Value::Rows => self.need(Need::Names),
            Value::Mapped(_, set) => self.names(set),
            Value::Updated(left, right) => {
                self.names(left);
                self.names(right);
            }
            Value::OneOf(sets) => sets.iter().for_each(|set| self.names(set)),
            set => self.escape(set),
        }
    }
}
