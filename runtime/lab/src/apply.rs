//! `apply`: any layer, model, loss or optimizer step on given tensors.
//!
//! The compiler makes a graph for the shapes that are given; here its inputs are filled by name (or, where files have no names, in the
//! order of parameters), it is run once, and its outputs come back. This is how a layer is debugged, and how test fixtures of others
//! are tried.

use cs336_compiler::check::apply::Given;
use cs336_compiler::graph::Role;
use cs336_compiler::graph::indices::indices;
use cs336_compiler::programs::Compiled;
use cs336_compiler::scalar::DType;
use cs336_device::{Executable, Processor, RuntimeValues, Store};

use crate::arrays::Array;
use crate::error::LabError;

/// What is given.
#[derive(Debug, Clone, Default)]
pub struct Tensors {
    /// By the names of parameters, or in their order.
    pub inputs: Vec<Array>,
    /// By their paths.
    pub weights: Vec<Array>,
    /// By the names of outputs; a single one may go without.
    pub gradients: Vec<Array>,
}

/// What the compiler wants to know of arrays. One without elements is refused: axes have at least one place.
pub fn given(arrays: &[Array]) -> Result<Vec<Given>, LabError> {
    let one = |a: &Array| {
        if a.shape.contains(&0) {
            let text = format!("`{}` {:?} has an axis without any place", a.name, a.shape);
            return Err(LabError::Tensor(text));
        }
        Ok(Given { name: a.name.clone(), shape: a.shape.clone(), integer: a.integer })
    };
    arrays.iter().map(one).collect()
}

/// Runs the compiled application on the tensors.
pub fn apply(
    compiled: &Compiled,
    tensors: &Tensors,
    device: &Processor,
) -> Result<Vec<Array>, LabError> {
    let graph = &compiled.graph;
    let mut store = Store::new();
    let mut place = 0;
    let ids = indices(graph);
    let known = |a: &&Array| graph.inputs.iter().any(|input| input.name.as_str() == a.name);
    if let Some(other) = tensors.inputs.iter().find(|a| !a.name.is_empty() && !known(a)) {
        let takes = graph.inputs.iter().filter(|i| i.role != Role::Weight).map(|i| i.name.as_str());
        let takes: Vec<&str> = takes.filter(|name| !name.starts_with("d:")).collect();
        return Err(LabError::Tensor(format!(
            "`{}` is given, and the tensors that it takes are {}",
            other.name,
            takes.join(", ")
        )));
    }
    for (number, input) in (0u32..).zip(&graph.inputs) {
        let name = input.name.as_str();
        let array = match (name.strip_prefix("d:"), input.role) {
            (Some(output), _) => gradient(&tensors.gradients, output)?,
            (None, Role::Weight) if named(&tensors.weights, name).is_some() => {
                named(&tensors.weights, name)
            }
            (None, _) => {
                let by_place = || tensors.inputs.get(place).filter(|a| a.name.is_empty());
                let found = named(&tensors.inputs, name).or_else(by_place);
                place += 1;
                found
            }
        };
        let shape: Vec<usize> = input.ty.axes.iter().map(|axis| axis.size).collect();
        let Some(array) = array else {
            return Err(LabError::Tensor(format!("`{name}` {shape:?} is not given")));
        };
        if array.shape != shape {
            return Err(LabError::Tensor(format!(
                "`{name}` must be {shape:?}, but {:?} is given",
                array.shape
            )));
        }
        if input.ty.dtype == DType::I32 || ids.contains_key(&number) {
            whole(name, array, ids.get(&number).copied())?;
        }
        store.declare(&input.name, input.ty.dtype, input.ty.len())?;
        store.set_floats(&input.name, &array.values)?;
    }
    for output in &graph.outputs {
        let ty = graph.ty(output.node);
        store.declare(&output.name, ty.dtype, ty.len())?;
    }
    Executable::new(&compiled.plan, device)?.run(&mut store, &RuntimeValues::default())?;
    graph
        .outputs
        .iter()
        .map(|output| {
            let ty = graph.ty(output.node);
            Ok(Array {
                name: output.name.to_string(),
                shape: ty.axes.iter().map(|axis| axis.size).collect(),
                integer: !ty.dtype.is_float(),
                values: store.floats(&output.name)?,
            })
        })
        .collect()
}

/// Refuses what is no integer, and ids that nothing has: `below` is how many there are.
fn whole(name: &str, array: &Array, below: Option<usize>) -> Result<(), LabError> {
    let fits = |v: f32| v.fract() == 0.0 && below.is_none_or(|n| v >= 0.0 && (v as usize) < n);
    let Some(at) = array.values.iter().position(|v| !fits(*v)) else { return Ok(()) };
    let mut rest = at;
    let mut place: Vec<usize> = Vec::new();
    for size in array.shape.iter().rev() {
        place.insert(0, rest % size);
        rest /= size;
    }
    let must =
        below.map_or("whole numbers".to_owned(), |n| format!("whole numbers from 0 to {}", n - 1));
    let value = array.values[at];
    Err(LabError::Tensor(format!("`{name}` is {value} at {place:?}; these are {must}")))
}

fn named<'a>(arrays: &'a [Array], name: &str) -> Option<&'a Array> {
    arrays.iter().find(|array| array.name == name)
}

/// The gradient of an output: by its name with or without `d:`, or the only one.
fn gradient<'a>(arrays: &'a [Array], output: &str) -> Result<Option<&'a Array>, LabError> {
    let full = format!("d:{output}");
    let found = named(arrays, output).or_else(|| named(arrays, &full));
    match (found, arrays) {
        (Some(array), _) => Ok(Some(array)),
        (None, [only]) => Ok(Some(only)),
        (None, _) => Err(LabError::Tensor(format!("the gradient of `{output}` is not given"))),
    }
}
