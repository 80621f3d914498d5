//! Gradients of layers and losses, as programs write them, against central differences of their meaning in f64; and the same
//! gradients from this machine's processor in f32.

use cs336_compiler::check::apply::Given;
use cs336_compiler::close::{FINITE, Tolerance};
use cs336_compiler::graph::finite::STEP;
use cs336_compiler::graph::interp::Tensor;
use cs336_compiler::graph::verify::verify;
use cs336_compiler::graph::{Graph, Name, Role};

use crate::logits::around;
use crate::snippets::{ATTENTION_TWICE, Holds, LAYERS, LOSSES, OPERATIONS, Snippet};
use crate::support::{
    Dice, F64, OnDevice, Training, Values, at_step, near, open, problems, program, run,
};

/// In f32, with sums of a few dozen terms and cancellation where attention's gradients have it.
const F32: Tolerance = Tolerance { absolute: 2e-5, relative: 2e-5 };

/// The application of `T`: its forward graph, the graph with gradients, and values for the inputs of both.
fn applied(s: &Snippet) -> (Graph, Graph, Values) {
    let given: Vec<Given> = s
        .inputs
        .iter()
        .map(|(name, shape, holds)| Given {
            name: (*name).to_owned(),
            shape: shape.to_vec(),
            integer: matches!(holds, Holds::Below(_)),
        })
        .collect();
    let sizes: Vec<(String, usize)> = s.sizes.iter().map(|(n, k)| ((*n).to_owned(), *k)).collect();
    let world = program(s.text);
    let mut eval = open(&world);
    let mut graph = |with_grad| {
        let made = eval.apply_graph("T", &given, &[], &sizes, with_grad);
        let made = made.unwrap_or_else(|| panic!("{}: {}", s.name, problems(&eval)));
        verify(&made.graph).unwrap_or_else(|bug| panic!("{}: {bug}", s.name));
        made.graph
    };
    let (forward, both) = (graph(false), graph(true));
    let mut dice = Dice::new(3);
    let mut values = Values::new();
    for input in &both.inputs {
        let holds = s.inputs.iter().find(|(n, _, _)| input.name == *n).map(|(_, _, h)| *h);
        let n = if let Some(Holds::Below(n)) = holds { n } else { 2 };
        values.insert(input.name.clone(), dice.tensor(&input.ty, n));
    }
    (forward, both, values)
}

/// Σ d_out · out over all float outputs: what the gradients are of.
fn objective(forward: &Graph, values: &Values) -> f64 {
    let out = run(forward, values, &at_step(1, 1));
    let dot = |(name, t): (&Name, &Tensor)| {
        values.get(&Name::from(format!("d:{name}"))).map_or(0.0, |d| {
            let d = d.arranged(&t.ty).expect("a cotangent has the type of its output");
            d.data.iter().zip(&t.data).map(|(a, b)| a * b).sum()
        })
    };
    out.iter().map(dot).sum()
}

/// The central difference of `f` by the `i`-th number of an input.
fn difference(f: impl Fn(&Values) -> f64, values: &mut Values, name: &Name, i: usize) -> f64 {
    let start = values[name].data[i];
    let mut at = |by: f64| {
        values[name].data[i] = start + by;
        f(values)
    };
    let slope = (at(STEP) - at(-STEP)) / (2.0 * STEP);
    values[name].data[i] = start;
    slope
}

/// Every gradient of a snippet, in f64 by differences, in f32 by the interpreter's value.
fn witness(s: &Snippet) {
    let (forward, both, mut values) = applied(s);
    let found = run(&both, &values, &at_step(1, 1));
    let mut pairs = Vec::new();
    for (output, gradient) in &found {
        let Some(name) = output.as_str().strip_prefix("grad:") else { continue };
        let name = Name::from(name);
        let ty = values[&name].ty.clone();
        let gradient = gradient.arranged(&ty).expect("a gradient has the type of its input");
        let wanted: Vec<f64> = (0..ty.len())
            .map(|i| difference(|v| objective(&forward, v), &mut values, &name, i))
            .collect();
        pairs.push((format!("{}: gradient of `{name}`", s.name), gradient.data, wanted));
    }
    assert!(!pairs.is_empty(), "{}: no gradient was compared", s.name);
    near_together(&pairs, FINITE);
    let mut device = OnDevice::new(&both);
    device.set(&values);
    device.run(&at_step(1, 1));
    let mut pairs = Vec::new();
    for (name, data) in device.outputs() {
        let what = format!("{}: `{name}` in f32", s.name);
        if name.as_str().starts_with("grad:") {
            pairs.push((what, data, found[&name].data.clone()));
        } else {
            near(&what, &data, &found[&name].data, F32);
        }
    }
    near_together(&pairs, F32);
}

#[test]
fn layers() {
    LAYERS.iter().for_each(witness);
}

#[test]
fn operations() {
    OPERATIONS.iter().for_each(witness);
}

#[test]
fn losses() {
    LOSSES.iter().for_each(witness);
}

#[test]
fn attend_is_the_softmax_that_it_says() {
    let [a, b] = ATTENTION_TWICE.each_ref().map(|s| {
        witness(s);
        let (_, both, values) = applied(s);
        run(&both, &values, &at_step(1, 1))
    });
    for (name, x) in &a {
        let y = b[name].arranged(&x.ty).expect("the same types");
        near(&format!("`{name}`"), &y.data, &x.data, F64);
    }
}

/// A step of plain descent with rate 1 changes a weight by its gradient: so gradients of whole training steps, with all that only
/// training has, can be read off and held against differences of the step's loss.
fn whole_step(model: &str, extra: &str, micro_rows: usize, micro_count: usize, every: usize) {
    let text = around(model, "sgd(lr = constant(1))", 6) + extra;
    let t = Training::new(&text, micro_rows, micro_count, 300);
    let graph = &t.step.graph;
    let runtime = at_step(3, 9);
    let after = run(graph, &t.start, &runtime);
    // The loss alone: without the optimizer and what only it needs.
    let mut loss_only = graph.clone();
    loss_only.outputs.retain(|o| o.name == "loss");
    let mut values = t.start.clone();
    let mut pairs = Vec::new();
    for input in graph.inputs.iter().filter(|i| i.role == Role::Weight) {
        let name = &input.name;
        let ty = values[name].ty.clone();
        let after = after[name].arranged(&ty).expect("a weight keeps its type");
        let places: Vec<usize> = (0..ty.len()).step_by(every).collect();
        let found = places.iter().map(|i| values[name].data[*i] - after.data[*i]).collect();
        let loss = |v: &Values| run(&loss_only, v, &runtime)["loss"].data[0];
        let wanted = places.iter().map(|i| difference(loss, &mut values, name, *i)).collect();
        pairs.push((format!("{model}: `{name}`"), found, wanted));
    }
    near_together(&pairs, FINITE);
}

/// Compares gradients of one objective. The noise of a difference has the size of the objective, not of the slope, so the absolute part
/// is in units of the largest of all these gradients: some are zero, as that of a bias of keys, which a softmax does not see.
fn near_together(pairs: &[(String, Vec<f64>, Vec<f64>)], tolerance: Tolerance) {
    let largest = |x: &[f64]| x.iter().fold(0.0, |max: f64, v| max.max(v.abs()));
    let all = pairs.iter().map(|(_, _, wanted)| largest(wanted)).fold(0.0, f64::max);
    for (what, found, wanted) in pairs {
        let own = largest(wanted);
        let absolute = tolerance.absolute * if own == 0.0 { all } else { all / own };
        near(what, found, wanted, Tolerance { absolute, ..tolerance });
    }
}

#[test]
fn dropout_has_the_gradient_of_its_draw() {
    let model = "gpt2(layers = 2, d = 8, heads = 2, ff = 8, vocab = 300, ctx = 6, drop = 25%)";
    whole_step(model, "", 1, 1, 41);
    whole_step(model, "", 1, 2, 97);
}

#[test]
fn penalties_are_part_of_what_is_descended() {
    let model = "mixed(d = 8)";
    let layers = "
use std.layers { Embedding, SwiGLU }
layer MoE[d, ff, expert](top: Int = 2) {
  weight router[d, expert]
  experts = each[expert](SwiGLU)
  forward(x: [d]) -> [d] {
    let p = softmax[expert](dot[d](x, router))
    let g = topk[expert](p, top)
    penalty balance = 0.5 * load_balance[expert](p, g)
    measure expert_load = mean[rest](live(g))
    sum[expert](g * experts(x))
  }
}
layer Block {
  moe = MoE
  forward(x: [seq, d]) -> [seq, d] = x + moe(x)
}
model mixed(d: Int) {
  axes = { d = d, ff = 4, expert = 4, depth = 2, vocab = 300 }
  embed = Embedding[vocab, d](std = 1)
  blocks = stack[depth](Block)
  forward(ids: [seq]) -> [seq, vocab] = ids |> embed |> blocks |> dot[d](embed.table)
}
";
    // The step's `loss` is the loss alone, so the slope of the penalty must be what is missing: the router's gradient differs from that of the loss.
    let text = around(model, "sgd(lr = constant(1))", 6) + layers;
    let with = Training::new(&text, 2, 1, 300);
    let without = Training::new(&text.replace("0.5 * load", "0 * load"), 2, 1, 300);
    let runtime = at_step(1, 1);
    let step = |t: &Training| run(&t.step.graph, &t.start, &runtime);
    let (a, b) = (step(&with), step(&without));
    near("loss", &a["loss"].data, &b["loss"].data, F64);
    let router = "blocks.moe.router";
    let apart = a[router].data.iter().zip(&b[router].data).any(|(x, y)| (x - y).abs() > 1e-6);
    assert!(apart, "the penalty has no gradient");
    whole_step(model, &layers.replace("0.5 * load", "0 * load"), 2, 1, 41);
}
