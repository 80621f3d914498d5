//! Types, parameters and axes.

use super::super::ast::{Axis, Ident, Param, Type, TypeKind};
use super::super::parse::Rule;
use super::{Builder, P};

impl Builder<'_> {
    pub(super) fn axes(&mut self, pair: P<'_>) -> Vec<Axis> {
        pair.into_inner().filter(|p| p.as_rule() == Rule::axis).map(|p| self.axis(p)).collect()
    }

    fn axis(&mut self, pair: P<'_>) -> Axis {
        let mut name = None;
        let mut size = None;
        for part in pair.into_inner() {
            match part.as_rule() {
                Rule::ident => name = Some(self.ident(&part)),
                Rule::value => size = Some(self.value(part)),
                _ => self.walrus(&part),
            }
        }
        Axis { name: self.named(name), size }
    }

    pub(super) fn params(&mut self, pair: P<'_>) -> Vec<Param> {
        pair.into_inner().map(|p| self.param(p)).collect()
    }

    fn param(&mut self, pair: P<'_>) -> Param {
        let mut name = None;
        let mut ty = None;
        let mut default = None;
        for part in pair.into_inner() {
            match part.as_rule() {
                Rule::ident => name = Some(self.ident(&part)),
                Rule::type_name => ty = Some(self.type_name(part)),
                Rule::value => default = Some(self.value(part)),
                _ => self.walrus(&part),
            }
        }
        Param { name: self.named(name), ty, default }
    }

    /// The grammar always brings a name; an empty one stands in so that nothing can panic.
    pub(super) fn named(&self, name: Option<Ident>) -> Ident {
        name.unwrap_or_else(|| Ident { name: String::new(), span: self.place_of(0, 0) })
    }

    pub(super) fn type_name(&mut self, pair: P<'_>) -> Type {
        let span = self.span(&pair);
        match pair.into_inner().next() {
            Some(inner) => self.type_kind(inner),
            None => {
                let kind = TypeKind::Record(Vec::new());
                Type { kind, span }
            }
        }
    }

    fn type_kind(&mut self, pair: P<'_>) -> Type {
        let span = self.span(&pair);
        let rule = pair.as_rule();
        let inner = pair.into_inner();
        let kind = match rule {
            Rule::record_type => {
                let mut entries = Vec::new();
                for entry in inner.filter(|p| p.as_rule() == Rule::record_entry) {
                    let mut parts = entry.into_inner();
                    if let (Some(name), Some(ty)) = (parts.next(), parts.next()) {
                        entries.push((self.ident(&name), self.type_name(ty)));
                    }
                }
                TypeKind::Record(entries)
            }
            Rule::tensor_type => {
                let mut axes = Vec::new();
                let mut element = None;
                for part in inner {
                    match part.as_rule() {
                        Rule::axes => axes = self.axes(part),
                        _ => element = Some(Box::new(self.type_kind(part))),
                    }
                }
                TypeKind::Tensor { axes, element }
            }
            Rule::range_type => {
                let mut bounds =
                    inner.filter(|p| p.as_rule() == Rule::bound).map(|p| self.value(p));
                let from = bounds.next();
                let to = bounds.next();
                let end = self.place.span(span);
                let empty = || Self::error_value(end);
                TypeKind::Range { from: from.unwrap_or_else(empty), to: to.unwrap_or_else(empty) }
            }
            _ => {
                let mut path = Vec::new();
                let mut per = Vec::new();
                let mut axes = Vec::new();
                let mut optional = false;
                for part in inner {
                    match part.as_rule() {
                        Rule::path => path = self.path(part),
                        Rule::per => per.extend(part.into_inner().map(|p| self.ident(&p))),
                        Rule::axes => axes = self.axes(part),
                        _ => optional = true,
                    }
                }
                TypeKind::Named { path, per, axes, optional }
            }
        };
        Type { kind, span }
    }
}
