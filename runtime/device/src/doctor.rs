//! What this machine can do, measured: the numbers behind estimated times.

#![allow(clippy::disallowed_methods, reason = "the time that the machine needs is what is asked")]

use std::time::Instant;

use crate::cuda::Cuda;
use crate::error::DeviceError;
use crate::host::Cpu;
use crate::host::gemm::{Matrix, multiply};
use crate::host::pool::cut;
use crate::processor::Processor;

/// The result of a calibration.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Calibration {
    /// Threads that were used.
    pub threads: usize,
    /// f32 contraction of 1024 x 1024 matrices: the best of several rounds, in 1e9 operations per second.
    pub gemm_gflops: f64,
    /// Copying memory far larger than the caches: read plus written, in 1e9 bytes per second.
    pub copy_gb_per_s: f64,
    /// Memory of the machine in bytes, if it could be found out.
    pub memory_bytes: Option<u64>,
    /// The processor's name, if it could be found out.
    pub processor: String,
    /// Instruction sets that matter here.
    pub features: Vec<String>,
}

/// Rounds, some time apart: what else the machine does rarely lasts through all of them.
const ROUNDS: usize = 3;

/// Measures, in a few seconds. The best counts, since other work on the machine only ever makes it slower.
pub fn calibrate(device: &Processor) -> Result<Calibration, DeviceError> {
    match device {
        Processor::Cpu(cpu) => Ok(cpu_speed(cpu)),
        Processor::Cuda(gpu) => gpu_speed(gpu),
    }
}

/// The same of a GPU. Contractions are those of bf16, 8192 x 8192, on random numbers.
fn gpu_speed(gpu: &Cuda) -> Result<Calibration, DeviceError> {
    let info = gpu.info()?;
    let (contraction, copy) = gpu.speed()?;
    Ok(Calibration {
        threads: 1,
        gemm_gflops: contraction / 1e9,
        copy_gb_per_s: copy / 1e9,
        memory_bytes: Some(info.memory.0 as u64),
        processor: info.name,
        features: vec![format!(
            "compute capability {}.{}",
            info.capability / 10,
            info.capability % 10
        )],
    })
}

fn cpu_speed(device: &Cpu) -> Calibration {
    let (mut gemm, mut copy) = (0.0f64, 0.0f64);
    for round in 0..ROUNDS {
        if round > 0 {
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
        gemm = gemm.max(gemm_gflops(device));
        copy = copy.max(copy_gb_per_s(device));
    }
    Calibration {
        threads: device.threads(),
        gemm_gflops: gemm,
        copy_gb_per_s: copy,
        memory_bytes: memory_bytes(),
        processor: processor(),
        features: features(),
    }
}

fn gemm_gflops(device: &Cpu) -> f64 {
    const N: usize = 1024;
    let a = vec![1.0f32; N * N];
    let b = vec![0.5f32; N * N];
    let mut c = vec![0.0f32; N * N];
    let matrix = |p: *mut f32| Matrix::new(p, N as isize, 1);
    let (a, b) = (matrix(a.as_ptr().cast_mut()), matrix(b.as_ptr().cast_mut()));
    let c = matrix(c.as_mut_ptr());
    let mut times = Vec::new();
    let begun = Instant::now();
    while times.len() < 9 && (times.len() < 3 || begun.elapsed().as_secs_f64() < 0.7) {
        let started = Instant::now();
        device.pool.enter(|| {
            // SAFETY: three vectors of N * N numbers that live until the end of this function; c is used only here.
            unsafe { multiply((N, N, N), c, false, a, b, device.threads()) }
        });
        times.push(started.elapsed().as_secs_f64());
    }
    2.0 * (N * N * N) as f64 / least(&times) / 1e9
}

fn copy_gb_per_s(device: &Cpu) -> f64 {
    const BYTES: usize = 128 << 20;
    let from = vec![1u8; BYTES];
    let mut to = vec![0u8; BYTES];
    let parts = cut(BYTES, device.threads(), 4096);
    let mut times = Vec::new();
    for _ in 0..5 {
        let started = Instant::now();
        device.pool.enter(|| {
            rayon::scope(|scope| {
                let mut rest = to.as_mut_slice();
                for (low, high) in &parts {
                    let (now, later) = rest.split_at_mut(high - low);
                    rest = later;
                    let from = &from[*low..*high];
                    scope.spawn(move |_| now.copy_from_slice(from));
                }
            });
        });
        times.push(started.elapsed().as_secs_f64());
    }
    2.0 * BYTES as f64 / least(&times) / 1e9
}

fn least(times: &[f64]) -> f64 {
    times.iter().copied().fold(f64::INFINITY, f64::min).max(1e-9)
}

fn memory_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|l| l.starts_with("MemTotal:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|l| l.starts_with("model name"));
    line.and_then(|l| l.split_once(':'))
        .map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
}

#[cfg(target_arch = "x86_64")]
fn features() -> Vec<String> {
    let all = [
        ("avx2", std::arch::is_x86_feature_detected!("avx2")),
        ("fma", std::arch::is_x86_feature_detected!("fma")),
        ("f16c", std::arch::is_x86_feature_detected!("f16c")),
        ("avx512f", std::arch::is_x86_feature_detected!("avx512f")),
        ("avx512bf16", std::arch::is_x86_feature_detected!("avx512bf16")),
    ];
    all.into_iter().filter(|(_, has)| *has).map(|(name, _)| name.to_owned()).collect()
}

#[cfg(not(target_arch = "x86_64"))]
fn features() -> Vec<String> {
    vec![std::env::consts::ARCH.to_owned()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_measured_quickly() {
        let started = Instant::now();
        let cpu = Cpu::new(None).expect("threads");
        let found = calibrate(&Processor::Cpu(cpu)).expect("measures");
        assert!(found.gemm_gflops > 0.1 && found.copy_gb_per_s > 0.01, "{found:?}");
        assert!(!found.processor.is_empty());
        // Generous, since tests share the machine with others.
        assert!(started.elapsed().as_secs() < 20);
    }
}
