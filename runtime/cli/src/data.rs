//! `cs336c data`: data nodes are read, split and encoded; what is there is shown.

use cs336_compiler::check::hir::Spec;
use cs336_lab::data::{Room, name_of};
use cs336_lab::experiment::order;
use cs336_lab::{Exit, LabError};
use serde_json::json;

use crate::args::{Nodes, Source};
use crate::host::Real;
use crate::program::Known;
use crate::render::{Style, bytes, short};

/// Characters of the first document that are shown.
const EXCERPT: usize = 200;

pub(crate) fn data(
    host: &Real,
    style: Style,
    source: &Source,
    nodes: &Nodes,
) -> Result<Exit, LabError> {
    let known = Known::new(host, source);
    let disk = known.disk();
    let checked = known.program(&disk, source).sound()?;
    let room = Room::new(&known.cache);
    for name in order(&checked.nodes, &nodes.nodes)? {
        match &checked.nodes[&name].spec {
            Spec::Data(spec) => {
                let documents = room.documents(spec).map_err(|e| e.placed(&checked, &name))?;
                let on = [name.as_str()];
                let (count, size) = (documents.len() as f64, documents.bytes() as f64);
                known.facts.set(&name, "documents", count, &on, &checked.nodes);
                known.facts.set(&name, "bytes", size, &on, &checked.nodes);
                let first = documents.iter().next();
                let excerpt: String = first.map_or("", |d| &d.text).chars().take(EXCERPT).collect();
                if style.json {
                    let (path, hash) = (first.map(|d| d.path.as_ref()), documents.hash().to_hex());
                    crate::print(
                        &json!({ "kind": "data", "name": name, "documents": count,
                        "bytes": size, "first": path, "blake3": hash.as_str() })
                        .to_string(),
                    );
                } else {
                    crate::print(&format!(
                        "data {name}: {} documents, {}",
                        short(count),
                        bytes(size)
                    ));
                    crate::print(&format!("    {}", excerpt.replace('\n', "\n    ")));
                }
            }
            Spec::Tokenizer(_) => {
                let made = room.tokenizer(&name, &checked.nodes);
                let tokenizer = made.map_err(|e| e.placed(&checked, &name))?;
                let vocab = tokenizer.vocab_size();
                known.facts.set(&name, "vocab", vocab as f64, &[&name], &checked.nodes);
                if style.json {
                    let value = json!({ "kind": "tokenizer", "name": name, "vocab": vocab });
                    crate::print(&value.to_string());
                } else {
                    crate::print(&format!("tokenizer {name}: {vocab} tokens"));
                }
            }
            Spec::Train(spec) => {
                let made = room.encoded(&spec.data, None, &checked.nodes);
                let encoded = made.map_err(|e| e.placed(&checked, &name))?;
                let (tokens, text) = (encoded.shard.len(), encoded.shard.text_bytes());
                if let Some((owner, part)) = name_of(&spec.data, &checked.nodes) {
                    let on = [owner.as_str(), encoded.tokenizer_name.as_str()];
                    known.facts.set(&part, "tokens", tokens as f64, &on, &checked.nodes);
                }
                if style.json {
                    let path = encoded.shard.path().display().to_string();
                    crate::print(
                        &json!({ "kind": "tokens", "name": name, "tokens": tokens,
                        "text_bytes": text, "path": path })
                        .to_string(),
                    );
                } else {
                    crate::print(&format!(
                        "train {name}: {} tokens, {:.2} bytes each",
                        short(tokens as f64),
                        text as f64 / tokens as f64
                    ));
                }
            }
            Spec::Model
            | Spec::Rows(_)
            | Spec::Fit(_)
            | Spec::Sweep(_)
            | Spec::Outside(_)
            | Spec::Report(_)
            | Spec::After { .. }
            | Spec::NotBuilt { .. } => {}
        }
    }
    known.facts.save()?;
    Ok(Exit::Ok)
}
