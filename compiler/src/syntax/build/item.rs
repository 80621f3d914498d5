//! Items, and the mistakes that only show between items.

use super::super::ast::{
    Body, Callable, CompareOp, EmitKind, Expr, ExprKind, Ident, Item, ItemKind, MapKey, NodeBody,
    NodeName, Pattern, UnaryOp, UseSource, WeightDecl,
};
use super::super::parse::Rule;
use super::super::problems as say;
use super::super::words::{BINDING_WORDS, FOREIGN_WORDS, FUNCTION_WORDS, meant};
use super::{Builder, P};
use crate::source::Span;

impl Builder<'_> {
    pub(super) fn item_kind(&mut self, pair: P<'_>) -> ItemKind {
        let rule = pair.as_rule();
        match rule {
            Rule::use_item => self.use_item(pair),
            Rule::let_item => self.let_item(pair),
            Rule::knob_item => self.knob_item(pair),
            Rule::fn_item => {
                let span = self.span(&pair);
                let parts = pair.into_inner().filter(|p| p.as_rule() == Rule::callable);
                parts.last().map_or(ItemKind::Error, |p| ItemKind::Fn(self.callable(p, span)))
            }
            Rule::layer_item => self.layer_item(pair),
            Rule::weight_item => ItemKind::Weight(self.declarations(pair)),
            Rule::state_item => ItemKind::State(self.declarations(pair)),
            Rule::emit_item => self.emit_item(pair),
            Rule::assert_item => self.last_value(pair).map_or(ItemKind::Error, ItemKind::Assert),
            Rule::where_item => self.last_value(pair).map_or(ItemKind::Error, ItemKind::Where),
            Rule::for_item => self
                .for_parts(pair)
                .map_or(ItemKind::Error, |(pattern, iter)| ItemKind::For { pattern, iter }),
            Rule::field => self.field(pair),
            Rule::wrong_colon_field => self.colon_field(pair),
            Rule::wrong_augmented => self.augmented(pair),
            Rule::map_item => self.map_item(pair),
            Rule::def_item => self.def_item(pair),
            Rule::method_item => {
                let span = self.span(&pair);
                let inner = pair.into_inner().next();
                inner.map_or(ItemKind::Error, |p| ItemKind::Method(self.callable(p, span)))
            }
            Rule::node => self.node(pair),
            Rule::wrong_leading_operator => {
                if let Some(op) = pair.into_inner().next() {
                    let span = self.span(&op);
                    self.report(say::leading_operator(span, op.as_str()));
                }
                ItemKind::Error
            }
            _ => self.last_value(pair).map_or(ItemKind::Error, ItemKind::Expr),
        }
    }

    /// Reports `:=` where that is what `part` is.
    pub(super) fn walrus(&mut self, part: &P<'_>) {
        if part.as_rule() == Rule::wrong_walrus {
            let span = self.span(part);
            self.report(say::foreign_operator(span, ":="));
        }
    }

    /// The value among the parts of a pair; reports `:=` on the way.
    fn last_value(&mut self, pair: P<'_>) -> Option<Expr> {
        let mut value = None;
        for part in pair.into_inner() {
            match part.as_rule() {
                Rule::value => value = Some(self.value(part)),
                _ => self.walrus(&part),
            }
        }
        value
    }

    pub(super) fn semicolon(&mut self, pair: &P<'_>) {
        let span = self.span(pair);
        let rest = &self.mended.text[pair.as_span().end()..];
        let rest = rest.trim_start_matches([' ', '\t']);
        let at_line_end = rest.is_empty() || rest.starts_with(['\n', '\r', '#', '}']);
        self.report(say::semicolon(span, at_line_end));
    }

    fn use_item(&mut self, pair: P<'_>) -> ItemKind {
        let mut source = None;
        let mut names = Vec::new();
        for part in pair.into_inner() {
            match part.as_rule() {
                Rule::string => {
                    let span = self.span(&part);
                    source = Some(UseSource::File { path: self.string(&part), span });
                }
                Rule::path => source = Some(UseSource::Module(self.path(part))),
                Rule::use_names => {
                    for name in part.into_inner() {
                        match name.as_rule() {
                            Rule::ident => names.push(self.ident(&name)),
                            Rule::wrong_semicolon => self.semicolon(&name),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        source.map_or(ItemKind::Error, |source| ItemKind::Use { source, names })
    }

    fn let_item(&mut self, pair: P<'_>) -> ItemKind {
        let mut pattern = None;
        let mut ty = None;
        let mut value = None;
        for part in pair.into_inner() {
            match part.as_rule() {
                Rule::pattern => pattern = Some(self.pattern(part)),
                Rule::type_name => ty = Some(self.type_name(part)),
                Rule::value => value = Some(self.value(part)),
                _ => self.walrus(&part),
            }
        }
        match (pattern, value) {
            (Some(pattern), Some(value)) => ItemKind::Let { pattern, ty, value },
            _ => ItemKind::Error,
        }
    }

    pub(super) fn pattern(&mut self, pair: P<'_>) -> Pattern {
        let span = self.span(&pair);
        let is_tuple = pair.as_str().starts_with('(');
        let mut names: Vec<Ident> = pair.into_inner().map(|p| self.ident(&p)).collect();
        match (is_tuple, names.pop()) {
            (false, Some(name)) => Pattern::Name(name),
            (_, last) => {
                names.extend(last);
                Pattern::Tuple(names, span)
            }
        }
    }

    fn knob_item(&mut self, pair: P<'_>) -> ItemKind {
        let mut name = None;
        let mut ty = None;
        let mut value = None;
        for part in pair.into_inner() {
            match part.as_rule() {
                Rule::ident => name = Some(self.ident(&part)),
                Rule::type_name => ty = Some(self.type_name(part)),
                Rule::value => value = Some(self.value(part)),
                _ => self.walrus(&part),
            }
        }
        match (name, value) {
            (Some(name), Some(value)) => ItemKind::Knob { name, ty, value },
            _ => ItemKind::Error,
        }
    }

    fn callable(&mut self, pair: P<'_>, span: Span) -> Callable {
        let mut name = None;
        let mut axes = Vec::new();
        let mut params = Vec::new();
        let mut result = None;
        let mut body = None;
        for part in pair.into_inner() {
            match part.as_rule() {
                Rule::ident => name = Some(self.ident(&part)),
                Rule::axes => axes = self.axes(part),
                Rule::parameters => params = self.params(part),
                Rule::type_name => result = Some(self.type_name(part)),
                Rule::block => body = Some(Body::Block(self.block(part))),
                _ => body = Some(Body::Expr(self.value(part))),
            }
        }
        let body = body.unwrap_or_else(|| Body::Expr(Self::error_value(span)));
        Callable { name: self.named(name), axes, params, result, body, span }
    }

    fn layer_item(&mut self, pair: P<'_>) -> ItemKind {
        let mut name = None;
        let mut axes = Vec::new();
        let mut params = None;
        let mut body = None;
        for part in pair.into_inner() {
            match part.as_rule() {
                Rule::ident => name = Some(self.ident(&part)),
                Rule::axes => axes = self.axes(part),
                Rule::parameters => params = Some(self.params(part)),
                Rule::block => body = Some(self.block(part)),
                _ => {}
            }
        }
        match (name, body) {
            (Some(name), Some(body)) => ItemKind::Layer { name, axes, params, body },
            _ => ItemKind::Error,
        }
    }

    fn declarations(&mut self, pair: P<'_>) -> Vec<WeightDecl> {
        let parts = pair.into_inner().filter(|p| p.as_rule() == Rule::declaration);
        let mut all = Vec::new();
        for part in parts {
            let span = self.span(&part);
            let mut name = None;
            let mut axes = Vec::new();
            let mut ty = None;
            let mut init = None;
            for part in part.into_inner() {
                match part.as_rule() {
                    Rule::ident => name = Some(self.ident(&part)),
                    Rule::axes => axes = self.axes(part),
                    Rule::type_name => ty = Some(self.type_name(part)),
                    Rule::value => init = Some(self.value(part)),
                    _ => self.walrus(&part),
                }
            }
            all.push(WeightDecl { name: self.named(name), axes, ty, init, span });
        }
        all
    }

    fn emit_item(&mut self, pair: P<'_>) -> ItemKind {
        let mut kind = EmitKind::Measure;
        let mut name = None;
        let mut value = None;
        for part in pair.into_inner() {
            match part.as_rule() {
                Rule::kw_penalty => kind = EmitKind::Penalty,
                Rule::ident => name = Some(self.ident(&part)),
                Rule::value => value = Some(self.value(part)),
                _ => self.walrus(&part),
            }
        }
        match (name, value) {
            (Some(name), Some(value)) => ItemKind::Emit { kind, name, value },
            _ => ItemKind::Error,
        }
    }

    pub(super) fn for_parts(&mut self, pair: P<'_>) -> Option<(Pattern, Expr)> {
        let mut pattern = None;
        let mut iter = None;
        for part in pair.into_inner() {
            match part.as_rule() {
                Rule::pattern => pattern = Some(self.pattern(part)),
                Rule::value => iter = Some(self.value(part)),
                _ => {}
            }
        }
        Some((pattern?, iter?))
    }

    fn field(&mut self, pair: P<'_>) -> ItemKind {
        let mut path = Vec::new();
        let mut value = None;
        for part in pair.into_inner() {
            match part.as_rule() {
                Rule::path => path = self.path(part),
                Rule::value => value = Some(self.value(part)),
                _ => self.walrus(&part),
            }
        }
        value.map_or(ItemKind::Error, |value| ItemKind::Field { path, value })
    }

    /// `lr: 3e-4`, `"a": 1`, `lr: Float = 1` and YAML's lists of lines.
    fn colon_field(&mut self, pair: P<'_>) -> ItemKind {
        let mut parts = pair.into_inner();
        let (Some(key), Some(part)) = (parts.next(), parts.next()) else { return ItemKind::Error };
        let (name, path) = if key.as_rule() == Rule::string {
            let name = self.string(&key);
            (name.clone(), vec![Ident { name, span: self.span(&key) }])
        } else {
            (key.as_str().to_owned(), self.path(key.clone()))
        };
        let span = self.span(&part);
        let value = match part.as_rule() {
            Rule::wrong_typed => {
                let head = part.clone().into_inner().next();
                self.report(say::typed_field(head.map_or(span, |t| self.span(&t)), &name));
                self.last_value(part)
            }
            Rule::wrong_dash_list => {
                let mut values = Vec::new();
                for line in part.into_inner() {
                    if line.as_rule() == Rule::value {
                        values.push(self.value(line));
                    } else if values.is_empty() {
                        let dash = self.span(&line);
                        self.report(say::dash_list(dash, &name));
                    }
                }
                let kind = Box::new(ExprKind::List { values, suffix: None });
                Some(Expr { kind, span })
            }
            _ => {
                let colon = self.colon_after(&key);
                self.report(say::colon(colon, &name));
                Some(self.value(part))
            }
        };
        value.map_or(ItemKind::Error, |value| ItemKind::Field { path, value })
    }

    /// The `:` behind a name, with the blanks before it.
    pub(super) fn colon_after(&self, name: &P<'_>) -> Span {
        let end = name.as_span().end();
        let colon = self.mended.text[end..].find(':').map_or(end, |n| end + n + 1);
        self.place_of(end, colon)
    }

    fn augmented(&mut self, pair: P<'_>) -> ItemKind {
        let mut path = Vec::new();
        let mut written = String::new();
        let mut value = None;
        for part in pair.into_inner() {
            match part.as_rule() {
                Rule::path => {
                    written = part.as_str().to_owned();
                    path = self.path(part);
                }
                Rule::augment_op => {
                    let span = self.span(&part);
                    self.report(say::augmented(span, &written, part.as_str()));
                }
                _ => value = Some(self.value(part)),
            }
        }
        value.map_or(ItemKind::Error, |value| ItemKind::Field { path, value })
    }

    fn map_item(&mut self, pair: P<'_>) -> ItemKind {
        let mut key = None;
        let mut value = None;
        for part in pair.into_inner() {
            match part.as_rule() {
                Rule::path => key = Some(MapKey::Path(self.path(part))),
                Rule::axis_tuple => key = Some(MapKey::Tuple(self.axes(part))),
                Rule::value => value = Some(self.value(part)),
                _ => key = Some(MapKey::Value(self.plain(part))),
            }
        }
        match (key, value) {
            (Some(key), Some(value)) => ItemKind::Map { key, value },
            _ => ItemKind::Error,
        }
    }

    fn def_item(&mut self, pair: P<'_>) -> ItemKind {
        let span = self.span(&pair);
        let mut inner = pair.into_inner();
        let (Some(kind), Some(callable)) = (inner.next(), inner.next()) else {
            return ItemKind::Error;
        };
        let kind = self.ident(&kind);
        let callable = self.callable(callable, span);
        match meant(&FOREIGN_WORDS, &kind.name) {
            Some(help) => {
                self.report(say::foreign_word(kind.span, &kind.name, help));
                let is_function = FUNCTION_WORDS.contains(&kind.name.as_str());
                if is_function { ItemKind::Fn(callable) } else { ItemKind::Error }
            }
            None => ItemKind::Def { kind, callable },
        }
    }

    fn node(&mut self, pair: P<'_>) -> ItemKind {
        let mut idents = Vec::new();
        let mut title = None;
        let mut body = NodeBody::None;
        for part in pair.into_inner() {
            match part.as_rule() {
                Rule::ident => idents.push(self.ident(&part)),
                Rule::string => {
                    let span = self.span(&part);
                    title = Some(NodeName::Text(self.string(&part), span));
                }
                Rule::block => body = NodeBody::Block(self.block(part)),
                Rule::value => body = NodeBody::Expr(self.value(part)),
                _ => self.walrus(&part),
            }
        }
        let mut idents = idents.into_iter();
        let Some(kind) = idents.next() else { return ItemKind::Error };
        let name = idents.next().map(NodeName::Ident).or(title);
        let Some(help) = meant(&FOREIGN_WORDS, &kind.name) else {
            return ItemKind::Node { kind, name, body };
        };
        self.report(say::foreign_word(kind.span, &kind.name, help));
        match (BINDING_WORDS.contains(&kind.name.as_str()), name, body) {
            (true, Some(NodeName::Ident(name)), NodeBody::Expr(value)) => {
                ItemKind::Let { pattern: Pattern::Name(name), ty: None, value }
            }
            _ => ItemKind::Error,
        }
    }

    /// Mistakes that parse and only show beside their neighbours.
    pub(super) fn mistakes_in_context(
        &mut self,
        items: &[Item],
        ranges: &[(usize, usize)],
        in_block: bool,
    ) {
        let only_fields = |skip: usize| {
            items.len() > 1
                && items.iter().enumerate().all(|(i, item)| {
                    i == skip || matches!(item.kind, ItemKind::Field { .. } | ItemKind::Node { .. })
                })
        };
        for (i, item) in items.iter().enumerate() {
            let previous = i.checked_sub(1).map(|p| (&items[p], ranges[p]));
            if let (ItemKind::Field { path, .. }, Some((last, range))) = (&item.kind, previous) {
                // `let a = 1, b = 2`
                let between = &self.mended.text[range.1..ranges[i].0];
                let same_line = !between.contains(['\n', '\r']);
                if let (ItemKind::Let { .. }, true, [name]) = (&last.kind, same_line, &path[..]) {
                    self.report(say::second_let(name.span, &name.name));
                }
            }
            let ItemKind::Expr(value) = &item.kind else { continue };
            // `lr == 1` where a field is meant
            if let ExprKind::Compare { first, rest } = &*value.kind
                && let (ExprKind::Name(name), [(CompareOp::Eq, span, _)]) =
                    (&*first.kind, &rest[..])
                && (!in_block || i + 1 < items.len() || only_fields(i))
            {
                self.report(say::equality_for_binding(*span, name));
            }
            // A line that begins with `-`, deeper than the line before
            if let (true, Some((_, range))) = (begins_with_minus(value), previous) {
                let between = &self.mended.text[range.1..ranges[i].0];
                let deeper = self.indent(ranges[i].0) > self.indent(range.1);
                if between.contains(['\n', '\r']) && deeper {
                    self.minus_at_line_start(range.1, ranges[i].0);
                }
            }
        }
    }

    fn minus_at_line_start(&mut self, previous_end: usize, minus: usize) {
        let span = self.place_of(minus, minus + 1);
        let between = &self.mended.text[previous_end..minus];
        let mut problem = say::leading_operator(span, "-");
        if between.trim().is_empty() {
            let edit = self.place_of(previous_end, minus + 1);
            problem = problem.fix(edit, format!(" -{between}"));
        }
        self.report(problem);
    }
}

/// Whether the first sign of a value is a minus.
fn begins_with_minus(value: &Expr) -> bool {
    match &*value.kind {
        ExprKind::Unary { op, .. } => *op == UnaryOp::Neg,
        ExprKind::Binary { left, .. } | ExprKind::Law { left, .. } => begins_with_minus(left),
        ExprKind::Compare { first, .. } => begins_with_minus(first),
        ExprKind::Range { from, .. } => begins_with_minus(from),
        ExprKind::Pipe { value, .. } => begins_with_minus(value),
        ExprKind::With { base, .. } => begins_with_minus(base),
        ExprKind::Number { .. }
        | ExprKind::Text(_)
        | ExprKind::Name(_)
        | ExprKind::Dot(_)
        | ExprKind::Bool(_)
        | ExprKind::None
        | ExprKind::List { .. }
        | ExprKind::Comprehension { .. }
        | ExprKind::Block(_)
        | ExprKind::Call { .. }
        | ExprKind::Index { .. }
        | ExprKind::Member { .. }
        | ExprKind::If { .. }
        | ExprKind::Match { .. }
        | ExprKind::Scan { .. }
        | ExprKind::Error => false,
    }
}
