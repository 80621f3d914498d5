//! The Plan: buffers and ordered steps; what a device executes.
//!
//! # What a plan means
//! A plan is executed against a *store*: named external memories (weights, moments, batch columns, outputs) that live
//! between executions, and one arena that lives during one. Steps run in order; a `Loop` runs its body `count` times, and every
//! [`View`] in it advances with the loop counter: scans over layers and micro-batches are loops, so a plan's size does not grow with
//! depth. Host scalars are computed in f64 from the runtime scalars before the first step and handed to kernels as parameters.
//!
//! Two views that overlap are used only in ways that the kernel's [`Access`](crate::kernel::Access) allows. The verifier proves
//! that every read follows a write and that every view stays inside its buffer for every loop counter.

#![allow(missing_docs, reason = "the sentence of a variant names its fields")]

pub mod interp;
pub mod memory;
pub mod print;
pub mod share;
pub mod verify;

use serde::{Deserialize, Serialize};

use crate::kernel::Kernel;
use crate::name::Name;
use crate::scalar::{DType, Expr};

/// A program for a device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Memories.
    pub buffers: Vec<Buffer>,
    /// Bytes of the arena; buffers placed in it may share memory where their lifetimes do not overlap.
    pub arena_bytes: usize,
    /// Distinct kernels.
    pub kernels: Vec<Kernel>,
    /// Host scalars in order; `Expr::Arg(i)` is an earlier host scalar. Evaluated in f64.
    pub host: Vec<Expr>,
    /// What is done.
    pub steps: Vec<Step>,
    /// Bytes by class at the moment of the peak (arena), and of the external buffers.
    pub memory: Vec<(Class, usize)>,
}

/// One memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Buffer {
    /// For people: the storage name, or the path and op of the node that it holds.
    pub name: Name,
    /// Size.
    pub bytes: usize,
    /// What it is for.
    pub class: Class,
    /// Where it is.
    pub place: Place,
}

/// Where a buffer is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// At a byte offset of the arena (aligned to 64).
    Arena { offset: usize },
    /// In the store, under this name (an input's or an output's storage name), row-major in the order of the declared axes.
    External { storage: Name, io: Io },
}

/// Which way an external buffer is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Io {
    /// Read only.
    Input,
    /// Written only.
    Output,
    /// Donated: read and replaced.
    Updated,
}

/// What memory is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Trained parameters.
    Weights,
    /// Their gradients.
    Gradients,
    /// Optimizer and layer state, caches.
    State,
    /// Values kept or passed between nodes.
    Activations,
    /// Columns of the batch.
    Data,
    /// Results.
    Outputs,
}

/// Part of a buffer, possibly moving with the loops around it. Kernel operand strides apply from here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Index in [`Plan::buffers`].
    pub buffer: u32,
    /// First byte.
    pub offset: usize,
    /// How it moves.
    pub advances: Vec<Advance>,
}

/// `stride_bytes * ((counter + shift) mod modulus)` is added, where `counter` is the coordinate along the loop's axis (it descends in
/// reversed loops); no modulus: plain. A modulus of 2 is double buffering of a carry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advance {
    /// Which loop around the step.
    pub loop_id: u32,
    /// Bytes per count.
    pub stride_bytes: i64,
    /// Added to the counter.
    pub shift: i64,
    /// See above.
    pub modulus: Option<i64>,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Runs a kernel.
    Launch(Launch),
    /// Runs the body for every coordinate `0..count`, descending if `reverse`.
    Loop { id: u32, count: usize, reverse: bool, body: Vec<Step> },
    /// Copies bytes between views that do not overlap.
    Copy { from: View, to: View, bytes: usize },
    /// Zeroes bytes.
    Zero { view: View, bytes: usize },
}

/// A kernel bound to memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Launch {
    /// Index in [`Plan::kernels`].
    pub kernel: u32,
    /// One view per operand, in the kernel's order.
    pub views: Vec<View>,
    /// One host scalar per kernel parameter; converted to the parameter's dtype.
    pub params: Vec<u32>,
    /// The layer path and op it came from, for profiles, for `plan --kernels`, and for saying where a NaN began.
    pub origin: Name,
    /// Floating-point operations of contractions in it, as executed.
    pub flops: u64,
    /// Bytes read and written, each operand once.
    pub bytes: u64,
}

/// What a target can do, as far as lowering asks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// `cpu` or `cuda`; part of the kernel cache key.
    pub name: String,
    /// How many ranges a [`ColReduce`](crate::kernel::ColReduce) is cut into at most; fixed per target, so sums do not depend on the threads.
    pub reduce_chunks: usize,
    /// The dtype of parameters in kernels is always f32 or i32; kept for targets with native 16-bit arithmetic.
    pub compute: DType,
    /// Logits of more bytes are computed row by row; see [`blocks`](crate::graph::blocks).
    pub block: usize,
    /// Positions of a micro-batch that keep the machine busy: a step of more is cut.
    pub positions: usize,
}

impl Target {
    /// The CPU backend.
    pub fn cpu() -> Self {
        Self {
            name: "cpu".into(),
            reduce_chunks: 16,
            compute: DType::F32,
            // What caches hold, while products are still large.
            block: 16 << 20,
            positions: 16 << 10,
        }
    }

    /// The CUDA backend.
    pub fn cuda() -> Self {
        // Products of fewer rows would not fill a large GPU.
        Self { name: "cuda".into(), block: 512 << 20, positions: 64 << 10, ..Self::cpu() }
    }
}
