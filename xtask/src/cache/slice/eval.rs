//! Expressions in, their values out, each evaluated once in a scope.

use std::rc::Rc;

use rnix::ast::{self, BinOpKind, Expr};
use rowan::ast::AstNode as _;

use super::{
    DEEPEST, MOST_STEPS, Slice, State, scope,
    value::{Found, Lazy, ScopeId, Set, Value},
};
use crate::cache::{
    need::{Need, Pattern, Piece},
    scan,
};

impl Slice<'_> {
    pub fn eval(&mut self, expr: &Expr, scope: ScopeId) -> Value {
        let key = self.range_key(expr.syntax(), scope);
        match self.evaluated.get_mut(&key) {
            Some(State::Done(value)) => return value.clone(),
            Some(running) => {
                *running = State::Recursive;
                return Value::Opaque;
            }
            None => {}
        }
        self.steps += 1;
        if self.steps > MOST_STEPS || self.depth > DEEPEST {
            return self.give_up("the Nix code around the hosts is too involved to be followed");
        }
        self.evaluated.insert(key, State::Running);
        let before = self.at;
        self.note_place(key.0, expr.syntax());
        self.depth += 1;
        let mut value = self.value_of(expr, scope);
        if matches!(self.evaluated.get(&key), Some(State::Recursive)) {
            // Whoever asked on the way was told `Opaque`, which is right once all of it is among the needs.
            self.escape(&value);
            value = Value::Opaque;
        }
        self.depth -= 1;
        self.at = before;
        self.evaluated.insert(key, State::Done(value.clone()));
        value
    }

    fn value_of(&mut self, expr: &Expr, scope: ScopeId) -> Value {
        let lazy = |expr: Option<Expr>| expr.map(|expr| Lazy::Expr(expr, scope));
        match expr {
            Expr::Paren(paren) => self.maybe(paren.expr(), scope),
            Expr::Root(root) => self.maybe(root.expr(), scope),
            Expr::Literal(_) => Value::Opaque,
            Expr::Str(string) => Value::Text(self.text(string, scope)),
            Expr::PathRel(literal) => self.path(literal, scope),
            // Evaluation is pure: what lies outside of flakes cannot be read.
            Expr::PathAbs(_) | Expr::PathHome(_) => self.escape_children(expr, scope),
            Expr::PathSearch(search) if search.syntax().text().to_string().starts_with("<nix/") => Value::Opaque,
            Expr::PathSearch(_) => self.give_up("`<…>` is looked up outside the flake"),
            Expr::CurPos(_) => {
                self.need(Need::Itself("`__curPos` holds the store path of the whole source"));
                Value::Opaque
            }
            Expr::Ident(ident) => self.lookup(&scope::text(ident), scope),
            Expr::Lambda(lambda) => Value::Function(lambda.clone(), scope),
            Expr::LetIn(let_in) => {
                let (inner, _) = self.with_bindings(scope, let_in);
                self.maybe(let_in.body(), inner)
            }
            Expr::AttrSet(set) if set.rec_token().is_some() => Value::Set(self.with_bindings(scope, set).1),
            Expr::AttrSet(set) => Value::Set(Set { items: scope::items(set), scope, outer: scope }),
            Expr::Select(select) => self.selection(select, scope),
            Expr::HasAttr(has) => {
                let mut value = self.maybe(has.expr(), scope);
                for attr in has.attrpath().into_iter().flat_map(|path| path.attrs()) {
                    let key = self.key(&attr, scope);
                    self.presence(&value, &key);
                    value = self.select(&value, &key).value().unwrap_or(Value::Opaque);
                }
                Value::Opaque
            }
            Expr::Apply(apply) => {
                let function = self.maybe(apply.lambda(), scope);
                lazy(apply.argument()).map_or(Value::Opaque, |argument| self.apply(&function, argument))
            }
            Expr::IfElse(branch) => {
                self.escape_expr(branch.condition(), scope);
                let then = self.maybe(branch.body(), scope);
                let other = self.maybe(branch.else_body(), scope);
                Value::one_of([then, other])
            }
            Expr::Assert(assert) => {
                self.escape_expr(assert.condition(), scope);
                self.maybe(assert.body(), scope)
            }
            Expr::With(with) => match with.namespace() {
                Some(namespace) => {
                    let inner = self.with_namespace(scope, namespace);
                    self.maybe(with.body(), inner)
                }
                None => Value::Opaque,
            },
            Expr::BinOp(operation) => self.operation(operation, scope),
            Expr::List(_) | Expr::UnaryOp(_) => self.escape_children(expr, scope),
            Expr::LegacyLet(_) | Expr::Error(_) => self.give_up("`let { … }` is not followed"),
        }
    }

    pub fn maybe(&mut self, expr: Option<Expr>, scope: ScopeId) -> Value {
        expr.map_or(Value::Opaque, |expr| self.eval(&expr, scope))
    }

    fn path(&mut self, literal: &ast::PathRel, scope: ScopeId) -> Value {
        let file = self.files[self.scopes[scope].file].path.clone();
        match scan::relative(&file, literal, |expr| self.interpolated(expr, scope)) {
            Some(pattern) => Value::Path(pattern),
            None => self.give_up("a path leaves the flake"),
        }
    }

    fn selection(&mut self, select: &ast::Select, scope: ScopeId) -> Value {
        let mut found = Found::Yes(self.maybe(select.expr(), scope));
        for attr in select.attrpath().into_iter().flat_map(|path| path.attrs()) {
            let key = self.key(&attr, scope);
            found = match found {
                Found::No => Found::No,
                Found::Yes(value) => self.select(&value, &key),
                Found::Perhaps(value) => match self.select(&value, &key) {
                    Found::No => Found::No,
                    Found::Yes(value) | Found::Perhaps(value) => Found::Perhaps(value),
                },
            };
        }
        match (found, select.default_expr()) {
            (Found::Yes(value), _) | (Found::Perhaps(value), None) => value,
            (Found::Perhaps(value), Some(default)) => {
                let default = self.eval(&default, scope);
                Value::one_of([value, default])
            }
            (Found::No, default) => self.maybe(default, scope),
        }
    }

    fn operation(&mut self, operation: &ast::BinOp, scope: ScopeId) -> Value {
        let (left, right) = (operation.lhs(), operation.rhs());
        match operation.operator() {
            Some(BinOpKind::Update) => {
                let left = self.maybe(left, scope);
                Value::Updated(Rc::new(left), Rc::new(self.maybe(right, scope)))
            }
            Some(BinOpKind::Add) => {
                let left = self.maybe(left, scope);
                let right = self.maybe(right, scope);
                self.sum(left, right)
            }
            Some(BinOpKind::PipeRight) => self.call(right, left, scope),
            Some(BinOpKind::PipeLeft) => self.call(left, right, scope),
            _ => {
                self.escape_expr(left, scope);
                self.escape_expr(right, scope);
                Value::Opaque
            }
        }
    }

    fn call(&mut self, function: Option<Expr>, argument: Option<Expr>, scope: ScopeId) -> Value {
        let function = self.maybe(function, scope);
        argument.map_or(Value::Opaque, |argument| self.apply(&function, Lazy::Expr(argument, scope)))
    }

    fn sum(&mut self, left: Value, right: Value) -> Value {
        let unknown = || Pattern(vec![Piece::Unknown]);
        match (left, right) {
            (Value::Path(_), Value::Text(text)) if text.climbs() => self.give_up("a path leaves the folder it names"),
            (Value::Path(path), Value::Text(text)) => Value::Path(path.append(&text)),
            (Value::Path(path), Value::Opaque) => Value::Path(path.append(&unknown())),
            (Value::Text(left), Value::Text(right)) => Value::Text(left.append(&right)),
            (Value::OneOf(left), right) => {
                Value::one_of(left.into_iter().map(|left| self.sum(left, right.clone())).collect::<Vec<_>>())
            }
            (left, Value::OneOf(right)) => {
                Value::one_of(right.into_iter().map(|right| self.sum(left.clone(), right)).collect::<Vec<_>>())
            }
            (Value::Text(text), right) => {
                self.escape(&right);
                Value::Text(text.append(&unknown()))
            }
            (left, right) => {
                self.escape(&left);
                self.escape(&right);
                Value::Opaque
            }
        }
    }

    pub fn escape_expr(&mut self, expr: Option<Expr>, scope: ScopeId) {
        let value = self.maybe(expr, scope);
        self.escape(&value);
    }

    fn escape_children(&mut self, expr: &Expr, scope: ScopeId) -> Value {
        for child in expr.syntax().children() {
            let inner = ast::Interpol::cast(child.clone()).map_or_else(|| Expr::cast(child), |part| part.expr());
            self.escape_expr(inner, scope);
        }
        Value::Opaque
    }
}
