//! Definitions that nothing uses yet, tried out.
//!
//! A body means something only with sizes and values for what it leaves open, so each layer, model, function, loss, optimizer and schedule of the main file
//! that has not run is given made-up ones: a prime for each axis that it names, a plain number or switch for each parameter that has no default but a
//! type that says enough. What cannot be made up (a layer, a value without a type) leaves the definition to [`names`](super::names).
//!
//! *No false alarms.* Another instance may be fine where this one is not, so only some problems count ([`RULES`]), and only those that *every* trial
//! has: with other sizes and values, with floats and with integers, and where the axes of the inputs matter, with those that make the problem least
//! likely. A name that is not known may be an axis of some model: it is added, and the trial begins again. Sizes that do not divide, conditions
//! that do not hold, and indices that are not there count for nothing.

use std::rc::Rc;

use indexmap::IndexMap;

use super::apply::Given;
use super::call::{Args, method};
use super::eval::{Eval, MAX_STEPS};
use super::modules::MAIN;
use super::trace::{Mode, Trace};
use super::value::{
    BoundAxis, Def, DefKind, LayerForm, LayerValue, Program, Quantity, Record, Scope, Value,
};
use crate::graph::{Axis, DType, Name, Role, Type};
use crate::problem::{Problem, Problems};
use crate::source::Span;
use crate::syntax::ast::{self, Body, ItemKind, Param, TypeKind};

/// What the axes of the inputs have to do with a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// Nothing.
    Always,
    /// It may go away if the inputs have more axes.
    MoreAxes,
    /// It may go away if the inputs have fewer axes.
    FewerAxes,
}

/// The problems that count. What depends on sizes and on values is not among them.
const RULES: &[(&str, Rule)] = &[
    ("E0203", Rule::Always),
    ("E0204", Rule::Always),
    ("E0210", Rule::Always),
    ("E0211", Rule::Always),
    ("E0212", Rule::Always),
    ("E0214", Rule::Always),
    ("E0302", Rule::Always),
    ("E0303", Rule::Always),
    ("E0305", Rule::Always),
    ("E0307", Rule::Always),
    ("E0308", Rule::Always),
    ("E0309", Rule::Always),
    ("E0311", Rule::Always),
    ("E0401", Rule::Always),
    ("E0403", Rule::MoreAxes),
    ("E0406", Rule::Always),
    ("E0407", Rule::FewerAxes),
    ("E0411", Rule::Always),
    ("E0412", Rule::MoreAxes),
];

fn rule(code: &str) -> Option<Rule> {
    RULES.iter().find(|(c, _)| *c == code).map(|(_, rule)| *rule)
}

/// The sizes of axes in one trial: all different and without common parts.
const PRIMES: &[usize] = &[7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73];
/// And all alike in another.
const ALIKE: usize = 4;
/// How often a trial begins again because of a name that may be an axis.
const MAX_NAMES: usize = 16;
/// How much the trials of one definition may evaluate.
const TRIAL_STEPS: u64 = 200_000;

/// Tries out what nothing of the main file has run.
pub(super) fn check(eval: &mut Eval<'_>) {
    let Some(main) = eval.modules.get(MAIN) else { return };
    let (file, reached) = (main.file, eval.reached.clone());
    let names: Vec<(String, Span)> =
        main.names.iter().map(|(n, i)| (n.clone(), main.items[*i].span)).collect();
    for (name, span) in names {
        let Value::Def(def) = eval.item_value(MAIN, &name, span) else { continue };
        if reached.contains(&def.span) {
            continue;
        }
        for problem in tried(eval, &def) {
            if problem.span().is_some_and(|at| at.file == file) {
                eval.problems.push(problem);
            }
        }
    }
}

/// How one trial is set up.
#[derive(Debug, Clone, Copy)]
struct Setup {
    /// Different sizes, and the first of two values for each parameter.
    primes: bool,
    /// Inputs that may be either are integers.
    integers: bool,
    axes: Inputs,
}

/// Which axes the inputs of a trial have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inputs {
    /// Those that are declared.
    Declared,
    /// And `batch` and `seq`.
    Usual,
    /// And every other axis that the trial knows.
    Every,
}

/// The problems that every trial has.
fn tried(eval: &mut Eval<'_>, def: &Rc<Def>) -> Vec<Problem> {
    let Some(subject) = Subject::of(def) else { return Vec::new() };
    // A schedule may have fields; the number that is made up in its place has none.
    let text = eval.sources.text(def.span);
    let has_fields = |p: &Param| text.contains(&format!("{}.", p.name.name));
    if def.params.iter().any(|p| p.default.is_none() && has_fields(p)) {
        return Vec::new();
    }
    let setup = |primes, integers, axes| Setup { primes, integers, axes };
    let first = setup(true, false, Inputs::Usual);
    let (found, sizes) = subject.trial(eval, first);
    let mut left: Vec<Problem> =
        found.iter().filter(|p| rule(&p.code).is_some()).cloned().collect();
    let others = [
        setup(true, true, Inputs::Usual),
        setup(false, false, Inputs::Usual),
        setup(false, true, Inputs::Usual),
        setup(true, false, Inputs::Declared),
        setup(true, true, Inputs::Declared),
        setup(true, false, Inputs::Every),
        setup(true, true, Inputs::Every),
    ];
    for other in others {
        let concerns = |p: &Problem| match (other.axes, rule(&p.code)) {
            (Inputs::Usual, _) => true,
            (Inputs::Declared, rule) => rule == Some(Rule::FewerAxes),
            (Inputs::Every, rule) => rule == Some(Rule::MoreAxes),
        };
        if !left.iter().any(concerns) {
            continue;
        }
        let (found, _) = subject.trial(eval, other);
        let again = |p: &Problem| found.iter().any(|q| q.code == p.code && q.span() == p.span());
        left.retain(|p| !concerns(p) || again(p));
    }
    let with: Vec<String> = sizes.iter().map(|(name, n)| format!("`{name}` = {n}")).collect();
    let with = if with.is_empty() { String::new() } else { format!(" with {}", with.join(", ")) };
    let note = format!("nothing uses `{}` yet: it was checked{with}", def.name);
    left.into_iter().map(|p| p.help(note.clone())).collect()
}

/// A definition that can be tried.
struct Subject {
    def: Rc<Def>,
    /// What it takes as tensors.
    inputs: Vec<Param>,
    /// The axes that it names and that get a size.
    axes: Vec<String>,
}

impl Subject {
    /// `None`: what it takes cannot be made up.
    fn of(def: &Rc<Def>) -> Option<Self> {
        let (inputs, settings): (Vec<Param>, &[Param]) = match def.kind {
            DefKind::Fn => {
                let (tensors, rest): (Vec<Param>, Vec<Param>) =
                    def.params.iter().cloned().partition(is_tensor);
                // A function of numbers only is as good as its arguments.
                if tensors.is_empty() || !rest.iter().all(is_setting) {
                    return None;
                }
                (tensors, &[])
            }
            DefKind::Layer | DefKind::Model => {
                (method(def, "forward")?.params.clone(), &def.params)
            }
            DefKind::Loss => match method(def, "of") {
                Some(of) => (of.params.clone(), &def.params),
                None => (def.params.clone(), &[]),
            },
            DefKind::Optimizer | DefKind::Schedule => {
                method(def, if def.kind == DefKind::Optimizer { "update" } else { "at" })?;
                (Vec::new(), &def.params)
            }
            // Rows are not made up.
            DefKind::Law | DefKind::Filter | DefKind::Score => return None,
        };
        if !inputs.iter().all(is_tensor) || !settings.iter().all(is_setting) {
            return None;
        }
        let mut axes: Vec<String> = Vec::new();
        let mut add = |list: &[ast::Axis]| {
            for a in list.iter().filter(|a| a.size.is_none()) {
                let name = &a.name.name;
                if !["batch", "seq"].contains(&name.as_str()) && !axes.contains(name) {
                    axes.push(name.clone());
                }
            }
        };
        add(&def.axes);
        inputs.iter().filter_map(declared_axes).for_each(&mut add);
        if def.kind == DefKind::Model {
            // A model has sizes of its own; its inputs are columns of a batch.
            return axes.is_empty().then(|| Self { def: def.clone(), inputs, axes });
        }
        if let Body::Block(block) = &def.body {
            for item in &block.items {
                if let ItemKind::Weight(decls) | ItemKind::State(decls) = &item.kind {
                    decls.iter().for_each(|d| add(&d.axes));
                }
            }
        }
        // An axis that the definition gives a size is its own: nobody else's tensors have it.
        let own = |name: &String| def.axes.iter().any(|a| a.size.is_some() && a.name.name == *name);
        let taken = inputs.iter().filter_map(declared_axes).flatten();
        if taken.map(|a| &a.name.name).any(own) {
            return None;
        }
        axes.retain(|name| !own(name));
        Some(Self { def: def.clone(), inputs, axes })
    }

    /// The problems of one trial, and the sizes that it had. Nothing of it stays in the evaluator.
    fn trial(&self, eval: &mut Eval<'_>, setup: Setup) -> (Vec<Problem>, IndexMap<String, usize>) {
        let mut sizes: IndexMap<String, usize> = IndexMap::new();
        for (i, name) in self.axes.iter().enumerate() {
            sizes.insert(name.clone(), size(setup, i));
        }
        for _ in 0..MAX_NAMES {
            let found = self.problems(eval, setup, &sizes);
            let missing = found.iter().filter_map(missing_name);
            let Some(name) = missing.into_iter().find(|name| !sizes.contains_key(name)) else {
                return (found, sizes);
            };
            sizes.insert(name, size(setup, sizes.len()));
        }
        (Vec::new(), sizes)
    }

    fn problems(
        &self,
        eval: &mut Eval<'_>,
        setup: Setup,
        sizes: &IndexMap<String, usize>,
    ) -> Vec<Problem> {
        let before = std::mem::take(&mut eval.problems);
        let asks = eval.asks.clone();
        let (memo, specs, points) = (eval.memo.len(), eval.specs.len(), eval.points.len());
        let (steps, reached) = (eval.steps, eval.reached.clone());
        eval.steps = steps.max(MAX_STEPS - TRIAL_STEPS);
        let mut trace = Trace::new(Mode::Eval, DType::F32);
        let usual =
            if setup.primes { [("batch", 3), ("seq", 5)] } else { [("batch", 4), ("seq", 4)] };
        let all = sizes.iter().map(|(name, n)| (name.as_str(), *n));
        for (name, size) in usual.into_iter().chain(all) {
            let axis = Axis { name: Name::from(name), size };
            trace.axes.insert(name.to_owned(), BoundAxis { axis, origin: None });
        }
        eval.trace = Some(Box::new(trace));
        self.run(eval, setup);
        eval.trace = None;
        eval.memo.truncate(memo);
        eval.specs.truncate(specs);
        eval.points.truncate(points);
        eval.asks = asks;
        (eval.steps, eval.reached) = (steps, reached);
        let found: Problems = std::mem::replace(&mut eval.problems, before);
        found.iter().cloned().collect()
    }

    fn run(&self, eval: &mut Eval<'_>, setup: Setup) {
        let def = &self.def;
        let span = def.span;
        let is_input = |p: &Param| self.inputs.iter().any(|i| i.name.name == p.name.name);
        let mut args = Args::default();
        for p in def.params.iter().filter(|p| p.default.is_none() && !is_input(p)) {
            let Some(value) = made_up(p, setup.primes) else { return };
            args.named.insert(p.name.name.clone(), (value, p.name.span));
        }
        let tensors: Vec<Value> = self.inputs.iter().map(|p| input(eval, p, setup)).collect();
        match def.kind {
            DefKind::Fn => {
                for (p, v) in self.inputs.iter().zip(tensors) {
                    args.named.insert(p.name.name.clone(), (v, p.name.span));
                }
                eval.run(&def.scope, def, &[], args, span);
            }
            DefKind::Layer | DefKind::Model => {
                let frame = def.scope.inner();
                let Some(args) = eval.bind(def, args, span, &frame) else { return };
                let form = LayerForm::Plain {
                    def: def.clone(),
                    args,
                    brackets: Vec::new(),
                    overrides: Record::default(),
                };
                let layer = LayerValue { form, span };
                if let Some(placed) = eval.place(&layer, "", &[], &def.scope.inner()) {
                    eval.call_placed(&placed, tensors, span);
                }
            }
            DefKind::Loss => {
                let Some((frame, _)) = self.frame(eval, args) else { return };
                for (p, v) in self.inputs.iter().zip(tensors) {
                    frame.bind(&p.name.name, v);
                }
                let body = method(def, "of").map_or(&def.body, |of| &of.body);
                eval.body(&frame, body);
            }
            DefKind::Optimizer => {
                let Some((_, program)) = self.frame(eval, args) else { return };
                let update = method(def, "update").map_or(0, |update| update.axes.len());
                let rank = def.axes.len().max(update).max(2);
                let shape = (0..rank).map(|i| size(setup, i)).collect();
                let w = Given { name: "w".to_owned(), shape, integer: false };
                eval.apply_optimizer_step(&Value::Program(program), def, &[w]);
            }
            DefKind::Schedule => {
                let Some((_, program)) = self.frame(eval, args) else { return };
                let t = eval.t().b().constant(1.0);
                let t = eval.wrap(t);
                eval.schedule_at(&program, t, span);
            }
            DefKind::Law | DefKind::Filter | DefKind::Score => {}
        }
    }

    /// A frame with settings, and the program that has them.
    fn frame(&self, eval: &mut Eval<'_>, args: Args) -> Option<(Scope, Rc<Program>)> {
        let def = &self.def;
        if def.kind == DefKind::Loss && method(def, "of").is_none() {
            let program = Program { def: def.clone(), args: Record::default(), span: def.span };
            return Some((def.scope.inner(), Rc::new(program)));
        }
        let args = eval.bind(def, args, def.span, &def.scope.inner())?;
        let program = Rc::new(Program { def: def.clone(), args, span: def.span });
        Some((eval.program_frame(&program), program))
    }
}

fn size(setup: Setup, i: usize) -> usize {
    if setup.primes { PRIMES[i % PRIMES.len()] } else { ALIKE }
}

/// The name that may be an axis of some model, in "no axis `x`" and "`x` is not known here".
fn missing_name(p: &Problem) -> Option<String> {
    if !["E0201", "E0402"].contains(&p.code.as_str()) {
        return None;
    }
    p.message.split('`').nth(1).map(str::to_owned)
}

/// The axes of a tensor's declaration: `[d]`, `[seq] Id[vocab]`; of `Id[vocab]` none.
fn declared_axes(p: &Param) -> Option<&[ast::Axis]> {
    match p.ty.as_ref().map(|ty| &ty.kind)? {
        // Types begin with a capital letter: `[Float, Float]` is a list.
        TypeKind::Tensor { axes, .. } => {
            let is_type = |a: &ast::Axis| a.name.name.starts_with(char::is_uppercase);
            let twice = |i: usize| axes[..i].iter().any(|a| a.name.name == axes[i].name.name);
            let plain = !axes.iter().any(is_type) && !(0..axes.len()).any(twice);
            plain.then_some(axes.as_slice())
        }
        TypeKind::Named { .. } => is_named(p.ty.as_ref()?, "Id").then_some(&[][..]),
        TypeKind::Range { .. } | TypeKind::Record(_) => None,
    }
}

fn is_named(ty: &ast::Type, name: &str) -> bool {
    matches!(&ty.kind, TypeKind::Named { path, .. } if matches!(path.as_slice(), [id] if id.name == name))
}

fn is_tensor(p: &Param) -> bool {
    declared_axes(p).is_some()
}

/// True if a parameter has a default or can get a value.
fn is_setting(p: &Param) -> bool {
    p.default.is_some() || made_up(p, true).is_some()
}

/// One of two values for a parameter.
fn made_up(p: &Param, first: bool) -> Option<Value> {
    let TypeKind::Named { path, .. } = &p.ty.as_ref()?.kind else { return None };
    let [id] = path.as_slice() else { return None };
    let number = |a: f64, b: f64| Value::Number(Quantity::plain(if first { a } else { b }));
    match id.name.as_str() {
        "Float" | "Schedule" => Some(number(0.5, 2.0)),
        "Share" => Some(number(0.1, 0.5)),
        "Rate" => Some(number(0.5, 2.0)),
        "Int" => Some(number(2.0, 4.0)),
        "Bool" => Some(Value::Bool(first)),
        _ => None,
    }
}

/// A tensor for a parameter.
fn input(eval: &mut Eval<'_>, p: &Param, setup: Setup) -> Value {
    let all: Vec<Axis> = eval.t().axes.values().map(|bound| bound.axis.clone()).collect();
    let declared = declared_axes(p).unwrap_or_default();
    let own: Vec<&str> = declared.iter().map(|a| a.name.name.as_str()).collect();
    let usual = ["batch", "seq"];
    let mut axes: Vec<Axis> = match setup.axes {
        Inputs::Declared => Vec::new(),
        Inputs::Usual => all.iter().filter(|a| usual.contains(&a.name.as_str())).cloned().collect(),
        Inputs::Every => all.clone(),
    };
    axes.retain(|a| !own.contains(&a.name.as_str()));
    for name in own {
        axes.extend(all.iter().find(|a| a.name == name).cloned());
    }
    let is_id = match p.ty.as_ref().map(|ty| &ty.kind) {
        Some(TypeKind::Tensor { element, .. }) => {
            element.as_ref().is_some_and(|e| is_named(e, "Id"))
        }
        _ => p.ty.as_ref().is_some_and(|ty| is_named(ty, "Id")),
    };
    let dtype = if is_id || setup.integers { DType::I32 } else { DType::F32 };
    let node = eval.t().b().input(p.name.name.as_str(), Type::new(dtype, axes), Role::Data);
    eval.wrap(node)
}
