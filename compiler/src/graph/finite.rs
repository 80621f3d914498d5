//! Gradients by central differences of the meaning in f64: the witness for `grad`.
//!
//! Takes a graph under construction with a loss, the inputs to differentiate by, and values; compares `differentiate` with
//! `(loss(x + h) - loss(x - h)) / 2h`, element by element. The error of a central difference is about h² from the
//! third derivative plus ε/h from cancellation, so h = 1e-5 leaves ten digits of a loss of size one.

use indexmap::IndexMap;

use super::build::Builder;
use super::grad::{Remat, differentiate};
use super::interp::{Tensor, first_step, interpret};
use super::verify::verify;
use super::{Graph, Name, NodeId, Op};
use crate::bug::Bug;
use crate::close::{FINITE, compare};

/// The step of the differences.
pub const STEP: f64 = 1e-5;

/// Says what is wrong with the gradients of `loss` by the inputs named `wrt`; `Ok` if they agree with finite differences. Nodes
/// of the builder that hold an input are found by its name.
pub fn check(
    b: &Builder,
    loss: NodeId,
    wrt: &[&str],
    given: &IndexMap<Name, Tensor>,
    remat: Remat,
) -> Result<(), String> {
    let found = gradients(b, loss, wrt, given, remat).map_err(|bug| bug.to_string())?;
    for (name, found) in wrt.iter().zip(found) {
        let wanted = differences(b, loss, name, given).map_err(|bug| bug.to_string())?;
        compare(&found.data, &wanted, FINITE).map_err(|worst| format!("d {name}: {worst}"))?;
    }
    Ok(())
}

/// The gradients of `loss` by the inputs named `wrt`, by `differentiate`, verified and interpreted; each in the
/// storage order of its input.
pub fn gradients(
    b: &Builder,
    loss: NodeId,
    wrt: &[&str],
    given: &IndexMap<Name, Tensor>,
    remat: Remat,
) -> Result<Vec<Tensor>, Bug> {
    let mut b = b.clone();
    let mut nodes = Vec::new();
    for name in wrt {
        let found = b.graph.ids().find(|id| {
            matches!(b.graph.node(*id).op, Op::Input(i) if b.graph.inputs[i as usize].name == *name)
        });
        nodes.push(found.ok_or_else(|| Bug::new("finite", format!("no input `{name}`"), ""))?);
    }
    let grads = differentiate(&mut b, loss, &nodes, remat)?;
    b.graph.outputs.clear();
    for (name, g) in wrt.iter().zip(grads) {
        b.output(*name, g, None);
    }
    verify(&b.graph)?;
    let out = interpret(&b.graph, given, &first_step)?;
    wrt.iter()
        .map(|name| {
            let arranged = given.get(*name).and_then(|x| {
                let mut ty = x.ty.clone();
                ty.dtype = out[*name].ty.dtype;
                out[*name].arranged(&ty)
            });
            let other_axes = || Bug::new("finite", format!("d `{name}` has other axes"), "");
            arranged.ok_or_else(other_axes)
        })
        .collect()
}

/// The central differences of `loss` by every element of one input, in its storage order.
pub fn differences(
    b: &Builder,
    loss: NodeId,
    name: &str,
    given: &IndexMap<Name, Tensor>,
) -> Result<Vec<f64>, Bug> {
    differences_by(b, loss, name, given, STEP)
}

/// As [`differences`], with a step.
pub fn differences_by(
    b: &Builder,
    loss: NodeId,
    name: &str,
    given: &IndexMap<Name, Tensor>,
    step: f64,
) -> Result<Vec<f64>, Bug> {
    let mut graph: Graph = b.graph.clone();
    graph.outputs.clear();
    graph.outputs.push(super::OutputDecl { name: "loss".into(), node: loss, into: None });
    let mut given = given.clone();
    let size = given.get(name).map_or(0, |x| x.data.len());
    let mut out = Vec::new();
    for i in 0..size {
        let mut at = |by: f64| -> Result<f64, Bug> {
            given[name].data[i] += by;
            let value = interpret(&graph, &given, &first_step)?["loss"].data[0];
            given[name].data[i] -= by;
            Ok(value)
        };
        out.push((at(step)? - at(-step)?) / (2.0 * step));
    }
    Ok(out)
}
