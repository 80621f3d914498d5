//! The real machine: plans on a device, with one store for weights, states, batches and caches.
//!
//! All plans of a model share the storages of its weights by name. Columns and results have other sizes in other plans (a
//! training batch, an evaluation batch, a prompt), so each run declares those of its own plan first. Plans for writing text
//! are compiled when a text is asked for, once per length of prompt and capacity.

use std::collections::BTreeMap;

use cs336_compiler::graph::{Graph, Name, Type};
use cs336_compiler::programs::{Compiled, DecodePrograms, StateInfo, StateStart, TrainPrograms};
use cs336_compiler::scalar::DType;
use cs336_data::Batch;
use cs336_device::{DeviceError, Executable, Options, Processor, Profile, RuntimeValues, Store};

use super::{Machine, StepInput, StepOutput};
use crate::checkpoint::Tensor;
use crate::error::LabError;

/// Compiles the plans for writing: length of the prompt, positions in all.
pub type CompileDecode<'a> = dyn FnMut(usize, usize) -> Result<DecodePrograms, LabError> + 'a;

/// See the module.
#[allow(missing_debug_implementations, reason = "it holds a closure")]
pub struct PlanMachine<'a> {
    device: Processor,
    store: Store,
    programs: TrainPrograms,
    step: Program,
    eval: Program,
    writers: BTreeMap<(usize, usize), Writer>,
    /// The writer of the text that is being written.
    writing: Option<(usize, usize)>,
    compile: Box<CompileDecode<'a>>,
}

/// A plan that is ready, and the storages that it wants besides weights and states.
struct Program {
    executable: Executable<Processor>,
    columns: Vec<(Name, Type)>,
    results: Vec<(Name, Type)>,
}

struct Writer {
    prefill: Program,
    decode: Program,
    caches: Vec<StateInfo>,
}

impl<'a> PlanMachine<'a> {
    /// The model of `programs`, without weights until it is initialised or restored.
    pub fn new(
        device: &Processor,
        programs: TrainPrograms,
        compile: Box<CompileDecode<'a>>,
    ) -> Result<Self, LabError> {
        let mut store = Store::new();
        let kept: Vec<(Name, Type)> = kept(&programs);
        for (name, ty) in &kept {
            store.declare(name, ty.dtype, ty.len())?;
        }
        let step = Program::new(device, &programs.step, &kept)?;
        let eval = Program::new(device, &programs.eval, &kept)?;
        let writers = BTreeMap::new();
        let device = device.clone();
        Ok(Self { device, store, programs, step, eval, writers, writing: None, compile })
    }

    /// The names and types of what it keeps.
    pub fn programs(&self) -> &TrainPrograms {
        &self.programs
    }

    /// Measures the time of each launch of a step from now on, or no more.
    pub fn watch_time(&mut self, watch: bool) {
        self.step.executable.set_options(Options { profile: watch, ..Options::default() });
    }

    /// What [`watch_time`](Self::watch_time) has measured since the last call.
    pub fn take_profile(&mut self) -> Profile {
        self.step.executable.take_profile()
    }

    fn writer(&mut self, prompt: usize, capacity: usize) -> Result<(), LabError> {
        if !self.writers.contains_key(&(prompt, capacity)) {
            let programs = (self.compile)(prompt, capacity)?;
            let mut kept = kept(&self.programs);
            kept.extend(programs.caches.iter().map(|c| (c.name.clone(), c.ty.clone())));
            let writer = Writer {
                prefill: Program::new(&self.device, &programs.prefill, &kept)?,
                decode: Program::new(&self.device, &programs.decode, &kept)?,
                caches: programs.caches,
            };
            self.writers.insert((prompt, capacity), writer);
        }
        Ok(())
    }

    fn outputs(&self) -> Result<StepOutput, LabError> {
        let mut output = StepOutput { loss: f64::NAN, ..StepOutput::default() };
        for (name, ty) in &self.step.results {
            let values = self.store.floats(name)?;
            let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / values.len() as f64;
            match name.as_str() {
                "loss" => output.loss = mean,
                "grad_norm" => output.grad_norm = Some(mean),
                "lr" => output.lr = Some(mean),
                other => {
                    let path = other.strip_prefix("measure:").unwrap_or(other);
                    if values.len() == 1 {
                        output.measures.push((path.to_owned(), mean));
                        continue;
                    }
                    // A measure with axes: one column per coordinate.
                    for (at, value) in values.iter().enumerate() {
                        let place = coordinates(ty, at);
                        output.measures.push((format!("{path}[{place}]"), f64::from(*value)));
                    }
                }
            }
        }
        Ok(output)
    }
}

impl Machine for PlanMachine<'_> {
    fn init(&mut self, seed: u64) -> Result<(), LabError> {
        // Used once, so it does not stay in memory.
        let kept = kept(&self.programs);
        let mut init = Program::new(&self.device, &self.programs.init, &kept)?;
        init.run(&mut self.store, None, &RuntimeValues { seed, ..RuntimeValues::default() })
    }

    fn begin_with(&mut self, weights: &[Tensor]) -> Result<Result<(), String>, LabError> {
        let (_, mut states) = self.tensors()?;
        for (state, info) in states.iter_mut().zip(&self.programs.states) {
            if let StateStart::Weight(name) = &info.start
                && let Some(weight) = weights.iter().find(|w| w.name == name.as_str())
            {
                state.bytes.clone_from(&weight.bytes);
            }
        }
        self.restore(weights, &states)
    }

    fn step(&mut self, batch: &Batch, input: StepInput) -> Result<StepOutput, LabError> {
        self.step.run(&mut self.store, Some(batch), &runtime(input))?;
        self.outputs()
    }

    fn blame(&mut self, batch: &Batch, input: StepInput) -> Result<Option<String>, LabError> {
        let watch = Options { check_finite: true, ..Options::default() };
        self.step.executable.set_options(watch);
        let result = self.step.run(&mut self.store, Some(batch), &runtime(input));
        self.step.executable.set_options(Options::default());
        match result {
            Ok(()) => Ok(None),
            Err(LabError::Device(DeviceError::NotFinite { origin, .. })) => {
                Ok(Some(origin.to_string()))
            }
            Err(error) => Err(error),
        }
    }

    fn held_out(&mut self, batch: &Batch) -> Result<(f64, f64), LabError> {
        self.eval.run(&mut self.store, Some(batch), &RuntimeValues::default())?;
        let sum = |name: &str| -> Result<f64, LabError> {
            Ok(self.store.floats(&name.into())?.iter().map(|v| f64::from(*v)).sum())
        };
        Ok((sum("loss_sum")?, sum("loss_count")?))
    }

    fn prefill(&mut self, ids: &[i32], capacity: usize) -> Result<Vec<f32>, LabError> {
        let which = (ids.len(), capacity);
        self.writer(ids.len(), capacity)?;
        self.writing = Some(which);
        let Some(writer) = self.writers.get_mut(&which) else { return Ok(Vec::new()) };
        for cache in &writer.caches {
            self.store.declare(&cache.name, cache.ty.dtype, cache.ty.len())?;
            self.store.bytes_mut(&cache.name)?.fill(0);
        }
        writer.prefill.read(&mut self.store, ids, 0)
    }

    fn decode(&mut self, id: i32, position: usize) -> Result<Vec<f32>, LabError> {
        let writer = self.writing.and_then(|which| self.writers.get_mut(&which));
        let Some(writer) = writer else { return Ok(Vec::new()) };
        writer.decode.read(&mut self.store, &[id], position)
    }

    fn tensors(&self) -> Result<(Vec<Tensor>, Vec<Tensor>), LabError> {
        let copy = |name: &Name, ty: &Type| -> Result<Tensor, LabError> {
            Ok(Tensor {
                name: name.to_string(),
                dtype: ty.dtype,
                shape: ty.axes.iter().map(|axis| axis.size).collect(),
                bytes: self.store.bytes(name)?.to_vec(),
            })
        };
        let weights = self.programs.weights.iter().map(|w| copy(&w.name, &w.ty));
        let states = self.programs.states.iter().map(|s| copy(&s.name, &s.ty));
        Ok((weights.collect::<Result<_, _>>()?, states.collect::<Result<_, _>>()?))
    }

    fn restore(
        &mut self,
        weights: &[Tensor],
        states: &[Tensor],
    ) -> Result<Result<(), String>, LabError> {
        let given: BTreeMap<&str, &Tensor> =
            weights.iter().chain(states).map(|t| (t.name.as_str(), t)).collect();
        let kept = kept(&self.programs);
        // All is looked at before anything is changed.
        for (name, ty) in &kept {
            let shape: Vec<usize> = ty.axes.iter().map(|axis| axis.size).collect();
            match given.get(name.as_str()) {
                None => return Ok(Err(format!("`{name}` is missing"))),
                Some(t) if t.shape != shape || t.dtype != ty.dtype => {
                    return Ok(Err(format!(
                        "`{name}` is {} {:?}, the model has {} {shape:?}",
                        t.dtype.name(),
                        t.shape,
                        ty.dtype.name()
                    )));
                }
                Some(_) => {}
            }
        }
        if let Some(other) = given.keys().find(|name| !kept.iter().any(|(k, _)| k == *name)) {
            return Ok(Err(format!("the model has no `{other}`")));
        }
        for (name, _) in &kept {
            if let Some(tensor) = given.get(name.as_str()) {
                self.store.set_bytes(name, &tensor.bytes)?;
            }
        }
        Ok(Ok(()))
    }
}

impl Program {
    fn new(
        device: &Processor,
        compiled: &Compiled,
        kept: &[(Name, Type)],
    ) -> Result<Self, LabError> {
        let (columns, results) = storages(&compiled.graph, kept);
        Ok(Self { executable: Executable::new(&compiled.plan, device)?, columns, results })
    }

    /// Runs the plan on the columns of a batch.
    fn run(
        &mut self,
        store: &mut Store,
        batch: Option<&Batch>,
        runtime: &RuntimeValues,
    ) -> Result<(), LabError> {
        self.declare(store)?;
        for (name, ty) in &self.columns {
            let Some(batch) = batch else { continue };
            let ids = match name.as_str() {
                "ids" => &batch.ids,
                "target" => &batch.target,
                "doc" => &batch.doc,
                "doc_pos" => &batch.doc_pos,
                "learn" => {
                    store.set_floats(name, &batch.learn)?;
                    continue;
                }
                other => {
                    return Err(LabError::Tensor(format!("the data has no column `{other}`")));
                }
            };
            match ty.dtype {
                DType::I32 => store.set_i32s(name, ids)?,
                DType::F32 | DType::Bf16 | DType::F16 | DType::Bool => {
                    let floats: Vec<f32> = ids.iter().map(|id| *id as f32).collect();
                    store.set_floats(name, &floats)?;
                }
            }
        }
        self.executable.run(store, runtime)?;
        Ok(())
    }

    /// Runs a plan that reads `ids`, the first of which is at `position`, and gives its logits.
    fn read(
        &mut self,
        store: &mut Store,
        ids: &[i32],
        position: usize,
    ) -> Result<Vec<f32>, LabError> {
        self.declare(store)?;
        for (name, ty) in &self.columns {
            let counted: Vec<i32> = match name.as_str() {
                "ids" => ids.to_vec(),
                // One document, from its start on.
                "doc_pos" => (position as i32..).take(ids.len()).collect(),
                _ => vec![0; ids.len()],
            };
            match ty.dtype {
                DType::I32 => store.set_i32s(name, &counted)?,
                DType::F32 | DType::Bf16 | DType::F16 | DType::Bool => {
                    store.set_floats(name, &vec![1.0; ids.len()])?;
                }
            }
        }
        let position = position as u64;
        self.executable.run(store, &RuntimeValues { position, ..RuntimeValues::default() })?;
        Ok(store.floats(&"logits".into())?)
    }

    fn declare(&self, store: &mut Store) -> Result<(), LabError> {
        for (name, ty) in self.columns.iter().chain(&self.results) {
            store.declare(name, ty.dtype, ty.len())?;
        }
        Ok(())
    }
}

/// What a graph reads and writes besides what is `kept`.
fn storages(graph: &Graph, kept: &[(Name, Type)]) -> (Vec<(Name, Type)>, Vec<(Name, Type)>) {
    let ours = |name: &Name| kept.iter().any(|(known, _)| known == name);
    let columns = graph.inputs.iter().map(|input| (input.name.clone(), input.ty.clone()));
    let results = graph.outputs.iter().map(|o| (o.name.clone(), graph.ty(o.node).clone()));
    (
        columns.filter(|(name, _)| !ours(name)).collect(),
        results.filter(|(name, _)| !ours(name)).collect(),
    )
}

fn kept(programs: &TrainPrograms) -> Vec<(Name, Type)> {
    let weights = programs.weights.iter().map(|w| (w.name.clone(), w.ty.clone()));
    let states = programs.states.iter().map(|s| (s.name.clone(), s.ty.clone()));
    weights.chain(states).collect()
}

fn runtime(input: StepInput) -> RuntimeValues {
    let StepInput { step, share, seed } = input;
    RuntimeValues { step, share, seed, ..RuntimeValues::default() }
}

/// `layer=2,expert=0`: the coordinates of the row-major place `at`.
fn coordinates(ty: &Type, at: usize) -> String {
    let mut rest = at;
    let mut parts: Vec<String> = Vec::new();
    for axis in ty.axes.iter().rev() {
        parts.push(format!("{}={}", axis.name, rest % axis.size));
        rest /= axis.size;
    }
    parts.reverse();
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use cs336_compiler::graph::Axis;

    #[test]
    fn coordinates_are_row_major() {
        let axis = |name: &str, size| Axis { name: name.into(), size };
        let ty = Type::new(DType::F32, vec![axis("layer", 2), axis("expert", 3)]);
        assert_eq!(coordinates(&ty, 0), "layer=0,expert=0");
        assert_eq!(coordinates(&ty, 5), "layer=1,expert=2");
    }
}
