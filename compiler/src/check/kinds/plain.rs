//! Data and tokenizer nodes; what a node needs.

use super::super::eval::{Eval, describe};
use super::super::hir::{Spec, TokenizerSpec};
use super::super::row_lower;
use super::super::stages;
use super::super::value::{NodeValue, Value};
use crate::problem::Problem;
use crate::source::Span;
use crate::vocabulary;

/// A data node.
pub(super) fn data(eval: &mut Eval<'_>, n: &NodeValue) -> Option<Spec> {
    match n.fields.get("value") {
        Some(Value::Stream(s)) if row_lower::is_rows(s) => {
            let s = s.clone();
            row_lower::rows_of(eval, &Value::Stream(s), n.span).map(Spec::Rows)
        }
        Some(Value::Stream(s)) => {
            let spec = stages::spec(eval, s, &n.name);
            match stages::not_built(&spec) {
                Some((_, part)) => Some(Spec::NotBuilt { part }),
                None => Some(Spec::Data(spec)),
            }
        }
        Some(Value::Node(other)) => {
            let other = other.clone();
            data(eval, &other)
        }
        Some(other) => {
            let text = format!("`{}` must be data, this is {}", n.name, describe(other));
            eval.problem(
                Problem::new("E0301", n.span, text).help("for example `files(\"data/*.txt\")`"),
            );
            None
        }
        None => None,
    }
}

/// What each kind of tokenizer can be told.
const OWN_FIELDS: &[(&str, &[&str])] = &[
    ("bpe", &["corpus", "vocab", "special", "ties", "pattern"]),
    ("bytes", &["special"]),
    ("characters", &["corpus"]),
    ("gpt2", &["vocab_file", "merges", "special"]),
    ("tiktoken", &["vocab_file", "pattern", "special"]),
];

/// A tokenizer node: byte-pair encoding unless `kind` says otherwise.
pub(super) fn tokenizer(eval: &mut Eval<'_>, n: &NodeValue) -> Option<Spec> {
    let span = |f: &str| n.fields.fields.get(f).and_then(|(_, s)| *s).unwrap_or(n.span);
    let kind = match n.fields.get("kind") {
        None => "bpe".to_owned(),
        Some(Value::Text(t)) => t.to_string(),
        Some(other) => {
            let text = format!(
                "`kind` must be bpe, bytes, characters, gpt2 or tiktoken, this is {}",
                describe(other)
            );
            eval.problem(Problem::new("E0301", span("kind"), text));
            return None;
        }
    };
    let special = texts(eval, n.fields.get("special"), span("special"))?;
    if let Some((_, has)) = OWN_FIELDS.iter().find(|(k, _)| *k == kind)
        && let Some(field) =
            n.fields.fields.keys().find(|f| *f != "kind" && !has.contains(&f.as_str()))
    {
        let text = format!("a tokenizer of {kind} has no `{field}`");
        let help = format!("it has: {}", has.join(", "));
        eval.problem(Problem::new("E0203", span(field), text).help(help));
        return None;
    }
    let corpus = |eval: &mut Eval<'_>| -> Option<_> {
        let Some(v) = n.fields.get("corpus") else {
            let text = format!("the tokenizer `{}` needs `corpus`", n.name);
            eval.problem(Problem::new("E0215", n.span, text));
            return None;
        };
        let s = stages::as_stream(eval, v.clone(), span("corpus"))?;
        Some(stages::spec(eval, &s, &n.name))
    };
    let spec = match kind.as_str() {
        "bpe" => {
            let corpus = corpus(eval)?;
            if let Some((_, part)) = stages::not_built(&corpus) {
                return Some(Spec::NotBuilt { part });
            }
            let Some(vocab) = n.fields.get("vocab") else {
                let text =
                    format!("the tokenizer `{}` needs `vocab`, the number of tokens", n.name);
                eval.problem(Problem::new("E0215", n.span, text));
                return None;
            };
            let vocab = eval.size_of(&vocab.clone(), span("vocab"))?;
            let least = 256 + special.len();
            if vocab < least {
                let text = format!(
                    "a vocabulary of {vocab} is smaller than the {least} bytes and special tokens"
                );
                eval.problem(Problem::new("E0301", span("vocab"), text));
                return None;
            }
            let ties = match n.fields.get("ties") {
                None => "greater".to_owned(),
                Some(Value::Text(t)) if matches!(&**t, "greater" | "first") => t.to_string(),
                Some(other) => {
                    let text =
                        format!("`ties` must be greater or first, this is {}", describe(other));
                    eval.problem(Problem::new("E0301", span("ties"), text));
                    return None;
                }
            };
            let pattern = pattern(eval, n)?.filter(|name| name != "gpt2");
            TokenizerSpec::Bpe { corpus, vocab: vocab as u64, special, ties, pattern }
        }
        "bytes" => TokenizerSpec::Bytes { special },
        "characters" => {
            let corpus = corpus(eval)?;
            if let Some((_, part)) = stages::not_built(&corpus) {
                return Some(Spec::NotBuilt { part });
            }
            TokenizerSpec::Chars { corpus }
        }
        "gpt2" => {
            let text = |f: &str| match n.fields.get(f) {
                Some(Value::Text(t)) => Some(t.to_string()),
                _ => None,
            };
            let Some(vocab) = text("vocab_file") else {
                let p = Problem::new("E0215", n.span, "a `gpt2` tokenizer needs `vocab_file`")
                    .help("`vocab_file = \"vocab.json\", merges = \"merges.txt\"`, or a tokenizer.json alone");
                eval.problem(p);
                return None;
            };
            let base = eval.sources.file(n.span.file).name.clone();
            TokenizerSpec::File { vocab, merges: text("merges"), special, base }
        }
        "tiktoken" => {
            let Some(vocab) = n.fields.get("vocab_file").and_then(text) else {
                let p = Problem::new("E0215", n.span, "a `tiktoken` tokenizer needs `vocab_file`")
                    .help("`vocab_file = \"cl100k_base.tiktoken\", pattern = cl100k`");
                eval.problem(p);
                return None;
            };
            let vocab = vocab.to_owned();
            let Some(pattern) = pattern(eval, n)? else {
                let p = Problem::new("E0215", n.span, "a `tiktoken` tokenizer needs `pattern`")
                    .help("the file has ranks alone: `pattern` is gpt2 (r50k), cl100k or o200k");
                eval.problem(p);
                return None;
            };
            let base = eval.sources.file(n.span.file).name.clone();
            TokenizerSpec::Ranks { vocab, pattern, special, base }
        }
        other => {
            let p = Problem::new(
                "E0301",
                span("kind"),
                format!("there is no tokenizer kind `{other}`"),
            )
            .help("kinds are bpe, bytes, characters, gpt2, tiktoken");
            eval.problem(p);
            return None;
        }
    };
    Some(Spec::Tokenizer(spec))
}

/// How many tokens a tokenizer node has, where that is known before it is made or was found by an earlier run.
pub(super) fn vocab(eval: &mut Eval<'_>, n: &NodeValue) -> Option<f64> {
    declared_vocab(eval, n).or_else(|| eval.world.fact(&n.name, "vocab"))
}

/// The same from the program and its files alone: a corpus may have changed since it was read.
pub(super) fn declared_vocab(eval: &mut Eval<'_>, n: &NodeValue) -> Option<f64> {
    let special: Vec<&str> = match n.fields.get("special") {
        Some(Value::List(l)) => l.iter().filter_map(text).collect(),
        _ => Vec::new(),
    };
    let kind = n.fields.get("kind").and_then(text).unwrap_or("bpe");
    match (kind, n.fields.get("vocab")) {
        ("bpe", Some(Value::Number(q))) => Some(q.value),
        ("bytes", _) => Some(256.0 + special.len() as f64),
        ("gpt2", _) => {
            let path = n.fields.get("vocab_file").and_then(text)?;
            let known = eval.token_files.get(path).copied();
            let count = known.unwrap_or_else(|| in_file(eval, path, &special, n.span));
            eval.token_files.insert(path.to_owned(), count);
            count.map(|n| n as f64)
        }
        ("tiktoken", _) => {
            let path = n.fields.get("vocab_file").and_then(text)?;
            let pattern = n.fields.get("pattern").and_then(text)?;
            let known = eval.token_files.get(path).copied();
            let ranks = known.unwrap_or_else(|| {
                let base = &eval.sources.file(n.span.file).name;
                let (text, _) = eval.world.read(path, Some(base)).ok()?;
                Some(text.lines().filter(|line| !line.is_empty()).count())
            });
            eval.token_files.insert(path.to_owned(), ranks);
            ranks.map(|ranks| vocabulary::vocab_size(&special, pattern, ranks) as f64)
        }
        _ => None,
    }
}

/// The `pattern` of a tokenizer node; the error is said.
fn pattern(eval: &mut Eval<'_>, n: &NodeValue) -> Option<Option<String>> {
    match n.fields.get("pattern") {
        None => Some(None),
        Some(Value::Text(t)) if matches!(&**t, "gpt2" | "cl100k" | "o200k") => {
            Some(Some(t.to_string()))
        }
        Some(other) => {
            let span = n.fields.fields.get("pattern").and_then(|(_, s)| *s).unwrap_or(n.span);
            let text =
                format!("`pattern` must be gpt2, cl100k or o200k, this is {}", describe(other));
            eval.problem(Problem::new("E0301", span, text));
            None
        }
    }
}

/// How many tokens `vocab.json` or `tokenizer.json` and the special ones have. What is wrong with the file is said when it is used.
fn in_file(eval: &Eval<'_>, path: &str, special: &[&str], span: Span) -> Option<usize> {
    let base = &eval.sources.file(span.file).name;
    let (text, _) = eval.world.read(path, Some(base)).ok()?;
    let json: serde_json::Value = serde_json::from_str(&text).ok()?;
    let map = match json.get("model") {
        Some(model) if model.is_object() => model.get("vocab")?.as_object()?,
        Some(_) | None => json.as_object()?,
    };
    let added = json.get("added_tokens").and_then(|a| a.as_array());
    let added = added.into_iter().flatten().filter_map(|t| t.get("content")?.as_str());
    let mut more: Vec<&str> = added.chain(special.iter().copied()).collect();
    more.retain(|t| !map.contains_key(*t));
    more.sort_unstable();
    more.dedup();
    Some(map.len() + more.len())
}

fn text(v: &Value) -> Option<&str> {
    match v {
        Value::Text(t) => Some(t),
        _ => None,
    }
}

fn texts(eval: &mut Eval<'_>, v: Option<&Value>, span: Span) -> Option<Vec<String>> {
    match v {
        None => Some(Vec::new()),
        Some(Value::List(l)) => {
            let mut out = Vec::new();
            for v in l.iter() {
                match v {
                    Value::Text(t) => out.push(t.to_string()),
                    other => {
                        let text = format!("a list of texts is needed, one is {}", describe(other));
                        eval.problem(Problem::new("E0301", span, text));
                        return None;
                    }
                }
            }
            Some(out)
        }
        Some(other) => {
            let text = format!("a list of texts is needed, this is {}", describe(other));
            eval.problem(Problem::new("E0301", span, text));
            None
        }
    }
}

/// Names of the nodes that a node reads.
pub(super) fn needs(n: &NodeValue) -> Vec<String> {
    read(n).into_iter().map(|(name, _)| name).collect()
}

/// The nodes that a node reads, by name, each with a place in the file that declares it or sees it.
pub(super) fn read(n: &NodeValue) -> Vec<(String, Span)> {
    let mut found = Vec::new();
    for (v, _) in n.fields.fields.values() {
        nodes_in(v, &mut found);
    }
    found.retain(|(name, _)| *name != *n.name);
    found
}

fn nodes_in(v: &Value, found: &mut Vec<(String, Span)>) {
    let mut add = |name: &str, at: Span| {
        if !name.is_empty() && !found.iter().any(|(f, _)| f == name) {
            found.push((name.to_owned(), at));
        }
    };
    match v {
        Value::Node(n) => add(&n.name, n.span),
        Value::Later(l) => add(&l.node, l.declared),
        Value::List(l) => l.iter().for_each(|v| nodes_in(v, found)),
        Value::Record(r) => r.fields.values().for_each(|(v, _)| nodes_in(v, found)),
        Value::Program(p) => p.args.fields.values().for_each(|(v, _)| nodes_in(v, found)),
        Value::Stream(s) => {
            let mut at = Some(s);
            while let Some(s) = at {
                if let Some((n, _)) = &s.node
                    && !found.iter().any(|(f, _)| **f == **n)
                {
                    found.push((n.to_string(), s.span));
                }
                s.args.fields.values().for_each(|(v, _)| nodes_in(v, found));
                at = s.input.as_ref();
            }
        }
        _ => {}
    }
}
