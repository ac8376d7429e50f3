//! Attributes of values.

use std::rc::Rc;

use super::{
    Slice,
    value::{Found, Item, Key, Lazy, Set, Value},
};
use crate::cache::need::{Need, Pattern, Piece};

impl Slice<'_> {
    pub fn select(&mut self, value: &Value, key: &Key) -> Found {
        match (value, key) {
            (Value::Opaque | Value::Builtins, Key::Static(name)) => Found::Perhaps(self.known(name)),
            (Value::Inputs { myself: true }, Key::Static(name)) if name == "self" => {
                self.need(Need::Itself("the flake's `self` is used"));
                Found::Yes(Value::Opaque)
            }
            (Value::Inputs { .. }, Key::Static(_)) => Found::Perhaps(Value::Opaque),
            (Value::Matrix, Key::Static(name)) if name == "host" => Found::Perhaps(Value::Rows),
            (Value::Matrix, Key::Static(name)) if name == "defaults" => Found::Perhaps(Value::Defaults),
            (Value::Rows, Key::Host) => Found::Perhaps(Value::Row),
            (Value::Import(pattern), _) => match self.imported(pattern) {
                Some(value) => self.select(&value, key),
                None => self.unfollowed(value),
            },
            (Value::Set(set), Key::Static(_) | Key::Host) => self.attribute(set, key),
            (Value::Mapped(function, set), Key::Static(_) | Key::Host) => {
                let element = self.select(set, key);
                self.mapped(function, key, element)
            }
            (Value::Filtered(predicate, set), Key::Static(_) | Key::Host) => {
                let Some(element) = self.select(set, key).value() else { return Found::No };
                let verdict = self.mapped(predicate, key, Found::Yes(element.clone())).value();
                verdict.into_iter().for_each(|verdict| self.escape(&verdict));
                Found::Perhaps(element)
            }
            (Value::Generated(names, function), Key::Static(_) | Key::Host) => {
                let names = self.force(names);
                self.escape(&names);
                Found::Perhaps(self.apply(function, name_of(key).into()))
            }
            (Value::Updated(left, right), Key::Static(_) | Key::Host) => match self.select(right, key) {
                Found::Yes(value) => Found::Yes(value),
                Found::No => self.select(left, key),
                Found::Perhaps(value) => match self.select(left, key) {
                    Found::No => Found::Perhaps(value),
                    Found::Perhaps(other) => Found::Perhaps(Value::one_of([value, other])),
                    Found::Yes(other) => Found::Yes(Value::one_of([value, other])),
                },
            },
            (Value::OneOf(values), _) => {
                let found: Vec<Found> = values.iter().map(|value| self.select(value, key)).collect();
                let sure = found.iter().all(|found| matches!(found, Found::Yes(_)));
                let values: Vec<Value> = found.into_iter().filter_map(Found::value).collect();
                match (sure, values.is_empty()) {
                    (_, true) => Found::No,
                    (true, false) => Found::Yes(Value::one_of(values)),
                    (false, false) => Found::Perhaps(Value::one_of(values)),
                }
            }
            _ => self.unfollowed(value),
        }
    }

    /// Needs what decides whether the attribute is there.
    pub fn presence(&mut self, value: &Value, key: &Key) {
        match (value, key) {
            (Value::Rows, Key::Host) => {}
            (Value::Rows, _) => self.need(Need::Names),
            (Value::Matrix, Key::Static(name)) if name == "defaults" => self.need(Need::Defaults),
            (Value::Matrix, Key::Static(name)) if name == "host" => self.need(Need::Names),
            (Value::Mapped(_, set), Key::Static(_) | Key::Host) => self.presence(set, key),
            (Value::Updated(left, right), Key::Static(_) | Key::Host) => {
                self.presence(left, key);
                self.presence(right, key);
            }
            (Value::Set(_) | Value::Opaque | Value::Inputs { .. }, Key::Static(_) | Key::Host) => {
                // A name that is computed is needed as soon as the set is looked into.
                drop(self.select(value, key));
            }
            (Value::OneOf(values), _) => values.iter().for_each(|value| self.presence(value, key)),
            _ => self.escape(value),
        }
    }

    fn mapped(&mut self, function: &Value, key: &Key, element: Found) -> Found {
        let value = match element {
            Found::No => return Found::No,
            Found::Perhaps(value) | Found::Yes(value) => value,
        };
        let inner = self.apply(function, name_of(key).into());
        Found::Perhaps(self.apply(&inner, value.into()))
    }

    fn unfollowed(&mut self, value: &Value) -> Found {
        self.escape(value);
        Found::Perhaps(Value::Opaque)
    }

    fn attribute(&mut self, set: &Set, key: &Key) -> Found {
        let mut whole = Vec::new();
        let mut parts = Vec::new();
        let mut perhaps = Vec::new();
        for item in set.items.iter() {
            match item {
                Item::Inherit(from, name) if *key == Key::Host || *key == Key::Static(name.clone()) => {
                    let value = match from {
                        Some(from) => {
                            Lazy::Attr(Box::new(Lazy::Expr(from.clone(), set.scope)), name.clone(), None, set.scope)
                        }
                        None => self.lookup(name, set.outer).into(),
                    };
                    let value = self.force(&value);
                    if *key == Key::Host { &mut perhaps } else { &mut whole }.push(value);
                }
                Item::Inherit(..) => {}
                Item::Bind(path, value) => {
                    let Some((first, rest)) = path.split_first() else {
                        // A part of this set that was written as a set of its own.
                        let value = self.eval(value, set.scope);
                        match self.select(&value, key) {
                            Found::No => {}
                            Found::Perhaps(value) => perhaps.push(value),
                            Found::Yes(value) => whole.push(value),
                        }
                        continue;
                    };
                    let name = self.key(first, set.scope);
                    if name == *key && rest.is_empty() {
                        whole.push(self.eval(value, set.scope));
                    } else if name == *key {
                        parts.push(Item::Bind(rest.to_vec(), value.clone()));
                    } else if name == Key::Unknown || (name == Key::Host) != (*key == Key::Host) {
                        perhaps.push(match rest.is_empty() {
                            true => self.eval(value, set.scope),
                            false => {
                                let items = Rc::new(vec![Item::Bind(rest.to_vec(), value.clone())]);
                                Value::Set(Set { items, scope: set.scope, outer: set.outer })
                            }
                        });
                    }
                }
            }
        }
        if !parts.is_empty() {
            let part = Value::Set(Set { items: Rc::new(parts), scope: set.scope, outer: set.outer });
            let merged = whole.into_iter().fold(part, |part, value| Value::Updated(Rc::new(value), Rc::new(part)));
            whole = vec![merged];
        }
        match (whole.is_empty(), perhaps.is_empty()) {
            (true, true) => Found::No,
            (true, false) => Found::Perhaps(Value::one_of(perhaps)),
            (false, _) => Found::Yes(Value::one_of(whole.into_iter().chain(perhaps))),
        }
    }
}

/// The attribute's name as a text.
fn name_of(key: &Key) -> Value {
    match key {
        Key::Static(name) => Value::Text(Pattern::text(name.clone())),
        Key::Host => Value::Text(Pattern(vec![Piece::Host])),
        Key::Unknown => Value::Opaque,
    }
}
