//! What a graph means: it is computed, in f64, slowly and plainly.
//!
//! Takes a verified graph, a tensor per input and the runtime scalars; gives a tensor per output. Every other way to
//! compute a graph (rewritten, fused, on a device) is measured against this one.
//!
//! Nothing is rounded except by a `Cast` to a 16-bit type, an integer or a boolean: so a finite difference of the meaning is
//! as sharp as f64 allows. [`Rounding::Stored`] rounds every result to its dtype instead, which is what a backend stores.

mod attend;
mod tensor;

use indexmap::IndexMap;

pub use tensor::{Tensor, each};

use super::print::{print, show_type};
use super::{Affine, Axis, DType, Graph, Name, Node, NodeId, Op, ReduceOp, Runtime, Scan, Type};
use crate::bug::Bug;
use crate::scalar::{self, round_to};

/// Where results are rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    /// Only by `Cast` to anything but f32.
    Casts,
    /// Every result, to its dtype.
    Stored,
}

/// The outputs of a graph, by name, from its inputs, by name.
pub fn interpret(
    graph: &Graph,
    inputs: &IndexMap<Name, Tensor>,
    runtime: &dyn Fn(Runtime) -> f64,
) -> Result<IndexMap<Name, Tensor>, Bug> {
    interpret_rounded(graph, inputs, runtime, Rounding::Casts)
}

/// As [`interpret`], with a choice of where results are rounded.
pub fn interpret_rounded(
    graph: &Graph,
    inputs: &IndexMap<Name, Tensor>,
    runtime: &dyn Fn(Runtime) -> f64,
    rounding: Rounding,
) -> Result<IndexMap<Name, Tensor>, Bug> {
    let mut given = Vec::new();
    for decl in &graph.inputs {
        let found = inputs.get(&decl.name).map(|tensor| tensor.arranged(&decl.ty));
        let Some(tensor) = found.flatten() else {
            let message =
                format!("input `{}` needs a tensor of {}", decl.name, show_type(&decl.ty));
            return Err(Bug::new("interpret", message, print(graph)));
        };
        given.push(tensor);
    }
    let values = Run { runtime, rounding }.graph(graph, &given);
    Ok(graph
        .outputs
        .iter()
        .map(|o| (o.name.clone(), values[o.node.0 as usize][0].clone()))
        .collect())
}

/// Runtime scalars of a first step with seed 0: for tests.
pub fn first_step(what: Runtime) -> f64 {
    match what {
        Runtime::Step => 1.0,
        Runtime::Share | Runtime::Position | Runtime::Seed | Runtime::Micro => 0.0,
    }
}

struct Run<'a> {
    runtime: &'a dyn Fn(Runtime) -> f64,
    rounding: Rounding,
}

impl Run<'_> {
    // The results of every node.
    fn graph(&self, graph: &Graph, given: &[Tensor]) -> Vec<Vec<Tensor>> {
        let mut values: Vec<Vec<Tensor>> = Vec::with_capacity(graph.nodes.len());
        for node in &graph.nodes {
            let mut results = self.node(graph, node, given, &values);
            if self.rounding == Rounding::Stored {
                for tensor in &mut results {
                    let dtype = tensor.ty.dtype;
                    tensor.data.iter_mut().for_each(|x| *x = round_to(dtype, *x));
                }
            }
            values.push(results);
        }
        values
    }

    fn node(
        &self,
        graph: &Graph,
        node: &Node,
        given: &[Tensor],
        values: &[Vec<Tensor>],
    ) -> Vec<Tensor> {
        let x = |i: usize| &values[node.inputs[i].0 as usize][0];
        let all: Vec<&Tensor> = (0..node.inputs.len()).map(x).collect();
        let ty = &node.ty;
        let one = match &node.op {
            Op::Const(literal) => Tensor::filled(ty, literal.get()),
            Op::Pos => Tensor::of(ty, |at| at[0] as f64),
            Op::Input(i) => given[*i as usize].clone(),
            Op::Runtime(what) => Tensor::filled(ty, (self.runtime)(*what)),
            Op::Random(dist, stream) => map(ty, &all, |c| {
                let seed = (self.runtime)(Runtime::Seed) as u64;
                let step = (self.runtime)(Runtime::Step) as u32;
                let counters = [c[0] as u32, c[1] as u32, c[2] as u32];
                scalar::random(*dist, seed, *stream, counters, step)
            }),
            Op::Unary(op) => map(ty, &all, |x| op.eval(x[0])),
            Op::Binary(op) => map(ty, &all, |x| op.eval(x[0], x[1])),
            Op::Select => map(ty, &all, |x| if x[0] != 0.0 { x[1] } else { x[2] }),
            Op::Cast => map(ty, &all, |x| match ty.dtype {
                DType::F32 => x[0],
                DType::Bf16 | DType::F16 | DType::I32 | DType::Bool => round_to(ty.dtype, x[0]),
            }),
            Op::Expand | Op::Stop | Op::Collective(_) => map(ty, &all, |x| x[0]),
            Op::Rename(_) => Tensor { ty: ty.clone(), data: x(0).data.clone() },
            Op::Split { axis, into } => split(ty, x(0), axis, into),
            Op::Merge { axes, into } => merge(ty, x(0), axes, into),
            Op::Window { axis, index, outside } => window(ty, x(0), axis, index, outside.get()),
            Op::Gather { axis } => gather(ty, x(0), x(1), axis),
            Op::ScatterAdd { axis } => scatter_add(ty, x(0), x(1), axis),
            Op::Concat { parts, into } => concat(ty, &all, parts, into),
            Op::Update { axis } => update(ty, x(0), x(1), x(2), axis),
            Op::Reduce { op, axes: _ } => reduce(ty, x(0), *op),
            Op::LogSumExp { axes: _ } => log_sum_exp(ty, x(0)),
            Op::Contract { over } => contract(ty, x(0), x(1), over),
            Op::CumSum { axis, reverse } => along(ty, x(0), axis, |line| {
                let mut sum = 0.0;
                let mut out = vec![0.0; line.len()];
                for i in 0..line.len() {
                    let i = if *reverse { line.len() - 1 - i } else { i };
                    sum += line[i];
                    out[i] = sum;
                }
                out
            }),
            Op::TopK { axis, k } => along(ty, x(0), axis, |line| {
                let mut order = sorted(line);
                // Descending; among equals the lower coordinate first.
                order.sort_by(|a, b| line[*b].partial_cmp(&line[*a]).unwrap_or(a.cmp(b)));
                let mut out = vec![0.0; line.len()];
                order.iter().take(*k).for_each(|i| out[*i] = 1.0);
                out
            }),
            Op::ArgSort { axis } => {
                along(ty, x(0), axis, |line| sorted(line).iter().map(|i| *i as f64).collect())
            }
            Op::Attention(a) => return attend::forward(a, ty, &all, self.runtime),
            Op::AttentionGrad { of, wants } => {
                return attend::backward(of, wants, ty, &all, self.runtime);
            }
            Op::Scan(scan) => return self.scan(scan, &all),
            Op::Part(i) => values[node.inputs[0].0 as usize][*i as usize].arranged_as(ty),
        };
        debug_assert_eq!(one.data.len(), ty.len(), "{}", super::print::show_node(graph, node));
        vec![one]
    }

    fn scan(&self, scan: &Scan, inputs: &[&Tensor]) -> Vec<Tensor> {
        let body = &scan.body;
        let arrange = |i: usize, x: &Tensor| x.arranged_as(&body.inputs[i].ty);
        let mut carries: Vec<Tensor> = (0..scan.carries).map(|i| arrange(i, inputs[i])).collect();
        let size = scan.axis.size;
        let mut stacked: Vec<Tensor> = body.outputs[scan.carries..]
            .iter()
            .map(|o| {
                let mut ty = body.ty(o.node).clone();
                ty.axes.insert(0, scan.axis.clone());
                Tensor::filled(&ty, 0.0)
            })
            .collect();
        for i in 0..size {
            let i = if scan.reverse { size - 1 - i } else { i };
            let mut given = carries.clone();
            for (n, x) in inputs.iter().enumerate().skip(scan.carries) {
                let is_slice = n < scan.carries + scan.scanned;
                given.push(if is_slice {
                    arrange(n, &slice(x, &scan.axis.name, i))
                } else {
                    arrange(n, x)
                });
            }
            let values = self.graph(body, &given);
            let result = |id: NodeId| &values[id.0 as usize][0];
            for (n, output) in body.outputs.iter().enumerate() {
                let value = result(output.node);
                if n < scan.carries {
                    carries[n] = arrange(n, value);
                } else {
                    let len = value.data.len();
                    stacked[n - scan.carries].data[i * len..(i + 1) * len]
                        .copy_from_slice(&value.data);
                }
            }
        }
        // The last carries have the axis order of the body's outputs, as the type of the node says.
        for (carry, output) in carries.iter_mut().zip(&body.outputs) {
            *carry = carry.arranged_as(body.ty(output.node));
        }
        carries.extend(stacked);
        carries
    }
}

fn map(ty: &Type, inputs: &[&Tensor], f: impl Fn(&[f64]) -> f64) -> Tensor {
    let views: Vec<_> = inputs.iter().map(|x| x.view(&ty.axes)).collect();
    let mut args = vec![0.0; inputs.len()];
    Tensor::of(ty, |at| {
        for (arg, view) in args.iter_mut().zip(&views) {
            *arg = view.get(at);
        }
        f(&args)
    })
}

fn split(ty: &Type, x: &Tensor, axis: &Name, into: &[Axis]) -> Tensor {
    let at_of = |name: &Name| ty.find(name).expect("the result has the new axes");
    Tensor::of(ty, |at| {
        let whole = into.iter().fold(0, |sum, a| sum * a.size + at[at_of(&a.name)]);
        x.get(|name| if name == axis { whole } else { at[at_of(name)] })
    })
}

fn merge(ty: &Type, x: &Tensor, axes: &[Name], into: &Name) -> Tensor {
    let at_of = |name: &Name| ty.find(name).expect("the result keeps the other axes");
    let size = |name: &Name| x.ty.size(name).expect("merged axes are axes of the input");
    Tensor::of(ty, |at| {
        x.get(|name| match axes.iter().position(|a| a == name) {
            Some(i) => {
                let inner: usize = axes[i + 1..].iter().map(size).product();
                at[at_of(into)] / inner % size(name)
            }
            None => at[at_of(name)],
        })
    })
}

fn window(ty: &Type, x: &Tensor, axis: &Name, index: &Affine, outside: f64) -> Tensor {
    let at_of = |name: &Name| ty.find(name).expect("the result has the index's axes");
    let size = x.ty.size(axis).expect("the window's axis is the input's") as i64;
    Tensor::of(ty, |at| {
        let terms = index.terms.iter().map(|(name, c)| c * at[at_of(name)] as i64);
        let i = index.offset + terms.sum::<i64>();
        if i < 0 || i >= size {
            return outside;
        }
        x.get(|name| if name == axis { i as usize } else { at[at_of(name)] })
    })
}

fn gather(ty: &Type, x: &Tensor, index: &Tensor, axis: &Name) -> Tensor {
    let at_of = |name: &Name| ty.find(name).expect("the result has all other axes");
    let size = x.ty.size(axis).expect("the gathered axis is the input's") as f64;
    Tensor::of(ty, |at| {
        let i = index.get(|name| at[at_of(name)]);
        if i < 0.0 || i >= size {
            return 0.0;
        }
        x.get(|name| if name == axis { i as usize } else { at[at_of(name)] })
    })
}

fn scatter_add(ty: &Type, y: &Tensor, index: &Tensor, axis: &Name) -> Tensor {
    let mut space = index.ty.axes.clone();
    space.extend(y.ty.axes.iter().filter(|a| index.ty.find(&a.name).is_none()).cloned());
    let (values, indices) = (y.view(&space), index.view(&space));
    let size = ty.size(axis).expect("the new axis is in the type") as f64;
    let mut out = Tensor::filled(ty, 0.0);
    each(&space, |at| {
        let i = indices.get(at);
        if i < 0.0 || i >= size {
            return;
        }
        let place = out.offset(|name| {
            if name == axis {
                return i as usize;
            }
            space.iter().position(|a| a.name == *name).map_or(0, |n| at[n])
        });
        out.data[place] += values.get(at);
    });
    out
}

fn concat(ty: &Type, inputs: &[&Tensor], parts: &[Name], into: &Name) -> Tensor {
    let at_of = |name: &Name| ty.find(name).expect("the result has all other axes");
    Tensor::of(ty, |at| {
        let mut i = at[at_of(into)];
        for (x, part) in inputs.iter().zip(parts) {
            let size = x.ty.size(part).expect("a part has its axis");
            if i < size {
                return x.get(|name| if name == part { i } else { at[at_of(name)] });
            }
            i -= size;
        }
        0.0
    })
}

fn update(ty: &Type, dst: &Tensor, src: &Tensor, start: &Tensor, axis: &Name) -> Tensor {
    let at_of = |name: &Name| ty.find(name).expect("source and target have the same axes");
    let start = start.data[0];
    let size = src.ty.size(axis).expect("the source has the axis") as f64;
    Tensor::of(ty, |at| {
        let i = at[at_of(axis)] as f64 - start;
        if i < 0.0 || i >= size {
            return dst.get(|name| at[at_of(name)]);
        }
        src.get(|name| if name == axis { i as usize } else { at[at_of(name)] })
    })
}

fn reduce(ty: &Type, x: &Tensor, op: ReduceOp) -> Tensor {
    let mut out = Tensor::filled(ty, op.identity());
    let places = out.clone();
    let (places, values) = (places.view(&x.ty.axes), x.view(&x.ty.axes));
    each(&x.ty.axes, |at| {
        let place = &mut out.data[places.offset(at)];
        *place = op.combine(*place, values.get(at));
    });
    out
}

fn log_sum_exp(ty: &Type, x: &Tensor) -> Tensor {
    let max = reduce(ty, x, ReduceOp::Max);
    let mut sum = Tensor::filled(ty, 0.0);
    let (maxima, values) = (max.view(&x.ty.axes), x.view(&x.ty.axes));
    each(&x.ty.axes, |at| {
        let max = maxima.get(at);
        // Of an infinite maximum only the sign counts, and inf - inf would be NaN.
        if !max.is_infinite() {
            sum.data[maxima.offset(at)] += (values.get(at) - max).exp();
        }
    });
    let log = |(max, sum): (&f64, &f64)| if max.is_infinite() { *max } else { max + sum.ln() };
    Tensor { ty: ty.clone(), data: max.data.iter().zip(&sum.data).map(log).collect() }
}

fn contract(ty: &Type, a: &Tensor, b: &Tensor, over: &[Name]) -> Tensor {
    let mut space = ty.axes.clone();
    space.extend(a.ty.axes.iter().filter(|x| over.contains(&x.name)).cloned());
    let (a, b) = (a.view(&space), b.view(&space));
    let mut out = Tensor::filled(ty, 0.0);
    let places = out.clone();
    let places = places.view(&space);
    each(&space, |at| out.data[places.offset(at)] += a.get(at) * b.get(at));
    out
}

// Applies `f` to every line of values along an axis.
fn along(ty: &Type, x: &Tensor, axis: &Name, f: impl Fn(&[f64]) -> Vec<f64>) -> Tensor {
    let size = ty.size(axis).expect("the axis is in the type");
    let others: Vec<Axis> = ty.axes.iter().filter(|a| a.name != *axis).cloned().collect();
    let mut out = Tensor::filled(ty, 0.0);
    each(&others, |at| {
        let at_of = |name: &Name| others.iter().position(|a| a.name == *name).map_or(0, |i| at[i]);
        let here = |i: usize| move |name: &Name| if name == axis { i } else { at_of(name) };
        let line: Vec<f64> = (0..size).map(|i| x.get(here(i))).collect();
        for (i, value) in f(&line).into_iter().enumerate() {
            let place = out.offset(here(i));
            out.data[place] = value;
        }
    });
    out
}

// Coordinates in ascending order of value, stable; NaN comes last.
fn sorted(line: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..line.len()).collect();
    let key = |i: usize| if line[i].is_nan() { f64::INFINITY } else { line[i] };
    order.sort_by(|a, b| key(*a).partial_cmp(&key(*b)).unwrap_or(std::cmp::Ordering::Equal));
    order
}

fn slice(x: &Tensor, axis: &Name, i: usize) -> Tensor {
    let axes: Vec<Axis> = x.ty.axes.iter().filter(|a| a.name != *axis).cloned().collect();
    let ty = Type::new(x.ty.dtype, axes);
    let at_of = |name: &Name| ty.find(name).expect("a slice keeps the other axes");
    Tensor::of(&ty, |at| x.get(|name| if name == axis { i } else { at[at_of(name)] }))
}

#[cfg(test)]
mod tests;
