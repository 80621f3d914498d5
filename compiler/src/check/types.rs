//! Whether a value fits a declared type.

use super::eval::describe;
use super::kinds::schema::EXACT;
use super::units::{self, Unit};
use super::value::{DefKind, Quantity, Value};
use crate::syntax::ast::{Axis, ExprKind, Type, TypeKind};

/// `Err`: "must be .., this is ..".
pub fn fits(v: &Value, ty: &Type) -> Result<(), String> {
    if matches!(v, Value::Error | Value::Later(_) | Value::Tensor(_) | Value::Weight(_)) {
        return Ok(());
    }
    let wrong = |want: &str| Err(format!("must be {want}, this is {}", describe(v)));
    match &ty.kind {
        TypeKind::Named { path, per, optional, .. } => {
            if *optional && matches!(v, Value::None) {
                return Ok(());
            }
            let name = path.last().map_or("", |p| p.name.as_str());
            match name {
                "Float" => match v {
                    Value::Number(q) if q.unit.is_none() => Ok(()),
                    _ => wrong("a plain number"),
                },
                "Int" => match v {
                    Value::Number(q) if q.unit.is_none() && q.value.fract() == 0.0 => Ok(()),
                    // A size with a unit (`pack(seq = 512 tokens)`) counts as a number of things.
                    _ => wrong("a whole number"),
                },
                "Share" => match v {
                    Value::Number(q) if q.unit.is_none() => Ok(()),
                    _ => wrong("a share such as 10%"),
                },
                "Rate" => match v {
                    Value::Number(q) if q.unit.is_none() => Ok(()),
                    _ => wrong("a plain number of at least 0"),
                },
                "Bool" => match v {
                    Value::Bool(_) => Ok(()),
                    _ => wrong("true or false"),
                },
                "Text" | "Template" => match v {
                    Value::Text(_) => Ok(()),
                    _ => wrong("text"),
                },
                "Schedule" => match v {
                    Value::Number(q) if q.unit.is_none() => Ok(()),
                    Value::Program(p) if p.def.kind == DefKind::Schedule => Ok(()),
                    Value::Def(d) if d.kind == DefKind::Schedule => Ok(()),
                    Value::Row(_) => Ok(()),
                    _ => wrong("a number or a schedule"),
                },
                "Layer" => match v {
                    Value::Layer(_) | Value::Placed(_) | Value::Bracketed(_) | Value::List(_) => {
                        Ok(())
                    }
                    Value::Def(d) if d.kind == DefKind::Layer => Ok(()),
                    _ => wrong("a layer"),
                },
                _ => {
                    let unit = crate::syntax::ast::Unit {
                        amount: path[0].clone(),
                        per: per.clone(),
                        span: ty.span,
                    };
                    // What is no unit is checked where it is used.
                    let Ok((unit, _)) = units::parse_unit(&unit) else { return Ok(()) };
                    match v {
                        Value::Number(q) if q.unit == unit => Ok(()),
                        _ => wrong(&format!("in {}", units::name(&unit))),
                    }
                }
            }
        }
        TypeKind::Range { from, to } => {
            let Value::Number(q) = v else { return wrong("a number") };
            let bound = |e: &crate::syntax::ast::Expr| -> Option<Quantity> {
                match &*e.kind {
                    ExprKind::Number { value, suffix: None } => Some(Quantity::plain(*value)),
                    ExprKind::Number { value, suffix: Some(s) } => match s {
                        crate::syntax::ast::Suffix::Percent => Some(Quantity::plain(value / 100.0)),
                        crate::syntax::ast::Suffix::Unit(u) => {
                            let (unit, scale) = units::parse_unit(u).ok()?;
                            Some(Quantity { unit, ..Quantity::plain(value * scale) })
                        }
                    },
                    _ => None,
                }
            };
            let (Some(a), Some(b)) = (bound(from), bound(to)) else { return Ok(()) };
            let unit: &Unit = &b.unit;
            if q.unit != *unit || !(a.value..=b.value).contains(&q.value) {
                return wrong(&format!("in {}..{}", units::show(&a), units::show(&b)));
            }
            Ok(())
        }
        TypeKind::Tensor { axes, element: None } if is_list(axes) => match v {
            Value::List(l) if l.len() == axes.len() => {
                let mut each = l.iter().zip(axes);
                each.try_for_each(|(v, axis)| fits(v, &of_axis(axis, ty)))
            }
            _ => wrong(&format!("a list of {}", axes.len())),
        },
        TypeKind::Tensor { .. } => match v {
            Value::Number(_) | Value::Bool(_) | Value::List(_) | Value::Record(_) => Ok(()),
            _ => wrong("a tensor"),
        },
        TypeKind::Record(fields) => match v {
            Value::Record(r) => {
                for (name, _) in fields {
                    if r.get(&name.name).is_none() {
                        return Err(format!("must have the field `{}`", name.name));
                    }
                }
                Ok(())
            }
            _ => wrong("a record"),
        },
    }
}

/// What a number that fits its type should be besides: "between 0% and 100%, this is 150%". Settings of programs are finite; a layer may be given
/// an infinite number, to mask with.
pub fn out_of_range(v: &Value, ty: &Type, is_program: bool) -> Option<String> {
    let q = match (v, &ty.kind) {
        (Value::Number(q), TypeKind::Named { .. }) => q,
        (Value::List(l), TypeKind::Tensor { axes, element: None }) if is_list(axes) => {
            let mut each = l.iter().zip(axes);
            return each.find_map(|(v, axis)| out_of_range(v, &of_axis(axis, ty), is_program));
        }
        _ => return None,
    };
    let TypeKind::Named { path, .. } = &ty.kind else { return None };
    let want = match path.last().map_or("", |p| p.name.as_str()) {
        "Share" if !(0.0..=1.0).contains(&q.value) => "between 0% and 100%",
        "Rate" | "Schedule" if q.value < 0.0 => "at least 0",
        "Int" if q.value.abs() >= EXACT => "smaller: numbers are exact up to 2^53",
        _ if is_program && !q.value.is_finite() => "a finite number",
        _ => return None,
    };
    Some(format!("must be {want}, this is {}", describe(v)))
}

/// Types begin with a capital letter: `[Float, Float]` is a list, `[seq, d]` a tensor.
fn is_list(axes: &[Axis]) -> bool {
    !axes.is_empty()
        && axes.iter().all(|a| a.size.is_none() && a.name.name.starts_with(char::is_uppercase))
}

fn of_axis(axis: &Axis, ty: &Type) -> Type {
    let named = TypeKind::Named {
        path: vec![axis.name.clone()],
        per: Vec::new(),
        axes: Vec::new(),
        optional: false,
    };
    Type { kind: named, ..ty.clone() }
}
