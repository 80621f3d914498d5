//! Typed reading and writing of single elements at strided places: what the kernels without compiled bodies use.

use cs336_compiler::kernel::Operand;
use cs336_compiler::scalar::DType;
use half::{bf16, f16};

/// An operand bound to memory, with the extents of the kernel's axes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'k> {
    /// Address of the element at coordinates 0.
    address: *mut u8,
    /// Element type.
    pub(crate) dtype: DType,
    /// Strides in elements.
    pub(crate) strides: &'k [i64],
}

// SAFETY: a view is an address with a type; who reads or writes through it states why that is sound.
unsafe impl Send for View<'_> {}
// SAFETY: as above.
unsafe impl Sync for View<'_> {}

impl<'k> View<'k> {
    /// `address` is where coordinates 0 are (offsets already added).
    pub(crate) fn new(operand: &'k Operand, address: *mut u8) -> Self {
        Self { address, dtype: operand.dtype, strides: &operand.strides }
    }

    /// Address of an element, by its distance in elements from coordinates 0.
    pub(crate) fn at(&self, element: i64) -> *mut u8 {
        self.address.wrapping_offset(element as isize * self.dtype.bytes() as isize)
    }

    /// The element as f32.
    ///
    /// # Safety
    /// The element is inside the operand's extents, which the launch has checked, and nobody writes it meanwhile.
    pub(crate) unsafe fn get(&self, element: i64) -> f32 {
        let p = self.at(element);
        match self.dtype {
            DType::F32 => {
                // SAFETY: passed on to the caller; f32 operands are aligned to 4 (buffers to 64, strides are whole elements).
                unsafe { p.cast::<f32>().read() }
            }
            DType::Bf16 => {
                // SAFETY: as above, aligned to 2.
                bf16::from_bits(unsafe { p.cast::<u16>().read() }).to_f32()
            }
            DType::F16 => {
                // SAFETY: as above.
                f16::from_bits(unsafe { p.cast::<u16>().read() }).to_f32()
            }
            DType::I32 => {
                // SAFETY: as above, aligned to 4.
                (unsafe { p.cast::<i32>().read() }) as f32
            }
            DType::Bool => {
                // SAFETY: as above; one byte.
                f32::from(unsafe { p.read() })
            }
        }
    }

    /// The element of an i32 or bool operand, exactly.
    ///
    /// # Safety
    /// As [`get`](Self::get).
    pub(crate) unsafe fn get_int(&self, element: i64) -> i32 {
        match self.dtype {
            DType::I32 => {
                // SAFETY: passed on to the caller.
                unsafe { self.at(element).cast::<i32>().read() }
            }
            DType::F32 | DType::Bf16 | DType::F16 | DType::Bool => {
                // SAFETY: passed on to the caller.
                (unsafe { self.get(element) }) as i32
            }
        }
    }

    /// Writes an element, rounded to its type.
    ///
    /// # Safety
    /// As [`get`](Self::get), the operand may be written, and nobody else uses the element meanwhile.
    pub(crate) unsafe fn set(&self, element: i64, value: f32) {
        let p = self.at(element);
        match self.dtype {
            DType::F32 => {
                // SAFETY: passed on to the caller.
                unsafe { p.cast::<f32>().write(value) }
            }
            DType::Bf16 => {
                let bits = bf16::from_f32(value).to_bits();
                // SAFETY: passed on to the caller.
                unsafe { p.cast::<u16>().write(bits) }
            }
            DType::F16 => {
                let bits = f16::from_f32(value).to_bits();
                // SAFETY: passed on to the caller.
                unsafe { p.cast::<u16>().write(bits) }
            }
            DType::I32 => {
                // SAFETY: passed on to the caller.
                unsafe { p.cast::<i32>().write(value as i32) }
            }
            DType::Bool => {
                // SAFETY: passed on to the caller.
                unsafe { p.write(u8::from(value != 0.0)) }
            }
        }
    }

    /// Writes an integer exactly.
    ///
    /// # Safety
    /// As [`set`](Self::set).
    pub(crate) unsafe fn set_int(&self, element: i64, value: i32) {
        match self.dtype {
            DType::I32 => {
                // SAFETY: passed on to the caller.
                unsafe { self.at(element).cast::<i32>().write(value) }
            }
            DType::F32 | DType::Bf16 | DType::F16 | DType::Bool => {
                // SAFETY: passed on to the caller.
                unsafe { self.set(element, value as f32) }
            }
        }
    }
}

/// `Σ coordinate * stride` for a flat row-major index over `extents`.
pub(crate) fn offset_of(mut flat: usize, extents: &[usize], strides: &[i64]) -> i64 {
    let mut sum = 0;
    for (extent, stride) in extents.iter().zip(strides).rev() {
        sum += (flat % extent) as i64 * stride;
        flat /= extent;
    }
    sum
}

/// Coordinates of a flat row-major index.
pub(crate) fn coordinates(mut flat: usize, extents: &[usize]) -> Vec<usize> {
    let mut all = vec![0; extents.len()];
    for (coordinate, extent) in all.iter_mut().zip(extents).rev() {
        *coordinate = flat % extent;
        flat /= extent;
    }
    all
}

/// An f32 address that tasks may share.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shared(pub(crate) *mut f32);

// SAFETY: only an address; users write disjoint parts.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// Address of the element `offset` further.
    pub(crate) fn at(self, offset: usize) -> *mut f32 {
        self.0.wrapping_add(offset)
    }

    /// A part as a slice.
    ///
    /// # Safety
    /// `from..from + len` is inside the memory that this address was taken from, and no one else uses that part while the slice lives.
    pub(crate) unsafe fn slice<'s>(self, from: usize, len: usize) -> &'s mut [f32] {
        // SAFETY: passed on to the caller.
        unsafe { std::slice::from_raw_parts_mut(self.at(from), len) }
    }
}
