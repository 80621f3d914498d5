//! Threads and scratch memory of the CPU backend.
//!
//! Work is cut into tasks whose results do not depend on who does them; the number of threads changes the time, never a bit.

use std::sync::{Arc, Mutex, PoisonError};

use rayon::prelude::*;

use crate::error::DeviceError;

/// A pool of threads.
#[derive(Debug, Clone)]
pub(crate) struct Pool {
    threads: Arc<rayon::ThreadPool>,
    scratch: Arc<Mutex<Vec<Vec<f32>>>>,
}

/// Below about this many simple instructions, waking a thread costs more than it gives.
pub(crate) const SMALL: usize = 60_000;

impl Pool {
    /// With so many threads; none given: one per core.
    pub(crate) fn new(threads: Option<usize>) -> Result<Self, DeviceError> {
        let count = threads.unwrap_or_else(cores).max(1);
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(count)
            .thread_name(|i| format!("cs336-{i}"))
            .build()
            .map_err(|e| DeviceError::OutOfMemory { what: format!("threads ({e})"), bytes: 0 })?;
        Ok(Self { threads: Arc::new(threads), scratch: Arc::default() })
    }

    /// How many threads.
    pub(crate) fn size(&self) -> usize {
        self.threads.current_num_threads()
    }

    /// Runs `f` on the pool, so that what it cuts into tasks stays there.
    pub(crate) fn enter<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        self.threads.install(f)
    }

    /// `f(0..tasks)`, in any order; in place if `work` (simple instructions in all) is small.
    pub(crate) fn each(&self, tasks: usize, work: usize, f: impl Fn(usize) + Sync + Send) {
        if tasks <= 1 || work < SMALL || self.size() == 1 {
            (0..tasks).for_each(f);
        } else {
            self.threads.install(|| (0..tasks).into_par_iter().with_max_len(1).for_each(f));
        }
    }

    /// Memory of `len` numbers of any value for the time of `f`.
    pub(crate) fn with_scratch<T>(&self, len: usize, f: impl FnOnce(&mut [f32]) -> T) -> T {
        let kept = {
            let mut free = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
            // The smallest that is large enough, else the largest (which then grows).
            let best = (0..free.len()).min_by_key(|i| {
                let size = free[*i].len();
                if size >= len { (0, size) } else { (1, usize::MAX - size) }
            });
            best.map(|i| free.swap_remove(i))
        };
        let mut memory = kept.unwrap_or_default();
        if memory.len() < len {
            memory = vec![0.0; len];
        }
        let result = f(&mut memory[..len]);
        self.scratch.lock().unwrap_or_else(PoisonError::into_inner).push(memory);
        result
    }
}

/// Cores that this process may use.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Cuts `0..total` into at most `parts` ranges whose ends are multiples of `grain`.
pub(crate) fn cut(total: usize, parts: usize, grain: usize) -> Vec<(usize, usize)> {
    let step = total.div_ceil(parts.max(1)).next_multiple_of(grain.max(1)).max(1);
    (0..total).step_by(step).map(|from| (from, (from + step).min(total))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_cover_everything_once() {
        for (total, parts, grain) in [(0, 4, 1), (1, 4, 8), (257, 4, 64), (1000, 3, 1)] {
            let ranges = cut(total, parts, grain);
            assert_eq!(ranges.iter().map(|(a, b)| b - a).sum::<usize>(), total);
            assert!(ranges.len() <= parts);
            assert!(ranges.iter().all(|(a, _)| a % grain == 0));
        }
    }

    #[test]
    fn scratch_is_reused() {
        let pool = Pool::new(Some(2)).expect("threads");
        let first = pool.with_scratch(100, |s| s.as_ptr() as usize);
        let again = pool.with_scratch(50, |s| s.as_ptr() as usize);
        assert_eq!(first, again);
    }
}
