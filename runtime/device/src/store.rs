//! The store: named memories that live between executions (weights, moments, batch columns, results).
//!
//! A [`Store`] is made from declarations; a plan finds its external buffers in it by storage name. Values are row-major
//! in the order of the declared axes; floats are read and written as f32 whatever they are stored as.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use cs336_compiler::name::Name;
use cs336_compiler::scalar::DType;
use half::{bf16, f16};

use crate::error::DeviceError;
use crate::memory::{Block, Memory, Remote};
use crate::{Device, Span};

/// Named memories.
#[derive(Debug, Default)]
pub struct Store {
    entries: BTreeMap<Name, Entry>,
}

/// A memory, and its copy on a device that does not work on this machine's memory.
#[derive(Debug)]
struct Entry {
    dtype: DType,
    block: Block,
    remote: Option<Box<dyn Remote>>,
    /// The copy there is not older.
    sent: bool,
    /// Some: the copy there is newer; in it, what was fetched of it.
    fetched: Option<OnceLock<Block>>,
}

impl Entry {
    /// The bytes here, fetched first if the device has changed them.
    fn here(&self) -> Result<&Block, DeviceError> {
        let (Some(fetched), Some(remote)) = (&self.fetched, &self.remote) else {
            return Ok(&self.block);
        };
        if let Some(block) = fetched.get() {
            return Ok(block);
        }
        let mut block = Block::zeroed(self.block.len(), "what is read from the GPU")?;
        remote.read(block.bytes_mut())?;
        Ok(fetched.get_or_init(|| block))
    }

    /// The bytes here, to be changed.
    fn here_mut(&mut self) -> Result<&mut Block, DeviceError> {
        self.here()?;
        if let Some(block) = self.fetched.take().and_then(OnceLock::into_inner) {
            self.block = block;
        }
        self.sent = false;
        Ok(&mut self.block)
    }
}

impl Store {
    /// Without any memory.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a zeroed memory of `elements` elements, or keeps the one that is there with equal type and size.
    pub fn declare(
        &mut self,
        name: &Name,
        dtype: DType,
        elements: usize,
    ) -> Result<(), DeviceError> {
        let bytes = elements * dtype.bytes();
        if self.entries.get(name).is_some_and(|e| e.dtype == dtype && e.block.len() == bytes) {
            return Ok(());
        }
        let block = Block::zeroed(bytes, &format!("`{name}`"))?;
        let entry = Entry { dtype, block, remote: None, sent: false, fetched: None };
        self.entries.insert(name.clone(), entry);
        Ok(())
    }

    /// Drops a memory.
    pub fn remove(&mut self, name: &Name) {
        self.entries.remove(name);
    }

    /// True if the name is known.
    pub fn contains(&self, name: &Name) -> bool {
        self.entries.contains_key(name)
    }

    /// Names with their types and numbers of elements, in order of names.
    pub fn entries(&self) -> impl Iterator<Item = (&Name, DType, usize)> {
        self.entries.iter().map(|(n, e)| (n, e.dtype, e.block.len() / e.dtype.bytes()))
    }

    /// The element type of a memory.
    pub fn dtype(&self, name: &Name) -> Result<DType, DeviceError> {
        Ok(self.entry(name)?.dtype)
    }

    /// The bytes as they are stored.
    pub fn bytes(&self, name: &Name) -> Result<&[u8], DeviceError> {
        Ok(self.entry(name)?.here()?.bytes())
    }

    /// The bytes as they are stored, to be changed.
    pub fn bytes_mut(&mut self, name: &Name) -> Result<&mut [u8], DeviceError> {
        Ok(self.entry_mut(name)?.here_mut()?.bytes_mut())
    }

    /// An f32 memory.
    pub fn f32s(&self, name: &Name) -> Result<&[f32], DeviceError> {
        let entry = self.entry(name)?;
        match entry.dtype {
            DType::F32 => Ok(entry.here()?.typed()),
            d @ (DType::Bf16 | DType::F16 | DType::I32 | DType::Bool) => {
                Err(DeviceError::wrong_type(name, d, "f32"))
            }
        }
    }

    /// An f32 memory, to be changed.
    pub fn f32s_mut(&mut self, name: &Name) -> Result<&mut [f32], DeviceError> {
        let entry = self.entry_mut(name)?;
        match entry.dtype {
            DType::F32 => Ok(entry.here_mut()?.typed_mut()),
            d @ (DType::Bf16 | DType::F16 | DType::I32 | DType::Bool) => {
                Err(DeviceError::wrong_type(name, d, "f32"))
            }
        }
    }

    /// An i32 memory.
    pub fn i32s(&self, name: &Name) -> Result<&[i32], DeviceError> {
        let entry = self.entry(name)?;
        match entry.dtype {
            DType::I32 => Ok(entry.here()?.typed()),
            d @ (DType::F32 | DType::Bf16 | DType::F16 | DType::Bool) => {
                Err(DeviceError::wrong_type(name, d, "i32"))
            }
        }
    }

    /// An i32 memory, to be changed.
    pub fn i32s_mut(&mut self, name: &Name) -> Result<&mut [i32], DeviceError> {
        let entry = self.entry_mut(name)?;
        match entry.dtype {
            DType::I32 => Ok(entry.here_mut()?.typed_mut()),
            d @ (DType::F32 | DType::Bf16 | DType::F16 | DType::Bool) => {
                Err(DeviceError::wrong_type(name, d, "i32"))
            }
        }
    }

    /// Any memory as f32 numbers (booleans 0 and 1).
    pub fn floats(&self, name: &Name) -> Result<Vec<f32>, DeviceError> {
        let entry = self.entry(name)?;
        let block = entry.here()?;
        Ok(match entry.dtype {
            DType::F32 => block.typed::<f32>().to_vec(),
            DType::Bf16 => {
                block.typed::<u16>().iter().map(|b| bf16::from_bits(*b).to_f32()).collect()
            }
            DType::F16 => {
                block.typed::<u16>().iter().map(|b| f16::from_bits(*b).to_f32()).collect()
            }
            DType::I32 => block.typed::<i32>().iter().map(|v| *v as f32).collect(),
            DType::Bool => block.bytes().iter().map(|b| f32::from(*b)).collect(),
        })
    }

    /// Fills a memory with numbers, rounded to its type.
    pub fn set_floats(&mut self, name: &Name, values: &[f32]) -> Result<(), DeviceError> {
        let entry = self.sized(name, values.len())?;
        let dtype = entry.dtype;
        let block = entry.here_mut()?;
        match dtype {
            DType::F32 => block.typed_mut::<f32>().copy_from_slice(values),
            DType::Bf16 => fill(block.typed_mut(), values, |v| bf16::from_f32(v).to_bits()),
            DType::F16 => fill(block.typed_mut(), values, |v| f16::from_f32(v).to_bits()),
            DType::I32 => fill(block.typed_mut(), values, |v| v as i32),
            DType::Bool => fill(block.typed_mut(), values, |v| u8::from(v != 0.0)),
        }
        Ok(())
    }

    /// Fills an i32 memory.
    pub fn set_i32s(&mut self, name: &Name, values: &[i32]) -> Result<(), DeviceError> {
        self.sized(name, values.len())?;
        self.i32s_mut(name)?.copy_from_slice(values);
        Ok(())
    }

    /// Fills a memory with bytes as they are stored.
    pub fn set_bytes(&mut self, name: &Name, bytes: &[u8]) -> Result<(), DeviceError> {
        let to = self.bytes_mut(name)?;
        if to.len() != bytes.len() {
            let (found, expected) = (bytes.len(), to.len());
            return Err(DeviceError::WrongSize { name: name.clone(), found, expected });
        }
        to.copy_from_slice(bytes);
        Ok(())
    }

    /// Bytes of a memory.
    pub(crate) fn size(&self, name: &Name) -> Result<usize, DeviceError> {
        Ok(self.entry(name)?.block.len())
    }

    /// The whole of a memory as a device sees it, up to date there. `changed`: the device will change it.
    pub(crate) fn span<D: Device>(
        &mut self,
        name: &Name,
        device: &D,
        changed: bool,
    ) -> Result<Span, DeviceError> {
        let entry = self.entry_mut(name)?;
        let bytes = entry.block.len();
        if device.is_host() {
            let address = entry.here_mut()?.address();
            return Ok(Span { address, before: 0, after: bytes });
        }
        if entry.remote.is_none()
            && let Memory::Remote(made) = device.alloc(bytes, &format!("`{name}`"))?
        {
            entry.remote = Some(made);
        }
        let Some(remote) = &entry.remote else {
            return Err(DeviceError::Malformed("a device without memory".into()));
        };
        if !entry.sent {
            remote.write(entry.block.bytes())?;
            entry.sent = true;
        }
        if changed {
            entry.fetched = Some(OnceLock::new());
        }
        let address = remote.address();
        Ok(Span { address, before: 0, after: bytes })
    }

    fn sized(&mut self, name: &Name, elements: usize) -> Result<&mut Entry, DeviceError> {
        let entry = self.entry_mut(name)?;
        let (found, expected) = (elements * entry.dtype.bytes(), entry.block.len());
        if found != expected {
            return Err(DeviceError::WrongSize { name: name.clone(), found, expected });
        }
        Ok(entry)
    }

    fn entry(&self, name: &Name) -> Result<&Entry, DeviceError> {
        self.entries.get(name).ok_or_else(|| DeviceError::MissingStorage(name.clone()))
    }

    fn entry_mut(&mut self, name: &Name) -> Result<&mut Entry, DeviceError> {
        self.entries.get_mut(name).ok_or_else(|| DeviceError::MissingStorage(name.clone()))
    }
}

fn fill<T>(to: &mut [T], values: &[f32], f: impl Fn(f32) -> T) {
    for (t, v) in to.iter_mut().zip(values) {
        *t = f(*v);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_round_trip_in_every_type() {
        let mut store = Store::new();
        for dtype in [DType::F32, DType::Bf16, DType::F16, DType::I32, DType::Bool] {
            let name = Name::from(dtype.name());
            store.declare(&name, dtype, 3).expect("memory");
            store.set_floats(&name, &[0.0, 1.0, 1.0]).expect("three numbers");
            assert_eq!(store.floats(&name).expect("known"), [0.0, 1.0, 1.0]);
        }
        let wrong = store.set_floats(&"f32".into(), &[1.0]).expect_err("one number for three");
        assert_eq!(wrong.code(), "E0802");
        assert_eq!(store.f32s(&"bf16".into()).expect_err("not f32").code(), "E0803");
        assert_eq!(store.bytes(&"w".into()).expect_err("unknown").code(), "E0801");
    }
}
