//! Units of numbers: a product of base units with integer powers, as a type.
//!
//! Base units are counted things (FLOPs, tokens, params, bytes, steps, rows, docs, epochs, nats, bits, USD) and seconds; scaled
//! spellings (`KB`, `GiB`, `min`) multiply. One spelling per unit: amounts are plural, singular only after `/` (`tokens/param`);
//! `FLOP/s` is the one rate. `%` is no unit: 10% is 0.1, shown as per cent.

use std::collections::BTreeMap;

use super::value::Quantity;
use crate::problem::{Problem, did_you_mean};
use crate::source::{Sources, Span};
use crate::syntax::ast::{self, BinaryOp, CompareOp};

/// A unit: base unit to power. Empty: a plain number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Unit {
    /// Base unit (plural spelling) to its power; no zero powers.
    pub powers: BTreeMap<&'static str, i32>,
}

/// Spelling as an amount, spelling after `/` (empty: none), base unit, scale.
const TABLE: &[(&str, &str, &str, f64)] = &[
    ("FLOPs", "FLOP", "FLOPs", 1.0),
    ("FLOP", "", "FLOPs", 1.0),
    ("tokens", "token", "tokens", 1.0),
    ("params", "param", "params", 1.0),
    ("steps", "step", "steps", 1.0),
    ("rows", "row", "rows", 1.0),
    ("docs", "doc", "docs", 1.0),
    ("epochs", "epoch", "epochs", 1.0),
    ("nats", "nat", "nats", 1.0),
    ("bits", "bit", "bits", 1.0),
    ("USD", "USD", "USD", 1.0),
    ("bytes", "byte", "bytes", 1.0),
    ("KB", "", "bytes", 1e3),
    ("MB", "", "bytes", 1e6),
    ("GB", "", "bytes", 1e9),
    ("TB", "", "bytes", 1e12),
    ("KiB", "", "bytes", 1024.0),
    ("MiB", "", "bytes", 1_048_576.0),
    ("GiB", "", "bytes", 1_073_741_824.0),
    ("TiB", "", "bytes", 1_099_511_627_776.0),
    ("s", "s", "s", 1.0),
    ("ms", "", "s", 1e-3),
    ("us", "", "s", 1e-6),
    ("min", "min", "s", 60.0),
    ("h", "h", "s", 3600.0),
    ("days", "day", "s", 86400.0),
];

impl Unit {
    /// A plain number.
    pub fn none() -> Self {
        Self::default()
    }

    /// One base unit.
    pub fn base(name: &'static str) -> Self {
        Self { powers: BTreeMap::from([(name, 1)]) }
    }

    /// True for a plain number.
    pub fn is_none(&self) -> bool {
        self.powers.is_empty()
    }

    /// The unit of a product (`sign` 1) or quotient (`sign` -1).
    #[must_use]
    pub fn times(&self, other: &Self, sign: i32) -> Self {
        let mut powers = self.powers.clone();
        for (name, power) in &other.powers {
            *powers.entry(name).or_insert(0) += sign * power;
        }
        powers.retain(|_, p| *p != 0);
        Self { powers }
    }

    fn power(&self, n: i32) -> Self {
        let powers = self.powers.iter().map(|(k, p)| (*k, p * n)).filter(|(_, p)| *p != 0);
        Self { powers: powers.collect() }
    }
}

/// A unit as written: its type and scale, or E0311 with what to write instead.
pub fn parse_unit(unit: &ast::Unit) -> Result<(Unit, f64), Problem> {
    let mut scale = 1.0;
    let mut total = Unit::none();
    let parts = std::iter::once((&unit.amount, true)).chain(unit.per.iter().map(|p| (p, false)));
    for (id, is_amount) in parts {
        let name = id.name.as_str();
        let row = TABLE.iter().find(
            |(plural, singular, _, _)| {
                if is_amount { *plural == name } else { *singular == name }
            },
        );
        match row {
            Some((_, _, base, s)) => {
                let sign = if is_amount { 1 } else { -1 };
                total = total.times(&Unit::base(base), sign);
                scale *= s.powi(sign);
            }
            None => return Err(unknown(id, is_amount)),
        }
    }
    // `FLOP/s` is the one rate with a name of its own.
    let is_rate = unit.per.first().is_some_and(|p| p.name == "s");
    let wanted = if is_rate { "FLOP" } else { "FLOPs" };
    if unit.amount.name.starts_with("FLOP") && unit.amount.name != wanted {
        let text = format!("`{}` is not a unit", unit_text(unit));
        return Err(Problem::new("E0311", unit.amount.span, text)
            .help("an amount is in `FLOPs`, a rate in `FLOP/s`")
            .fix(unit.amount.span, wanted));
    }
    Ok((total, scale))
}

fn unit_text(unit: &ast::Unit) -> String {
    let per: String = unit.per.iter().map(|p| format!("/{}", p.name)).collect();
    format!("{}{per}", unit.amount.name)
}

fn unknown(id: &ast::Ident, is_amount: bool) -> Problem {
    let name = id.name.as_str();
    let problem = Problem::new("E0311", id.span, format!("`{name}` is not a unit"));
    for (plural, singular, _, _) in TABLE {
        if is_amount && *singular == name {
            return problem
                .help(format!("an amount is plural: write `{plural}`"))
                .fix(id.span, *plural);
        }
        if !is_amount && *plural == name && !singular.is_empty() {
            return problem
                .help(format!("after `/` a unit is singular: write `{singular}`"))
                .fix(id.span, *singular);
        }
    }
    if let Some((_, unit)) = ALIASES.iter().find(|(alias, _)| *alias == name.to_lowercase()) {
        return problem.at(format!("the unit is `{unit}`")).fix(id.span, *unit);
    }
    // `TFLOPs`, `Mtokens`: dropping the letter would change the number, so there is no edit.
    let scaled = name.strip_prefix(['K', 'M', 'G', 'B', 'T', 'P', 'E']);
    if let Some(rest) = scaled
        && let Some((plural, ..)) = TABLE.iter().find(|(p, s, ..)| {
            p.len() > 2 && (p.eq_ignore_ascii_case(rest) || s.eq_ignore_ascii_case(rest))
        })
    {
        return problem
            .help(format!("a multiplier belongs to the number: `3T {plural}`, `3e12 {plural}`"));
    }
    if !is_amount && name.len() <= 2 {
        return divide(problem, id);
    }
    let spellings = TABLE.iter().map(|(p, s, _, _)| if is_amount { *p } else { *s });
    match did_you_mean(name, spellings.filter(|s| s.len() > 1)) {
        Some(near) => problem.at(format!("did you mean `{near}`?")).fix(id.span, near),
        None if !is_amount => divide(problem, id),
        None => problem.help("units are FLOPs, tokens, params, bytes, GB, s, min, h, steps, .."),
    }
}

/// `3e18 FLOPs/x` with a variable `x`: a tight slash belongs to a unit.
fn divide(problem: Problem, id: &ast::Ident) -> Problem {
    let name = &id.name;
    let with_slash = Span { start: id.span.start.saturating_sub(1), ..id.span };
    problem
        .help(format!("to divide by a value `{name}`, put spaces around the slash: ` / {name}`"))
        .fix(with_slash, format!(" / {name}"))
}

/// What people write for a unit, in lower case, and the unit.
const ALIASES: &[(&str, &str)] = &[
    ("sec", "s"),
    ("secs", "s"),
    ("second", "s"),
    ("seconds", "s"),
    ("m", "min"),
    ("mins", "min"),
    ("minute", "min"),
    ("minutes", "min"),
    ("hr", "h"),
    ("hrs", "h"),
    ("hour", "h"),
    ("hours", "h"),
    ("d", "days"),
    ("day", "days"),
    ("kb", "KB"),
    ("mb", "MB"),
    ("gb", "GB"),
    ("tb", "TB"),
    ("kib", "KiB"),
    ("mib", "MiB"),
    ("gib", "GiB"),
    ("parameters", "params"),
    ("weights", "params"),
    ("documents", "docs"),
    ("iterations", "steps"),
    ("dollars", "USD"),
    ("usd", "USD"),
    ("flops", "FLOPs"),
];

/// `a op b`; `Err` says in words what does not fit.
pub fn arithmetic(op: BinaryOp, a: &Quantity, b: &Quantity) -> Result<Quantity, String> {
    let percent = a.percent && b.percent;
    let make = |value: f64, unit: Unit| Quantity { value, unit, origin: None, percent };
    match op {
        BinaryOp::Add | BinaryOp::Sub => {
            if a.unit != b.unit {
                let word = if op == BinaryOp::Add { "plus" } else { "minus" };
                return Err(format!("{} {word} {}", show(a), show(b)));
            }
            let value = if op == BinaryOp::Add { a.value + b.value } else { a.value - b.value };
            Ok(make(value, a.unit.clone()))
        }
        BinaryOp::Mul => {
            Ok(Quantity { percent: false, ..make(a.value * b.value, a.unit.times(&b.unit, 1)) })
        }
        BinaryOp::Div => {
            Ok(Quantity { percent: false, ..make(a.value / b.value, a.unit.times(&b.unit, -1)) })
        }
        BinaryOp::Pow => {
            if !b.unit.is_none() {
                return Err(format!("an exponent is a plain number, this is {}", show(b)));
            }
            if a.unit.is_none() {
                return Ok(make(a.value.powf(b.value), Unit::none()));
            }
            if b.value.fract() != 0.0 {
                return Err(format!(
                    "{} to the power {} has no unit; divide by a unit first, as in `(N / (1 params))^0.5`",
                    show(a),
                    b.value
                ));
            }
            Ok(make(a.value.powf(b.value), a.unit.power(b.value as i32)))
        }
        BinaryOp::And | BinaryOp::Or => {
            Err(format!("`and` and `or` need true or false, these are {} and {}", show(a), show(b)))
        }
    }
}

/// `a op b` for comparisons. A plain zero compares with everything.
pub fn compare(op: CompareOp, a: &Quantity, b: &Quantity) -> Result<bool, String> {
    let zero = |q: &Quantity| q.value == 0.0 && q.unit.is_none();
    if a.unit != b.unit && !zero(a) && !zero(b) {
        return Err(format!(
            "{} ({}) compared with {} ({})",
            name(&a.unit),
            kind(&a.unit),
            name(&b.unit),
            kind(&b.unit)
        ));
    }
    // Sizes reach us through arithmetic: 4 * 1.4 is no reason to fail an equality by one ulp.
    let close = (a.value - b.value).abs() <= 1e-12 * a.value.abs().max(b.value.abs());
    Ok(match op {
        CompareOp::Eq => close,
        CompareOp::Ne => !close,
        CompareOp::Lt => a.value < b.value,
        CompareOp::Le => a.value <= b.value || close,
        CompareOp::Gt => a.value > b.value,
        CompareOp::Ge => a.value >= b.value || close,
        CompareOp::In => close,
    })
}

/// If one side is an amount and the other the same amount per something: what was probably meant.
pub fn rate_hint(a: &Quantity, b: &Quantity) -> Option<String> {
    let per = |whole: &Quantity, rate: &Quantity| {
        let rest = whole.unit.times(&rate.unit, -1);
        (rest.powers.len() == 1 && rest.powers.values().all(|p| *p == 1))
            .then(|| rest.powers.keys().next().copied())
            .flatten()
    };
    let unit = per(a, b).or_else(|| per(b, a))?;
    Some(format!("one of them is per {unit}: divide the other by {unit}, with spaces around `/`"))
}

fn kind(unit: &Unit) -> &'static str {
    if unit.is_none() {
        "a plain number"
    } else if unit.powers.values().any(|p| *p < 0) {
        "a rate"
    } else {
        "an amount"
    }
}

/// The unit in the language's spelling: `tokens/param`.
pub fn name(unit: &Unit) -> String {
    if unit.is_none() {
        return "a plain number".into();
    }
    let singular = |base: &str| {
        TABLE.iter().find(|(p, _, _, _)| *p == base).map_or(base.to_owned(), |(_, s, _, _)| {
            if s.is_empty() { base.to_owned() } else { (*s).to_owned() }
        })
    };
    let mut text = String::new();
    let up: Vec<_> = unit.powers.iter().filter(|(_, p)| **p > 0).collect();
    let down: Vec<_> = unit.powers.iter().filter(|(_, p)| **p < 0).collect();
    let is_rate = up.len() == 1 && *up[0].0 == "FLOPs" && down.iter().any(|(b, _)| **b == "s");
    for (i, (base, power)) in up.iter().enumerate() {
        if i > 0 {
            text.push('*');
        }
        text.push_str(if is_rate { "FLOP" } else { base });
        if **power > 1 {
            text += &format!("^{power}");
        }
    }
    if up.is_empty() {
        text.push('1');
    }
    for (base, power) in down {
        for _ in 0..-power {
            text += &format!("/{}", singular(base));
        }
    }
    text
}

/// A quantity as people write it: `3.0e17 FLOPs`, `30.8M params`, `11.0 GB`, `15 min`, `2.0%`.
pub fn show(q: &Quantity) -> String {
    if q.percent {
        return format!("{}%", trim(q.value * 100.0));
    }
    if q.unit.is_none() {
        return trim(q.value);
    }
    if q.unit == Unit::base("bytes") {
        return bytes(q.value);
    }
    if q.unit == Unit::base("s") {
        return seconds(q.value);
    }
    if q.unit.powers.keys().any(|k| *k == "FLOPs") && q.value.abs() >= 1e6 {
        return format!("{:.1e} {}", q.value, name(&q.unit));
    }
    format!("{} {}", short(q.value), name(&q.unit))
}

/// `30.8M`, `1.43B`, `512`.
pub fn short(x: f64) -> String {
    for (scale, letter) in [(1e12, 'T'), (1e9, 'B'), (1e6, 'M'), (1e4, 'K')] {
        if x.abs() >= scale {
            let scale = if letter == 'K' { 1e3 } else { scale };
            let y = x / scale;
            let digits = if y.abs() >= 100.0 {
                0
            } else if y.abs() >= 10.0 {
                1
            } else {
                2
            };
            return format!("{y:.digits$}{letter}");
        }
    }
    trim(x)
}

/// `11.0 GB`.
pub fn bytes(x: f64) -> String {
    for (scale, unit) in [(1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "KB")] {
        if x >= scale {
            let y = x / scale;
            return if y >= 100.0 { format!("{y:.0} {unit}") } else { format!("{y:.1} {unit}") };
        }
    }
    format!("{} bytes", trim(x))
}

/// `15 min`, `2.5 h`, `40 s`.
pub fn seconds(x: f64) -> String {
    if x >= 2.0 * 86400.0 {
        format!("{:.1} days", x / 86400.0)
    } else if x >= 5400.0 {
        format!("{:.1} h", x / 3600.0)
    } else if x >= 90.0 {
        format!("{:.0} min", x / 60.0)
    } else if x >= 1.0 {
        format!("{x:.0} s")
    } else {
        format!("{:.0} ms", x * 1e3)
    }
}

fn trim(x: f64) -> String {
    if x != 0.0 && (x.abs() < 1e-3 || x.abs() >= 1e9) {
        return format!("{x:e}");
    }
    let text = format!("{x:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The scale of the unit that a number was written with: `2` of `1..2 GB` means 2e9.
pub fn written_scale(sources: &Sources, q: &Quantity) -> Option<f64> {
    let text = sources.text(q.origin?);
    let digits = |c: char| !(c.is_ascii_digit() || matches!(c, '.' | '_' | 'e' | 'E' | '-' | '+'));
    let rest = text.trim_start_matches(|c| !digits(c)).trim_start();
    let unit = rest.split('/').next()?.trim();
    TABLE.iter().find(|(p, _, _, _)| *p == unit).map(|(_, _, _, s)| *s)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::FileId;

    fn unit(text: &str) -> Result<(Unit, f64), Problem> {
        let span = Span::new(FileId(0), 0, 1);
        let mut parts = text.split('/').map(|n| ast::Ident { name: n.to_owned(), span });
        let amount = parts.next().expect("split gives one part");
        parse_unit(&ast::Unit { amount, per: parts.collect(), span })
    }

    #[test]
    fn tokens_per_param_times_params_is_tokens() {
        let q = |value, text: &str| {
            let (unit, scale) = unit(text).expect("a unit");
            Quantity { value: value * scale, unit, origin: None, percent: false }
        };
        let tokens =
            arithmetic(BinaryOp::Mul, &q(20.0, "tokens/param"), &q(1e6, "params")).expect("fits");
        assert_eq!(show(&tokens), "20.0M tokens");
        assert_eq!(show(&q(11.0, "GB")), "11.0 GB");
        assert_eq!(show(&q(15.0, "min")), "15 min");
        assert_eq!(name(&unit("FLOP/s").expect("a rate").0), "FLOP/s");
        assert!(compare(CompareOp::Le, &q(1.0, "FLOPs"), &q(1.0, "FLOP/s")).is_err());
    }

    #[test]
    fn one_spelling_per_unit() {
        let fix = |t: &str| unit(t).expect_err("not a unit").fix.expect("has a fix").text;
        assert_eq!(fix("token"), "tokens");
        assert_eq!(fix("tokens/params"), "param");
        assert_eq!(fix("FLOPS"), "FLOPs");
        assert_eq!(fix("FLOPs/x"), " / x");
        assert_eq!(fix("FLOP"), "FLOPs");
        assert_eq!(fix("FLOPs/s"), "FLOP");
        assert_eq!(fix("seconds"), "s");
        assert_eq!(fix("gb"), "GB");
        assert!(unit("TFLOPs").expect_err("no unit").fix.is_none());
        assert_eq!(unit("bytes/s").expect("a rate").1, 1.0);
    }

    #[test]
    fn no_unit_is_a_keyword() {
        let words = [
            "use", "let", "knob", "fn", "layer", "weight", "state", "penalty", "measure", "assert",
            "for", "in", "where", "with", "if", "then", "else", "match", "scan", "and", "or",
            "not", "true", "false", "none",
        ];
        for (p, s, _, _) in TABLE {
            assert!(!words.contains(p) && !words.contains(s));
        }
    }
}
