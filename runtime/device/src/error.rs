//! What can go wrong between a plan and this machine. Every variant names the kernel, storage or file that it is about
//! and has a stable code (E08xx).

#![allow(missing_docs, reason = "the sentence of a variant names its fields")]

use cs336_compiler::name::Name;
use cs336_compiler::scalar::DType;

/// A failure of the machine side.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum DeviceError {
    /// The plan asks for a storage that the store lacks.
    #[error("E0801: there is no storage `{0}`, which the plan reads or writes")]
    MissingStorage(Name),
    /// A storage has another size than the plan expects.
    #[error("E0802: storage `{name}` has {found} bytes; the plan expects {expected}")]
    WrongSize { name: Name, found: usize, expected: usize },
    /// A storage is read as another type than it was declared with.
    #[error("E0803: storage `{name}` holds {found}, not {expected}")]
    WrongType { name: Name, found: &'static str, expected: &'static str },
    /// There is not enough memory for a buffer.
    #[error("E0804: {bytes} bytes of memory for {what} could not be had")]
    OutOfMemory { what: String, bytes: usize },
    /// A kernel could not be turned into machine code.
    #[error("E0805: a kernel could not be compiled for this machine ({kernel}): {reason}")]
    Compile { kernel: String, reason: String },
    /// An operand of a launch reaches outside its buffer.
    #[error("E0806: operand {operand} of `{origin}` reaches outside its buffer by {by} bytes")]
    OutOfBounds { origin: String, operand: usize, by: i64 },
    /// The first step that produced a value that is not a finite number.
    #[error("E0807: `{origin}` produced {what}")]
    NotFinite { origin: Name, what: String },
    /// A file could not be mapped.
    #[error("E0808: {path}: {reason}")]
    File { path: String, reason: String },
    /// A GPU was asked for, and CUDA or the GPU is not there.
    #[error("E0810: {what} was not found in {looked}; it comes with {source_of_it}")]
    NoCuda { what: String, looked: String, source_of_it: String },
    /// The driver or the GPU is too old.
    #[error("E0811: {what}; {needed} is needed")]
    OldCuda { what: String, needed: String },
    /// A call of CUDA failed.
    #[error("E0812: {what} failed: {reason}")]
    Cuda { what: String, reason: String },
    /// The plan contradicts itself (our fault, not the program's).
    #[error("E0809: the plan is not well formed: {0}")]
    Malformed(String),
}

impl DeviceError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::MissingStorage(_) => "E0801",
            Self::WrongSize { .. } => "E0802",
            Self::WrongType { .. } => "E0803",
            Self::OutOfMemory { .. } => "E0804",
            Self::Compile { .. } => "E0805",
            Self::OutOfBounds { .. } => "E0806",
            Self::NotFinite { .. } => "E0807",
            Self::File { .. } => "E0808",
            Self::Malformed(_) => "E0809",
            Self::NoCuda { .. } => "E0810",
            Self::OldCuda { .. } => "E0811",
            Self::Cuda { .. } => "E0812",
        }
    }

    pub(crate) fn wrong_type(name: &Name, found: DType, expected: &'static str) -> Self {
        Self::WrongType { name: name.clone(), found: found.name(), expected }
    }
}
