//! Modules: files and stdlib modules, what they declare, what they import, and the values of their top-level names.
//!
//! A name is looked up in the file's own items, then in its imports, then in the prelude (semantics 9). A value is computed at
//! its first use and kept; a name that needs itself is a problem.

use std::collections::BTreeSet;
use std::rc::Rc;

use indexmap::IndexMap;

use super::eval::{Eval, def_of};
use super::trace;
use super::value::{DefKind, NodeValue, Quantity, Record, Scope, Value};
use super::{kinds, stages};
use crate::problem::{Problem, did_you_mean};
use crate::source::{FileId, Span};
use crate::stdlib;
use crate::syntax::ast::{self, ExprKind, ItemKind, NodeBody, NodeName, UseSource};
use crate::syntax::{self, Setting};

/// A file or stdlib module.
#[derive(Debug)]
pub struct Module {
    /// Its text.
    pub file: FileId,
    /// For files: the name by which other files see it; for modules `std.NAME`.
    pub name: String,
    /// Its items.
    pub items: Vec<ast::Item>,
    /// Top-level name to item.
    pub names: IndexMap<String, usize>,
    /// Imported name to module and place; the flag tells whether it was used.
    pub imports: IndexMap<String, (usize, Span, bool)>,
}

/// The module of the prelude is always the first.
pub const PRELUDE: usize = 0;
/// The file on the command line.
pub const MAIN: usize = 1;

impl<'w> Eval<'w> {
    /// An evaluator with nothing read.
    pub fn new(world: &'w dyn crate::world::World) -> Self {
        Self {
            sources: crate::source::Sources::default(),
            problems: crate::problem::Problems::default(),
            world,
            modules: Vec::new(),
            trace: None,
            memo: IndexMap::new(),
            rows: Vec::new(),
            calls: Vec::new(),
            running: Vec::new(),
            reached: BTreeSet::new(),
            init_path: None,
            init_axes: Vec::new(),
            specs: Vec::new(),
            points: IndexMap::new(),
            places: IndexMap::new(),
            counts: IndexMap::new(),
            steps: 0,
            over_runs: false,
            least_room: None,
            token_files: IndexMap::new(),
            definition_texts: IndexMap::new(),
            asks: IndexMap::new(),
            sets: Vec::new(),
        }
    }

    /// Reads the prelude, the file and whatever they use; takes the `--set`s.
    pub fn load_main(&mut self, path: &str, sets: &[String]) {
        let text = stdlib::module("prelude").expect("the prelude is embedded");
        self.add_module("std.prelude", text, true);
        match self.world.read(path, None) {
            Ok((name, text)) => {
                self.add_module(&name, &text, false);
            }
            Err(why) => {
                let file = self.sources.add(path, "", false);
                let problem = Problem::new(
                    "E0207",
                    Span::new(file, 0, 0),
                    format!("cannot read `{path}`: {why}"),
                );
                self.problems.push(problem);
            }
        }
        for set in sets {
            let file = self.sources.add("--set", set.clone(), false);
            let (Setting { path, value, .. }, problems) = syntax::parse_set(file, set);
            self.problems.extend(problems);
            let names: Vec<String> = path.iter().map(|i| i.name.clone()).collect();
            if names.is_empty() {
                continue;
            }
            let known = self.modules.get(MAIN).is_some_and(|m| m.names.contains_key(&names[0]));
            if !known {
                let all: Vec<String> = self
                    .modules
                    .get(MAIN)
                    .map(|m| m.names.keys().cloned().collect())
                    .unwrap_or_default();
                let mut p = Problem::new(
                    "E0202",
                    path[0].span,
                    format!("`--set`: the file has no knob or node `{}`", names[0]),
                );
                if let Some(near) = did_you_mean(&names[0], all.iter().map(String::as_str)) {
                    p = p.help(format!("did you mean `{near}`?"));
                }
                self.problem(p);
                continue;
            }
            // A name alone stands for a value; of a node or a definition only parts can be set.
            let main = &self.modules[MAIN];
            let item = &main.items[main.names[&names[0]]];
            let is_value = matches!(item.kind, ItemKind::Knob { .. } | ItemKind::Let { .. });
            if names.len() == 1 && !is_value {
                let kind = self.sources.text(item.span).split_whitespace().next().unwrap_or("node");
                let text =
                    format!("`--set`: `{}` is a {kind}, which has no value to set", names[0]);
                let help = format!("set one of its fields: `--set {}.FIELD=VALUE`", names[0]);
                let p = Problem::new("E0202", path[0].span, text).label(item.span, "declared here");
                self.problem(p.help(help));
                continue;
            }
            self.sets.push((names, value));
        }
    }

    /// A text in place of the file: questions have no file.
    pub fn load_text(&mut self, text: &str) {
        let prelude = stdlib::module("prelude").expect("the prelude is embedded");
        self.add_module("std.prelude", prelude, true);
        self.add_module("query", text, false);
    }

    /// Parses a module, records what it declares, and loads what it uses. Gives its index.
    fn add_module(&mut self, name: &str, text: &str, is_std: bool) -> usize {
        let file = self.sources.add(name, text, is_std);
        let (ast, problems) = syntax::parse(file, text);
        self.problems.extend(problems);
        let index = self.modules.len();
        let mut names = IndexMap::new();
        for (i, item) in ast.items.iter().enumerate() {
            let Some((name, span)) = declared(&item.kind) else { continue };
            if let Some(why) = no_folder(name) {
                let text = format!("{name:?} cannot be the name of a node: {why}");
                self.problems.push(Problem::new("E0218", span, text).help(
                    "what a node gives is kept in a folder of its name: use letters, digits, spaces, `-` and `_`",
                ));
            }
            if let Some(old) = names.insert(name.to_owned(), i) {
                let first: &ast::Item = &ast.items[old];
                let p = Problem::new("E0208", span, format!("`{name}` is declared twice"))
                    .label(first.span, "first here");
                self.problems.push(p);
            }
        }
        let items = ast.items;
        self.modules.push(Module {
            file,
            name: name.to_owned(),
            items,
            names,
            imports: IndexMap::new(),
        });
        let uses: Vec<(UseSource, Vec<ast::Ident>)> = self.modules[index]
            .items
            .iter()
            .filter_map(|i| match &i.kind {
                ItemKind::Use { source, names } => Some((source.clone(), names.clone())),
                _ => None,
            })
            .collect();
        for (source, names) in uses {
            self.import(index, &source, &names);
        }
        index
    }

    fn import(&mut self, into: usize, source: &UseSource, names: &[ast::Ident]) {
        let (from, what, at) = match source {
            UseSource::File { path, span } => {
                let here = self.modules[into].name.clone();
                match self.world.read(path, Some(&here)) {
                    Ok((name, text)) => {
                        let known = self.modules.iter().position(|m| m.name == name);
                        let index = known.unwrap_or_else(|| self.add_module(&name, &text, false));
                        (index, name, *span)
                    }
                    Err(why) => {
                        self.problem(Problem::new(
                            "E0207",
                            *span,
                            format!("cannot read `{path}`: {why}"),
                        ));
                        self.missing(into, names);
                        return;
                    }
                }
            }
            UseSource::Module(path) => {
                let span = path[0].span.to(path[path.len() - 1].span);
                let written: Vec<&str> = path.iter().map(|i| i.name.as_str()).collect();
                let text = (written.len() == 2 && written[0] == "std")
                    .then(|| stdlib::module(written[1]))
                    .flatten();
                let Some(text) = text else {
                    let all = stdlib::MODULES.iter().map(|(n, _)| format!("std.{n}"));
                    let p = Problem::new(
                        "E0207",
                        span,
                        format!("there is no module `{}`", written.join(".")),
                    )
                    .help(format!("there are: {}", all.collect::<Vec<_>>().join(", ")));
                    self.problem(p);
                    self.missing(into, names);
                    return;
                };
                let name = written.join(".");
                let known = self.modules.iter().position(|m| m.name == name);
                let index = known.unwrap_or_else(|| self.add_module(&name, text, true));
                (index, name, span)
            }
        };
        let available: Vec<String> = self.modules[from].names.keys().cloned().collect();
        if names.is_empty() {
            for n in available {
                self.modules[into].imports.insert(n, (from, at, true));
            }
            return;
        }
        for id in names {
            if !available.contains(&id.name) {
                let mut p =
                    Problem::new("E0201", id.span, format!("`{what}` has no `{}`", id.name));
                if let Some(near) = did_you_mean(&id.name, available.iter().map(String::as_str)) {
                    p = p.at(format!("did you mean `{near}`?")).fix(id.span, near);
                }
                self.problem(p);
                // The import stands, so that its uses are not reported again.
                self.modules[into].imports.insert(id.name.clone(), (from, id.span, true));
                continue;
            }
            self.modules[into].imports.insert(id.name.clone(), (from, id.span, false));
        }
    }

    /// Names of a module that is not there stand for something wrong, so that their uses are not reported again.
    fn missing(&mut self, into: usize, names: &[ast::Ident]) {
        for id in names {
            self.modules[into].imports.insert(id.name.clone(), (into, id.span, true));
        }
    }

    /// The value of a top-level name as seen from a module.
    pub fn module_name(&mut self, module: usize, name: &str, span: Span) -> Option<Value> {
        if self.modules.get(module)?.names.contains_key(name) {
            return Some(self.item_value(module, name, span));
        }
        if let Some((from, _, used)) = self.modules[module].imports.get_mut(name) {
            *used = true;
            let from = *from;
            if self.modules[from].names.contains_key(name) {
                return Some(self.item_value(from, name, span));
            }
            return Some(Value::Error);
        }
        if name == "training"
            && let Some(t) = &self.trace
        {
            return Some(Value::Bool(t.mode == trace::Mode::Train));
        }
        if self.modules[PRELUDE].names.contains_key(name) {
            return Some(self.item_value(PRELUDE, name, span));
        }
        builtin(name).map(Value::Builtin)
    }

    /// True if a top-level name is in sight.
    pub fn knows(&self, module: usize, name: &str) -> bool {
        let Some(m) = self.modules.get(module) else { return false };
        m.names.contains_key(name)
            || m.imports.contains_key(name)
            || self.modules[PRELUDE].names.contains_key(name)
            || builtin(name).is_some()
    }

    /// Names for suggestions.
    pub fn names_in_sight(&self, module: usize) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        if let Some(m) = self.modules.get(module) {
            all.extend(m.names.keys().cloned());
            all.extend(m.imports.keys().cloned());
        }
        if let Some(m) = self.modules.get(PRELUDE) {
            all.extend(m.names.keys().cloned());
        }
        all.extend(trace::op_names().chain(stages::names()).map(str::to_owned));
        all
    }

    /// W0201 for what was imported by name and stands nowhere else in the file: a definition that nobody uses yet still uses its imports.
    pub fn unused_imports(&mut self) {
        let Some(main) = self.modules.get(MAIN) else { return };
        let written = |name: &str| {
            let items = main.items.iter().filter(|i| !matches!(i.kind, ItemKind::Use { .. }));
            items.map(|i| self.sources.text(i.span)).any(|text| has_word(text, name))
        };
        let unused: Vec<(String, Span)> = main
            .imports
            .iter()
            .filter(|(name, (_, _, used))| !used && !written(name))
            .map(|(n, (_, span, _))| (n.clone(), *span))
            .collect();
        for (name, span) in unused {
            self.problem(Problem::new("W0201", span, format!("`{name}` is imported but not used")));
        }
    }

    /// The value of an item, computed once.
    pub fn item_value(&mut self, module: usize, name: &str, span: Span) -> Value {
        let key = (module, name.to_owned());
        match self.memo.get(&key) {
            Some(Some(v)) => return v.clone(),
            Some(None) => {
                return self.problem(
                    Problem::new("E0206", span, format!("`{name}` needs itself to be known"))
                        .help("break the circle: one of the two must not use the other"),
                );
            }
            None => {}
        }
        self.memo.insert(key.clone(), None);
        // Items are evaluated outside whatever graph or row is at hand.
        let trace = self.trace.take();
        let rows = std::mem::take(&mut self.rows);
        let item = self.modules[module].items[self.modules[module].names[name]].clone();
        let value = self.evaluate_item(module, name, &item);
        self.trace = trace;
        self.rows = rows;
        self.memo.insert(key, Some(value.clone()));
        value
    }

    fn evaluate_item(&mut self, module: usize, name: &str, item: &ast::Item) -> Value {
        let scope = Scope::module(module);
        let sets: Vec<(Vec<String>, ast::Expr)> = if module == MAIN {
            self.sets.iter().filter(|(p, _)| p[0] == name).cloned().collect()
        } else {
            Vec::new()
        };
        let whole = sets.iter().find(|(p, _)| p.len() == 1).map(|(_, e)| e.clone());
        let value = match &item.kind {
            ItemKind::Let { value, .. } => self.expr(&scope, &whole.unwrap_or(value.clone())),
            ItemKind::Knob { ty, value, name: id } => {
                let e = whole.unwrap_or(value.clone());
                let v = self.word_or(&scope, &e);
                if let Some(ty) = ty
                    && let Err(text) = super::types::fits(&v, ty)
                {
                    let p = Problem::new("E0301", e.span, format!("the knob `{}` {text}", id.name))
                        .label(ty.span, "declared here");
                    return self.problem(p);
                }
                v
            }
            ItemKind::Fn(c) => {
                Value::Def(Rc::new(def_of(DefKind::Fn, c, &scope, item.doc.clone())))
            }
            ItemKind::Layer { name, axes, params, body } => {
                let c = ast::Callable {
                    name: name.clone(),
                    axes: axes.clone(),
                    params: params.clone().unwrap_or_default(),
                    result: None,
                    body: ast::Body::Block(body.clone()),
                    span: item.span,
                };
                Value::Def(Rc::new(def_of(DefKind::Layer, &c, &scope, item.doc.clone())))
            }
            ItemKind::Def { kind, callable } => match program_kind(&kind.name) {
                Some(k) => Value::Def(Rc::new(def_of(k, callable, &scope, item.doc.clone()))),
                None => self.unknown_kind(kind),
            },
            ItemKind::Node { kind, body, .. } => self.node_item(&scope, name, kind, body, item),
            // The grammar reads `model m = e` as a node; anything else declares nothing.
            _ => Value::Error,
        };
        let mut value = value;
        for (path, e) in sets.iter().filter(|(p, _)| p.len() > 1) {
            let ident = |name: &String| ast::Ident { name: name.clone(), span: e.span };
            let fields: Vec<ast::Ident> = path[1..].iter().map(ident).collect();
            let v = kinds::changed(self, &scope, &value, &fields, e);
            let rest: Vec<&str> = path[1..].iter().map(String::as_str).collect();
            value = self.set_path(value, &rest, v, e.span, e.span);
        }
        value
    }

    fn node_item(
        &mut self,
        scope: &Scope,
        name: &str,
        kind: &ast::Ident,
        body: &NodeBody,
        item: &ast::Item,
    ) -> Value {
        if let (Some(k @ (DefKind::Score | DefKind::Filter | DefKind::Law)), NodeBody::Expr(e)) =
            (program_kind(&kind.name), body)
        {
            // `score exact = ..`: a program without settings, from a row to a value.
            let c = ast::Callable {
                name: ast::Ident { name: name.to_owned(), span: kind.span },
                axes: Vec::new(),
                params: Vec::new(),
                result: None,
                body: ast::Body::Expr(e.clone()),
                span: item.span,
            };
            return Value::Def(Rc::new(def_of(k, &c, scope, item.doc.clone())));
        }
        if let (Some(k), NodeBody::Block(block)) = (program_kind(&kind.name), body) {
            let id = ast::Ident { name: name.to_owned(), span: kind.span };
            let mut def = Self::model_def(&id, block, scope, item.doc.clone());
            def.kind = k;
            return Value::Def(Rc::new(def));
        }
        if kind.name == "model" {
            return match body {
                NodeBody::Expr(e) => {
                    let v = self.expr(scope, e);
                    match v {
                        Value::Error | Value::Later(_) => v,
                        v => match self.as_layer(v, e.span) {
                            Some(l) => Value::Layer(l),
                            None => Value::Error,
                        },
                    }
                }
                NodeBody::Block(_) | NodeBody::None => Value::Error,
            };
        }
        if !kinds::is_kind(&kind.name) {
            return self.unknown_kind(kind);
        }
        let mut node = NodeValue {
            kind: kind.name.clone(),
            name: name.into(),
            fields: Record::default(),
            items: Vec::new(),
            scope: scope.clone(),
            span: item.span,
            doc: item.doc.clone(),
        };
        match body {
            NodeBody::Expr(e) => match self.expr(scope, e) {
                // `train final = baseline with { .. }`: a node of its own with other fields.
                Value::Node(base) if base.kind == kind.name => {
                    node.fields = base.fields.clone();
                    node.items = base.items.clone();
                }
                Value::Error => return Value::Error,
                v => node.fields.set("value", v, Some(e.span)),
            },
            NodeBody::Block(block) => kinds::fields(self, scope, &mut node, block),
            NodeBody::None => {}
        }
        Value::Node(Rc::new(node))
    }

    fn unknown_kind(&mut self, kind: &ast::Ident) -> Value {
        let all = kinds::names();
        let mut p =
            Problem::new("E0209", kind.span, format!("`{}` is not a kind of node", kind.name));
        if let Some(near) = did_you_mean(&kind.name, all.iter().copied()) {
            p = p.at(format!("did you mean `{near}`?")).fix(kind.span, near);
        } else {
            p = p.help(format!("kinds are: {}", all.join(", ")));
        }
        self.problem(p)
    }
}

/// Types as values, for `columns = { question = Text }`.
const TYPES: &[&str] = &["Text", "Int", "Float", "Bool", "Turn"];

fn builtin(name: &str) -> Option<&'static str> {
    trace::op_names().chain(stages::names()).chain(TYPES.iter().copied()).find(|n| *n == name)
}

/// The kinds of programs that are no nodes.
pub fn program_kind(name: &str) -> Option<DefKind> {
    Some(match name {
        "model" => DefKind::Model,
        "optimizer" => DefKind::Optimizer,
        "schedule" => DefKind::Schedule,
        "loss" => DefKind::Loss,
        "law" => DefKind::Law,
        "filter" => DefKind::Filter,
        "score" => DefKind::Score,
        _ => return None,
    })
}

/// Why a name cannot be that of a folder.
fn no_folder(name: &str) -> Option<&'static str> {
    if name.trim().is_empty() {
        Some("it is empty")
    } else if name.contains(['/', '\\']) {
        Some("it has a slash")
    } else if name.starts_with('.') {
        Some("it begins with a dot")
    } else if name.contains(char::is_control) {
        Some("it has a line break or the like")
    } else {
        (name.len() > 100).then_some("it is too long")
    }
}

/// True if a text has the name as a whole word.
fn has_word(text: &str, name: &str) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(name)
        .any(|(at, _)| !text[..at].ends_with(word) && !text[at + name.len()..].starts_with(word))
}

/// The name that an item declares, and where. One in quotes (`plot "Loss"`) cannot be used elsewhere, and is a name of its own all the same.
fn declared(kind: &ItemKind) -> Option<(&str, Span)> {
    let id = match kind {
        ItemKind::Let { pattern: ast::Pattern::Name(id), .. } | ItemKind::Knob { name: id, .. } => {
            id
        }
        ItemKind::Fn(c) | ItemKind::Def { callable: c, .. } => &c.name,
        ItemKind::Layer { name, .. } => name,
        ItemKind::Node { name: Some(NodeName::Ident(id)), .. } => id,
        ItemKind::Node { name: Some(NodeName::Text(text, span)), .. } => {
            return Some((text, *span));
        }
        ItemKind::Use { .. }
        | ItemKind::Let { .. }
        | ItemKind::Weight(_)
        | ItemKind::State(_)
        | ItemKind::Emit { .. }
        | ItemKind::Assert(_)
        | ItemKind::For { .. }
        | ItemKind::Where(_)
        | ItemKind::Field { .. }
        | ItemKind::Map { .. }
        | ItemKind::Method(_)
        | ItemKind::Node { .. }
        | ItemKind::Expr(_)
        | ItemKind::Error => return None,
    };
    Some((&id.name, id.span))
}

/// A plain number, for tables of facts.
pub fn number(value: f64) -> Value {
    Value::Number(Quantity::plain(value))
}

/// The bare name that an expression is.
pub fn bare(e: &ast::Expr) -> Option<&str> {
    match &*e.kind {
        ExprKind::Name(n) => Some(n),
        _ => None,
    }
}
