//! `cs336c apply`: one layer on given tensors.

use std::path::PathBuf;

use cs336_lab::apply::{Tensors, given};
use cs336_lab::{Exit, LabError, arrays};

use crate::args::{Machine, Source};
use crate::host::Real;
use crate::program::Known;
use crate::show::compiled;

/// Files of tensors.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) input: PathBuf,
    pub(crate) weights: Option<PathBuf>,
    pub(crate) out: PathBuf,
    pub(crate) grad: Option<PathBuf>,
}

pub(crate) fn apply(
    host: &Real,
    source: &Source,
    name: &str,
    files: &Files,
    sizes: &[String],
    machine: &Machine,
) -> Result<Exit, LabError> {
    let optional = |path: &Option<PathBuf>| match path {
        Some(path) => arrays::read(path),
        None => Ok(Vec::new()),
    };
    let tensors = Tensors {
        inputs: arrays::read(&files.input)?,
        weights: optional(&files.weights)?,
        gradients: optional(&files.grad)?,
    };
    let sizes = sizes.iter().map(|text| axis_size(text)).collect::<Result<Vec<_>, _>>()?;
    let mut known = Known::new(host, source);
    let device = known.device(machine)?;
    let disk = known.disk();
    // Layers of a file are of use also where its nodes are not sound, so only what the application meets counts.
    let mut checked = known.program(&disk, source).checked();
    let (inputs, weights) = (given(&tensors.inputs)?, given(&tensors.weights)?);
    let with_grad = files.grad.is_some();
    let program =
        compiled(&mut checked, |c| c.apply_program(name, &inputs, &weights, &sizes, with_grad))?;
    let outputs = cs336_lab::apply::apply(&program, &tensors, &device)?;
    arrays::write(&files.out, &outputs)?;
    for output in &outputs {
        crate::print(&format!("{} {:?}", output.name, output.shape));
    }
    Ok(Exit::Ok)
}

fn axis_size(text: &str) -> Result<(String, usize), LabError> {
    let parsed = text.split_once('=').and_then(|(axis, size)| Some((axis, size.parse().ok()?)));
    match parsed {
        Some((axis, size)) if size > 0 => Ok((axis.to_owned(), size)),
        Some(_) | None => Err(LabError::Tensor(format!("`--size {text}`: write `--size AXIS=N`"))),
    }
}
