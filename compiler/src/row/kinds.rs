//! What kind of cell an expression gives, and what does not fit: unknown columns, a text less than a number.

use indexmap::IndexMap;

use super::{RowExpr, RowFunction, RowOp, RowStage};
use crate::problem::did_you_mean;

/// What the cells of a column are, beside nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Not known before the rows are read, or nothing at all.
    Any,
    /// Numbers.
    Number,
    /// Texts.
    Text,
    /// Truths.
    Bool,
}

impl Kind {
    /// With its article.
    pub fn name(self) -> &'static str {
        match self {
            Self::Any => "anything",
            Self::Number => "a number",
            Self::Text => "a text",
            Self::Bool => "a condition",
        }
    }
}

/// The columns of rows, in order.
pub type Columns = IndexMap<String, Kind>;

/// What does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// `E0205` for unknown columns, `E0302` and `E0303` for kinds.
    pub code: &'static str,
    /// One sentence.
    pub message: String,
    /// What to write instead.
    pub help: String,
}

/// The kind of an expression's cells. Without columns, every name is one.
pub fn kind(e: &RowExpr, columns: Option<&Columns>) -> Result<Kind, Misfit> {
    let go = |e: &RowExpr| kind(e, columns);
    match e {
        RowExpr::Number(_) => Ok(Kind::Number),
        RowExpr::Text(_) => Ok(Kind::Text),
        RowExpr::Bool(_) => Ok(Kind::Bool),
        RowExpr::Null => Ok(Kind::Any),
        RowExpr::Column(name) => match columns {
            None => Ok(Kind::Any),
            Some(all) => all.get(name).copied().ok_or_else(|| unknown(name, all)),
        },
        RowExpr::Neg(x) => number(x, go(x)?, "`-`"),
        RowExpr::Not(x) => condition(x, go(x)?, "`not`"),
        RowExpr::Binary { op, left, right } => {
            let (a, b) = (go(left)?, go(right)?);
            if *op == RowOp::Add && (a == Kind::Text || b == Kind::Text) {
                return same(e, a, b).map(|()| Kind::Text);
            }
            let both = a == Kind::Any && b == Kind::Any && *op == RowOp::Add;
            number(left, a, "arithmetic")?;
            number(right, b, "arithmetic")?;
            Ok(if both { Kind::Any } else { Kind::Number })
        }
        RowExpr::Compare { left, right, .. } => {
            same(e, go(left)?, go(right)?)?;
            Ok(Kind::Bool)
        }
        RowExpr::And(all) | RowExpr::Or(all) => {
            for part in all {
                condition(part, go(part)?, "`and`, `or`")?;
            }
            Ok(Kind::Bool)
        }
        RowExpr::If { condition: c, then, otherwise } => {
            condition(c, go(c)?, "`if`")?;
            let (a, b) = (go(then)?, go(otherwise)?);
            same(e, a, b)?;
            Ok(if a == Kind::Any { b } else { a })
        }
        RowExpr::OneOf { value, options } => {
            let a = go(value)?;
            for option in options {
                same(e, a, go(option)?)?;
            }
            Ok(Kind::Bool)
        }
        RowExpr::Between { value, low, high } => {
            for part in [value, low, high] {
                number(part, go(part)?, "a range")?;
            }
            Ok(Kind::Bool)
        }
        RowExpr::Call { function: RowFunction::Contains, args } => {
            for part in args {
                let found = go(part)?;
                if !matches!(found, Kind::Any | Kind::Text) {
                    return Err(misfit("E0302", part, found, "`in` a text"));
                }
            }
            Ok(Kind::Bool)
        }
        RowExpr::Call { args, .. } => {
            for part in args {
                number(part, go(part)?, "this function")?;
            }
            Ok(Kind::Number)
        }
        RowExpr::Summary { of: super::Summary::Count, value } => {
            go(value)?;
            Ok(Kind::Number)
        }
        RowExpr::Summary { value, .. } => number(value, go(value)?, "a summary"),
    }
}

/// The columns after the stages, where those before are known.
pub fn after(stages: &[RowStage], before: Option<Columns>) -> Result<Option<Columns>, Misfit> {
    let mut at = before;
    for stage in stages {
        at = after_one(stage, at)?;
    }
    Ok(at)
}

fn after_one(stage: &RowStage, before: Option<Columns>) -> Result<Option<Columns>, Misfit> {
    let known = before.as_ref();
    match stage {
        RowStage::Keep(e) => condition(e, kind(e, known)?, "`keep`").map(|_| before),
        RowStage::Drop(e) => condition(e, kind(e, known)?, "`drop`").map(|_| before),
        RowStage::BestBy { value, per, .. } => {
            for e in per.iter().chain(std::iter::once(value)) {
                kind(e, known)?;
            }
            Ok(before)
        }
        RowStage::SortBy { by, .. } => {
            by.iter().try_for_each(|e| kind(e, known).map(|_| ()))?;
            Ok(before)
        }
        RowStage::Take { .. } => Ok(before),
        RowStage::Set { name, value } => {
            let made = kind(value, known)?;
            Ok(before.map(|mut all| {
                all.insert(name.clone(), made);
                all
            }))
        }
        RowStage::Select(columns) => named(columns.iter(), known).map(Some),
        RowStage::GroupBy { per, set } => {
            let mut made = named(per.iter(), known)?;
            for (name, e) in set {
                let within = known.map(|all| {
                    let mut all = all.clone();
                    all.extend(made.iter().map(|(n, k)| (n.clone(), *k)));
                    all
                });
                let found = kind(e, within.as_ref())?;
                outside(e, &made)?;
                made.insert(name.clone(), found);
            }
            Ok(Some(made))
        }
    }
}

/// In a group a column outside of a summary must be one that the group's rows are equal in.
fn outside(e: &RowExpr, per: &Columns) -> Result<(), Misfit> {
    match e {
        RowExpr::Summary { .. } => Ok(()),
        RowExpr::Column(name) if !per.contains_key(name) => Err(Misfit {
            code: "E0302",
            message: format!("`.{name}` has many values in a group"),
            help: format!("summarise it: `mean(.{name})`, `min(.{name})`, `count(.{name})`"),
        }),
        other => other.parts().into_iter().try_for_each(|p| outside(p, per)),
    }
}

fn named<'a>(
    all: impl Iterator<Item = &'a (String, RowExpr)>,
    known: Option<&Columns>,
) -> Result<Columns, Misfit> {
    all.map(|(name, e)| Ok((name.clone(), kind(e, known)?))).collect()
}

/// Unknown column, with the nearest known one.
pub fn unknown(name: &str, known: &Columns) -> Misfit {
    let near = did_you_mean(name, known.keys().map(String::as_str));
    let help = match near {
        Some(near) => format!("did you mean `.{near}`?"),
        None => format!("they have: {}", known.keys().cloned().collect::<Vec<_>>().join(", ")),
    };
    Misfit { code: "E0205", message: format!("these rows have no `.{name}`"), help }
}

fn number(e: &RowExpr, found: Kind, who: &str) -> Result<Kind, Misfit> {
    match found {
        Kind::Any | Kind::Number | Kind::Bool => Ok(Kind::Number),
        Kind::Text => Err(misfit("E0302", e, found, who)),
    }
}

fn condition(e: &RowExpr, found: Kind, who: &str) -> Result<Kind, Misfit> {
    match found {
        Kind::Any | Kind::Bool => Ok(Kind::Bool),
        Kind::Number | Kind::Text => Err(Misfit {
            code: "E0303",
            message: format!("{who} needs a condition, `{e}` is {}", found.name()),
            help: format!("write a comparison, for example `{e} > 0`"),
        }),
    }
}

fn same(e: &RowExpr, a: Kind, b: Kind) -> Result<(), Misfit> {
    let text = |k| k == Kind::Text;
    if a == Kind::Any || b == Kind::Any || text(a) == text(b) {
        return Ok(());
    }
    Err(Misfit {
        code: "E0302",
        message: format!("`{e}` brings together {} and {}", a.name(), b.name()),
        help: "both sides must be texts, or both numbers".to_owned(),
    })
}

fn misfit(code: &'static str, e: &RowExpr, found: Kind, who: &str) -> Misfit {
    Misfit {
        code,
        message: format!("{who} cannot take `{e}`, which is {}", found.name()),
        help: "texts can be compared, joined with `+`, and looked for with `in`".to_owned(),
    }
}
