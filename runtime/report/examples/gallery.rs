//! Draws charts of recorded IsoFLOP results, to be looked at: `gallery RESULTS.json FOLDER`.
//!
//! `RESULTS.json` is a list of `{ parameters, compute_budget, final_loss }`. What is written: SVG and PNG of each kind of chart.

use std::path::Path;

use cs336_report::chart::{Axis, Chart, Layer, Mark, Point, Shape, Stroke};
use cs336_report::{Links, ScaleKind, Spelling, color, curve, number, png, svg};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(results), Some(folder)) = (args.next(), args.next()) else {
        return Err("gallery RESULTS.json FOLDER".into());
    };
    let rows: Vec<serde_json::Value> = serde_json::from_str(&std::fs::read_to_string(results)?)?;
    let number = |r: &serde_json::Value, name: &str| r[name].as_f64().unwrap_or(f64::NAN);
    let runs: Vec<(f64, f64, f64)> = rows
        .iter()
        .map(|r| (number(r, "parameters"), number(r, "compute_budget"), number(r, "final_loss")))
        .collect();
    let folder = Path::new(&folder);
    std::fs::create_dir_all(folder)?;
    for (name, chart) in [
        ("isoflop", isoflop(&runs)),
        ("frontier", frontier(&runs)),
        ("residuals", residuals(&runs)),
        ("losses", losses()),
        ("contour", contour(&runs)),
        ("empty", empty()),
    ] {
        let text = svg(&chart, name, Links::None);
        std::fs::write(folder.join(format!("{name}.svg")), &text)?;
        let picture = png(&text, 2.0).ok_or("no picture")?;
        std::fs::write(folder.join(format!("{name}.png")), picture)?;
    }
    Ok(())
}

/// Hoffmann's form with the constants that the recorded results were made with.
fn law(n: f64, d: f64) -> f64 {
    2.69 + 1606.4 / n.powf(0.34) + 3210.7 / d.powf(0.36)
}

fn budgets(runs: &[(f64, f64, f64)]) -> Vec<f64> {
    let mut all: Vec<f64> = runs.iter().map(|r| r.1).collect();
    all.sort_by(f64::total_cmp);
    all.dedup();
    all
}

fn chart(title: &str, x: Axis, y: Axis) -> Chart {
    let (note, legend_title) = (String::new(), String::new());
    Chart { title: title.to_owned(), note, x, y, legend_title, layers: Vec::new() }
}

fn minima(runs: &[(f64, f64, f64)]) -> Vec<(f64, f64, f64)> {
    budgets(runs)
        .into_iter()
        .filter_map(|c| {
            let of: Vec<(f64, f64)> =
                runs.iter().filter(|r| r.1 == c).map(|r| (r.0, r.2)).collect();
            let p = curve::parabola(&of, ScaleKind::Log, ScaleKind::Linear)?;
            p.extreme(true).map(|(x, y)| (c, x, y))
        })
        .collect()
}

fn isoflop(runs: &[(f64, f64, f64)]) -> Chart {
    let mut made = chart(
        "IsoFLOP curves",
        Axis::log("Parameters", Spelling::Count),
        Axis::linear("Held-out loss (nats per token)"),
    );
    made.legend_title = "Compute budget (FLOPs)".to_owned();
    let all = budgets(runs);
    let path = minima(runs).into_iter().map(|m| (m.1, m.2)).collect();
    let stroke = Stroke::Dotted;
    made.layers.push(Layer {
        name: String::new(),
        color: color::GREY,
        shape: Shape::Line { points: path, stroke },
    });
    for (i, c) in all.iter().enumerate() {
        let color = color::amount(i as f64 / (all.len() - 1) as f64);
        let of: Vec<(f64, f64)> = runs.iter().filter(|r| r.1 == *c).map(|r| (r.0, r.2)).collect();
        let name = number::power(*c, 2);
        let Some(p) = curve::parabola(&of, ScaleKind::Log, ScaleKind::Linear) else { continue };
        let ends = of.iter().fold((f64::MAX, 0f64), |e, p| (e.0.min(p.0), e.1.max(p.0)));
        let line = Shape::Line { points: p.places(ends.0, ends.1, 60), stroke: Stroke::Solid };
        made.layers.push(Layer { name: name.clone(), color, shape: line });
        let point = |p: &(f64, f64)| Point {
            x: p.0,
            y: p.1,
            label: String::new(),
            run: format!("iso/{i:02}"),
        };
        let dots = Shape::Points { points: of.iter().map(point).collect(), mark: Mark::Dot };
        made.layers.push(Layer { name, color, shape: dots });
        if let Some((x, y)) = p.extreme(true) {
            let at = Point { x, y, label: number::short(x, 2), run: String::new() };
            let shape = Shape::Points { points: vec![at], mark: Mark::Diamond };
            made.layers.push(Layer { name: String::new(), color, shape });
        }
    }
    made
}

fn frontier(runs: &[(f64, f64, f64)]) -> Chart {
    let mut made = chart(
        "Compute-optimal frontier",
        Axis::log("Compute budget (FLOPs)", Spelling::Power),
        Axis::log("Parameters", Spelling::Count),
    );
    let best: Vec<(f64, f64)> = minima(runs).into_iter().map(|m| (m.0, m.1)).collect();
    let Some(p) = curve::power(&best) else { return made };
    let (first, last) = (best[0].0, best[best.len() - 1].0);
    let target = 5.76e23;
    let band = p.places(first, target, 60).into_iter().map(|(x, y)| {
        let wide = 1.0 + 0.08 * (1.0 + (x / last).ln().max(0.0));
        (x, y / wide, y * wide)
    });
    let layer = |name: &str, color, shape| Layer { name: name.to_owned(), color, shape };
    made.layers.push(layer("95% interval", color::MAIN, Shape::Band { points: band.collect() }));
    let solid = Shape::Line { points: p.places(first, last, 60), stroke: Stroke::Solid };
    made.layers.push(layer("fit", color::MAIN, solid));
    let dashed = Shape::Line { points: p.places(last, target, 60), stroke: Stroke::Dashed };
    made.layers.push(layer("beyond the data", color::MAIN, dashed));
    let dot = |p: &(f64, f64)| Point { x: p.0, y: p.1, label: String::new(), run: String::new() };
    let dots = Shape::Points { points: best.iter().map(dot).collect(), mark: Mark::Dot };
    made.layers.push(layer("minima", color::MAIN, dots));
    let star = Point {
        x: target,
        y: p.at(target),
        label: number::short(p.at(target), 3),
        run: String::new(),
    };
    let star = Shape::Points { points: vec![star], mark: Mark::Star };
    made.layers.push(layer("prediction", color::STRONG, star));
    let rule = Shape::Rule { x: target, label: "target 5.8e23".to_owned() };
    made.layers.push(layer("", color::STRONG, rule));
    made
}

fn residuals(runs: &[(f64, f64, f64)]) -> Chart {
    let mut made = chart(
        "Residuals of the law",
        Axis::log("Parameters", Spelling::Count),
        Axis::linear("measured / predicted − 1"),
    );
    made.note = "The recorded results have no noise; here each was moved by a made-up error of about 0.4 %.".to_owned();
    made.legend_title = "Compute budget (FLOPs)".to_owned();
    let zero = Shape::Level { y: 0.0, label: String::new() };
    made.layers.push(Layer { name: String::new(), color: color::GREY, shape: zero });
    let all = budgets(runs);
    for (i, c) in all.iter().enumerate() {
        let of = runs.iter().enumerate().filter(|(_, r)| r.1 == *c).map(|(k, r)| {
            let noise = (((k * 7919) % 101) as f64 / 50.0 - 1.0) * 0.004;
            Point {
                x: r.0,
                y: r.2 / law(r.0, c / 6.0 / r.0) - 1.0 + noise,
                label: String::new(),
                run: String::new(),
            }
        });
        let shape = Shape::Points { points: of.collect(), mark: Mark::Dot };
        let color = color::amount(i as f64 / (all.len() - 1) as f64);
        made.layers.push(Layer { name: number::power(*c, 2), color, shape });
    }
    made
}

fn losses() -> Chart {
    let mut made =
        chart("Training loss", Axis::linear("Step"), Axis::linear("Loss (nats per token)"));
    for (i, name) in ["baseline", "muon", "no warmup", "<b>wide & deep</b>"].iter().enumerate() {
        let wobble = |s: usize| ((s * 7919 + i * 31) % 97) as f64 / 97.0 - 0.5;
        let points = (1..=600).map(|s| {
            let t = s as f64 * 10.0;
            (t, 2.2 + i as f64 * 0.15 + 6.0 / (1.0 + t / 40.0).powf(0.6) + wobble(s) * 0.12)
        });
        let shape = Shape::Line { points: points.collect(), stroke: Stroke::Thin };
        made.layers.push(Layer { name: (*name).to_owned(), color: color::kind(i), shape });
    }
    made
}

fn contour(runs: &[(f64, f64, f64)]) -> Chart {
    let mut made = chart(
        "Loss by parameters and tokens",
        Axis::log("Parameters", Spelling::Count),
        Axis::log("Training tokens", Spelling::Count),
    );
    let (x, y) = ((5e7, 3e11), (1e9, 1e12));
    let columns = curve::steps(ScaleKind::Log, x.0, x.1, 80);
    let rows = curve::steps(ScaleKind::Log, y.0, y.1, 60);
    let values = rows.iter().flat_map(|d| columns.iter().map(|n| law(*n, *d))).collect();
    let levels = vec![3.0, 3.2, 3.5, 4.0, 4.5, 5.0, 6.0, 7.0];
    let surface = Shape::Contour { values, columns: columns.len(), x, y, levels };
    made.layers.push(Layer { name: "loss".to_owned(), color: color::MAIN, shape: surface });
    let fits =
        |r: &&(f64, f64, f64)| (x.0..x.1).contains(&r.0) && (y.0..y.1).contains(&(r.1 / 6.0 / r.0));
    let point = |r: &(f64, f64, f64)| Point {
        x: r.0,
        y: r.1 / 6.0 / r.0,
        label: String::new(),
        run: String::new(),
    };
    let points = runs.iter().filter(fits).map(point).collect();
    let dots = Shape::Points { points, mark: Mark::Dot };
    made.layers.push(Layer { name: "runs".to_owned(), color: color::INK, shape: dots });
    let best = minima(runs).into_iter().map(|m| (m.1, m.0 / 6.0 / m.1)).collect();
    let best = Shape::Line { points: best, stroke: Stroke::Solid };
    made.layers.push(Layer { name: "optimum".to_owned(), color: color::STRONG, shape: best });
    made
}

fn empty() -> Chart {
    chart("Nothing was run", Axis::log("Parameters", Spelling::Count), Axis::linear("Loss"))
}
