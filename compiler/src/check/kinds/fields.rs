//! A node's fields against the schema of its kind.
//!
//! Fields are evaluated when the node is made ([`fields`]) and judged once it has its final form ([`check`]), after `with` and
//! `--set`: so a field is judged where it was last written. A bare word in a field that takes words is first one of those words
//! (semantics 9); a value of the same name in the file makes it ambiguous, and that is a problem, never a guess.

use super::super::eval::{Eval, describe, map_key_text};
use super::super::modules::Module;
use super::super::units;
use super::super::value::{DefKind, NodeValue, Record, Scope, Value};
use super::schema::{self, BlockSchema, Field, FieldType, KindSchema};
use crate::problem::{Problem, called_here, did_you_mean};
use crate::source::Span;
use crate::syntax;
use crate::syntax::ast::{self, ExprKind, ItemKind, NodeBody, NodeName};

/// `Err`: what the kind has instead.
pub fn has_field(kind: &str, name: &str) -> Result<(), Vec<String>> {
    let Some(kind) = schema::kind(kind) else { return Ok(()) };
    // A block with a title is kept under both: `plot "Loss"`.
    let word = name.split(' ').next().unwrap_or(name);
    let value = name == "value" && kind.value.is_some();
    if value || kind.field(name).is_some() || kind.block(word).is_some() {
        return Ok(());
    }
    Err(kind.names().into_iter().map(str::to_owned).collect())
}

/// The value of `path = e` in `base with { .. }`: words are words where the field at the path takes them.
pub fn changed(
    eval: &mut Eval<'_>,
    scope: &Scope,
    base: &Value,
    path: &ast::Path,
    e: &ast::Expr,
) -> Value {
    if let (Value::Node(n), Some(kind)) = (base, path.first()) {
        let schema = schema::kind(&n.kind);
        let field = match path.as_slice() {
            [one] => schema.and_then(|k| k.field(&one.name)),
            [_, inner] => schema
                .and_then(|k| k.block(&kind.name))
                .and_then(|b| b.fields.iter().find(|f| f.name == inner.name)),
            _ => None,
        };
        if let Some(field) = field {
            return value(eval, scope, "", field.ty, e);
        }
    }
    eval.word_or(scope, e)
}

/// Evaluates the fields of a node's block into the node.
pub fn fields(eval: &mut Eval<'_>, scope: &Scope, node: &mut NodeValue, block: &ast::Block) {
    let Some(kind) = schema::kind(&node.kind) else { return };
    let inner = scope.inner();
    node.scope = inner.clone();
    for item in &block.items {
        match &item.kind {
            ItemKind::Field { path, value: e } => {
                let id = &path[0];
                let Some(field) = kind.field(&id.name) else {
                    unknown(eval, id, &format!("`{}`", kind.name), &kind.names());
                    continue;
                };
                if path.len() > 1 {
                    let text = format!("set `{}` as a whole here", id.name);
                    eval.problem(
                        Problem::new("E0211", path[0].span.to(path[path.len() - 1].span), text)
                            .help("a dotted path changes what is there: it belongs behind `with`"),
                    );
                    continue;
                }
                if node.fields.get(&id.name).is_some() {
                    let text = format!("`{}` is set twice", id.name);
                    eval.problem(Problem::new("E0204", id.span, text));
                }
                // The fields of a sweep are evaluated at each point.
                let v = if node.kind == "sweep" {
                    node.items.push(item.clone());
                    Value::None
                } else {
                    value(eval, &inner, &node.name, field.ty, e)
                };
                node.fields.set(&id.name, v, Some(e.span));
            }
            ItemKind::Node { kind: word, name, body } => {
                nested(eval, &inner, node, kind, (word, name.as_ref(), body), item.span);
            }
            ItemKind::Let { pattern, value, .. } if node.kind != "sweep" => {
                let v = eval.expr(&inner, value);
                eval.bind_pattern(&inner, pattern, v);
            }
            ItemKind::For { .. } | ItemKind::Where(_) | ItemKind::Let { .. }
                if node.kind == "sweep" =>
            {
                node.items.push(item.clone());
            }
            ItemKind::Emit { .. } if node.kind == "train" => node.items.push(item.clone()),
            ItemKind::Error => {}
            _ => {
                let text = format!("this does not belong in a `{}`", kind.name);
                let mut p = Problem::new("E0211", item.span, text);
                if let (ItemKind::Expr(e), "sweep") = (&item.kind, kind.name) {
                    let written = eval.sources.text(e.span);
                    p = p.help(format!("what is run at each point is written `run = {written}`"));
                }
                eval.problem(p.help(format!("it has: {}", kind.names().join(", "))));
            }
        }
    }
}

/// A block behind `with`: its key and its value. `None`: a problem was reported.
pub fn changed_block(
    eval: &mut Eval<'_>,
    scope: &Scope,
    base: &NodeValue,
    block: Nested<'_>,
    span: Span,
) -> Option<(String, Value)> {
    let kind = schema::kind(&base.kind)?;
    block_value(eval, scope, kind, block, span)
}

/// The word of a nested block, its title, what stands in it.
type Nested<'a> = (&'a ast::Ident, Option<&'a NodeName>, &'a NodeBody);

fn nested(
    eval: &mut Eval<'_>,
    scope: &Scope,
    node: &mut NodeValue,
    kind: &KindSchema,
    (word, name, body): Nested<'_>,
    span: Span,
) {
    if let (Some(_), NodeBody::None) = (kind.field(&word.name), body) {
        // `text """..."""`: the name is the value.
        // A report has as many paragraphs as it likes, each at its place.
        let many = node.kind == "report" && node.fields.get(&word.name).is_some();
        let key = if many {
            format!("{} {}", word.name, node.fields.fields.len())
        } else {
            word.name.clone()
        };
        let title = name.map(title).unwrap_or_default();
        node.fields.set(&key, Value::Text(title.into()), Some(span));
        return;
    }
    let Some((key, v)) = block_value(eval, scope, kind, (word, name, body), span) else { return };
    if node.fields.get(&key).is_some() {
        eval.problem(Problem::new("E0204", word.span, format!("`{}` is set twice", word.name)));
    }
    node.fields.set(&key, v, Some(word.span));
}

fn title(name: &NodeName) -> String {
    match name {
        NodeName::Text(t, _) => t.clone(),
        NodeName::Ident(i) => i.name.clone(),
    }
}

/// A block under the key of its word and title.
fn block_value(
    eval: &mut Eval<'_>,
    scope: &Scope,
    kind: &KindSchema,
    (word, name, body): Nested<'_>,
    span: Span,
) -> Option<(String, Value)> {
    let Some(schema) = kind.block(&word.name) else {
        if kind.field(&word.name).is_some() {
            let text = format!("`{}` is a field: write `{} = ..`", word.name, word.name);
            eval.problem(Problem::new("E0301", word.span, text));
        } else {
            unknown(eval, word, &format!("`{}`", kind.name), &kind.names());
        }
        return None;
    };
    let NodeBody::Block(block) = body else {
        let text = format!("`{}` is a block: `{} {{ .. }}`", word.name, word.name);
        eval.problem(Problem::new("E0301", span, text));
        return None;
    };
    let record = block_record(eval, scope, schema, block);
    let key = name.map_or(word.name.clone(), |n| format!("{} {}", word.name, title(n)));
    Some((key, Value::Record(record.into())))
}

fn block_record(
    eval: &mut Eval<'_>,
    scope: &Scope,
    schema: &BlockSchema,
    block: &ast::Block,
) -> Record {
    let names: Vec<&str> = schema.fields.iter().map(|f| f.name).collect();
    let what = format!("`{}`", schema.name);
    let find = |name: &str| schema.fields.iter().find(|f| f.name == name);
    let mut record = Record::default();
    for item in &block.items {
        match &item.kind {
            ItemKind::Field { path, value: e } => match find(&path[0].name) {
                Some(field) => {
                    if record.get(field.name).is_some() {
                        let text = format!("`{}` is set twice", field.name);
                        eval.problem(Problem::new("E0204", path[0].span, text));
                    }
                    let v = value(eval, scope, "", field.ty, e);
                    record.set(field.name, v, Some(e.span));
                }
                None => unknown(eval, &path[0], &what, &names),
            },
            // `compute { batch -> data }`.
            ItemKind::Node { kind: word, body: NodeBody::Block(inner), .. } => {
                match find(&word.name) {
                    Some(field) => {
                        let map = axes_map(eval, scope, inner);
                        record.set(field.name, Value::Record(map.into()), Some(item.span));
                    }
                    None => unknown(eval, word, &what, &names),
                }
            }
            ItemKind::Node { kind: word, .. } => unknown(eval, word, &what, &names),
            ItemKind::Error => {}
            _ => {
                let text = format!("{what} has only fields");
                eval.problem(
                    Problem::new("E0211", item.span, text)
                        .help(format!("it has: {}", names.join(", "))),
                );
            }
        }
    }
    record
}

fn axes_map(eval: &mut Eval<'_>, scope: &Scope, block: &ast::Block) -> Record {
    let mut map = Record::default();
    for item in &block.items {
        match &item.kind {
            ItemKind::Map { key, value } => {
                let v = match &*value.kind {
                    ExprKind::List { values, suffix: None } => Value::List(
                        values.iter().map(|v| eval.word_or(scope, v)).collect::<Vec<_>>().into(),
                    ),
                    _ => eval.word_or(scope, value),
                };
                map.set(&map_key_text(key), v, Some(value.span));
            }
            ItemKind::Error => {}
            _ => {
                eval.problem(Problem::new(
                    "E0211",
                    item.span,
                    "this block has only `axis -> axis`",
                ));
            }
        }
    }
    map
}

fn unknown(eval: &mut Eval<'_>, id: &ast::Ident, what: &str, known: &[&str]) {
    let mut p = Problem::new("E0203", id.span, format!("no field `{}` in {what}", id.name));
    if let Some(near) = did_you_mean(&id.name, known.iter().copied()) {
        p = p.at(format!("did you mean `{near}`?")).fix(id.span, near);
    } else if let Some(home) = home_of(&id.name) {
        p = p.help(format!("it is a field of {home}"));
    } else {
        p = p.help(format!("it has: {}", known.join(", ")));
    }
    eval.problem(p);
}

/// Where else a field of that name lives: "`optimizer`", "the block `eval` of `train`".
pub fn home_of(name: &str) -> Option<String> {
    // What is most often misplaced in a training run are the settings of its optimizer and schedule.
    let programs: &[(&str, &[&str])] = &[
        (
            "the optimizer, as in `adamw(lr = ..)`",
            &["lr", "betas", "decay", "clip", "eps", "momentum", "weight_decay"],
        ),
        (
            "the schedule, as in `cosine(peak = .., warmup = 2%)`",
            &["peak", "warmup", "floor", "cooldown"],
        ),
        ("`pack`, as in `|> pack(seq = 512)`", &["seq", "context", "block_size"]),
    ];
    let mut words = called_here(name);
    words.push(name);
    let is_one = |names: &[&str]| words.iter().any(|w| names.contains(w));
    if let Some((home, _)) = programs.iter().find(|(_, names)| is_one(names)) {
        return Some((*home).to_owned());
    }
    schema::KINDS.iter().find_map(|k| {
        let block = k.blocks.iter().find(|b| b.fields.iter().any(|f| f.name == name));
        block.map(|b| format!("the block `{}` of `{}`", b.name, k.name))
    })
}

/// The value of a field. `owner` is the node's own name: it cannot be meant by a word in its own field.
pub(super) fn value(
    eval: &mut Eval<'_>,
    scope: &Scope,
    owner: &str,
    ty: FieldType,
    e: &ast::Expr,
) -> Value {
    if let ExprKind::List { values, suffix: None } = &*e.kind {
        let items: Vec<Value> = values.iter().map(|v| value(eval, scope, owner, ty, v)).collect();
        return Value::List(items.into());
    }
    let ExprKind::Name(name) = &*e.kind else { return eval.expr(scope, e) };
    let is_case = ty.cases().contains(&name.as_str());
    if is_case {
        if name != owner
            && let Some(other) = declared_as(eval, scope, name)
        {
            let p = Problem::new(
                "E0216",
                e.span,
                format!("`{name}` is a word of this field and also a value"),
            )
            .label(other, format!("`{name}` is declared here"))
            .help(format!("the word is one of {}; give the value another name", ty.words()));
            return eval.problem(p);
        }
        return Value::Text(name.as_str().into());
    }
    if ty.cases().is_empty() && !matches!(ty, FieldType::Setting | FieldType::Any | FieldType::Axes)
    {
        return eval.expr(scope, e);
    }
    eval.word_or(scope, e)
}

/// Where the file or a block around declares the name; names of the prelude do not count.
fn declared_as(eval: &Eval<'_>, scope: &Scope, name: &str) -> Option<Span> {
    let module: &Module = eval.modules.get(scope.0.module)?;
    if let Some(i) = module.names.get(name) {
        return Some(module.items[*i].span);
    }
    module.imports.get(name).map(|(_, span, _)| *span)
}

/// Judges the fields of a node in its final form. False: it means nothing.
pub(super) fn check(eval: &mut Eval<'_>, kind: &KindSchema, n: &NodeValue) -> bool {
    let mut fine = true;
    let is_value = n.fields.get("value").is_some();
    if let (Some(ty), Some((v, at))) = (kind.value, n.fields.fields.get("value")) {
        fine &= judge(eval, &format!("`{}`", n.name), ty, v, at.unwrap_or(n.span));
    }
    if kind.value_only && !is_value {
        let text =
            format!("the {} `{}` is written `{} {} = ..`", kind.name, n.name, kind.name, n.name);
        eval.problem(Problem::new("E0215", n.span, text));
        return false;
    }
    for (name, (v, at)) in &n.fields.fields {
        let at = at.unwrap_or(n.span);
        if let Some(field) = kind.field(name) {
            // A sweep's fields have their values at its points.
            if n.kind != "sweep" && (field.required || !matches!(v, Value::None)) {
                fine &= judge(eval, &format!("`{name}`"), field.ty, v, at)
                    && in_range(eval, &format!("`{name}`"), field, v, at);
            }
            if let (FieldType::Template, Value::Text(text)) = (field.ty, v) {
                let (_, problems) = syntax::template(text, at);
                fine &= problems.is_empty();
                eval.problems.extend(problems);
            }
        } else if let (Some(block), Value::Record(r)) =
            (kind.block(name.split(' ').next().unwrap_or(name)), v)
        {
            fine &= check_block(eval, block, r, at);
        }
    }
    if !is_value {
        fine &=
            required(eval, kind.fields, &n.fields, &format!("the {} `{}`", n.kind, n.name), n.span);
    }
    fine
}

fn check_block(eval: &mut Eval<'_>, block: &BlockSchema, r: &Record, at: Span) -> bool {
    let mut fine = true;
    for (name, (v, place)) in &r.fields {
        let place = place.unwrap_or(at);
        match block.fields.iter().find(|f| f.name == name) {
            Some(field) => {
                let what = format!("`{name}` of `{}`", block.name);
                fine &= judge(eval, &what, field.ty, v, place)
                    && in_range(eval, &what, field, v, place);
            }
            None => {
                let names: Vec<&str> = block.fields.iter().map(|f| f.name).collect();
                let id = ast::Ident { name: name.clone(), span: place };
                unknown(eval, &id, &format!("`{}`", block.name), &names);
                fine = false;
            }
        }
    }
    required(eval, block.fields, r, &format!("`{}`", block.name), at) && fine
}

fn required(eval: &mut Eval<'_>, fields: &[Field], have: &Record, what: &str, at: Span) -> bool {
    let missing: Vec<&Field> =
        fields.iter().filter(|f| f.required && have.get(f.name).is_none()).collect();
    let Some(first) = missing.first() else { return true };
    let names: Vec<String> = missing.iter().map(|f| format!("`{}`", f.name)).collect();
    let mut p = Problem::new("E0215", at, format!("{what} needs {}", names.join(", ")));
    for f in &missing {
        p = p.help(format!("`{}`: {}", f.name, f.doc));
    }
    if let FieldType::Number(units) = first.ty
        && let Some(unit) = units.iter().find(|u| !u.is_empty())
    {
        p = p.help(format!(
            "for example `{} = 100 {}`",
            first.name,
            if *unit == "s" { "min" } else { unit }
        ));
    }
    eval.problem(p);
    false
}

/// Reports a value that its field does not take.
pub(super) fn judge(eval: &mut Eval<'_>, what: &str, ty: FieldType, v: &Value, at: Span) -> bool {
    if fits(ty, v) {
        return true;
    }
    // Of a list, the part that does not fit.
    let wrong = match v {
        Value::List(l) if matches!(ty, FieldType::Words(_)) => l.iter().find(|v| !fits(ty, v)),
        _ => None,
    };
    let v = wrong.unwrap_or(v);
    let is = if wrong.is_some() { "one is" } else { "this is" };
    let mut p =
        Problem::new("E0301", at, format!("{what} must be {}, {is} {}", ty.words(), describe(v)));
    match (ty, v) {
        (FieldType::Data, Value::Node(n)) if n.kind == "train" => {
            p = p.help(format!(
                "a sweep has the rows of its points; several runs are a list: `[{}, ..]`",
                n.name
            ));
        }
        (FieldType::Texts, Value::Text(t)) => {
            p = p.help(format!("a list of one text is `[{:?}]`", &**t))
        }
        (FieldType::WordOr(_, fields), Value::Record(r)) => {
            if let Some(key) = r.fields.keys().find(|k| !fields.contains(&k.as_str())) {
                p.message = format!("{what} has no `{key}`");
                p = match did_you_mean(key, fields.iter().copied()) {
                    Some(near) => p.help(format!("did you mean `{near}`?")),
                    None => p.help(format!("it has: {}", fields.join(", "))),
                };
            }
        }
        _ => {}
    }
    if let Value::Text(t) = v
        && let Some(near) = did_you_mean(t, ty.cases().iter().copied())
    {
        p = p.at(format!("did you mean `{near}`?"));
        if eval.sources.text(at) == &**t {
            p = p.fix(at, near);
        }
    }
    if let (FieldType::Number(units) | FieldType::Scheduled(units), Value::Number(q)) = (ty, v)
        && q.unit.is_none()
        && units.iter().any(|u| !u.is_empty())
    {
        let number = units::show(q);
        let with: Vec<String> = units
            .iter()
            .filter(|u| !u.is_empty())
            .map(|u| format!("`{number} {}`", if *u == "s" { "min" } else { u }))
            .collect();
        p = p.help(format!("a number needs its unit: {}", with.join(", ")));
    }
    eval.problem(p);
    false
}

/// Reports a number that its field does not take, or a text that is empty where none may be.
fn in_range(eval: &mut Eval<'_>, what: &str, field: &Field, v: &Value, at: Span) -> bool {
    let all = match v {
        Value::List(l) => l.to_vec(),
        v => vec![v.clone()],
    };
    let wrong = all.iter().find_map(|v| Some((v, misfit(field, v)?)));
    let Some((v, (want, help))) = wrong else { return true };
    let mut p =
        Problem::new("E0316", at, format!("{what} must be {want}, this is {}", describe(v)));
    if !help.is_empty() {
        p = p.help(help);
    }
    eval.problem(p);
    false
}

/// What a value of the right type should be besides, and what to write.
fn misfit(field: &Field, v: &Value) -> Option<(String, String)> {
    let is_number = matches!(
        field.ty,
        FieldType::Number(_) | FieldType::Scheduled(_) | FieldType::Count | FieldType::Share
    );
    match v {
        Value::Number(q) if is_number => {
            let unit = units::name(&q.unit);
            let default = field.default;
            let default = match default {
                "" => String::new(),
                d => format!("without `{}` it is {d}", field.name),
            };
            if !q.value.is_finite() {
                return Some(("a finite number".to_owned(), default));
            }
            if matches!(field.ty, FieldType::Share) && !(0.0..=1.0).contains(&q.value) {
                return Some(("between 0% and 100%".to_owned(), default));
            }
            if matches!(field.ty, FieldType::Count) && (q.value < 0.0 || q.value.fract() != 0.0) {
                return Some(("a whole number of at least 0".to_owned(), default));
            }
            if !field.range.has(q.value) {
                let want = field.range.words().to_owned();
                return Some((want, default));
            }
            if matches!(unit.as_str(), "steps" | "rows") && !schema::is_whole(q.value) {
                let near = q.value.round().max(1.0);
                return Some((
                    format!("a whole number of {unit}"),
                    format!(
                        "write `{} = {near} {unit}`; `round(..)` makes what is computed whole",
                        field.name
                    ),
                ));
            }
            if matches!(field.ty, FieldType::Count) && q.value >= schema::EXACT {
                let most = schema::EXACT - 1.0;
                return Some((
                    format!("at most {most}"),
                    "numbers have 53 bits: a larger one would be rounded to another".to_owned(),
                ));
            }
            None
        }
        Value::Text(t) if t.is_empty() => {
            let may_be = match field.ty {
                FieldType::Text | FieldType::Texts => false,
                FieldType::Template => field.default == "\"\"",
                _ => true,
            };
            (!may_be).then(|| ("a text with something in it".to_owned(), String::new()))
        }
        _ => None,
    }
}

/// True if a field of this type takes the value.
fn fits(ty: FieldType, v: &Value) -> bool {
    if matches!(v, Value::Error | Value::Later(_)) {
        return true;
    }
    let in_units = |units: &[&str]| {
        matches!(v, Value::Number(q) if units.iter().any(|u| {
            if u.is_empty() { q.unit.is_none() } else { units::name(&q.unit) == *u }
        }))
    };
    let word = |words: &[&str], v: &Value| match v {
        Value::Text(t) => words.contains(&&**t),
        Value::Builtin(b) => words.contains(b),
        _ => false,
    };
    let all = |test: &dyn Fn(&Value) -> bool| match v {
        Value::List(l) => l.iter().all(test),
        one => test(one),
    };
    match ty {
        FieldType::Number(units) => in_units(units),
        FieldType::Scheduled(units) => {
            in_units(units)
                || matches!(v, Value::Record(_))
                || matches!(v, Value::Program(p) if p.def.kind == DefKind::Schedule)
        }
        FieldType::Count => {
            matches!(v, Value::Number(_))
        }
        FieldType::Share => {
            matches!(v, Value::Number(q) if q.unit.is_none())
        }
        FieldType::Switch => matches!(v, Value::Bool(_)) || word(&["on", "off"], v),
        FieldType::Text | FieldType::Template => matches!(v, Value::Text(_)),
        FieldType::Texts => {
            matches!(v, Value::List(l) if l.iter().all(|v| matches!(v, Value::Text(_))))
        }
        FieldType::Word(words) => word(words, v),
        FieldType::Words(words) => all(&|v| word(words, v)),
        FieldType::WordOr(words, fields) => match v {
            Value::Record(r) => r.fields.keys().all(|k| fields.contains(&k.as_str())),
            v => word(words, v),
        },
        FieldType::Data => match v {
            Value::Stream(_) | Value::List(_) => true,
            Value::Node(n) => matches!(n.kind.as_str(), "data" | "sweep"),
            _ => false,
        },
        FieldType::Tokenizer => matches!(v, Value::Node(n) if n.kind == "tokenizer"),
        FieldType::Model => match v {
            Value::Layer(_) | Value::Placed(_) | Value::List(_) => true,
            Value::Def(d) => matches!(d.kind, DefKind::Layer | DefKind::Model),
            Value::Bracketed(b) => fits(ty, &b.0),
            _ => false,
        },
        FieldType::Optimizer => match v {
            Value::Program(p) => p.def.kind == DefKind::Optimizer,
            Value::Def(d) => d.kind == DefKind::Optimizer,
            Value::Row(_) => true,
            _ => false,
        },
        FieldType::Loss => match v {
            Value::Program(p) => p.def.kind == DefKind::Loss,
            Value::Def(d) => d.kind == DefKind::Loss,
            _ => false,
        },
        FieldType::Row => all(&|v| matches!(v, Value::Row(_))),
        FieldType::Law => matches!(v, Value::Row(_)),
        FieldType::Ranges => {
            matches!(v, Value::Record(r) if r.fields.values().all(|(v, _)| matches!(v, Value::Range(..))))
        }
        FieldType::Axes => matches!(v, Value::Record(_)),
        FieldType::Nodes(kinds) => {
            all(&|v| matches!(v, Value::Node(n) if kinds.contains(&n.kind.as_str())))
        }
        FieldType::Setting | FieldType::Any => true,
    }
}
