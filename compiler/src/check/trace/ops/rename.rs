//! Brackets on a tensor: renames, splits and merges of axes. While decoding, renaming `seq` goes through a cache.

use std::rc::Rc;

use crate::check::eval::Eval;
use crate::check::trace::{Emit, EmitKind, Mode};
use crate::check::value::{Bracket, Scope, Tensor, Value};
use crate::graph::build::Builder;
use crate::graph::{Axis, Name, NodeId, Op, Role, Runtime, Type};
use crate::problem::Problem;
use crate::source::Span;

impl Eval<'_> {
    /// Brackets on a tensor: renames, splits and merges of axes.
    pub fn rename_tensor(
        &mut self,
        scope: &Scope,
        v: Value,
        brackets: Vec<Bracket>,
        span: Span,
    ) -> Value {
        let Some(mut x) = self.tensor_node(v, span) else { return Value::Error };
        let mut renames: Vec<(Name, Name)> = Vec::new();
        for bracket in brackets {
            let Bracket::Arrow { from, to, span: at } = bracket else {
                return self.problem(
                    Problem::new(
                        "E0406",
                        span,
                        "brackets on a tensor rename its axes: `x[seq -> key]`",
                    )
                    .help("to read at an index write `pick[seq](x, index)`"),
                );
            };
            match (from.as_slice(), to.as_slice()) {
                ([(old, _)], [(new, _)]) => {
                    let Some(old) = self.axis_named(scope, old, at) else { return Value::Error };
                    let mode = self.t().mode;
                    if old.name == "seq"
                        && let Mode::Decode(capacity) = mode
                    {
                        match self.through_cache(scope, x, &old, new, capacity, at) {
                            Some(node) => x = node,
                            None => return Value::Error,
                        }
                        continue;
                    }
                    let new = self.t().local_axis(scope, new, old.size);
                    renames.push((old.name, new.name));
                }
                ([(old, _)], parts) => {
                    let Some(old) = self.axis_named(scope, old, at) else { return Value::Error };
                    let Some(into) = self.split_sizes(scope, &old, parts, at) else {
                        return Value::Error;
                    };
                    match self.t().b().split(x, &old.name, &into) {
                        Ok(n) => x = n,
                        Err(m) => return self.misfit(m, at),
                    }
                }
                (parts, [(new, _)]) => {
                    let mut names = Vec::new();
                    let mut size = 1;
                    for (p, _) in parts {
                        let Some(a) = self.axis_named(scope, p, at) else { return Value::Error };
                        size *= a.size;
                        names.push(a.name);
                    }
                    let into = self.t().local_axis(scope, new, size);
                    match self.t().b().merge(x, &names, &into.name) {
                        Ok(n) => x = n,
                        Err(m) => return self.misfit(m, at),
                    }
                }
                _ => {
                    return self.problem(Problem::new(
                        "E0406",
                        at,
                        "several axes become one, or one becomes several",
                    ));
                }
            }
        }
        if renames.is_empty() {
            return self.wrap(x);
        }
        let built = self.t().b().rename(x, &renames);
        self.built(built, span)
    }

    fn split_sizes(
        &mut self,
        scope: &Scope,
        old: &Axis,
        parts: &[(Rc<str>, Option<usize>)],
        span: Span,
    ) -> Option<Vec<Axis>> {
        let mut sizes: Vec<Option<usize>> = parts
            .iter()
            .map(|(name, size)| {
                size.or_else(|| {
                    let t = self.trace.as_ref()?;
                    // A model's axis gives the size; a leftover local name does not.
                    t.axes
                        .get(&**name)
                        .map(|a| a.axis.size)
                        .or_else(|| scope.axis(name).map(|a| a.axis.size))
                })
            })
            .collect();
        let known: usize = sizes.iter().flatten().product();
        let missing = sizes.iter().filter(|s| s.is_none()).count();
        if missing > 1 || known == 0 || !old.size.is_multiple_of(known) {
            let names: Vec<&str> = parts.iter().map(|(n, _)| &**n).collect();
            self.problem(
                Problem::new(
                    "E0408",
                    span,
                    format!("`{}` = {} cannot become ({})", old.name, old.size, names.join(", ")),
                )
                .help("write sizes: `x[dh -> (two = 2, half)]`; one may be left out"),
            );
            return None;
        }
        for s in &mut sizes {
            if s.is_none() {
                *s = Some(old.size / known);
            }
        }
        let axes = parts
            .iter()
            .zip(sizes)
            .map(|((name, _), s)| self.t().local_axis(scope, name, s.unwrap_or(1)))
            .collect();
        Some(axes)
    }

    /// `x[seq -> key]` while decoding: the new rows are written into a cache, and the value is the whole cache.
    fn through_cache(
        &mut self,
        scope: &Scope,
        x: NodeId,
        seq: &Axis,
        new: &str,
        capacity: usize,
        span: Span,
    ) -> Option<NodeId> {
        let key = self.t().local_axis(scope, new, capacity);
        let path = self.t().path();
        let trace = self.t();
        let n = trace.caches.keys().filter(|k| k.starts_with(&format!("cache:{path}#"))).count();
        let name = format!("cache:{path}#{n}");
        let ty = trace.b().ty(x).clone();
        let mut axes: Vec<Axis> = trace.levels.iter().filter_map(|l| l.axis.clone()).collect();
        axes.extend(
            ty.axes.iter().map(|a| if a.name == seq.name { key.clone() } else { a.clone() }),
        );
        // Length 1 axes of a lone sequence stay: the cache has the axes of what it holds.
        let cache_ty = Type::new(ty.dtype, axes);
        trace.caches.insert(name.clone(), cache_ty.clone());
        let cache = trace.levels[0].b.input(name.as_str(), cache_ty, Role::State);
        let cache = trace.here(Tensor { level: 0, node: cache });
        let b = trace.b();
        let renamed = rename_size(b, x, seq, &key);
        let start = b.runtime(Runtime::Position);
        let updated = match b.update(cache, &key.name, renamed, start) {
            Ok(n) => n,
            Err(m) => {
                self.misfit(m, span);
                return None;
            }
        };
        let level = self.t().levels.last_mut().expect("a trace has a level");
        level.emits.push(Emit { name, kind: EmitKind::Cache, node: updated });
        Some(updated)
    }
}

/// `x` with axis `seq` under the name of `key`, keeping its own size: what is written into a cache is shorter than the cache.
fn rename_size(b: &mut Builder, x: NodeId, seq: &Axis, key: &Axis) -> NodeId {
    let ty = b.ty(x).clone();
    let axes = ty
        .axes
        .iter()
        .map(|a| {
            if a.name == seq.name {
                Axis { name: key.name.clone(), size: a.size }
            } else {
                a.clone()
            }
        })
        .collect();
    let op = Op::Rename(vec![(seq.name.clone(), key.name.clone())]);
    b.raw(op, vec![x], Type::new(ty.dtype, axes))
}
