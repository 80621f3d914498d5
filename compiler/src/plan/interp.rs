//! What a plan means: its steps, one after the other, on plain bytes.
//!
//! Takes a plan, a store of named memories and the runtime scalars; changes the store as a device would. Kernels are
//! interpreted in f64 and round where they store: see [`kernel::interp`](crate::kernel::interp).

use std::collections::BTreeMap;

use indexmap::IndexMap;

use super::{Io, Launch, Place, Plan, Step, View};
use crate::bug::Bug;
use crate::kernel::interp::{Base, Memory, run};
use crate::name::Name;
use crate::scalar::{DType, Runtime, f16_round, round_to};

/// Executes a plan. Inputs must be in the store; outputs that are missing are made.
pub fn execute(
    plan: &Plan,
    store: &mut IndexMap<Name, Vec<u8>>,
    runtime: &dyn Fn(Runtime) -> f64,
) -> Result<(), Bug> {
    // What no step has written must not look like a result.
    let mut bytes = Bytes { all: vec![vec![0xff; plan.arena_bytes]], slot: Vec::new() };
    for b in &plan.buffers {
        match &b.place {
            Place::Arena { offset } => bytes.slot.push((0, *offset, b.bytes)),
            Place::External { storage, io } => {
                let data = match (store.get(storage), io) {
                    (Some(data), _) => data.clone(),
                    (None, Io::Output) => vec![0xff; b.bytes],
                    (None, Io::Input | Io::Updated) => {
                        return Err(bug(format!("the store lacks `{storage}`")));
                    }
                };
                if data.len() != b.bytes {
                    let message = format!("`{storage}` has {} bytes, not {}", data.len(), b.bytes);
                    return Err(bug(message));
                }
                bytes.all.push(data);
                bytes.slot.push((bytes.all.len() - 1, 0, b.bytes));
            }
        }
    }
    let host = host_scalars(plan, runtime);
    let mut machine = Machine { plan, bytes, host, counters: BTreeMap::new() };
    machine.steps(&plan.steps)?;
    for (b, (at, _, _)) in plan.buffers.iter().zip(&machine.bytes.slot) {
        if let Place::External { storage, io: Io::Output | Io::Updated } = &b.place {
            store.insert(storage.clone(), machine.bytes.all[*at].clone());
        }
    }
    Ok(())
}

/// The host scalars of an execution.
pub fn host_scalars(plan: &Plan, runtime: &dyn Fn(Runtime) -> f64) -> Vec<f64> {
    let mut values: Vec<f64> = Vec::new();
    for e in &plan.host {
        let value = e.eval(&|i| values[i as usize], &|_| 0.0, runtime);
        values.push(value);
    }
    values
}

/// Reads an element.
pub fn decode(bytes: &[u8], dtype: DType) -> f64 {
    match (dtype, bytes) {
        (DType::F32, &[a, b, c, d]) => f64::from(f32::from_le_bytes([a, b, c, d])),
        (DType::I32, &[a, b, c, d]) => f64::from(i32::from_le_bytes([a, b, c, d])),
        (DType::Bf16, &[a, b]) => f64::from(f32::from_le_bytes([0, 0, a, b])),
        (DType::F16, &[a, b]) => half_value(u16::from_le_bytes([a, b])),
        (DType::Bool, &[a]) => f64::from(a),
        (DType::F32 | DType::I32 | DType::Bf16 | DType::F16 | DType::Bool, _) => f64::NAN,
    }
}

/// Writes an element, rounded.
pub fn encode(bytes: &mut [u8], dtype: DType, value: f64) {
    let value = round_to(dtype, value);
    match dtype {
        DType::F32 => bytes.copy_from_slice(&(value as f32).to_le_bytes()),
        DType::I32 => bytes.copy_from_slice(&(value as i32).to_le_bytes()),
        DType::Bf16 => bytes.copy_from_slice(&(value as f32).to_le_bytes()[2..]),
        DType::F16 => bytes.copy_from_slice(&half_bits(value as f32).to_le_bytes()),
        DType::Bool => bytes.copy_from_slice(&[u8::from(value != 0.0)]),
    }
}

fn half_value(bits: u16) -> f64 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023));
    sign * match exponent {
        0 => fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        e => (1024.0 + fraction) * 2f64.powi(e - 25),
    }
}

fn half_bits(x: f32) -> u16 {
    let x = f16_round(x);
    let sign = if x.is_sign_negative() { 0x8000 } else { 0 };
    let a = x.abs();
    if a.is_nan() {
        return 0x7e00;
    }
    if a.is_infinite() {
        return sign | 0x7c00;
    }
    if a < 2f32.powi(-14) {
        return sign | (a * 2f32.powi(24)) as u16;
    }
    let exponent = (a.to_bits() >> 23) as i32 - 127;
    let fraction = (a / 2f32.powi(exponent - 10)) as u16 - 1024;
    sign | ((exponent + 15) as u16) << 10 | fraction
}

struct Bytes {
    // The arena, then the external memories.
    all: Vec<Vec<u8>>,
    // Per buffer: which memory, where, how long.
    slot: Vec<(usize, usize, usize)>,
}

impl Bytes {
    fn range(&self, buffer: u32, byte: i64, count: usize) -> Result<(usize, usize), String> {
        let (memory, offset, bytes) = self.slot[buffer as usize];
        if byte < 0 || byte as usize + count > bytes {
            return Err(format!("byte {byte} of buffer {buffer} is outside of its {bytes}"));
        }
        Ok((memory, offset + byte as usize))
    }
}

impl Memory for Bytes {
    fn read(&self, buffer: u32, byte: i64, dtype: DType) -> Result<f64, String> {
        let (memory, at) = self.range(buffer, byte, dtype.bytes())?;
        Ok(decode(&self.all[memory][at..at + dtype.bytes()], dtype))
    }

    fn write(&mut self, buffer: u32, byte: i64, dtype: DType, value: f64) -> Result<(), String> {
        let (memory, at) = self.range(buffer, byte, dtype.bytes())?;
        encode(&mut self.all[memory][at..at + dtype.bytes()], dtype, value);
        Ok(())
    }
}

struct Machine<'a> {
    plan: &'a Plan,
    bytes: Bytes,
    host: Vec<f64>,
    counters: BTreeMap<u32, i64>,
}

impl Machine<'_> {
    fn steps(&mut self, steps: &[Step]) -> Result<(), Bug> {
        for step in steps {
            match step {
                Step::Launch(launch) => self.launch(launch)?,
                Step::Loop { id, count, reverse, body } => {
                    for i in 0..*count {
                        let c = if *reverse { count - 1 - i } else { i };
                        self.counters.insert(*id, c as i64);
                        self.steps(body)?;
                    }
                    self.counters.remove(id);
                }
                Step::Copy { from, to, bytes } => {
                    let at = |v: &View| self.bytes.range(v.buffer, self.byte(v), *bytes);
                    let (from, to) = (at(from).map_err(bug)?, at(to).map_err(bug)?);
                    let moved = self.bytes.all[from.0][from.1..from.1 + bytes].to_vec();
                    self.bytes.all[to.0][to.1..to.1 + bytes].copy_from_slice(&moved);
                }
                Step::Zero { view, bytes } => {
                    let at = self.bytes.range(view.buffer, self.byte(view), *bytes);
                    let (memory, at) = at.map_err(bug)?;
                    self.bytes.all[memory][at..at + bytes].fill(0);
                }
            }
        }
        Ok(())
    }

    fn byte(&self, view: &View) -> i64 {
        let moved: i64 = view
            .advances
            .iter()
            .map(|a| {
                let counter = self.counters.get(&a.loop_id).copied().unwrap_or(0) + a.shift;
                a.stride_bytes * a.modulus.map_or(counter, |m| counter.rem_euclid(m))
            })
            .sum();
        view.offset as i64 + moved
    }

    fn launch(&mut self, launch: &Launch) -> Result<(), Bug> {
        let kernel = &self.plan.kernels[launch.kernel as usize];
        let bases: Vec<Base> =
            launch.views.iter().map(|v| Base { buffer: v.buffer, byte: self.byte(v) }).collect();
        let params: Vec<f64> = launch.params.iter().map(|p| self.host[*p as usize]).collect();
        run(kernel, &bases, &params, &mut self.bytes)
            .map_err(|e| bug(format!("{}: {e}", launch.origin)))
    }
}

fn bug(message: String) -> Bug {
    Bug::new("execute", message, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_survive_storage() {
        for dtype in [DType::F32, DType::Bf16, DType::F16, DType::I32, DType::Bool] {
            let mut bytes = vec![0; dtype.bytes()];
            for x in [0.0, 1.0, -2.5, 1e-6, 6.1e-5, 65504.0, 1e5] {
                encode(&mut bytes, dtype, x);
                assert_eq!(decode(&bytes, dtype), round_to(dtype, x), "{dtype:?} {x}");
            }
        }
    }
}
