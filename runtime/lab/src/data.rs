//! From what a program says about data to documents, tokenizers and token shards.
//!
//! A [`Room`] executes [`DataSpec`]s through `cs336-data`. Tokenizers and shards are kept in the cache folder under the hash of what they are
//! made from, so a second run finds them; documents are remembered for as long as the room is open, since training and held-out
//! text mostly come from one source. Facts on the way (documents, tokens, vocabulary) go to whoever asks.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use cs336_compiler::check::hir::{DataSpec, Nodes, Source, Spec, Stage, TokenizerSpec};
use cs336_data::bpe::{Pattern, files, ranks};
use cs336_data::holdout::hold_out;
use cs336_data::{
    DataError, Documents, Holdout, PackOptions, Sampling, TieRule, TokenShard, Tokenizer,
    TrainOptions, bpe, stories,
};

use crate::error::LabError;
use crate::key::NUMERICS_VERSION;

/// Executes data nodes.
#[derive(Debug)]
pub struct Room {
    cache: PathBuf,
    documents: RefCell<BTreeMap<String, Rc<Documents>>>,
    tokenizers: RefCell<BTreeMap<String, Arc<Tokenizer>>>,
}

/// A corpus as ids, ready to be cut into rows.
#[derive(Debug, Clone)]
pub struct Encoded {
    /// The ids.
    pub shard: Arc<TokenShard>,
    /// What they were made with.
    pub tokenizer: Arc<Tokenizer>,
    /// The name of the tokenizer's node.
    pub tokenizer_name: String,
    /// The hash of the documents.
    pub content: String,
    /// How rows are found, if the program packs.
    pub sampling: Sampling,
}

impl Room {
    /// A room whose files are kept in `cache`.
    pub fn new(cache: &Path) -> Self {
        Self {
            cache: cache.to_owned(),
            documents: RefCell::default(),
            tokenizers: RefCell::default(),
        }
    }

    /// The documents of `spec`, up to where it encodes. A corpus with a holdout and no side named is its training side.
    pub fn documents(&self, spec: &DataSpec) -> Result<Rc<Documents>, LabError> {
        let mut documents = self.source(&spec.source)?;
        let mut done = serde_json::to_string(&spec.source).expect("a source is JSON");
        for (at, stage) in spec.stages.iter().enumerate() {
            let holdout = match stage {
                Stage::HoldoutShare { valid, seed } => {
                    Holdout::Valid { share: *valid, seed: *seed }
                }
                Stage::HoldoutTail { tail } => Holdout::Tail { share: *tail },
                // The side has been taken together with the holdout before it.
                Stage::Split { .. } => continue,
                Stage::Encode { .. } | Stage::Pack { .. } => break,
                Stage::NotBuilt { name, part } => return Err(not_built("stage", name, part)),
            };
            let valid = matches!(
                spec.stages.get(at + 1),
                Some(Stage::Split { name }) if name == "valid"
            );
            done += &serde_json::to_string(stage).expect("a stage is JSON");
            documents = self.side(&documents, &done, holdout, valid)?;
            done += if valid { "valid" } else { "train" };
        }
        Ok(documents)
    }

    /// The tokenizer of the node `name`.
    pub fn tokenizer(&self, name: &str, nodes: &Nodes) -> Result<Arc<Tokenizer>, LabError> {
        let spec = match nodes.get(name).map(|node| &node.spec) {
            Some(Spec::Tokenizer(spec)) => spec,
            Some(Spec::NotBuilt { part }) => return Err(not_built("tokenizer", name, part)),
            Some(
                Spec::Data(_)
                | Spec::Rows(_)
                | Spec::Model
                | Spec::Train(_)
                | Spec::Fit(_)
                | Spec::Sweep(_)
                | Spec::Outside(_)
                | Spec::Report(_)
                | Spec::After { .. },
            )
            | None => {
                return Err(LabError::NoNode { name: name.to_owned(), known: tokenizers(nodes) });
            }
        };
        let id = serde_json::to_string(spec).expect("a tokenizer is JSON");
        if let Some(known) = self.tokenizers.borrow().get(&id) {
            return Ok(Arc::clone(known));
        }
        let tokenizer = Arc::new(self.make_tokenizer(spec, &id)?);
        self.tokenizers.borrow_mut().insert(id, Arc::clone(&tokenizer));
        Ok(tokenizer)
    }

    /// The ids of `spec`. Its tokenizer is the one that it names, else `fallback` (held-out text is encoded as the training text).
    pub fn encoded(
        &self,
        spec: &DataSpec,
        fallback: Option<&Encoded>,
        nodes: &Nodes,
    ) -> Result<Encoded, LabError> {
        let named = spec.stages.iter().find_map(|stage| match stage {
            Stage::Encode { tokenizer } => Some(tokenizer.as_str()),
            Stage::HoldoutShare { .. }
            | Stage::HoldoutTail { .. }
            | Stage::Split { .. }
            | Stage::Pack { .. }
            | Stage::NotBuilt { .. } => None,
        });
        let (tokenizer, tokenizer_name) = match (named, fallback) {
            (Some(name), _) => (self.tokenizer(name, nodes)?, name.to_owned()),
            (None, Some(other)) => (Arc::clone(&other.tokenizer), other.tokenizer_name.clone()),
            (None, None) => {
                return Err(LabError::NoNode {
                    name: "encode".to_owned(),
                    known: tokenizers(nodes),
                });
            }
        };
        let documents = self.documents(spec)?;
        let shard = Arc::new(TokenShard::cached(&self.cache, &tokenizer, &documents)?);
        let sampling = spec.stages.iter().find_map(|stage| match stage {
            Stage::Pack { sample, .. } if sample == "random" => Some(Sampling::Random),
            Stage::Pack { .. }
            | Stage::HoldoutShare { .. }
            | Stage::HoldoutTail { .. }
            | Stage::Split { .. }
            | Stage::Encode { .. }
            | Stage::NotBuilt { .. } => None,
        });
        Ok(Encoded {
            shard,
            tokenizer,
            tokenizer_name,
            content: documents.hash().to_hex().to_string(),
            sampling: sampling.unwrap_or_default(),
        })
    }

    fn source(&self, source: &Source) -> Result<Rc<Documents>, LabError> {
        let id = serde_json::to_string(source).expect("a source is JSON");
        self.remembered(id, || match source {
            Source::Files { pattern, split_on, base } => {
                Ok(Documents::read(&folder_of(base), pattern, split_on.as_deref())?)
            }
            Source::Stories { count, seed } => Ok(stories::stories(*count, *seed)?),
            Source::NotBuilt { name, part } => Err(not_built("source", name, part)),
        })
    }

    fn side(
        &self,
        documents: &Rc<Documents>,
        id: &str,
        holdout: Holdout,
        valid: bool,
    ) -> Result<Rc<Documents>, LabError> {
        let (train_id, valid_id) = (format!("{id}train"), format!("{id}valid"));
        let wanted = if valid { &valid_id } else { &train_id };
        if let Some(known) = self.documents.borrow().get(wanted) {
            return Ok(Rc::clone(known));
        }
        let split = hold_out((**documents).clone(), holdout)?;
        let (train, held) = (Rc::new(split.train), Rc::new(split.valid));
        let side = Rc::clone(if valid { &held } else { &train });
        let mut known = self.documents.borrow_mut();
        known.insert(train_id, train);
        known.insert(valid_id, held);
        Ok(side)
    }

    fn remembered(
        &self,
        id: String,
        make: impl FnOnce() -> Result<Documents, LabError>,
    ) -> Result<Rc<Documents>, LabError> {
        if let Some(known) = self.documents.borrow().get(&id) {
            return Ok(Rc::clone(known));
        }
        let documents = Rc::new(make()?);
        self.documents.borrow_mut().insert(id, Rc::clone(&documents));
        Ok(documents)
    }

    fn make_tokenizer(&self, spec: &TokenizerSpec, id: &str) -> Result<Tokenizer, LabError> {
        let bad = |why: String| LabError::Data(DataError::BadVocabulary { why });
        match spec {
            TokenizerSpec::Bytes { special } => Ok(Tokenizer::bytes(special)?),
            TokenizerSpec::Chars { corpus } => {
                Ok(Tokenizer::chars(&self.documents(corpus)?.texts(), &[])?)
            }
            TokenizerSpec::File { vocab, merges, special, base } => {
                let base = folder_of(base);
                let bpe = match merges {
                    Some(merges) => {
                        let special: Vec<&str> = special.iter().map(String::as_str).collect();
                        files::read_gpt2(&base.join(vocab), &base.join(merges), &special)?
                    }
                    None => files::read_hugging_face(&base.join(vocab))?,
                };
                Ok(Tokenizer::Bpe(bpe))
            }
            TokenizerSpec::Ranks { vocab, pattern, special, base } => {
                let special: Vec<&str> = special.iter().map(String::as_str).collect();
                let file = folder_of(base).join(vocab);
                Ok(Tokenizer::Bpe(ranks::read_ranks(&file, parted(Some(pattern))?, &special)?))
            }
            TokenizerSpec::Bpe { corpus, vocab, special, ties, pattern } => {
                let documents = self.documents(corpus)?;
                let mut hasher = blake3::Hasher::new();
                hasher.update(&NUMERICS_VERSION.to_le_bytes()).update(id.as_bytes());
                let hash = hasher.update(documents.hash().as_bytes()).finalize().to_hex();
                let path = self.cache.join("tokenizers").join(format!("{hash}.json"));
                if let Ok(tokenizer) = Tokenizer::load(&path) {
                    return Ok(tokenizer);
                }
                let ties = TieRule::named(ties)
                    .ok_or_else(|| bad(format!("there is no tie rule `{ties}`")))?;
                let vocab = usize::try_from(*vocab).unwrap_or(usize::MAX);
                let pattern = parted(pattern.as_deref())?;
                let options = TrainOptions { vocab, special: special.clone(), ties, pattern };
                let tokenizer = Tokenizer::Bpe(bpe::train(&documents.texts(), &options)?);
                tokenizer.save(&path)?;
                Ok(tokenizer)
            }
        }
    }
}

impl Encoded {
    /// How `rows` rows of `seq` tokens are found under a run's seed.
    pub fn pack(&self, seq: u64, rows: u64, seed: u64) -> PackOptions {
        PackOptions { seq: seq as usize, rows: rows as usize, seed, sampling: self.sampling }
    }
}

/// What a node reads that is not there; nothing is read.
pub fn missing(spec: &Spec) -> Option<DataError> {
    let texts = |source: &Source| match source {
        Source::Files { pattern, base, .. } => Documents::find(&folder_of(base), pattern).err(),
        Source::Stories { .. } | Source::NotBuilt { .. } => None,
    };
    let file = |base: &str, path: &str| {
        let path = folder_of(base).join(path);
        (!path.exists()).then_some(DataError::NoFile { path })
    };
    match spec {
        Spec::Data(data) => texts(&data.source),
        Spec::Tokenizer(TokenizerSpec::Bpe { corpus, .. } | TokenizerSpec::Chars { corpus }) => {
            texts(&corpus.source)
        }
        Spec::Tokenizer(TokenizerSpec::File { vocab, merges, base, .. }) => {
            file(base, vocab).or_else(|| file(base, merges.as_ref()?))
        }
        Spec::Tokenizer(TokenizerSpec::Ranks { vocab, base, .. }) => file(base, vocab),
        Spec::Train(train) => {
            let on = train.execution.eval.as_ref().map(|eval| &eval.on.source);
            texts(&train.data.source).or_else(|| texts(on?))
        }
        Spec::Tokenizer(TokenizerSpec::Bytes { .. })
        | Spec::Rows(_)
        | Spec::Model
        | Spec::Fit(_)
        | Spec::Sweep(_)
        | Spec::Outside(_)
        | Spec::Report(_)
        | Spec::After { .. }
        | Spec::NotBuilt { .. } => None,
    }
}

/// The pattern by its name; GPT-2's if none is named.
fn parted(name: Option<&str>) -> Result<Pattern, LabError> {
    let bad =
        |name: &str| DataError::BadVocabulary { why: format!("there is no pattern `{name}`") };
    name.map_or(Ok(Pattern::Gpt2), |name| {
        Pattern::named(name).ok_or_else(|| LabError::Data(bad(name)))
    })
}

/// The name of the data node, or of its side, whose documents `spec` begins with: `stories.train`.
pub fn name_of(spec: &DataSpec, nodes: &Nodes) -> Option<(String, String)> {
    nodes.values().find_map(|node| {
        let Spec::Data(other) = &node.spec else { return None };
        if other.source != spec.source {
            return None;
        }
        // A side stands behind its holdout, where the node itself may have further stages.
        let at = spec.stages.iter().rposition(|s| matches!(s, Stage::Split { .. }));
        let side = at.filter(|at| *at <= other.stages.len()).and_then(|at| {
            let mut stages = spec.stages.clone();
            match stages.remove(at) {
                Stage::Split { name } if stages.starts_with(&other.stages) => Some(name),
                _ => None,
            }
        });
        let part = match side {
            Some(side) => format!("{}.{side}", node.name),
            None if spec.stages.starts_with(&other.stages) => node.name.clone(),
            None => return None,
        };
        Some((node.name.clone(), part))
    })
}

/// The folder that paths in the program file `base` are relative to.
fn folder_of(base: &str) -> PathBuf {
    match Path::new(base).parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        Some(_) | None => PathBuf::from("."),
    }
}

fn not_built(what: &str, name: &str, part: &str) -> LabError {
    LabError::NotBuilt { what: format!("the {what} `{name}`"), part: part.to_owned() }
}

fn tokenizers(nodes: &Nodes) -> Vec<String> {
    nodes
        .values()
        .filter(|node| matches!(node.spec, Spec::Tokenizer(_)))
        .map(|node| node.name.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cs336_compiler::check::hir::Node;
    use cs336_compiler::source::{FileId, Span};

    fn node(name: &str, spec: Spec) -> (String, Node) {
        let span = Span::new(FileId(0), 0, 0);
        let (needs, meaning) = (Vec::new(), name.to_owned());
        (name.to_owned(), Node { name: name.into(), kind: "x".into(), span, needs, spec, meaning })
    }

    fn corpus(stages: Vec<Stage>) -> DataSpec {
        DataSpec { source: Source::Stories { count: 60, seed: 3 }, stages }
    }

    fn holdout(side: &str) -> Vec<Stage> {
        vec![Stage::HoldoutTail { tail: 0.1 }, Stage::Split { name: side.into() }]
    }

    fn nodes() -> Nodes {
        let bpe = TokenizerSpec::Bpe {
            corpus: corpus(holdout("train")),
            vocab: 300,
            special: vec!["<|endoftext|>".into()],
            ties: "greater".into(),
            pattern: None,
        };
        Nodes::from([
            node("tales", Spec::Data(corpus(vec![Stage::HoldoutTail { tail: 0.1 }]))),
            node("bpe", Spec::Tokenizer(bpe)),
            node("bytes", Spec::Tokenizer(TokenizerSpec::Bytes { special: Vec::new() })),
        ])
    }

    fn encoded_with(tokenizer: &str, side: &str) -> DataSpec {
        let mut stages = holdout(side);
        stages.push(Stage::Encode { tokenizer: tokenizer.into() });
        stages.push(Stage::Pack { seq: 16, sample: "random".into() });
        corpus(stages)
    }

    #[test]
    fn text_becomes_ids_and_the_second_time_they_are_there() {
        let cache = tempfile::tempdir().expect("a temporary folder");
        let (room, nodes) = (Room::new(cache.path()), nodes());
        let first = room.encoded(&encoded_with("bpe", "train"), None, &nodes).expect("encoded");
        assert_eq!(first.tokenizer.vocab_size(), 300);
        assert_eq!(first.sampling, Sampling::Random);
        let valid = room.encoded(&corpus(holdout("valid")), Some(&first), &nodes).expect("encoded");
        assert_ne!(valid.content, first.content);
        assert_eq!(valid.tokenizer.hash(), first.tokenizer.hash());
        let whole = room.source(&corpus(Vec::new()).source).expect("stories").bytes();
        assert_eq!(first.shard.text_bytes() + valid.shard.text_bytes(), whole);
        let again = Room::new(cache.path()).encoded(&encoded_with("bpe", "train"), None, &nodes);
        assert_eq!(again.expect("encoded").shard.path(), first.shard.path());
        let files =
            |folder: &str| std::fs::read_dir(cache.path().join(folder)).expect("there").count();
        assert_eq!((files("tokenizers"), files("tokens")), (1, 2));
    }

    #[test]
    fn the_node_of_a_corpus_is_found() {
        let nodes = nodes();
        let found = name_of(&encoded_with("bpe", "valid"), &nodes);
        assert_eq!(found, Some(("tales".into(), "tales.valid".into())));
        let mut other = encoded_with("bpe", "valid");
        other.source = Source::Stories { count: 1, seed: 3 };
        assert_eq!(name_of(&other, &nodes), None);
    }

    #[test]
    fn what_is_not_there_has_a_code() {
        let cache = tempfile::tempdir().expect("a temporary folder");
        let (room, nodes) = (Room::new(cache.path()), nodes());
        let files = |pattern: &str| DataSpec {
            source: Source::Files {
                pattern: pattern.into(),
                split_on: None,
                base: cache.path().join("a.cs336").to_string_lossy().into_owned(),
            },
            stages: vec![Stage::Encode { tokenizer: "bytes".into() }],
        };
        std::fs::write(cache.path().join("empty.txt"), "").expect("written");
        std::fs::write(cache.path().join("image.txt"), [0x89, 0x50, 0, 1]).expect("written");
        let web = Source::NotBuilt { name: "warc".into(), part: "part 6".into() };
        for (spec, code) in [
            (files("missing.txt"), "E0601"),
            (files("*.md"), "E0602"),
            (files("image.txt"), "E0603"),
            (files("empty.txt"), "E0604"),
            (DataSpec { source: web, stages: Vec::new() }, "E0840"),
            (encoded_with("bpee", "train"), "E0855"),
        ] {
            let fallback = None;
            let error = match &spec.source {
                Source::NotBuilt { .. } => room.documents(&spec).map(|_| ()),
                Source::Files { .. } | Source::Stories { .. } => {
                    room.encoded(&spec, fallback, &nodes).map(|_| ())
                }
            };
            let error = error.expect_err("refused");
            assert_eq!(error.code(), code, "{error}");
        }
    }
}
