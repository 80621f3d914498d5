//! The course's accounting questions (assignment 1): GPT-2 XL in its SwiGLU form, counted on the graph.

use cs336_compiler::check::apply::Given;
use cs336_compiler::graph::cost::cost;

use crate::support::{open, problems, program};

const XL: &str = "
use std.models { llama }
model xl = llama(layers = 48, d = 1600, heads = 25, ff = 6400, vocab = 50_257)
assert xl.params == 2_127_057_600 params
";

#[test]
fn gpt2_xl_with_swiglu() {
    let world = program(XL);
    let mut eval = open(&world);
    let ids = Given { name: "ids".into(), shape: vec![1024], integer: true };
    let made = eval.apply_graph("xl", &[ids], &[], &[], false);
    let graph = made.unwrap_or_else(|| panic!("{}", problems(&eval))).graph;
    let table = cost(&graph);
    assert_eq!(table.params.total, 2_127_057_600.0);
    // Per layer and token: 4 d² for attention's matrices and 3 d ff for the feed-forward, 2 FLOPs each; scores and their use, 2 · 2 · seq · d;
    // and the head, 2 d vocab.
    let (layers, d, ff, vocab, seq) = (48.0, 1600.0, 6400.0, 50_257.0, 1024.0);
    let per_token = layers * (2.0 * (4.0 * d * d + 3.0 * d * ff) + 4.0 * seq * d) + 2.0 * d * vocab;
    assert_eq!(table.forward_flops(), per_token * seq);
    assert!((table.forward_flops() / 4.513e12 - 1.0).abs() < 1e-3, "{}", table.forward_flops());
    assert_eq!(table.training_flops(), 3.0 * table.forward_flops());
}
