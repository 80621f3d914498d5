//! Owned memory: blocks of bytes, aligned to a cache line, zeroed when made, seen as typed slices.
//!
//! Promises: every view is inside its block and aligned for its type; the block's address does not change while it lives.

use memmap2::MmapMut;

use crate::error::DeviceError;

/// Bytes of a cache line; every block begins at a multiple.
pub(crate) const ALIGN: usize = 64;

#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Line([u8; ALIGN]);

/// From so many bytes on a block is made of fresh pages: they are zero without being written, and large ones where the system has them, which
/// saves the processor looking up many small ones.
const PAGES: usize = 1 << 20;

/// Zeroed memory of a fixed size.
pub struct Block {
    memory: Held,
    bytes: usize,
}

enum Held {
    Lines(Vec<Line>),
    Pages(MmapMut),
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
        let full = || DeviceError::OutOfMemory { what: what.to_owned(), bytes };
        if bytes >= PAGES {
            let pages = MmapMut::map_anon(bytes).map_err(|_| full())?;
            // Only a matter of speed: a system without large pages says no.
            #[cfg(target_os = "linux")]
            pages.advise(memmap2::Advice::HugePage).ok();
            return Ok(Self { memory: Held::Pages(pages), bytes });
        }
        let count = bytes.div_ceil(ALIGN);
        let mut lines = Vec::new();
        lines.try_reserve_exact(count).map_err(|_| full())?;
        lines.resize(count, Line([0; ALIGN]));
        Ok(Self { memory: Held::Lines(lines), bytes })
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
        match &mut self.memory {
            Held::Lines(lines) => lines.as_mut_ptr().cast(),
            Held::Pages(pages) => pages.as_mut_ptr(),
        }
    }

    pub(crate) fn typed<T: Plain>(&self) -> &[T] {
        let at: *const u8 = match &self.memory {
            Held::Lines(lines) => lines.as_ptr().cast(),
            Held::Pages(pages) => pages.as_ptr(),
        };
        // SAFETY: there are at least `bytes` initialised bytes, aligned to 64; every bit pattern is a `Plain` value.
        unsafe { std::slice::from_raw_parts(at.cast(), self.bytes / size_of::<T>()) }
    }

    pub(crate) fn typed_mut<T: Plain>(&mut self) -> &mut [T] {
        let count = self.bytes / size_of::<T>();
        // SAFETY: as in `typed`; the exclusive borrow of `self` makes the slice the only way to the memory.
        unsafe { std::slice::from_raw_parts_mut(self.address().cast(), count) }
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
        let mut large = Block::zeroed(PAGES + 4, "test").expect("a megabyte");
        assert_eq!(large.address() as usize % ALIGN, 0);
        assert!(large.typed::<i32>().iter().all(|v| *v == 0));
        large.typed_mut::<i32>()[PAGES / 4] = 7;
        assert_eq!(large.bytes()[PAGES], 7);
        assert!(Block::zeroed(0, "nothing").expect("no bytes").is_empty());
    }
}

/// Memory that is not in this machine's address space, or not to be touched by it: a GPU's.
pub(crate) trait Remote: std::fmt::Debug + Send + Sync {
    /// Where it is, for the device.
    fn address(&self) -> *mut u8;
    /// How many bytes it has.
    fn len(&self) -> usize;
    /// Replaces its first bytes; done in order with the device's work.
    fn write(&self, bytes: &[u8]) -> Result<(), DeviceError>;
    /// Reads its first bytes after all work before.
    fn read(&self, to: &mut [u8]) -> Result<(), DeviceError>;
}

/// What a device allocates.
#[derive(Debug)]
#[allow(private_interfaces, reason = "only this crate makes and opens it")]
pub enum Memory {
    /// This machine's own.
    Host(Block),
    /// The device's own.
    Remote(Box<dyn Remote>),
}

impl Memory {
    pub(crate) fn address(&mut self) -> *mut u8 {
        match self {
            Self::Host(block) => block.address(),
            Self::Remote(memory) => memory.address(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Host(block) => block.len(),
            Self::Remote(memory) => memory.len(),
        }
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), DeviceError> {
        match self {
            Self::Host(block) => {
                block.bytes_mut()[..bytes.len()].copy_from_slice(bytes);
                Ok(())
            }
            Self::Remote(memory) => memory.write(bytes),
        }
    }
}
