//! Values: the last thing that a section declares, applied to given tensors, by every witness that there is.
//!
//! `#< x[2, 3] = 1 2 3 4 5 6` gives a tensor (a parameter, or a weight by its path), `#< ids[4]: int = 0 2 1 3` one of integers,
//! `#< depth = 2` the size of an axis. `#> out[batch = 2, d = 3] = ..` is a result. Weights that are not given are small numbers that
//! depend on their name. The traced graph is interpreted in f64; the simplified graph must mean the same, the plan too, interpreted, on the CPU and,
//! where there is one, on the GPU, within the roundings of f32; with `grad`, gradients must agree with central differences.

use std::fmt::Write as _;

use cs336_compiler::check::apply::Given;
use cs336_compiler::check::eval::Eval;
use cs336_compiler::close::{FINITE, Tolerance, compare, tolerance};
use cs336_compiler::graph::interp::{Tensor, first_step, interpret};
use cs336_compiler::graph::{DType, Graph, Name, Type};
use cs336_compiler::pipeline::compile;
use cs336_compiler::plan::Target;
use cs336_compiler::plan::interp::{decode, encode, execute};
use cs336_compiler::problem::Problem;
use cs336_compiler::programs::Compiled;
use cs336_compiler::source::FileId;
use cs336_compiler::syntax::ast::{ItemKind, NodeName, Pattern};
use cs336_compiler::syntax::parse;
use cs336_compiler::world::World;
use indexmap::IndexMap;

use cs336_tests::collect::{Attribute, Section};
use cs336_tests::outside::MAIN;

use crate::devices;
use crate::follow::notes_of;
use crate::notes::Note;

type Tensors = IndexMap<Name, Tensor>;

/// How far a printed value may lie from the computed one: seven digits are printed.
const PRINTED: Tolerance = Tolerance { absolute: 1e-7, relative: 1e-6 };
/// Longer than any sum in a section.
const SUMMED: usize = 256;
/// The step of central differences.
const STEP: f64 = 1e-5;
/// What the rounding of losses of size one leaves of their difference over the step.
const CANCELLED: f64 = 1e-9;

/// What does not agree.
pub(crate) fn complaints(section: &Section, world: &dyn World) -> Vec<String> {
    let results = match applied(section, world) {
        Ok(results) => results,
        Err(complaints) => return complaints,
    };
    let mut out = results.disagreements;
    let mut wanted: IndexMap<String, Line> = IndexMap::new();
    for line in section.body.lines().filter_map(|l| l.strip_prefix("#> ")) {
        match Line::read(line) {
            Ok(line) => drop(wanted.insert(line.name.clone(), line)),
            Err(why) => out.push(format!("`#> {line}`: {why}")),
        }
    }
    for (name, found) in &results.values {
        let Some(line) = wanted.shift_remove(name.as_str()) else {
            out.push(format!("the result `{name}` is not written: {}", show(name, found)));
            continue;
        };
        if line.axes != axes_of(&found.ty) {
            out.push(format!("`{name}` has other axes: {}", show(name, found)));
        } else if let Err(worst) =
            compare(&found.data, line.values.as_deref().unwrap_or_default(), PRINTED)
        {
            out.push(format!("`{name}`: {worst}\n  now: {}", show(name, found)));
        }
    }
    out.extend(wanted.keys().map(|name| format!("there is no result `{name}`")));
    out
}

/// The problems of a program that cannot be applied to what is given.
pub(crate) fn refused(section: &Section, world: &dyn World) -> Vec<Note> {
    let (Some(subject), Ok(given)) = (subject(&section.body), givens(section)) else {
        return Vec::new();
    };
    let with_grad = section.has(Attribute::Grad);
    let (eval, _) = application(section, world, &subject, &given, with_grad);
    notes_of(&eval.problems, &eval.sources)
}

/// The program with the results as they are now, at its end.
pub(crate) fn blessed(section: &Section, body: &str, world: &dyn World) -> String {
    let Ok(results) = applied(section, world) else { return body.to_owned() };
    let mut out = String::new();
    for line in body.lines().filter(|l| !l.starts_with("#> ")) {
        writeln!(out, "{line}").expect("a string grows");
    }
    let end = out.trim_end().len();
    out.truncate(end);
    out.push('\n');
    for (name, found) in &results.values {
        writeln!(out, "#> {}", show(name, found)).expect("a string grows");
    }
    out.push('\n');
    out
}

struct Results {
    values: Tensors,
    disagreements: Vec<String>,
}

/// What a section's application compiles to.
pub(crate) fn compiled(section: &Section, world: &dyn World) -> Result<Compiled, Vec<String>> {
    let subject = subject(&section.body).ok_or_else(|| vec!["it declares nothing".to_owned()])?;
    let given = givens(section)?;
    let (eval, made) = application(section, world, &subject, &given, false);
    let show = |p: &Problem| format!("{}: {}", p.code, p.message);
    let graph = made.ok_or_else(|| eval.problems.iter().map(show).collect::<Vec<_>>())?;
    compile(graph, &Target::cpu()).map_err(|bug| vec![bug.to_string()])
}

fn applied(section: &Section, world: &dyn World) -> Result<Results, Vec<String>> {
    let subject = subject(&section.body).ok_or_else(|| vec!["it declares nothing".to_owned()])?;
    let given = givens(section)?;
    let graph = |with_grad: bool| {
        let (eval, made) = application(section, world, &subject, &given, with_grad);
        let show = |p: &Problem| format!("{}: {}", p.code, p.message);
        made.ok_or_else(|| eval.problems.iter().map(show).collect::<Vec<_>>())
    };
    let plain = graph(false)?;
    let inputs = inputs(&plain, &given)?;
    let values = interpret(&plain, &inputs, &first_step).map_err(|bug| vec![bug.to_string()])?;
    let mut disagreements = other_levels(&plain, &inputs, &values)?;
    if section.has(Attribute::Grad) {
        let with_grad = graph(true)?;
        disagreements.extend(gradients(&with_grad, &given)?);
    }
    Ok(Results { values, disagreements })
}

/// The graph of the application, and what was found while it was made.
fn application<'w>(
    section: &Section,
    world: &'w dyn World,
    subject: &str,
    given: &Givens,
    with_grad: bool,
) -> (Eval<'w>, Option<Graph>) {
    let weights: Vec<Given> = given.tensors.iter().map(|t| t.given()).collect();
    let mut eval = Eval::new(world);
    eval.load_main(MAIN, &section.sets);
    let made = eval.apply_graph(subject, &weights, &weights, &given.sizes, with_grad);
    (eval, made.map(|m| m.graph))
}

/// The last thing that a program declares.
fn subject(body: &str) -> Option<String> {
    let (file, _) = parse(FileId(0), body);
    file.items.iter().rev().find_map(|item| match &item.kind {
        ItemKind::Layer { name, .. } => Some(name.name.clone()),
        ItemKind::Def { callable, .. } => Some(callable.name.name.clone()),
        ItemKind::Node { name: Some(NodeName::Ident(name)), .. } => Some(name.name.clone()),
        ItemKind::Let { pattern: Pattern::Name(name), .. } => Some(name.name.clone()),
        _ => None,
    })
}

// The simplified graph and the plan.
fn other_levels(
    plain: &Graph,
    inputs: &Tensors,
    values: &Tensors,
) -> Result<Vec<String>, Vec<String>> {
    let mut out = Vec::new();
    let bug = |bug: cs336_compiler::bug::Bug| vec![bug.to_string()];
    let compiled = compile(plain.clone(), &Target::cpu()).map_err(bug)?;
    let simplified = interpret(&compiled.graph, inputs, &first_step).map_err(bug)?;
    let mut store: IndexMap<Name, Vec<u8>> = IndexMap::new();
    for (name, t) in inputs {
        let mut bytes = vec![0; t.ty.bytes()];
        for (place, x) in bytes.chunks_mut(t.ty.dtype.bytes()).zip(&t.data) {
            encode(place, t.ty.dtype, *x);
        }
        store.insert(name.clone(), bytes);
    }
    let mut runs = vec![("on the CPU", devices::run(devices::cpu(), &compiled.plan, &store))];
    if let Some(gpu) = devices::gpu() {
        runs.push(("on the GPU", devices::run(gpu, &compiled.plan, &store)));
    }
    execute(&compiled.plan, &mut store, &first_step).map_err(bug)?;
    runs.insert(0, ("as a plan", Ok(store)));
    for o in &plain.outputs {
        let wanted = &values[&o.name];
        let exact = Tolerance { absolute: 1e-12, relative: 1e-12 };
        let simple = simplified[&o.name].arranged(&wanted.ty);
        let simple = simple.map(|t| t.data).unwrap_or_default();
        if let Err(worst) = compare(&simple, &wanted.data, exact) {
            out.push(format!("simplified, `{}` is not the same: {worst}", o.name));
        }
        let storage = o.into.map_or(&o.name, |i| &plain.inputs[i as usize].name);
        let order = o.into.map_or(&wanted.ty, |i| &plain.inputs[i as usize].ty);
        let wanted = wanted.arranged(order).map(|t| t.data).unwrap_or_default();
        for (how, store) in &runs {
            let store = match store {
                Ok(store) => store,
                Err(why) => {
                    out.push(format!("{how}: {why}"));
                    continue;
                }
            };
            let bytes = store.get(storage).map(Vec::as_slice).unwrap_or_default();
            let found: Vec<f64> =
                bytes.chunks(order.dtype.bytes()).map(|b| decode(b, order.dtype)).collect();
            if let Err(worst) = compare(&found, &wanted, tolerance(order.dtype, SUMMED)) {
                out.push(format!("{how}, `{}` is not the same: {worst}", o.name));
            }
        }
    }
    Ok(out)
}

// The gradients of a weighted sum of all results, against central differences.
fn gradients(graph: &Graph, given: &Givens) -> Result<Vec<String>, Vec<String>> {
    let bug = |bug: cs336_compiler::bug::Bug| vec![bug.to_string()];
    let mut inputs = inputs(graph, given)?;
    let found = interpret(graph, &inputs, &first_step).map_err(bug)?;
    let mut out = Vec::new();
    let loss = |inputs: &Tensors| -> Result<f64, Vec<String>> {
        let values = interpret(graph, inputs, &first_step).map_err(bug)?;
        let mut sum = 0.0;
        for (name, t) in &values {
            if let Some(weight) = inputs.get(format!("d:{name}").as_str()) {
                let weight = weight
                    .arranged(&t.ty)
                    .ok_or_else(|| vec![format!("the cotangent of `{name}` has other axes")])?;
                sum += t.data.iter().zip(&weight.data).map(|(a, b)| a * b).sum::<f64>();
            }
        }
        Ok(sum)
    };
    for (name, gradient) in &found {
        let Some(of) = name.as_str().strip_prefix("grad:") else { continue };
        let Some(ty) = inputs.get(of).map(|t| t.ty.clone()) else { continue };
        let mut differences = Vec::new();
        for i in 0..ty.len() {
            let mut at = |by: f64| {
                inputs[of].data[i] += by;
                let value = loss(&inputs);
                inputs[of].data[i] -= by;
                value
            };
            differences.push((at(STEP)? - at(-STEP)?) / (2.0 * STEP));
        }
        let gradient = gradient.arranged(&ty).map(|t| t.data).unwrap_or_default();
        // Where the gradient is zero a difference is what rounding leaves.
        for (d, g) in differences.iter_mut().zip(&gradient) {
            *d = if (*d - g).abs() < CANCELLED { *g } else { *d };
        }
        if let Err(worst) = compare(&gradient, &differences, FINITE) {
            out.push(format!("the gradient of `{of}`: {worst}"));
        }
    }
    Ok(out)
}

/// What a section gives.
struct Givens {
    tensors: Vec<Line>,
    sizes: Vec<(String, usize)>,
}

fn givens(section: &Section) -> Result<Givens, Vec<String>> {
    let mut given = Givens { tensors: Vec::new(), sizes: Vec::new() };
    for line in section.body.lines().filter_map(|l| l.strip_prefix("#< ")) {
        let size = line.split_once('=').filter(|(name, _)| !name.contains('['));
        if let Some((name, Ok(n))) = size.map(|(n, v)| (n.trim(), v.trim().parse())) {
            given.sizes.push((name.to_owned(), n));
            continue;
        }
        let read = Line::read(line).map_err(|why| vec![format!("`#< {line}`: {why}")])?;
        given.tensors.push(read);
    }
    Ok(given)
}

/// A tensor for every input of a graph.
fn inputs(graph: &Graph, given: &Givens) -> Result<Tensors, Vec<String>> {
    let mut out = Tensors::new();
    for input in &graph.inputs {
        let name = input.name.as_str();
        let tensor = match given.tensors.iter().find(|t| t.name == name) {
            Some(Line { values: Some(values), .. }) => {
                Tensor::new(input.ty.clone(), values.clone())
            }
            Some(_) | None => Some(filler(name, &input.ty)),
        };
        let lacks = || vec![format!("`{name}` needs {} values", input.ty.len())];
        out.insert(input.name.clone(), tensor.ok_or_else(lacks)?);
    }
    Ok(out)
}

/// Numbers between -1 and 1 that look like no pattern.
fn filler(name: &str, ty: &Type) -> Tensor {
    let start = name.bytes().fold(0.0, |sum, b| sum * 0.7 + f64::from(b));
    let mut i = 0.0;
    Tensor::of(ty, |_| {
        i += 1.0;
        let x: f64 = (start + 1.9 * i + 0.013 * i * i).sin();
        // Three decimals, so that f32 and f64 begin alike to a part in 1e8.
        (x * 1000.0).round() / 1000.0
    })
}

/// A line of values.
#[derive(Debug, Clone)]
struct Line {
    name: String,
    /// Names may be empty.
    axes: Vec<(String, usize)>,
    integer: bool,
    /// None: only the shape is given.
    values: Option<Vec<f64>>,
}

impl Line {
    fn read(text: &str) -> Result<Self, String> {
        let (head, rest) = text.split_once('[').ok_or("an axis list `[..]` is missing")?;
        let (axes, rest) = rest.split_once(']').ok_or("`]` is missing")?;
        let (kind, values) = rest.split_once('=').map_or((rest, None), |(k, v)| (k, Some(v)));
        let axes: Vec<(String, usize)> = axes
            .split(',')
            .map(str::trim)
            .filter(|a| !a.is_empty())
            .map(|axis| {
                let (name, size) = axis.split_once('=').unwrap_or(("", axis));
                let size = size.trim().parse().map_err(|_| format!("`{axis}` is no size"))?;
                Ok((name.trim().to_owned(), size))
            })
            .collect::<Result<_, String>>()?;
        let read = |v: &str| v.parse().map_err(|_| format!("`{v}` is no number"));
        let values = values
            .map(|all| all.split_whitespace().map(read).collect::<Result<Vec<f64>, String>>())
            .transpose()?;
        let len: usize = axes.iter().map(|(_, n)| n).product();
        if let Some(values) = &values
            && values.len() != len
        {
            return Err(format!("{} values for {len} places", values.len()));
        }
        let integer = kind.trim() == ": int";
        Ok(Self { name: head.trim().to_owned(), axes, integer, values })
    }

    fn given(&self) -> Given {
        let shape = self.axes.iter().map(|(_, n)| *n).collect();
        Given { name: self.name.clone(), shape, integer: self.integer }
    }
}

fn axes_of(ty: &Type) -> Vec<(String, usize)> {
    ty.axes.iter().map(|a| (a.name.as_str().to_owned(), a.size)).collect()
}

fn show(name: &Name, t: &Tensor) -> String {
    let axes: Vec<String> =
        axes_of(&t.ty).iter().map(|(name, size)| format!("{name} = {size}")).collect();
    let values: Vec<String> = t.data.iter().map(|x| digits(*x)).collect();
    let kind = if matches!(t.ty.dtype, DType::I32 | DType::Bool) { ": int" } else { "" };
    format!("{name}[{}]{kind} = {}", axes.join(", "), values.join(" "))
}

/// Seven significant digits, without zeros at the end.
fn digits(x: f64) -> String {
    if x == 0.0 || !x.is_finite() {
        return format!("{x}");
    }
    let places = (6 - x.abs().log10().floor() as i32).clamp(0, 12) as usize;
    let text = format!("{x:.places$}");
    if !text.contains('.') {
        return text;
    }
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if matches!(text, "-0" | "0" | "") { format!("{x:e}") } else { text.to_owned() }
}
