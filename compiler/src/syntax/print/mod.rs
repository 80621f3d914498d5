//! The Ast back to text, always laid out in the same way.
//!
//! What is printed reads back to the same Ast, places aside (a test holds this). Comments other than `##` are not in the
//! Ast and so are lost: this is for golden tests, messages and hashing. A user's file is laid out by `format`.

mod value;

use self::value::{ADD, LAW, TERM};
use super::ast::{
    Axis, Block, Body, Callable, EmitKind, Expr, File, Ident, Item, ItemKind, MapKey, NodeBody,
    NodeName, Param, Pattern, Type, TypeKind, UseSource, WeightDecl,
};

/// A whole file with its `##` comments.
pub fn print(file: &File) -> String {
    let mut printer = Printer { out: String::new(), indent: 0, docs: true };
    if let Some(doc) = &file.doc {
        printer.doc(doc);
        // A blank line keeps the doc of the file apart from that of its first item.
        printer.out.push('\n');
    }
    printer.items(&file.items);
    printer.out
}

/// An item or a value as one text that depends on nothing but what was written: no places, docs, comments or layout.
pub trait Canonical {
    /// That text.
    fn canonical(&self) -> String;
}

impl Canonical for Expr {
    fn canonical(&self) -> String {
        let mut printer = Printer { out: String::new(), indent: 0, docs: false };
        printer.value(self, LAW);
        printer.out
    }
}

impl Canonical for Item {
    fn canonical(&self) -> String {
        let mut printer = Printer { out: String::new(), indent: 0, docs: false };
        printer.item(self);
        printer.out
    }
}

impl Canonical for Type {
    fn canonical(&self) -> String {
        let mut printer = Printer { out: String::new(), indent: 0, docs: false };
        printer.type_name(self);
        printer.out
    }
}

/// The canonical text of an item or a value.
pub fn canonical<T: Canonical>(of: &T) -> String {
    of.canonical()
}

/// Blocks of fields up to this many characters stay on one line.
const SHORT: usize = 60;

struct Printer {
    out: String,
    indent: usize,
    docs: bool,
}

impl Printer {
    fn text(&mut self, text: &str) {
        self.out.push_str(text);
    }

    /// `from..to`; a column behind the dots stands apart, or it would be a third dot.
    fn range(&mut self, from: &Expr, to: &Expr) {
        self.value(from, ADD);
        self.text("..");
        let at = self.out.len();
        self.value(to, ADD);
        if self.out[at..].starts_with('.') {
            self.out.insert(at, ' ');
        }
    }

    fn line(&mut self) {
        self.out.push('\n');
        self.out.push_str(&"  ".repeat(self.indent));
    }

    fn doc(&mut self, doc: &str) {
        for line in doc.lines() {
            self.text("## ");
            self.text(line);
            self.line();
        }
    }

    /// Each of `all` by `print`, with `, ` between.
    fn list<T>(&mut self, all: &[T], print: impl Fn(&mut Self, &T)) {
        for (i, one) in all.iter().enumerate() {
            if i > 0 {
                self.text(", ");
            }
            print(self, one);
        }
    }

    fn items(&mut self, items: &[Item]) {
        for item in items {
            if let (true, Some(doc)) = (self.docs, &item.doc) {
                self.doc(doc);
            }
            self.item(item);
            self.out.push('\n');
        }
    }

    fn item(&mut self, item: &Item) {
        match &item.kind {
            ItemKind::Use { source, names } => {
                self.text("use ");
                match source {
                    UseSource::File { path, .. } => self.string(path),
                    UseSource::Module(path) => self.path(path),
                }
                if !names.is_empty() {
                    self.text(" { ");
                    self.list(names, |p, n| p.text(&n.name));
                    self.text(" }");
                }
            }
            ItemKind::Let { pattern, ty, value } => {
                self.text("let ");
                self.pattern(pattern);
                self.typed(ty.as_ref());
                self.set(value);
            }
            ItemKind::Knob { name, ty, value } => {
                self.text("knob ");
                self.text(&name.name);
                self.typed(ty.as_ref());
                self.set(value);
            }
            ItemKind::Fn(callable) => {
                self.text("fn ");
                self.callable(callable);
            }
            ItemKind::Layer { name, axes, params, body } => {
                self.text("layer ");
                self.text(&name.name);
                self.axes(axes);
                if let Some(params) = params {
                    self.params(params);
                }
                self.text(" ");
                self.block(body);
            }
            ItemKind::Weight(all) => {
                self.text("weight ");
                self.list(all, Self::declaration);
            }
            ItemKind::State(all) => {
                self.text("state ");
                self.list(all, Self::declaration);
            }
            ItemKind::Emit { kind, name, value } => {
                self.text(match kind {
                    EmitKind::Measure => "measure ",
                    EmitKind::Penalty => "penalty ",
                });
                self.text(&name.name);
                self.set(value);
            }
            ItemKind::Assert(value) => self.worded("assert ", value),
            ItemKind::For { pattern, iter } => self.for_clause(pattern, iter),
            ItemKind::Where(value) => self.worded("where ", value),
            ItemKind::Field { path, value } => {
                self.path(path);
                self.set(value);
            }
            ItemKind::Map { key, value } => {
                match key {
                    MapKey::Path(path) => self.path(path),
                    MapKey::Tuple(axes) => self.tuple(axes),
                    MapKey::Value(value) => self.value(value, TERM),
                }
                self.worded(" -> ", value);
            }
            ItemKind::Def { kind, callable } => {
                self.text(&kind.name);
                self.text(" ");
                self.callable(callable);
            }
            ItemKind::Method(callable) => self.callable(callable),
            ItemKind::Node { kind, name, body } => self.node(kind, name.as_ref(), body),
            ItemKind::Expr(value) => self.value(value, LAW),
            ItemKind::Error => self.text("<error>"),
        }
    }

    fn node(&mut self, kind: &Ident, name: Option<&NodeName>, body: &NodeBody) {
        self.text(&kind.name);
        match name {
            Some(NodeName::Ident(name)) => {
                self.text(" ");
                self.text(&name.name);
            }
            Some(NodeName::Text(text, _)) => {
                self.text(" ");
                self.string(text);
            }
            None => {}
        }
        match body {
            NodeBody::Expr(value) => self.set(value),
            NodeBody::Block(block) => {
                self.text(" ");
                self.block(block);
            }
            NodeBody::None => {}
        }
    }

    fn set(&mut self, value: &Expr) {
        self.worded(" = ", value);
    }

    fn worded(&mut self, word: &str, value: &Expr) {
        self.text(word);
        self.value(value, LAW);
    }

    fn typed(&mut self, ty: Option<&Type>) {
        if let Some(ty) = ty {
            self.text(": ");
            self.type_name(ty);
        }
    }

    fn path(&mut self, path: &[Ident]) {
        for (i, name) in path.iter().enumerate() {
            if i > 0 {
                self.text(".");
            }
            self.text(&name.name);
        }
    }

    fn pattern(&mut self, pattern: &Pattern) {
        match pattern {
            Pattern::Name(name) => self.text(&name.name),
            Pattern::Tuple(names, _) => {
                self.text("(");
                self.list(names, |p, n| p.text(&n.name));
                self.text(")");
            }
        }
    }

    fn for_clause(&mut self, pattern: &Pattern, iter: &Expr) {
        self.text("for ");
        self.pattern(pattern);
        self.worded(" in ", iter);
    }

    fn declaration(&mut self, declaration: &WeightDecl) {
        self.text(&declaration.name.name);
        self.axes(&declaration.axes);
        self.typed(declaration.ty.as_ref());
        if let Some(init) = &declaration.init {
            self.set(init);
        }
    }

    fn callable(&mut self, callable: &Callable) {
        self.text(&callable.name.name);
        self.axes(&callable.axes);
        self.params(&callable.params);
        if let Some(result) = &callable.result {
            self.text(" -> ");
            self.type_name(result);
        }
        match &callable.body {
            Body::Expr(value) => self.set(value),
            Body::Block(block) => {
                self.text(" ");
                self.block(block);
            }
        }
    }

    fn params(&mut self, params: &[Param]) {
        self.text("(");
        self.list(params, |p, param| {
            p.text(&param.name.name);
            p.typed(param.ty.as_ref());
            if let Some(default) = &param.default {
                p.set(default);
            }
        });
        self.text(")");
    }

    /// Brackets, if there are axes.
    fn axes(&mut self, axes: &[Axis]) {
        if !axes.is_empty() {
            self.text("[");
            self.list(axes, Self::axis);
            self.text("]");
        }
    }

    fn tuple(&mut self, axes: &[Axis]) {
        self.text("(");
        self.list(axes, Self::axis);
        self.text(")");
    }

    fn axis(&mut self, axis: &Axis) {
        self.text(&axis.name.name);
        if let Some(size) = &axis.size {
            self.set(size);
        }
    }

    fn block(&mut self, block: &Block) {
        if block.items.is_empty() {
            return self.text("{ }");
        }
        let plain = |i: &Item| {
            matches!(i.kind, ItemKind::Field { .. } | ItemKind::Map { .. }) && i.doc.is_none()
        };
        if block.items.iter().all(plain) {
            let start = self.out.len();
            self.text("{ ");
            self.list(&block.items, Self::item);
            self.text(" }");
            let line = &self.out[start..];
            if line.len() <= SHORT && !line.contains('\n') {
                return;
            }
            self.out.truncate(start);
        }
        self.text("{");
        self.indent += 1;
        for item in &block.items {
            self.line();
            if let (true, Some(doc)) = (self.docs, &item.doc) {
                self.doc(doc);
            }
            self.item(item);
        }
        self.indent -= 1;
        self.line();
        self.text("}");
    }

    fn type_name(&mut self, ty: &Type) {
        match &ty.kind {
            TypeKind::Named { path, per, axes, optional } => {
                self.path(path);
                for name in per {
                    self.text("/");
                    self.text(&name.name);
                }
                self.axes(axes);
                if *optional {
                    self.text("?");
                }
            }
            TypeKind::Tensor { axes, element } => {
                self.text("[");
                self.list(axes, Self::axis);
                self.text("]");
                if let Some(element) = element {
                    self.text(" ");
                    self.type_name(element);
                }
            }
            TypeKind::Range { from, to } => self.range(from, to),
            TypeKind::Record(entries) => {
                self.text("{ ");
                self.list(entries, |p, (name, ty)| {
                    p.text(&name.name);
                    p.typed(Some(ty));
                });
                self.text(" }");
            }
        }
    }
}
