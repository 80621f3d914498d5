//! Sums of a program's results over points, as fast as this machine can: machine code where the device compiles it, else one instruction at
//! a time.

use cs336_compiler::law::program::Program;
use cs336_device::SumKernel;

/// A program over fixed columns.
#[derive(Debug)]
pub(crate) struct Kernel {
    program: Program,
    code: Option<SumKernel>,
}

impl Kernel {
    /// Compiles a program.
    pub(crate) fn new(program: Program) -> Self {
        // A program that cannot be compiled is interpreted: slower, with the same meaning.
        let code = SumKernel::compile(&program).ok();
        Self { program, code }
    }

    /// Sums of the results over all points into `out`. `room` is memory that may be kept between calls.
    pub(crate) fn sums(&self, at: &[f64], columns: &[&[f64]], out: &mut [f64], room: &mut Room) {
        match &self.code {
            Some(code) => code.run(at, columns, out, &mut room.scratch),
            None => self.interpreted(at, columns, out, room),
        }
    }

    /// The same, one instruction at a time.
    pub(crate) fn interpreted(
        &self,
        at: &[f64],
        columns: &[&[f64]],
        out: &mut [f64],
        room: &mut Room,
    ) {
        out.fill(0.0);
        let points = columns.first().map_or(0, |c| c.len());
        let mut args = at.to_vec();
        for p in 0..points {
            args.truncate(at.len());
            args.extend(columns.iter().map(|c| c[p]));
            let results = self.program.eval(&args, &mut room.values);
            out.iter_mut().zip(results).for_each(|(o, r)| *o += r);
        }
    }
}

/// Memory for one thread.
#[derive(Debug, Default)]
pub(crate) struct Room {
    scratch: Vec<f64>,
    values: Vec<f64>,
}
