//! Times the two long fits of the Chinchilla points, for `tests/bench/fit`: `epoch CSV grid|bootstrap|starts [THREADS]`. Prints seconds and what came out.

#![allow(clippy::print_stdout, reason = "a program to be read by a script")]
#![allow(clippy::disallowed_methods, reason = "which is told the time that fits need")]

use std::time::Instant;

use cs336_compiler::check::hir::Spec;
use cs336_compiler::front;
use cs336_compiler::world::Texts;
use cs336_fit::{Columns, fit};
use indexmap::IndexMap;

const PROGRAM: &str = "data recorded = csv(\"runs.csv\")
fit f {
  runs = recorded
  law = .loss ~ E + A / .params^alpha + B / .tokens^beta
  free = { E = 0.1..5, A = 1..1e11, B = 1..1e11, alpha = 0..2, beta = 0..2 }
  error = huber(1e-3, on = log)
  SETTING
}
";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let (path, mode) = (&args[1], args[2].as_str());
    let threads = args.get(3).map_or(Ok(1), |t| t.parse())?;
    let mut rows = Vec::new();
    for line in std::fs::read_to_string(path)?.lines().skip(1) {
        let cells: Result<Vec<f64>, _> =
            [3, 4, 6].iter().map(|i| line.split(',').nth(*i).unwrap_or("").parse()).collect();
        rows.push(cells?);
    }
    let mut losses: Vec<f64> = rows.iter().map(|r| r[2]).collect();
    losses.sort_by(f64::total_cmp);
    let cut = losses[losses.len() - 5];
    rows.retain(|r| r[2] < cut);
    let column = |f: &dyn Fn(&Vec<f64>) -> f64| rows.iter().map(f).collect::<Vec<f64>>();
    let values = IndexMap::from([
        ("params".to_owned(), column(&|r| r[0])),
        ("tokens".to_owned(), column(&|r| r[1] / (6.0 * r[0]))),
        ("loss".to_owned(), column(&|r| r[2])),
    ]);
    let columns = Columns { names: (0..rows.len()).map(|i| i.to_string()).collect(), values };
    let setting = match mode {
        "grid" => "starts = hoffmann",
        "bootstrap" => "starts = 4\n  bootstrap = 4000\n  seed = 1",
        _ => "starts = 64",
    };
    let text = PROGRAM.replace("SETTING", setting);
    let world = Texts { files: vec![("a.cs336".into(), text)] };
    let checked = front::check(&world, "a.cs336", &[]);
    let Spec::Fit(spec) = &checked.nodes["f"].spec else { return Err("no fit".into()) };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    let began = Instant::now();
    let fitted = pool.install(|| fit(spec, &columns))?;
    let seconds = began.elapsed().as_secs_f64();
    let spread = fitted.coefficient("alpha").and_then(|c| c.spread).unwrap_or(0.0);
    println!(
        "{seconds:.4} {:.16e} {:.4} {spread:.5} {}",
        fitted.objective, fitted.agree, fitted.evaluations
    );
    Ok(())
}
