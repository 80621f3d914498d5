//! Weights as optimizers see them: their role, their row for group expressions, their matrix view.

use std::rc::Rc;

use super::trace::{Slot, Trace};
use super::value::{Quantity, Record, Value};
use super::views::View;
use crate::graph::{Axis, DType, Name, NodeId, Type};
use crate::programs::WeightInfo;

/// Products of the contracted and of the other axes.
pub(super) fn fans(slot: &Slot, view: &View) -> (usize, usize) {
    let inside = view.contracted.clone().unwrap_or_default();
    let product = |want: bool| -> usize {
        slot.axes.iter().filter(|a| inside.contains(&a.name) == want).map(|a| a.size).product()
    };
    (product(true), product(false))
}

/// Role and decay of a weight.
pub(super) fn weight_info(slot: &Slot, view: &View) -> WeightInfo {
    let mut axes = slot.stack.clone();
    axes.extend(slot.axes.iter().cloned());
    let role = if view.gathered {
        "table"
    } else if view.contracted.is_some() && slot.axes.len() > 1 {
        "matrix"
    } else {
        // Gains and biases, however many axes they have: `bq[head, dh]` is added, not multiplied.
        "vector"
    };
    WeightInfo {
        name: Name::from(slot.name.as_str()),
        ty: Type::new(DType::F32, axes),
        role: role.to_owned(),
        decays: role != "vector",
    }
}

/// The row of a weight, for group expressions.
pub(super) fn weight_row(info: &WeightInfo, slot: &Slot, view: &View) -> Record {
    let (fan_in, fan_out) = fans(slot, view);
    let number = |x: usize| Value::Number(Quantity::plain(x as f64));
    let axes = slot.axes.iter().map(|a| Value::Text(a.name.as_str().into())).collect();
    let mut row = Record::default();
    row.set("path", Value::Text(info.name.as_str().into()), None);
    row.set("role", Value::Text(info.role.as_str().into()), None);
    row.set("axes", Value::List(Rc::new(axes)), None);
    row.set("fan_in", number(fan_in), None);
    row.set("fan_out", number(fan_out), None);
    row.set("params", number(info.ty.len()), None);
    row.set("decays", Value::Bool(info.decays), None);
    row
}

/// A weight as a matrix: out-axes merged, in-axes merged.
pub(super) struct Matrix {
    pub(super) out: Axis,
    pub(super) inp: Axis,
    out_axes: Vec<Axis>,
    in_axes: Vec<Axis>,
}

impl Matrix {
    pub(super) fn of(slot: &Slot, view: &View) -> Option<Self> {
        if view.gathered || view.disagrees {
            return None;
        }
        let inside = view.contracted.as_ref()?;
        let (in_axes, out_axes): (Vec<Axis>, Vec<Axis>) =
            slot.axes.iter().cloned().partition(|a| inside.contains(&a.name));
        if in_axes.is_empty() || out_axes.is_empty() {
            return None;
        }
        let merged = |name: &str, axes: &[Axis]| match axes {
            [one] => one.clone(),
            many => Axis {
                name: Name::from(format!("{name}:{}", slot.name)),
                size: many.iter().map(|a| a.size).product(),
            },
        };
        Some(Self { out: merged("out", &out_axes), inp: merged("in", &in_axes), out_axes, in_axes })
    }

    pub(super) fn enter(&self, t: &mut Trace, x: NodeId) -> Option<NodeId> {
        let mut x = x;
        for (axes, into) in [(&self.out_axes, &self.out), (&self.in_axes, &self.inp)] {
            if axes.len() > 1 {
                let names: Vec<Name> = axes.iter().map(|a| a.name.clone()).collect();
                x = t.b().merge(x, &names, &into.name).ok()?;
            }
        }
        Some(x)
    }

    pub(super) fn leave(&self, t: &mut Trace, x: NodeId) -> Option<NodeId> {
        let mut x = x;
        for (axes, from) in [(&self.out_axes, &self.out), (&self.in_axes, &self.inp)] {
            if axes.len() > 1 && t.b().ty(x).find(&from.name).is_some() {
                x = t.b().split(x, &from.name, axes).ok()?;
            }
        }
        Some(x)
    }
}
