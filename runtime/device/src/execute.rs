//! Walks a plan's steps.
//!
//! [`Executable::new`] loads the kernels once; [`Executable::run`] evaluates the host scalars in f64, binds views to the store
//! and the arena, and launches. Promises: a missing or wrongly sized storage is an error that names it, before
//! anything has run; a view never reaches outside its buffer.

use cs336_compiler::kernel::{DType, Kernel, Operand};
use cs336_compiler::name::Name;
use cs336_compiler::plan::{Io, Launch, Place, Plan, Step, View};
use cs336_compiler::scalar::Runtime;

use rayon::prelude::*;

use crate::error::DeviceError;
use crate::host::Cpu;
use crate::host::bounds::writes;
use crate::memory::Memory;
use crate::store::Store;
use crate::{Device, Params, Span};

/// The numbers that the host gives for one execution.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RuntimeValues {
    /// [`Runtime::Step`]
    pub step: u64,
    /// [`Runtime::Share`]
    pub share: f64,
    /// [`Runtime::Position`]
    pub position: u64,
    /// [`Runtime::Seed`]
    pub seed: u64,
    /// [`Runtime::Micro`]
    pub micro: u64,
}

impl Default for RuntimeValues {
    fn default() -> Self {
        Self { step: 1, share: 0.0, position: 0, seed: 0, micro: 0 }
    }
}

impl RuntimeValues {
    /// The value of a runtime scalar.
    pub fn get(&self, which: Runtime) -> f64 {
        match which {
            Runtime::Step => self.step as f64,
            Runtime::Share => self.share,
            Runtime::Position => self.position as f64,
            Runtime::Seed => self.seed as f64,
            Runtime::Micro => self.micro as f64,
        }
    }
}

/// What to watch while running.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// After each launch look at what it wrote, and stop at the first NaN or +infinity (-infinity is what masks and the
    /// logarithm of an empty sum are made of). Slow: for finding where a loss diverged.
    pub check_finite: bool,
    /// Measure the time of each launch.
    pub profile: bool,
}

/// Time by origin.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Profile {
    /// In order of first launch.
    pub rows: Vec<ProfileRow>,
}

/// The launches of one origin.
#[derive(Debug, Clone, PartialEq)]
pub struct ProfileRow {
    /// Layer path and op.
    pub origin: Name,
    /// The kind of kernel.
    pub kind: &'static str,
    /// How often.
    pub launches: u64,
    /// In all.
    pub seconds: f64,
    /// In all, as the plan states them.
    pub flops: u64,
    /// In all, as the plan states them.
    pub bytes: u64,
}

/// A plan that is ready to run.
#[derive(Debug)]
pub struct Executable<D: Device = Cpu> {
    device: D,
    plan: Plan,
    kernels: Vec<D::Kernel>,
    arena: Memory,
    /// Every host scalar as f32 and as i32, where the device sees it.
    table: Memory,
    /// Whether the launches are the same in every execution, so that they may be recorded.
    constant: bool,
    recorded: Option<Recorded<D::Recorded>>,
    options: Options,
    /// Slot per launch origin and kernel, filled if profiling.
    profile: Profile,
}

/// Recorded launches, and where the buffers were: elsewhere they are worth nothing.
#[derive(Debug)]
struct Recorded<R> {
    addresses: Vec<usize>,
    /// None until the second execution; the first one lets the device choose its algorithms.
    work: Option<R>,
}

impl<D: Device> Executable<D> {
    /// Loads the kernels of a plan and allocates its arena.
    pub fn new(plan: &Plan, device: &D) -> Result<Self, DeviceError> {
        let aligned = aligned(plan);
        let load =
            || plan.kernels.par_iter().zip(&aligned).map(|(k, a)| device.load(k, a)).collect();
        let kernels = device.enter::<Result<Vec<_>, DeviceError>>(load)?;
        let arena = device.alloc(plan.arena_bytes, "the values of a plan")?;
        let table = device.alloc(8 * plan.host.len(), "the host's scalars")?;
        let constant =
            plan.kernels.iter().all(|k| k.operands().iter().all(|o| o.dynamic.is_none()));
        let (device, plan) = (device.clone(), plan.clone());
        let (options, profile) = (Options::default(), Profile::default());
        Ok(Self { device, plan, kernels, arena, table, constant, recorded: None, options, profile })
    }

    /// Sets what to watch.
    pub fn set_options(&mut self, options: Options) {
        self.options = options;
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What was measured since the last call.
    pub fn take_profile(&mut self) -> Profile {
        std::mem::take(&mut self.profile)
    }

    /// Runs all steps.
    pub fn run(&mut self, store: &mut Store, runtime: &RuntimeValues) -> Result<(), DeviceError> {
        let device = self.device.clone();
        device.enter(|| {
            let buffers = buffers(&self.device, &self.plan, &mut self.arena, store)?;
            let host = host_scalars(&self.plan, runtime);
            self.table.write(&words(&host))?;
            let addresses: Vec<usize> = buffers.iter().map(|b| b.address as usize).collect();
            let mut walk = Walk {
                device: &self.device,
                plan: &self.plan,
                kernels: &self.kernels,
                buffers,
                host,
                table: self.table.address(),
                counters: Vec::new(),
                options: self.options,
                profile: &mut self.profile,
            };
            if self.options != Options::default() || !self.constant {
                walk.steps(&self.plan.steps)?;
                return self.device.sync();
            }
            let known = self.recorded.take().filter(|r| r.addresses == addresses);
            let Some(mut known) = known else {
                walk.steps(&self.plan.steps)?;
                self.recorded = Some(Recorded { addresses, work: None });
                return self.device.sync();
            };
            if known.work.is_none() {
                known.work = self.device.record(&mut || walk.steps(&self.plan.steps))?;
            }
            match &known.work {
                Some(work) => self.device.replay(work)?,
                None => walk.steps(&self.plan.steps)?,
            }
            self.recorded = Some(known);
            self.device.sync()
        })
    }
}

/// Per kernel and operand, a power of two that divides every address that it is bound to: buffers begin at multiples of 64 at least.
fn aligned(plan: &Plan) -> Vec<Vec<usize>> {
    let by = |n: usize| if n == 0 { 256 } else { 1 << n.trailing_zeros().min(8) };
    let mut all: Vec<Vec<usize>> =
        plan.kernels.iter().map(|k| vec![256; k.operands().len()]).collect();
    fn launches<'s>(steps: &'s [Step], out: &mut Vec<&'s Launch>) {
        for step in steps {
            match step {
                Step::Launch(launch) => out.push(launch),
                Step::Loop { body, .. } => launches(body, out),
                Step::Copy { .. } | Step::Zero { .. } => {}
            }
        }
    }
    let mut found = Vec::new();
    launches(&plan.steps, &mut found);
    for launch in found {
        let Some(operands) = all.get_mut(launch.kernel as usize) else { continue };
        for (known, view) in operands.iter_mut().zip(&launch.views) {
            let place = plan.buffers.get(view.buffer as usize).map(|b| &b.place);
            let first = match place {
                Some(Place::Arena { offset }) => by(*offset),
                // A block of this machine begins at a cache line, one of a GPU at 256 bytes.
                Some(Place::External { .. }) | None => 64,
            };
            let moves = view.advances.iter().map(|a| by(a.stride_bytes.unsigned_abs() as usize));
            *known = moves.chain([first, by(view.offset)]).fold(*known, usize::min);
        }
    }
    all
}

/// The whole of each buffer, in the plan's order.
fn buffers<D: Device>(
    device: &D,
    plan: &Plan,
    arena: &mut Memory,
    store: &mut Store,
) -> Result<Vec<Span>, DeviceError> {
    let (arena_bytes, arena_at) = (arena.len(), arena.address());
    let mut all = Vec::with_capacity(plan.buffers.len());
    // Sizes first: nothing is changed, nor thought changed, by a plan that does not fit.
    for buffer in &plan.buffers {
        if let Place::External { storage, .. } = &buffer.place {
            let (found, expected) = (store.size(storage)?, buffer.bytes);
            if found != expected {
                return Err(DeviceError::WrongSize { name: storage.clone(), found, expected });
            }
        }
    }
    for buffer in &plan.buffers {
        all.push(match &buffer.place {
            Place::Arena { offset } => {
                if offset.saturating_add(buffer.bytes) > arena_bytes {
                    let text = format!("buffer `{}` is outside the arena", buffer.name);
                    return Err(DeviceError::Malformed(text));
                }
                let address = arena_at.wrapping_add(*offset);
                Span { address, before: 0, after: buffer.bytes }
            }
            Place::External { storage, io } => {
                let changed = match io {
                    Io::Input => false,
                    Io::Output | Io::Updated => true,
                };
                store.span(storage, device, changed)?
            }
        });
    }
    Ok(all)
}

fn host_scalars(plan: &Plan, runtime: &RuntimeValues) -> Vec<f64> {
    let mut values: Vec<f64> = Vec::with_capacity(plan.host.len());
    for expr in &plan.host {
        let earlier = |i: u32| values.get(i as usize).copied().unwrap_or(f64::NAN);
        let value = expr.eval(&earlier, &|_| 0.0, &|which| runtime.get(which));
        values.push(value);
    }
    values
}

/// A host scalar as a kernel's 32-bit parameter. Integers wrap, so that halves of a seed pass unchanged.
fn word(value: f64, dtype: DType) -> u32 {
    match dtype {
        DType::F32 | DType::Bf16 | DType::F16 => (value as f32).to_bits(),
        DType::I32 => value as i64 as u32,
        DType::Bool => u32::from(value != 0.0),
    }
}

/// The table of a launch's parameters: each host scalar as f32, then as an integer.
fn words(host: &[f64]) -> Vec<u8> {
    let both = |v: &f64| [word(*v, DType::F32), word(*v, DType::I32)];
    host.iter().flat_map(both).flat_map(u32::to_le_bytes).collect()
}

struct Walk<'e, D: Device> {
    device: &'e D,
    plan: &'e Plan,
    kernels: &'e [D::Kernel],
    buffers: Vec<Span>,
    host: Vec<f64>,
    table: *const u8,
    /// Loops around the current step: number and coordinate.
    counters: Vec<(u32, i64)>,
    options: Options,
    profile: &'e mut Profile,
}

impl<D: Device> Walk<'_, D> {
    fn steps(&mut self, steps: &[Step]) -> Result<(), DeviceError> {
        for step in steps {
            match step {
                Step::Launch(launch) => self.launch(launch)?,
                Step::Loop { id, count, reverse, body } => {
                    for i in 0..*count {
                        let at = if *reverse { count - 1 - i } else { i };
                        self.counters.push((*id, at as i64));
                        let done = self.steps(body);
                        self.counters.pop();
                        done?;
                    }
                }
                Step::Copy { from, to, bytes } => {
                    let (from, to) = (self.part(from, *bytes)?, self.part(to, *bytes)?);
                    self.device.copy(to, from, *bytes)?;
                }
                Step::Zero { view, bytes } => {
                    let to = self.part(view, *bytes)?;
                    self.device.zero(to, *bytes)?;
                }
            }
        }
        Ok(())
    }

    fn launch(&mut self, launch: &Launch) -> Result<(), DeviceError> {
        let kernel = (self.plan.kernels.get(launch.kernel as usize))
            .ok_or_else(|| DeviceError::Malformed("a launch of no kernel".into()))?;
        let spans = launch.views.iter().map(|v| self.span(v)).collect::<Result<Vec<Span>, _>>()?;
        let (words, slots) = self.params(kernel, launch)?;
        let params = Params { words: &words, slots: &slots, table: self.table };
        let loaded = &self.kernels[launch.kernel as usize];
        let mut run = || self.device.launch(loaded, &spans, &params, launch.origin.as_str());
        if self.options.profile {
            let seconds = self.device.time(&mut run)?;
            self.note(kernel, launch, seconds);
        } else {
            run()?;
        }
        if self.options.check_finite {
            self.device.sync()?;
            self.check(kernel, launch, &spans, &words)?;
        }
        Ok(())
    }

    /// The parameters' words, and their places in the table. A kernel without declared ones may have dynamic offsets, which are integers.
    fn params(
        &self,
        kernel: &Kernel,
        launch: &Launch,
    ) -> Result<(Vec<u32>, Vec<u32>), DeviceError> {
        let dtypes = kernel.params();
        if launch.params.len() < dtypes.len() {
            let text = format!("`{}` lacks parameters", launch.origin);
            return Err(DeviceError::Malformed(text));
        }
        let mut words = Vec::with_capacity(launch.params.len());
        let mut slots = Vec::with_capacity(launch.params.len());
        for (i, scalar) in launch.params.iter().enumerate() {
            let dtype = dtypes.get(i).copied().unwrap_or(DType::I32);
            let value = self.host.get(*scalar as usize).copied().unwrap_or(f64::NAN);
            words.push(word(value, dtype));
            slots.push(2 * scalar + u32::from(!dtype.is_float()));
        }
        Ok((words, slots))
    }

    /// Where a view is now.
    fn span(&self, view: &View) -> Result<Span, DeviceError> {
        let whole = (self.buffers.get(view.buffer as usize))
            .ok_or_else(|| DeviceError::Malformed("a view of no buffer".into()))?;
        let mut offset = view.offset as i64;
        for advance in &view.advances {
            let counter = (self.counters.iter().find(|(id, _)| *id == advance.loop_id))
                .ok_or_else(|| DeviceError::Malformed("a view moves with no loop".into()))?
                .1;
            let shifted = counter + advance.shift;
            let steps = match advance.modulus {
                Some(modulus) => shifted.rem_euclid(modulus.max(1)),
                None => shifted,
            };
            offset += advance.stride_bytes * steps;
        }
        if offset < 0 || offset > whole.after as i64 {
            let name = &self.plan.buffers[view.buffer as usize].name;
            let text = format!("a view begins outside buffer `{name}`");
            return Err(DeviceError::Malformed(text));
        }
        let offset = offset as usize;
        let address = whole.address.wrapping_add(offset);
        Ok(Span { address, before: offset, after: whole.after - offset })
    }

    fn part(&self, view: &View, bytes: usize) -> Result<Span, DeviceError> {
        let span = self.span(view)?;
        if bytes > span.after {
            let name = &self.plan.buffers[view.buffer as usize].name;
            let text = format!("a copy reaches past buffer `{name}`");
            return Err(DeviceError::Malformed(text));
        }
        Ok(span)
    }

    fn note(&mut self, kernel: &Kernel, launch: &Launch, seconds: f64) {
        let kind = kind_name(kernel);
        let rows = &mut self.profile.rows;
        let at = rows.iter().position(|r| r.origin == launch.origin && r.kind == kind);
        let at = at.unwrap_or_else(|| {
            let origin = launch.origin.clone();
            rows.push(ProfileRow { origin, kind, launches: 0, seconds: 0.0, flops: 0, bytes: 0 });
            rows.len() - 1
        });
        let row = &mut rows[at];
        row.launches += 1;
        row.seconds += seconds;
        row.flops += launch.flops;
        row.bytes += launch.bytes;
    }

    /// Looks at what the launch wrote.
    fn check(
        &self,
        kernel: &Kernel,
        launch: &Launch,
        spans: &[Span],
        params: &[u32],
    ) -> Result<(), DeviceError> {
        let extents = kernel.extents();
        for (operand, span) in kernel.operands().into_iter().zip(spans) {
            let mut copy = Vec::new();
            if writes(operand)
                && operand.dtype.is_float()
                && let Some(what) =
                    not_finite(operand, &self.here(span, &mut copy)?, &extents, params)
            {
                let origin = launch.origin.clone();
                return Err(DeviceError::NotFinite { origin, what });
            }
        }
        Ok(())
    }
}

impl<D: Device> Walk<'_, D> {
    /// A span whose bytes can be looked at: the same one, or a copy of its buffer.
    fn here(&self, span: &Span, copy: &mut Vec<u8>) -> Result<Span, DeviceError> {
        if self.device.is_host() {
            return Ok(*span);
        }
        copy.resize(span.before + span.after, 0);
        let whole =
            Span { address: span.address.wrapping_sub(span.before), before: 0, after: copy.len() };
        self.device.read(whole, copy)?;
        let address = copy.as_mut_ptr().wrapping_add(span.before);
        Ok(Span { address, before: span.before, after: span.after })
    }
}

fn kind_name(kernel: &Kernel) -> &'static str {
    match kernel {
        Kernel::Loop(_) => "loop",
        Kernel::ColReduce(_) => "column reduction",
        Kernel::Gemm(_) => "contraction",
        Kernel::Attention(_) => "attention",
        Kernel::AttentionGrad(_) => "attention gradient",
        Kernel::Scatter(_) => "scatter",
        Kernel::RowOp(_) => "row",
    }
}

/// The first NaN or +infinity of a written operand, with its coordinates along the kernel's axes.
fn not_finite(operand: &Operand, span: &Span, extents: &[usize], params: &[u32]) -> Option<String> {
    let moved = operand.dynamic.map_or(0, |(param, stride)| {
        i64::from(params.get(param as usize).copied().unwrap_or(0) as i32) * stride
    });
    let size = operand.dtype.bytes() as i64;
    // Axes along which nothing moves are visited once.
    let axes: Vec<usize> = (extents.iter().zip(&operand.strides))
        .map(|(e, s)| if *s == 0 { (*e).min(1) } else { *e })
        .collect();
    let view = crate::host::cells::View::new(operand, span.address);
    for flat in 0..axes.iter().product() {
        let strides = &operand.strides;
        let element = crate::host::cells::offset_of(flat, &axes, strides) + operand.offset + moved;
        let byte = element * size;
        if byte < -(span.before as i64) || byte + size > span.after as i64 {
            continue;
        }
        // SAFETY: inside the span, checked just now; the launch is done.
        let value = unsafe { view.get(element) };
        if value.is_nan() || value == f32::INFINITY {
            let mut rest = flat;
            let mut coords: Vec<usize> = (axes.iter().rev())
                .map(|e| {
                    let c = rest % e;
                    rest /= e;
                    c
                })
                .collect();
            coords.reverse();
            return Some(format!("{value} at {coords:?}"));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use cs336_compiler::kernel::{Access, Effect, Inst, Loop, Stage};
    use cs336_compiler::plan::{Advance, Buffer, Class, Io};
    use cs336_compiler::scalar::{BinOp, Expr, Inst as HostInst};

    use super::*;

    fn operand(access: Access) -> Operand {
        Operand { dtype: DType::F32, strides: vec![1], offset: 0, dynamic: None, access }
    }

    fn load(operand: u32) -> Inst {
        let outside = cs336_compiler::kernel::Literal::new(0.0);
        Inst::Load { operand, indirect: vec![], guards: vec![], outside }
    }

    fn view(buffer: u32, stride: Option<i64>) -> View {
        let advances = stride
            .map(|stride_bytes| Advance { loop_id: 7, stride_bytes, shift: 0, modulus: None })
            .into_iter()
            .collect();
        View { buffer, offset: 0, advances }
    }

    /// sum[c] += x[r, c] * step for r descending, through a scratch buffer; then y = sum.
    fn plan() -> Plan {
        let kernel = Loop {
            rows: vec![],
            cols: vec![5],
            operands: vec![operand(Access::Read), operand(Access::Accumulate)],
            stages: vec![Stage {
                per_row: false,
                insts: vec![load(0), Inst::Param(0, DType::F32), Inst::Binary(BinOp::Mul, 0, 1)],
                effects: vec![Effect::Store { operand: 1, value: 2 }],
            }],
            row_values: 0,
            params: vec![DType::F32],
        };
        let buffer = |name: &str, bytes, place| Buffer {
            name: name.into(),
            bytes,
            class: Class::Activations,
            place,
        };
        let external = |name: &str, io| Place::External { storage: name.into(), io };
        let launch = Launch {
            kernel: 0,
            views: vec![view(0, Some(20)), view(1, None)],
            params: vec![0],
            origin: "blocks.add".into(),
            flops: 0,
            bytes: 40,
        };
        Plan {
            buffers: vec![
                buffer("x", 60, external("x", Io::Input)),
                buffer("sum", 20, Place::Arena { offset: 64 }),
                buffer("y", 20, external("y", Io::Output)),
            ],
            arena_bytes: 128,
            kernels: vec![Kernel::Loop(kernel)],
            host: vec![Expr { insts: vec![HostInst::Runtime(Runtime::Step)], result: 0 }],
            steps: vec![
                Step::Zero { view: view(1, None), bytes: 20 },
                Step::Loop { id: 7, count: 3, reverse: true, body: vec![Step::Launch(launch)] },
                Step::Copy { from: view(1, None), to: view(2, None), bytes: 20 },
            ],
            memory: vec![],
        }
    }

    fn store() -> Store {
        let mut store = Store::new();
        store.declare(&"x".into(), DType::F32, 15).expect("memory");
        store.declare(&"y".into(), DType::F32, 5).expect("memory");
        let x: Vec<f32> = (0..15).map(|v| v as f32).collect();
        store.set_floats(&"x".into(), &x).expect("fits");
        store
    }

    #[test]
    fn loops_advance_and_host_scalars_reach_kernels() {
        let cpu = Cpu::new(Some(2)).expect("threads");
        let mut executable = Executable::new(&plan(), &cpu).expect("loads");
        executable.set_options(Options { profile: true, check_finite: true });
        let mut store = store();
        for step in [1, 2] {
            let runtime = RuntimeValues { step, ..RuntimeValues::default() };
            executable.run(&mut store, &runtime).expect("runs");
            let want: Vec<f32> = (0..5).map(|c| step as f32 * (15 + 3 * c) as f32).collect();
            assert_eq!(store.f32s(&"y".into()).expect("known"), want);
        }
        let profile = executable.take_profile();
        assert_eq!(profile.rows[0].launches, 6);
        assert_eq!(profile.rows[0].bytes, 240);
    }

    #[test]
    fn what_is_missing_or_broken_is_named() {
        let cpu = Cpu::new(Some(1)).expect("threads");
        let mut executable = Executable::new(&plan(), &cpu).expect("loads");
        let runtime = RuntimeValues::default();
        let mut empty = Store::new();
        let missing = executable.run(&mut empty, &runtime).expect_err("no x");
        assert_eq!(missing, DeviceError::MissingStorage("x".into()));
        empty.declare(&"x".into(), DType::F32, 14).expect("memory");
        assert_eq!(executable.run(&mut empty, &runtime).expect_err("small").code(), "E0802");

        let mut full = store();
        full.f32s_mut(&"x".into()).expect("f32")[7] = f32::NAN;
        executable.set_options(Options { check_finite: true, profile: false });
        let text = executable.run(&mut full, &runtime).expect_err("NaN").to_string();
        assert!(text.contains("blocks.add") && text.contains("[2]"), "{text}");

        let mut far = plan();
        if let Step::Loop { count, .. } = &mut far.steps[1] {
            *count = 4;
        }
        let mut executable = Executable::new(&far, &cpu).expect("loads");
        assert!(executable.run(&mut store(), &runtime).is_err(), "the fourth row is outside");
    }

    #[test]
    fn equal_kernels_are_compiled_once() {
        let cpu = Cpu::new(Some(1)).expect("threads");
        let kernel = &plan().kernels[0];
        let (a, b) = (cpu.load(kernel, &[]).expect("loads"), cpu.load(kernel, &[]).expect("loads"));
        assert!(std::sync::Arc::ptr_eq(&a, &b));
    }
}
