//! Copies of strips of a matrix: `width` rows or columns side by side, at each depth one after the other, filled up with zeroes.

use std::arch::x86_64::{
    _MM_HINT_T1, _mm_loadu_ps, _mm_movehl_ps, _mm_movelh_ps, _mm_prefetch, _mm_storeu_ps,
    _mm_unpackhi_ps, _mm_unpacklo_ps,
};

/// What is copied.
#[derive(Debug, Clone, Copy)]
pub(super) struct Strip {
    /// The first element.
    pub(super) data: *const f32,
    /// From one row or column to its neighbour.
    pub(super) across: isize,
    /// From one depth to the next.
    pub(super) along: isize,
    /// How many rows or columns there are.
    pub(super) width: usize,
    /// How many depths.
    pub(super) depth: usize,
}

/// Numbers in a line of the cache.
const LINE: usize = 16;

impl Strip {
    /// Asks for one of so many parts of the strip, to be in the second cache soon.
    #[inline]
    pub(super) fn ask_for(&self, part: usize, parts: usize) {
        let (outer, inner, step) = if self.along == 1 {
            (self.width, self.depth, self.across)
        } else if self.across == 1 {
            (self.depth, self.width, self.along)
        } else {
            return;
        };
        for i in outer * part / parts..outer * (part + 1) / parts {
            let line = self.data.wrapping_offset(i as isize * step);
            for at in (0..inner + LINE - 1).step_by(LINE) {
                let place = line.wrapping_add(at.min(inner - 1)).cast();
                // SAFETY: asking for memory reads none, whatever the address.
                unsafe { _mm_prefetch::<_MM_HINT_T1>(place) };
            }
        }
    }
}

/// Copies a strip of at most `W` rows or columns, `W` a multiple of 4.
///
/// # Safety
/// The strip may be read.
#[inline(always)]
#[expect(clippy::inline_always, reason = "compiled for the features of each unit")]
pub(super) unsafe fn pack<const W: usize>(strip: Strip, out: &mut [f32]) {
    let Strip { data, across, along, width, depth } = strip;
    let (out, _) = out.as_chunks_mut::<W>();
    let out = &mut out[..depth];
    if width == W && across == 1 {
        for (d, out) in out.iter_mut().enumerate() {
            let from = data.wrapping_offset(d as isize * along).cast::<[f32; W]>();
            // SAFETY: `W` elements of the strip, one after the other.
            *out = unsafe { from.read_unaligned() };
        }
    } else if width == W && along == 1 {
        let (fours, rest) = out.as_chunks_mut::<4>();
        for (four, out) in fours.iter_mut().enumerate() {
            for w in (0..W).step_by(4) {
                let from = data.wrapping_offset(4 * four as isize + w as isize * across);
                // SAFETY: four rows of four depths of the strip.
                let turned = unsafe { turned(from, across) };
                for (out, turned) in out.iter_mut().zip(turned) {
                    out[w..w + 4].copy_from_slice(&turned);
                }
            }
        }
        let done = depth - rest.len();
        for (d, out) in rest.iter_mut().enumerate() {
            for (w, out) in out.iter_mut().enumerate() {
                let from = data.wrapping_offset((done + d) as isize + w as isize * across);
                // SAFETY: an element of the strip.
                *out = unsafe { from.read() };
            }
        }
    } else {
        for (d, out) in out.iter_mut().enumerate() {
            for (w, out) in out.iter_mut().enumerate() {
                let from = data.wrapping_offset(d as isize * along + w as isize * across);
                // SAFETY: an element of the strip.
                *out = if w < width { unsafe { from.read() } } else { 0.0 };
            }
        }
    }
}

/// Copies a strip of at most `T` tiles of `W` rows, each tile as [`pack`] does, one after the other.
///
/// # Safety
/// The strip may be read.
#[inline(always)]
#[expect(clippy::inline_always, reason = "as above")]
pub(super) unsafe fn pack_tiles<const W: usize, const T: usize>(strip: Strip, out: &mut [f32]) {
    let Strip { data, across, along, width, depth } = strip;
    if width == W * T && across == 1 {
        for d in 0..depth {
            let from = data.wrapping_offset(d as isize * along).cast::<[[f32; W]; T]>();
            // SAFETY: `W T` elements of the strip, one after the other.
            let rows = unsafe { from.read_unaligned() };
            for (tile, rows) in rows.iter().enumerate() {
                out[(tile * depth + d) * W..][..W].copy_from_slice(rows);
            }
        }
        return;
    }
    for (tile, out) in out.chunks_mut(W * depth).enumerate() {
        let data = data.wrapping_offset((tile * W) as isize * across);
        let width = W.min(width - tile * W);
        // SAFETY: a part of the strip.
        unsafe { pack::<W>(Strip { data, width, ..strip }, out) };
    }
}

/// Four rows of four numbers, by columns.
///
/// # Safety
/// There are four numbers at each of the four rows.
#[inline(always)]
#[expect(clippy::inline_always, reason = "as above")]
unsafe fn turned(from: *const f32, across: isize) -> [[f32; 4]; 4] {
    let row = |r: isize| {
        // SAFETY: as the caller says; any alignment will do.
        unsafe { _mm_loadu_ps(from.wrapping_offset(r * across)) }
    };
    // SAFETY: every processor of this kind has SSE.
    let low = |a, b| unsafe { _mm_unpacklo_ps(a, b) };
    // SAFETY: as above.
    let high = |a, b| unsafe { _mm_unpackhi_ps(a, b) };
    // SAFETY: as above.
    let first_halves = |a, b| unsafe { _mm_movelh_ps(a, b) };
    // SAFETY: as above.
    let second_halves = |a, b| unsafe { _mm_movehl_ps(b, a) };
    let (a, b, c, d) = (row(0), row(1), row(2), row(3));
    let (one, two) = (low(a, b), low(c, d));
    let (three, four) = (high(a, b), high(c, d));
    let columns = [
        first_halves(one, two),
        second_halves(one, two),
        first_halves(three, four),
        second_halves(three, four),
    ];
    columns.map(|column| {
        let mut numbers = [0.0; 4];
        // SAFETY: there is room for four numbers.
        unsafe { _mm_storeu_ps(numbers.as_mut_ptr(), column) };
        numbers
    })
}
