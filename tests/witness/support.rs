//! What all witnesses need: programs from text, values for their inputs, the interpreter and this machine's processor side by side.

use cs336_compiler::check::assemble::{StepGraph, TrainParts};
use cs336_compiler::check::eval::Eval;
use cs336_compiler::check::kinds;
use cs336_compiler::close::{Tolerance, compare};
use cs336_compiler::graph::interp::{Tensor, interpret};
use cs336_compiler::graph::verify::verify;
use cs336_compiler::graph::{DType, Graph, Name, Role, Runtime, Type};
use cs336_compiler::pipeline::compile;
use cs336_compiler::plan::{Place, Target};
use cs336_compiler::world::Texts;
use cs336_device::{Cpu, Executable, RuntimeValues, Store};
use indexmap::IndexMap;

/// Values by storage name.
pub(crate) type Values = IndexMap<Name, Tensor>;

/// Two computations in f64 that differ in the order of sums alone.
pub(crate) const F64: Tolerance = Tolerance { absolute: 1e-10, relative: 1e-9 };

/// The bound on whole models and on losses in f32.
pub(crate) const WHOLE_F32: Tolerance = Tolerance { absolute: 1e-4, relative: 1e-4 };

/// The names that training programs share.
pub(crate) const TRAIN: &str = "
data tales = stories(count = 10, seed = 7) |> holdout(valid = 10%)
tokenizer chars { corpus = tales.train, vocab = 300 }
let rows = tales |> encode(chars) |> pack(seq = SEQ)
";

/// A program of one file.
pub(crate) fn program(text: &str) -> Texts {
    Texts { files: vec![("a.cs336".into(), text.into())] }
}

/// Reads and checks it; problems fail the test.
pub(crate) fn open(world: &Texts) -> Eval<'_> {
    let mut eval = Eval::new(world);
    eval.load_main("a.cs336", &[]);
    kinds::check_nodes(&mut eval);
    assert!(!eval.problems.has_errors(), "{}", problems(&eval));
    eval
}

/// Its problems as lines.
pub(crate) fn problems(eval: &Eval<'_>) -> String {
    let line = |p: &cs336_compiler::problem::Problem| {
        format!(
            "{} {} {:?} at `{}`\n",
            p.code,
            p.message,
            p.help,
            p.span().map_or("", |s| eval.sources.text(s))
        )
    };
    eval.problems.iter().map(line).collect()
}

/// Seeded numbers.
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// In 0..1.
    pub(crate) fn unit(&mut self) -> f64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as f64 / (1u64 << 31) as f64
    }

    /// In `-half..half`, as f32 can hold it.
    pub(crate) fn around(&mut self, half: f64) -> f64 {
        f64::from(((2.0 * self.unit() - 1.0) * half) as f32)
    }

    /// In 0..n.
    pub(crate) fn below(&mut self, n: usize) -> f64 {
        (self.unit() * n as f64).floor()
    }

    /// A tensor of that type: floats in `-1..1`, integers below `n`.
    pub(crate) fn tensor(&mut self, ty: &Type, n: usize) -> Tensor {
        Tensor::of(ty, |_| match ty.dtype {
            DType::I32 | DType::Bool => self.below(n),
            DType::F32 | DType::Bf16 | DType::F16 => self.around(1.0),
        })
    }
}

/// Runs a graph on the interpreter.
pub(crate) fn run(graph: &Graph, given: &Values, runtime: &dyn Fn(Runtime) -> f64) -> Values {
    interpret(graph, given, runtime).unwrap_or_else(|bug| panic!("{bug}"))
}

/// The runtime scalars of step `t` of `steps`.
pub(crate) fn at_step(t: usize, steps: usize) -> impl Fn(Runtime) -> f64 {
    move |what| match what {
        Runtime::Step => t as f64,
        Runtime::Share => t as f64 / steps as f64,
        Runtime::Seed => 11.0,
        Runtime::Position | Runtime::Micro => 0.0,
    }
}

/// A graph on this machine's processor.
#[derive(Debug)]
pub(crate) struct OnDevice {
    executable: Executable<Cpu>,
    store: Store,
    outputs: Vec<(Name, Type)>,
}

impl OnDevice {
    /// Compiles it and declares its memories.
    pub(crate) fn new(graph: &Graph) -> Self {
        let outputs: Vec<(Name, Type)> =
            graph.outputs.iter().map(|o| (o.name.clone(), graph.ty(o.node).clone())).collect();
        let mut types: IndexMap<Name, Type> = outputs.iter().cloned().collect();
        types.extend(graph.inputs.iter().map(|i| (i.name.clone(), i.ty.clone())));
        let made = compile(graph.clone(), &Target::cpu()).unwrap_or_else(|bug| panic!("{bug}"));
        let device = Cpu::new(Some(2)).expect("a processor");
        let executable = Executable::new(&made.plan, &device).expect("loads");
        let mut store = Store::new();
        for b in &made.plan.buffers {
            if let Place::External { storage, .. } = &b.place {
                let ty = types.get(storage).expect("a plan names what its graph names");
                store.declare(storage, ty.dtype, ty.len()).expect("memory");
                assert_eq!(ty.bytes(), b.bytes, "`{storage}`");
            }
        }
        Self { executable, store, outputs }
    }

    /// Sets those of the values that the plan reads. Their order of axes must be that of the graph's inputs.
    pub(crate) fn set(&mut self, values: &Values) {
        for (name, t) in values {
            if !self.store.contains(name) {
                continue;
            }
            if t.ty.dtype == DType::I32 {
                let ints: Vec<i32> = t.data.iter().map(|x| *x as i32).collect();
                self.store.set_i32s(name, &ints).expect("fits");
            } else {
                let floats: Vec<f32> = t.data.iter().map(|x| *x as f32).collect();
                self.store.set_floats(name, &floats).expect("fits");
            }
        }
    }

    /// Runs it once; what is donated stays in the store for the next time.
    pub(crate) fn run(&mut self, runtime: &dyn Fn(Runtime) -> f64) {
        let values = RuntimeValues {
            step: runtime(Runtime::Step) as u64,
            share: runtime(Runtime::Share),
            position: runtime(Runtime::Position) as u64,
            seed: runtime(Runtime::Seed) as u64,
            micro: runtime(Runtime::Micro) as u64,
        };
        self.executable.run(&mut self.store, &values).expect("runs");
    }

    /// An output.
    pub(crate) fn floats(&self, name: &str) -> Vec<f64> {
        let found = self.store.floats(&Name::from(name)).expect("an output");
        found.into_iter().map(f64::from).collect()
    }

    /// All float outputs that are stored in f32.
    pub(crate) fn outputs(&self) -> Vec<(Name, Vec<f64>)> {
        let floats = self.outputs.iter().filter(|(_, ty)| ty.dtype == DType::F32);
        floats.map(|(n, _)| (n.clone(), self.floats(n.as_str()))).collect()
    }
}

/// A training program, traced, with weights from its own initialisers.
#[derive(Debug)]
pub(crate) struct Training {
    /// One optimizer step.
    pub(crate) step: StepGraph,
    /// The forward pass of all rows: output `out`.
    pub(crate) forward: Graph,
    /// Weights and states at the start, rounded to f32, and the columns of one batch.
    pub(crate) start: Values,
    /// Of the micro-batches together.
    pub(crate) rows: usize,
}

/// What `train` trains, as parts.
pub(crate) fn parts(eval: &mut Eval<'_>, train: &str) -> TrainParts {
    kinds::train_parts(eval, train).unwrap_or_else(|| panic!("{}", problems(eval)))
}

impl Training {
    /// Traces the node `train` of a program; ids are below `vocab`. Zero-sum initialisers (biases, gains) are perturbed, so
    /// that nothing hides behind a zero.
    pub(crate) fn new(text: &str, micro_rows: usize, micro_count: usize, vocab: usize) -> Self {
        let world = program(text);
        let mut eval = open(&world);
        let parts = parts(&mut eval, "run");
        let views = eval.weight_views(&parts).unwrap_or_else(|| panic!("{}", problems(&eval)));
        let step = eval
            .step_graph(&parts, micro_rows, micro_count)
            .unwrap_or_else(|| panic!("{}", problems(&eval)));
        let rows = micro_rows * micro_count;
        let init = eval.init_graph(&parts, &views, &step.states);
        let forward = eval.forward_graph(&parts, rows);
        let (Some(init), Some(forward)) = (init, forward) else { panic!("{}", problems(&eval)) };
        for graph in [&step.graph, &init, &forward] {
            verify(graph).unwrap_or_else(|bug| panic!("{bug}"));
        }
        let mut start = run(&init, &Values::new(), &at_step(0, 1));
        let mut dice = Dice::new(5);
        for (name, t) in &mut start {
            let is_state = step.states.iter().any(|s| s.name == *name);
            for x in &mut t.data {
                if !is_state {
                    *x += dice.around(0.05);
                }
                *x = f64::from(*x as f32);
            }
        }
        for input in &step.graph.inputs {
            if input.role == Role::Data {
                let mut column = dice.tensor(&input.ty, vocab);
                if input.name == "learn" {
                    // Some targets do not count, and not equally many in each micro-batch.
                    let n = column.data.len();
                    for (i, x) in column.data.iter_mut().enumerate() {
                        *x = if i % 7 == 3 || i + 4 > n { 0.0 } else { 1.0 };
                    }
                }
                start.insert(input.name.clone(), column);
            }
        }
        Self { step, forward, start, rows }
    }

    /// A batch column's values, row after row.
    pub(crate) fn column(&self, name: &str) -> Vec<f64> {
        self.start[name].data.clone()
    }

    /// A batch column of ids.
    pub(crate) fn ids(&self, name: &str) -> Vec<u32> {
        self.column(name).iter().map(|x| *x as u32).collect()
    }

    /// Inputs of the forward graph: the same numbers, in one batch.
    pub(crate) fn forward_inputs(&self) -> Values {
        let value = |name: &Name, ty: &Type| match self.start.get(name) {
            Some(t) => Tensor::new(ty.clone(), t.data.clone()).expect("as many numbers"),
            None => Tensor::filled(ty, 0.0),
        };
        self.forward.inputs.iter().map(|i| (i.name.clone(), value(&i.name, &i.ty))).collect()
    }
}

/// Takes the donated outputs of a step into the values of the next.
pub(crate) fn carry(graph: &Graph, values: &mut Values, out: &Values) {
    for o in graph.outputs.iter().filter(|o| o.into.is_some()) {
        let ty = values[&o.name].ty.clone();
        let next = out[&o.name].arranged(&ty).expect("a step keeps the type of what it changes");
        values.insert(o.name.clone(), next);
    }
}

/// Fails with the worst place.
#[track_caller]
pub(crate) fn near(what: &str, found: &[f64], reference: &[f64], tolerance: Tolerance) {
    if let Err(worst) = compare(found, reference, tolerance) {
        panic!("{what}: {worst}");
    }
}
