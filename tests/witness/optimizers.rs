//! Updates of the standard library's optimizers against the same formulas in plain f64.

use cs336_compiler::check::apply::Given;
use cs336_compiler::close::Tolerance;
use cs336_compiler::graph::verify::verify;
use cs336_compiler::graph::{Name, Runtime};

use crate::logits::around;
use crate::support::{Dice, Training, Values, at_step, near, open, problems, program, run};

/// Formulas in another order of operations.
const EXACT: Tolerance = Tolerance { absolute: 1e-13, relative: 1e-12 };

/// One weight with its state while it is updated by hand.
struct Hand {
    w: Vec<f64>,
    m: Vec<f64>,
    v: Vec<f64>,
}

/// Three updates of `optimizer` on a weight of that shape against `by_hand(state, g, grad_norm, t)`; `states` are its two names.
fn agree(
    optimizer: &str,
    shape: &[usize],
    states: &[&str],
    by_hand: impl Fn(&mut Hand, &[f64], f64, i32),
) {
    let world = program(&format!("let T = {optimizer}"));
    let mut eval = open(&world);
    let given = |name: &str| Given { name: name.into(), shape: shape.to_vec(), integer: false };
    let made = eval.apply_graph("T", &[given("w"), given("g")], &[], &[], false);
    let graph = made.unwrap_or_else(|| panic!("{optimizer}: {}", problems(&eval))).graph;
    verify(&graph).unwrap_or_else(|bug| panic!("{bug}"));
    let mut dice = Dice::new(21);
    let mut values = Values::new();
    for input in &graph.inputs {
        let t = dice.tensor(&input.ty, 0);
        let start = states.contains(&input.name.as_str());
        values.insert(input.name.clone(), t);
        if start {
            values[&input.name].data.fill(0.0);
        }
    }
    let n = values["w"].data.len();
    let mut hand = Hand { w: values["w"].data.clone(), m: vec![0.0; n], v: vec![0.0; n] };
    for t in 1..=3 {
        let ty = values["g"].ty.clone();
        values.insert(Name::from("g"), dice.tensor(&ty, 0));
        let g = values["g"].data.clone();
        let norm = g.iter().map(|x| x * x).sum::<f64>().sqrt();
        let out = run(&graph, &values, &at_step(t, 10));
        by_hand(&mut hand, &g, norm, t as i32);
        near(&format!("{optimizer}, step {t}"), &out["w"].data, &hand.w, EXACT);
        for (name, want) in states.iter().zip([&hand.m, &hand.v]) {
            near(&format!("{optimizer}, `{name}` of step {t}"), &out[*name].data, want, EXACT);
        }
        for (name, t) in out {
            values.insert(name, t);
        }
    }
}

/// Adam's moments and step.
fn adam(h: &mut Hand, g: &[f64], lr: f64, (b1, b2): (f64, f64), eps: f64, decay: f64, t: i32) {
    for i in 0..g.len() {
        h.m[i] = b1 * h.m[i] + (1.0 - b1) * g[i];
        h.v[i] = b2 * h.v[i] + (1.0 - b2) * g[i] * g[i];
        let m = h.m[i] / (1.0 - b1.powi(t));
        let v = h.v[i] / (1.0 - b2.powi(t));
        h.w[i] -= lr * (m / (v.sqrt() + eps) + decay * h.w[i]);
    }
}

#[test]
fn adamw_decays_matrices_and_clips_by_the_global_norm() {
    let text =
        "adamw(lr = constant(1e-2), betas = [0.8, 0.9], eps = 1e-3, decay = 0.3, clip = 0.5)";
    let with_decay = |decay: f64| {
        move |h: &mut Hand, g: &[f64], norm: f64, t: i32| {
            let scale = (0.5 / (norm + 1e-6)).min(1.0);
            let g: Vec<f64> = g.iter().map(|x| x * scale).collect();
            adam(h, &g, 1e-2, (0.8, 0.9), 1e-3, decay, t);
        }
    };
    agree(text, &[3, 4], &["m", "v"], with_decay(0.3));
    agree(text, &[5], &["m", "v"], with_decay(0.0));
}

#[test]
fn adamw_without_a_clip() {
    agree("adamw(lr = constant(1e-2))", &[3, 4], &["m", "v"], |h, g, _, t| {
        adam(h, g, 1e-2, (0.9, 0.95), 1e-8, 0.1, t);
    });
}

#[test]
fn adam_does_not_decay() {
    agree("adam(lr = constant(1e-2))", &[3, 4], &["m", "v"], |h, g, _, t| {
        adam(h, g, 1e-2, (0.9, 0.999), 1e-8, 0.0, t);
    });
}

#[test]
fn sgd_has_momentum_and_decay() {
    agree("sgd(lr = constant(0.1), momentum = 0.9, decay = 0.2)", &[3, 4], &["b"], |h, g, _, _| {
        for i in 0..g.len() {
            h.m[i] = 0.9 * h.m[i] + g[i];
            h.w[i] -= 0.1 * (h.m[i] + 0.2 * h.w[i]);
        }
    });
}

#[test]
fn lion_steps_by_signs() {
    agree("lion(lr = constant(0.01), decay = 0.5)", &[3, 4], &["m"], |h, g, _, _| {
        for i in 0..g.len() {
            let u = (0.9 * h.m[i] + 0.1 * g[i]).signum();
            h.m[i] = 0.99 * h.m[i] + 0.01 * g[i];
            h.w[i] -= 0.01 * (u + 0.5 * h.w[i]);
        }
    });
}

/// A schedule sees the share of the budget that the step completes.
#[test]
fn schedules_are_functions_of_the_share() {
    type At = fn(f64) -> f64;
    let table: [(&str, At); 4] = [
        ("cosine(peak = 2, warmup = 20%, floor = 10%)", |x| {
            if x < 0.2 {
                return 2.0 * x / 0.2;
            }
            2.0 * (0.1 + 0.45 * (1.0 + (std::f64::consts::PI * (x - 0.2) / 0.8).cos()))
        }),
        ("wsd(peak = 2, warmup = 20%, cooldown = 40%, floor = 10%)", |x| {
            2.0 * (x / 0.2).min(1.0).min(0.1 + 0.9 * (1.0 - x) / 0.4)
        }),
        ("linear(peak = 2, warmup = 20%, floor = 10%)", |x| {
            2.0 * (x / 0.2).min(1.0).min(0.1 + 0.9 * (1.0 - x) / 0.8)
        }),
        ("constant(3)", |_| 3.0),
    ];
    for (schedule, at) in table {
        let world = program(&format!("let T = sgd(lr = {schedule})"));
        let mut eval = open(&world);
        let given = |name: &str| Given { name: name.into(), shape: vec![1], integer: false };
        let made = eval.apply_graph("T", &[given("w"), given("g")], &[], &[], false);
        let graph = made.unwrap_or_else(|| panic!("{schedule}: {}", problems(&eval))).graph;
        let mut values = Values::new();
        for input in &graph.inputs {
            let mut t = Dice::new(1).tensor(&input.ty, 0);
            t.data[0] = if input.name == "g" { -1.0 } else { 0.0 };
            values.insert(input.name.clone(), t);
        }
        for step in 1..=20 {
            let x = f64::from(step) / 20.0;
            let out = run(&graph, &values, &|r| if r == Runtime::Share { x } else { 1.0 });
            near(&format!("{schedule} at {x}"), &out["w"].data, &[at(x)], EXACT);
        }
    }
}

/// Muon in a whole step: weights with several in- or out-axes, stacked over layers, each layer its own matrix.
#[test]
fn muon_orthogonalises_the_matrix_view_of_each_layer() {
    let model = "llama(layers = 2, d = 16, heads = 4, kv = 2, ff = 10, vocab = 300)";
    let muon = "if .role == matrix then muon(lr = constant(0.5), momentum = 0.9) else sgd(lr = constant(1))";
    let by_muon = Training::new(&around(model, muon, 6), 2, 1, 300);
    let by_sgd = Training::new(&around(model, "sgd(lr = constant(1))", 6), 2, 1, 300);
    let runtime = at_step(1, 1);
    let step = |t: &Training| run(&t.step.graph, &t.start, &runtime);
    let (muon, sgd) = (step(&by_muon), step(&by_sgd));
    // Name, and how many of a layer's axes are contracted: they come first.
    let matrices = [
        ("blocks.attn.wq", 1),
        ("blocks.attn.wk", 1),
        ("blocks.attn.wo", 3),
        ("blocks.mlp.gate", 1),
        ("blocks.mlp.down", 1),
    ];
    for (name, inside) in matrices {
        let start = &by_muon.start[name];
        let sizes: Vec<usize> = start.ty.axes.iter().map(|a| a.size).collect();
        let rows: usize = sizes[1..=inside].iter().product();
        let columns: usize = sizes[1 + inside..].iter().product();
        let len = rows * columns;
        let [moved, descended] = [&muon[name], &sgd[name]]
            .map(|t| t.arranged(&start.ty).expect("weights keep their type"));
        for layer in 0..2 {
            let here = layer * len..(layer + 1) * len;
            let w = &start.data[here.clone()];
            // The gradient, by a step of plain descent with rate 1. First momentum: b = g, so the update is of g + 0.9 g.
            let g: Vec<f64> =
                w.iter().zip(&descended.data[here.clone()]).map(|(a, b)| 1.9 * (a - b)).collect();
            let o = newton_schulz(&g, rows, columns);
            let scale = 0.5 * (columns as f64 / rows as f64).max(1.0).sqrt();
            let want: Vec<f64> = w.iter().zip(&o).map(|(w, o)| w - scale * o).collect();
            let tolerance = Tolerance { absolute: 1e-7, relative: 1e-7 };
            near(&format!("`{name}`, layer {layer}"), &moved.data[here], &want, tolerance);
        }
    }
    // Vectors and tables go the other way.
    near("`embed.table`", &muon["embed.table"].data, &sgd["embed.table"].data, EXACT);
    near("`norm.gain`", &muon["norm.gain"].data, &sgd["norm.gain"].data, EXACT);
}

/// Five rounds of x <- a x + (b x x' + c (x x')²) x on a row-major matrix; whichever side is contracted gives the same polynomial.
fn newton_schulz(g: &[f64], rows: usize, columns: usize) -> Vec<f64> {
    let norm = g.iter().map(|x| x * x).sum::<f64>().sqrt() + 1e-7;
    let mut x: Vec<f64> = g.iter().map(|v| v / norm).collect();
    for _ in 0..5 {
        let gram = |i: usize, j: usize| -> f64 {
            (0..columns).map(|k| x[i * columns + k] * x[j * columns + k]).sum()
        };
        let a: Vec<f64> = (0..rows * rows).map(|n| gram(n / rows, n % rows)).collect();
        let b: Vec<f64> = (0..rows * rows)
            .map(|n| {
                let (i, j) = (n / rows, n % rows);
                let square: f64 = (0..rows).map(|k| a[i * rows + k] * a[k * rows + j]).sum();
                -4.7750 * a[n] + 2.0315 * square
            })
            .collect();
        let next = |n: usize| -> f64 {
            let (i, j) = (n / columns, n % columns);
            let sum: f64 = (0..rows).map(|k| b[i * rows + k] * x[k * columns + j]).sum();
            3.4445 * x[n] + sum
        };
        x = (0..rows * columns).map(next).collect();
    }
    x
}
