//! `apply`: what comes out has its axes where the layer says, and what does not fit is refused with its place.

mod place;

use cs336_lab::arrays::{self, Array};
use place::Place;

const PROGRAM: &str = r#"
layer Turned[d] {
  forward(x: [seq, d]) -> [d, seq] = x + 0
}
layer Sum[seq] {
  forward(x: [seq, d]) -> [seq, d] = scan[seq] { state h = 0; h = h + x; h }
}
layer Outer[a, b] {
  forward(x: [a], y: [b]) = y * x
}
layer Named[inp, out] {
  weight w[inp, out]
  forward(x: [inp]) -> [out] = dot[inp](x, w)
}
layer Table[d] {
  weight table[vocab, d]
  forward(ids: [seq] Id[vocab]) -> [seq, d] = pick[vocab](table, ids)
}
loss nats[vocab](logits: [vocab], target: Id[vocab]) = logsumexp[vocab](logits) - pick[vocab](logits, target)
layer Loose[d] {
  weight table[vocab, d]
  forward(ids: [seq]) -> [seq, d] = pick[vocab](table, ids)
}
"#;

fn array(name: &str, shape: &[usize], values: &[f32]) -> Array {
    Array { name: name.to_owned(), shape: shape.to_vec(), integer: false, values: values.to_vec() }
}

fn counted(name: &str, shape: &[usize]) -> Array {
    let values: Vec<f32> = (0..shape.iter().product::<usize>()).map(|n| n as f32).collect();
    array(name, shape, &values)
}

/// The exit status, what was printed, and the output.
fn apply(
    layer: &str,
    inputs: &[Array],
    weights: &[Array],
    more: &[&str],
) -> (Option<i32>, String, Vec<Array>) {
    let place = Place::new(PROGRAM);
    let path = |name: &str| place.0.path().join(name);
    arrays::write(&path("in.safetensors"), inputs).expect("written");
    let mut arguments =
        vec!["apply", "a.cs336", layer, "--in", "in.safetensors", "--out", "out.safetensors"];
    if !weights.is_empty() {
        arrays::write(&path("w.safetensors"), weights).expect("written");
        arguments.extend(["--weights", "w.safetensors"]);
    }
    arguments.extend(more);
    let (code, text) = place.run(&arguments);
    let out = arrays::read(&path("out.safetensors")).unwrap_or_default();
    (code, text, out)
}

#[test]
fn axes_come_out_in_the_order_that_is_declared() {
    let x = counted("x", &[2, 3, 4]);
    let (code, text, out) = apply("Turned", std::slice::from_ref(&x), &[], &[]);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(out[0].shape, [2, 4, 3]);
    assert_eq!(out[0].values[..4], [0.0, 4.0, 8.0, 1.0]);
    let (code, text, out) = apply("Sum", &[x], &[], &[]);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(out[0].shape, [2, 3, 4]);
    assert_eq!(out[0].values[4..8], [4.0, 6.0, 8.0, 10.0]);
}

#[test]
fn further_axes_come_first_whoever_brings_them() {
    let inputs = [counted("x", &[3]), counted("y", &[2, 4])];
    let (code, text, out) = apply("Outer", &inputs, &[], &[]);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(out[0].shape, [2, 3, 4]);
    let (code, text, out) = apply("Named", &[counted("x", &[5, 2])], &[counted("w", &[2, 3])], &[]);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(out[0].shape, [5, 3]);
}

#[test]
fn further_axes_are_the_same_for_all_tensors() {
    let inputs =
        [counted("logits", &[2, 3, 4]), array("target", &[2, 3], &[0.0, 1.0, 2.0, 3.0, 0.0, 1.0])];
    let (code, text, out) = apply("nats", &inputs, &[], &[]);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(out[0].shape, [2, 3]);
    let all = (1.0 + (-1f32).exp() + (-2f32).exp() + (-3f32).exp()).ln();
    assert!((out[0].values[3] - all).abs() < 1e-5, "{:?}", out[0].values);
    // A tensor of another name is not taken for the one that is missing.
    let (code, text, _) = apply("Sum", &[counted("y", &[3, 4])], &[], &[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("E0309"), "{text}");
    let (code, text, _) = apply("Sum", &[counted("x", &[3, 4]), counted("y", &[3])], &[], &[]);
    assert_eq!(code, Some(4), "{text}");
    assert!(text.contains("`y` is given"), "{text}");
}

#[test]
fn what_does_not_fit_is_refused() {
    let table = [counted("table", &[8, 2])];
    // Also where the layer does not say that they are ids, and where the file keeps them as floats.
    for layer in ["Table", "Loose"] {
        let (code, text, out) = apply(layer, &[array("ids", &[3], &[0.0, 7.0, 3.0])], &table, &[]);
        assert_eq!(code, Some(0), "{text}");
        assert_eq!(out[0].values, [0.0, 1.0, 14.0, 15.0, 6.0, 7.0]);
        let (code, text, _) = apply(layer, &[array("ids", &[3], &[0.0, 8.0, 3.0])], &table, &[]);
        assert_eq!(code, Some(4), "{text}");
    }
    for (values, said) in [
        ([0.0, 8.0, 1.0], "`ids` is 8 at [1]"),
        ([0.0, 1.5, 1.0], "`ids` is 1.5 at [1]"),
        ([0.0, 1.0, -1.0], "`ids` is -1 at [2]"),
    ] {
        let (code, text, _) = apply("Table", &[array("ids", &[3], &values)], &table, &[]);
        assert_eq!(code, Some(4), "{text}");
        assert!(text.contains("E0857") && text.contains(said), "{text}");
    }
    let (code, text, _) = apply("Turned", &[array("x", &[0, 3, 4], &[])], &[], &[]);
    assert_eq!(code, Some(4), "{text}");
    assert!(text.contains("E0857") && text.contains("`x` [0, 3, 4]"), "{text}");
    let (code, text, _) = apply("Sum", &[counted("x", &[3, 4])], &[], &["--size", "nope=3"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("E0402") && text.contains("`nope`"), "{text}");
    let (code, text, _) =
        apply("Named", &[counted("x", &[2])], &[counted("w", &[2, 3])], &["--size", "out=3"]);
    assert_eq!(code, Some(0), "{text}");
    let (code, text, _) =
        apply("Named", &[counted("x", &[2])], &[counted("w", &[2, 3])], &["--size", "out=0"]);
    assert_ne!(code, Some(0), "{text}");
}
