//! Owned memory: blocks of bytes, aligned to a cache line, zeroed when made, seen as typed slices.
//!
//! Promises: every view is inside its block and aligned for its type; the block's address does not change while it lives.

use crate::error::DeviceError;

/// Bytes of a cache line; every block begins at a multiple.
pub(crate) const ALIGN: usize = 64;

#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Line([u8; ALIGN]);

/// Zeroed memory of a fixed size.
pub struct Block {
    lines: Vec<Line>,
    bytes: usize,
}

impl std::fmt::Debug for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Block({} bytes)", self.bytes)
    }
}

/// The plain number types that memory may be seen as. Sealed by being crate-private.
pub(crate) trait Plain: Copy {}
impl Plain for u8 {}
impl Plain for u16 {}
impl Plain for i32 {}
impl Plain for f32 {}

impl Block {
    /// `bytes` zeroes. `what` names the use in the error.
    pub fn zeroed(bytes: usize, what: &str) -> Result<Self, DeviceError> {
        let count = bytes.div_ceil(ALIGN);
        let mut lines = Vec::new();
        lines
            .try_reserve_exact(count)
            .map_err(|_| DeviceError::OutOfMemory { what: what.to_owned(), bytes })?;
        lines.resize(count, Line([0; ALIGN]));
        Ok(Self { lines, bytes })
    }

    /// How many bytes it has.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// True if it has none.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// All bytes.
    pub fn bytes(&self) -> &[u8] {
        self.typed::<u8>()
    }

    /// All bytes, to be changed.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.typed_mut::<u8>()
    }

    pub(crate) fn address(&mut self) -> *mut u8 {
        self.lines.as_mut_ptr().cast()
    }

    pub(crate) fn typed<T: Plain>(&self) -> &[T] {
        // SAFETY: `lines` holds at least `bytes` initialised bytes, aligned to 64; every bit pattern is a `Plain` value.
        unsafe {
            std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.bytes / size_of::<T>())
        }
    }

    pub(crate) fn typed_mut<T: Plain>(&mut self) -> &mut [T] {
        let count = self.bytes / size_of::<T>();
        // SAFETY: as in `typed`; the exclusive borrow of `self` makes the slice the only way to the memory.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), count) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_zeroed_aligned_and_typed() {
        let mut b = Block::zeroed(12, "test").expect("12 bytes");
        assert_eq!(b.address() as usize % ALIGN, 0);
        b.typed_mut::<f32>().copy_from_slice(&[1.0, 2.0, 3.0]);
        assert_eq!(b.typed::<i32>()[0], 0x3f80_0000);
        assert_eq!(b.len(), 12);
        assert!(Block::zeroed(0, "nothing").expect("no bytes").is_empty());
    }
}
