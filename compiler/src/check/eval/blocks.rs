//! Blocks: a record if all items are fields, a value if the last item is an expression. And `match`, whose arms are a block.

use std::rc::Rc;

use super::{Eval, def_of, describe, same};
use crate::check::value::{DefKind, Record, Scope, Value};
use crate::check::words::{home_of, item_name};
use crate::problem::Problem;
use crate::source::Span;
use crate::syntax::ast::{self, Expr, ExprKind, ItemKind};

impl Eval<'_> {
    /// A block: a record if all items are fields, a value if the last item is an expression. `scope` is the block's own.
    pub fn block(&mut self, scope: &Scope, block: &ast::Block) -> Value {
        let mut record = Record::default();
        let mut last = None;
        let count = block.items.len();
        let is_value = matches!(block.items.last().map(|i| &i.kind), Some(ItemKind::Expr(_)));
        for (i, item) in block.items.iter().enumerate() {
            match &item.kind {
                ItemKind::Let { pattern, value, .. } => {
                    let v = self.expr(scope, value);
                    self.bind_pattern(scope, pattern, v);
                }
                ItemKind::Fn(c) => self.bind_fn(scope, c, item.doc.clone()),
                ItemKind::Field { path, value } if is_value => {
                    self.assign(scope, path, value);
                }
                ItemKind::Field { path, value } => {
                    let v = self.expr(scope, value);
                    if let [id] = path.as_slice() {
                        if record.fields.contains_key(&id.name) {
                            self.problem(Problem::new(
                                "E0204",
                                id.span,
                                format!("`{}` is set twice", id.name),
                            ));
                        }
                        record.set(&id.name, v, Some(value.span));
                    } else {
                        let name: Vec<&str> = path.iter().map(|p| p.name.as_str()).collect();
                        record.set(&name.join("."), v, Some(value.span));
                    }
                }
                ItemKind::Map { key, value } => {
                    let name = map_key_text(key);
                    let v = self.expr(scope, value);
                    record.set(&name, v, Some(value.span));
                }
                ItemKind::Emit { kind, name, value } => self.emit(scope, *kind, name, value),
                ItemKind::Assert(e) => self.assert_static(scope, e),
                ItemKind::Expr(e) if i + 1 == count => last = Some(self.expr(scope, e)),
                ItemKind::Expr(e) => {
                    self.problem(
                        Problem::new("E0210", e.span, "a bare value may only end a block")
                            .help("give it a name with `let x = ..`, or remove it"),
                    );
                }
                ItemKind::State(_) => {}
                ItemKind::Error => return Value::Error,
                ItemKind::Use { .. }
                | ItemKind::Knob { .. }
                | ItemKind::Layer { .. }
                | ItemKind::Weight(_)
                | ItemKind::For { .. }
                | ItemKind::Where(_)
                | ItemKind::Def { .. }
                | ItemKind::Method(_)
                | ItemKind::Node { .. } => {
                    self.problem(
                        Problem::new(
                            "E0211",
                            item.span,
                            format!("{} does not belong in this block", item_name(&item.kind)),
                        )
                        .help(home_of(&item.kind)),
                    );
                }
            }
        }
        last.unwrap_or(Value::Record(Rc::new(record)))
    }

    /// `name = e` in a value block: a new value of a state.
    pub fn assign(&mut self, scope: &Scope, path: &ast::Path, value: &Expr) {
        let v = self.expr(scope, value);
        let id = &path[0];
        let mut at = Some(scope.clone());
        while let Some(s) = at {
            let is_state = s.0.names.borrow().contains_key(&format!("state {}", id.name));
            if is_state && path.len() == 1 {
                s.bind(&id.name, v);
                return;
            }
            at = s.0.parent.clone();
        }
        // Known from here on, so that its uses are not reported again.
        scope.bind(&id.name, Value::Error);
        self.problem(
            Problem::new(
                "E0212",
                id.span,
                format!("`{}` is no state, so it cannot be assigned", id.name),
            )
            .help(format!("write `let {} = ..`", id.name)),
        );
    }

    /// Binds a local `fn`.
    pub fn bind_fn(&mut self, scope: &Scope, c: &ast::Callable, doc: Option<String>) {
        let def = def_of(DefKind::Fn, c, scope, doc);
        scope.bind(&c.name.name, Value::Def(Rc::new(def)));
    }

    fn assert_static(&mut self, scope: &Scope, e: &Expr) {
        if matches!(self.expr(scope, e), Value::Bool(false)) {
            let text = self.sources.text(e.span).to_owned();
            self.problem(Problem::new("E0506", e.span, format!("this does not hold: `{text}`")));
        }
    }

    pub(super) fn match_expr(
        &mut self,
        scope: &Scope,
        subject: &Expr,
        arms: &ast::Block,
        span: Span,
    ) -> Value {
        let subject = self.expr(scope, subject);
        if matches!(subject, Value::Error | Value::Later(_)) {
            return subject;
        }
        let mut keys = Vec::new();
        for item in &arms.items {
            let ItemKind::Map { key, value } = &item.kind else {
                return self.problem(Problem::new(
                    "E0213",
                    item.span,
                    "an arm of `match` is `value -> result`",
                ));
            };
            let wanted = match key {
                ast::MapKey::Value(e) => self.expr(scope, e),
                ast::MapKey::Path(p) if p.len() == 1 && p[0].name == "_" => {
                    return self.expr(scope, value);
                }
                ast::MapKey::Path(p) => {
                    let name: Vec<&str> = p.iter().map(|i| i.name.as_str()).collect();
                    match scope.get(&name.join(".")) {
                        Some(v) => v,
                        None => Value::Text(name.join(".").into()),
                    }
                }
                ast::MapKey::Tuple(_) => Value::Error,
            };
            if same(&wanted, &subject) {
                return self.expr(scope, value);
            }
            keys.push(describe(&wanted));
        }
        let found = describe(&subject);
        self.problem(
            Problem::new("E0213", span, format!("no arm of this `match` is for {found}"))
                .help(format!("the arms are for {}; `_ -> ..` takes the rest", keys.join(", "))),
        )
    }
}

/// The text of a map's key.
pub fn map_key_text(key: &ast::MapKey) -> String {
    match key {
        ast::MapKey::Path(p) => p.iter().map(|i| i.name.as_str()).collect::<Vec<_>>().join("."),
        ast::MapKey::Tuple(axes) => {
            let names: Vec<&str> = axes.iter().map(|a| a.name.name.as_str()).collect();
            format!("({})", names.join(", "))
        }
        ast::MapKey::Value(e) => match &*e.kind {
            ExprKind::Text(t) => t.clone(),
            ExprKind::Number { value, .. } => value.to_string(),
            ExprKind::Bool(b) => b.to_string(),
            _ => "none".into(),
        },
    }
}
