//! Vocabularies in other people's formats.
//!
//! GPT-2's two files: `vocab.json` maps spelled tokens to ids, `merges.txt` has one merge a line. Hugging Face's one file:
//! `tokenizer.json` has both and names the steps before and after. All spell bytes as characters: printable bytes
//! stand for themselves, the other 68 for U+0100, U+0101, ... in order, so that a space is `Ġ` (Radford et al. 2019). From
//! `tokenizer.json` we take what we can do exactly (byte-level BPE with a [`Pattern`] that we know, no normalizer) and
//! refuse the rest by name.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::{Bpe, Pattern, Special, byte_order, printable};
use crate::error::DataError;
use crate::whole::write_whole;

/// Reads `vocab.json` and `merges.txt`. Those of `specials` that the vocabulary lacks get the next ids.
pub fn read_gpt2(vocab: &Path, merges: &Path, specials: &[&str]) -> Result<Bpe, DataError> {
    let vocab_map: BTreeMap<String, u32> = serde_json::from_str(&read_text(vocab)?)
        .map_err(|error| unusable(vocab, format!("it is no map from tokens to ids ({error})")))?;
    let merges_text = read_text(merges)?;
    let merge_pairs: Vec<(&str, &str)> = merges_text
        .lines()
        .enumerate()
        .filter(|(number, line)| !(*number == 0 && line.starts_with("#version")))
        .filter(|(_, line)| !line.is_empty())
        .map(|(number, line)| {
            line.split_once(' ').ok_or_else(|| {
                unusable(
                    merges,
                    format!("line {} is not two tokens with a space between", number + 1),
                )
            })
        })
        .collect::<Result<_, _>>()?;
    assemble(vocab, vocab_map, &merge_pairs, specials)
}

/// Writes `vocab.json` and `merges.txt` as GPT-2's tools read them.
pub fn write_gpt2(bpe: &Bpe, vocab: &Path, merges: &Path) -> Result<(), DataError> {
    let text = serde_json::to_string(&spelled_vocab(bpe)).expect("a map of text is JSON");
    write_whole(vocab, text.as_bytes())?;
    let mut lines = String::from("#version: 0.2\n");
    for (left, right) in spelled_merges(bpe) {
        lines += &format!("{left} {right}\n");
    }
    write_whole(merges, lines.as_bytes())
}

/// Reads Hugging Face's `tokenizer.json`. Its post-processor is not used: we put special tokens ourselves.
pub fn read_hugging_face(path: &Path) -> Result<Bpe, DataError> {
    let bad = |why: String| unusable(path, why);
    let file: Value = serde_json::from_str(&read_text(path)?)
        .map_err(|error| bad(format!("it is not JSON ({error})")))?;
    let model = &file["model"];
    if let Some(kind) = model["type"].as_str().filter(|kind| *kind != "BPE") {
        return Err(bad(format!("its model is `{kind}`, not `BPE`")));
    }
    if !file["normalizer"].is_null() {
        return Err(bad("it normalizes text, which is not supported".to_owned()));
    }
    if model["byte_fallback"] == json!(true) {
        return Err(bad("`byte_fallback` is not supported".to_owned()));
    }
    for text in ["continuing_subword_prefix", "end_of_word_suffix"] {
        if model[text].as_str().is_some_and(|text| !text.is_empty()) {
            return Err(bad(format!("`{text}` is not supported")));
        }
    }
    let pattern = pattern_of(&file["pre_tokenizer"]).map_err(&bad)?;

    let mut vocab: BTreeMap<String, u32> = serde_json::from_value(model["vocab"].clone())
        .map_err(|error| bad(format!("`model.vocab` is no map from tokens to ids ({error})")))?;
    let mut specials = Vec::new();
    for added in file["added_tokens"].as_array().into_iter().flatten() {
        let (Some(text), Some(id)) =
            (added["content"].as_str(), added["id"].as_u64().and_then(|id| u32::try_from(id).ok()))
        else {
            return Err(bad("an added token has no content or id".to_owned()));
        };
        vocab.insert(text.to_owned(), id);
        specials.push(text);
    }
    let merges = model["merges"].as_array().ok_or_else(|| bad("it has no merges".to_owned()))?;
    let merge_pairs: Vec<(&str, &str)> = merges
        .iter()
        .map(|merge| match merge {
            Value::Array(pair) => pair.first()?.as_str().zip(pair.get(1)?.as_str()),
            Value::String(text) => text.split_once(' '),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
        })
        .collect::<Option<_>>()
        .ok_or_else(|| bad("a merge is not two tokens".to_owned()))?;
    let bpe = assemble(path, vocab, &merge_pairs, &specials)?.parted_by(pattern);
    Ok(if model["ignore_merges"] == json!(true) { bpe.whole_first() } else { bpe })
}

/// Writes Hugging Face's `tokenizer.json`.
pub fn write_hugging_face(bpe: &Bpe, path: &Path) -> Result<(), DataError> {
    let byte_level = |use_regex: bool| {
        json!({
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
            "use_regex": use_regex
        })
    };
    let pre_tokenizer = match bpe.pattern() {
        Pattern::Gpt2 => byte_level(true),
        Pattern::Cl100k | Pattern::O200k => {
            let regex = json!({ "Regex": bpe.pattern().spelling() });
            let split = json!({ "type": "Split", "pattern": regex, "behavior": "Isolated", "invert": false });
            json!({ "type": "Sequence", "pretokenizers": [split, byte_level(false)] })
        }
    };
    let added: Vec<Value> = bpe
        .specials()
        .iter()
        .map(|special| {
            json!({
                "id": special.id, "content": special.text, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true
            })
        })
        .collect();
    let merges: Vec<[String; 2]> = spelled_merges(bpe).map(|(left, right)| [left, right]).collect();
    let file = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": null,
        "decoder": byte_level(true),
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": !bpe.unmade().is_empty(), "vocab": spelled_vocab(bpe), "merges": merges
        }
    });
    write_whole(path, serde_json::to_string_pretty(&file).expect("JSON").as_bytes())
}

/// How the pre-tokenizer parts text; `Err` says what it does that ours do not.
fn pattern_of(step: &Value) -> Result<Pattern, String> {
    let prefixed = |step: &Value| step["add_prefix_space"] == json!(true);
    let parts = |step: &Value| step["use_regex"] != json!(false);
    match step["type"].as_str() {
        Some("ByteLevel") if prefixed(step) => {
            Err("`add_prefix_space` is not supported".to_owned())
        }
        Some("ByteLevel") if parts(step) => Ok(Pattern::Gpt2),
        Some("ByteLevel") => Err("its pre-tokenizer does not use GPT-2's pattern".to_owned()),
        Some("Sequence") => match step["pretokenizers"].as_array().map(Vec::as_slice) {
            Some([only]) => pattern_of(only),
            Some([split, bytes]) if split["type"] == "Split" && bytes["type"] == "ByteLevel" => {
                if prefixed(bytes) || parts(bytes) {
                    return Err("its pre-tokenizer parts text twice".to_owned());
                }
                let whole = split["behavior"] == "Isolated" && split["invert"] != json!(true);
                split["pattern"]["Regex"]
                    .as_str()
                    .filter(|_| whole)
                    .and_then(Pattern::spelled)
                    .ok_or_else(|| "its pre-tokenizer has a pattern that is not known".to_owned())
            }
            Some(_) | None => Err("its pre-tokenizer has several steps".to_owned()),
        },
        Some(other) => Err(format!("its pre-tokenizer is `{other}`, not `ByteLevel`")),
        None => Err("it has no pre-tokenizer".to_owned()),
    }
}

/// Ids, bytes and special tokens from spelled parts; `file` is who to blame.
fn assemble(
    file: &Path,
    mut vocab: BTreeMap<String, u32>,
    merges: &[(&str, &str)],
    specials: &[&str],
) -> Result<Bpe, DataError> {
    for special in specials {
        if !vocab.contains_key(*special) {
            let next = vocab.values().max().map_or(Some(0), |last| last.checked_add(1));
            let next = next.ok_or_else(|| unusable(file, "it has no id left".to_owned()))?;
            vocab.insert((*special).to_owned(), next);
        }
    }
    let mut tokens: Vec<Option<Box<[u8]>>> = vec![None; vocab.len()];
    for (spelled, &id) in &vocab {
        let bytes = if specials.contains(&spelled.as_str()) {
            spelled.as_bytes().into()
        } else {
            unspell(spelled)
                .ok_or_else(|| unusable(file, format!("the token {spelled:?} is not byte-level")))?
        };
        match tokens.get_mut(id as usize) {
            Some(place @ None) => *place = Some(bytes),
            Some(Some(_)) => return Err(unusable(file, format!("two tokens have the id {id}"))),
            None => {
                return Err(unusable(
                    file,
                    format!("{} tokens leave gaps below the id {id}", vocab.len()),
                ));
            }
        }
    }
    let tokens: Vec<Box<[u8]>> = tokens.into_iter().flatten().collect();
    let id = |spelled: &str| {
        vocab.get(spelled).copied().ok_or_else(|| {
            unusable(file, format!("a merge names {spelled:?}, which is not in the vocabulary"))
        })
    };
    let merges = merges
        .iter()
        .map(|(left, right)| Ok((id(left)?, id(right)?)))
        .collect::<Result<_, DataError>>()?;
    let specials = specials
        .iter()
        .map(|text| Ok(Special { text: (*text).to_owned(), id: id(text)? }))
        .collect::<Result<_, DataError>>()?;
    Bpe::new(tokens, merges, specials).map_err(|error| unusable(file, error.to_string()))
}

fn spelled_vocab(bpe: &Bpe) -> Map<String, Value> {
    let is_special = |id: u32| bpe.specials().iter().any(|special| special.id == id);
    (0..)
        .zip(bpe.tokens())
        .filter(|(_, token)| !token.is_empty())
        .map(|(id, token)| {
            let spelled = if is_special(id) {
                String::from_utf8_lossy(token).into_owned()
            } else {
                spell(token)
            };
            (spelled, json!(id))
        })
        .collect()
}

fn spelled_merges(bpe: &Bpe) -> impl Iterator<Item = (String, String)> {
    let token = |id: u32| spell(&bpe.tokens()[id as usize]);
    bpe.merges().iter().map(move |&(left, right)| (token(left), token(right)))
}

/// Bytes as GPT-2's characters.
pub(crate) fn spell(bytes: &[u8]) -> String {
    let table = characters();
    bytes.iter().map(|&byte| table[usize::from(byte)]).collect()
}

/// GPT-2's characters as bytes.
pub(crate) fn unspell(spelled: &str) -> Option<Box<[u8]>> {
    spelled
        .chars()
        .map(|character| match u32::from(character) {
            code @ 0..256 if printable(code as u8) => Some(code as u8),
            code @ 256..324 => byte_order().filter(|&b| !printable(b)).nth(code as usize - 256),
            _ => None,
        })
        .collect()
}

fn characters() -> [char; 256] {
    let mut table = ['\0'; 256];
    for byte in byte_order().filter(|&byte| printable(byte)) {
        table[usize::from(byte)] = char::from(byte);
    }
    for (byte, character) in byte_order().filter(|&byte| !printable(byte)).zip('\u{100}'..) {
        table[usize::from(byte)] = character;
    }
    table
}

fn read_text(path: &Path) -> Result<String, DataError> {
    let bytes = std::fs::read(path).map_err(|source| DataError::read(path, source))?;
    String::from_utf8(bytes).map_err(|_| unusable(path, "it is not UTF-8".to_owned()))
}

fn unusable(path: &Path, why: String) -> DataError {
    DataError::TokenizerFile { path: path.to_owned(), why }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpe::{TieRule, TrainOptions, train};

    fn small(pattern: Pattern) -> Bpe {
        let text = crate::stories::written(30, 5).join();
        let options = TrainOptions {
            vocab: 400,
            special: vec!["<|endoftext|>".to_owned(), "<|é|>".to_owned()],
            ties: TieRule::LowestIds,
            pattern,
        };
        train(&[&text], &options).expect("enough text")
    }

    fn assert_same(one: &Bpe, other: &Bpe) {
        assert_eq!(one.tokens(), other.tokens());
        assert_eq!(one.merges(), other.merges());
        assert_eq!(one.specials(), other.specials());
    }

    #[test]
    fn every_byte_is_spelled_and_read_back() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(unspell(&spell(&bytes)).as_deref(), Some(bytes.as_slice()));
        assert_eq!(spell(b" \n\x00\xad"), "ĠĊĀŃ");
        assert_eq!(unspell(" "), None);
    }

    #[test]
    fn both_formats_come_back() {
        let bpe = small(Pattern::Gpt2);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let at = |name: &str| folder.path().join(name);
        write_gpt2(&bpe, &at("vocab.json"), &at("merges.txt")).expect("written");
        let specials = ["<|endoftext|>", "<|é|>"];
        let read = read_gpt2(&at("vocab.json"), &at("merges.txt"), &specials).expect("read");
        assert_same(&bpe, &read);
        for pattern in [Pattern::Gpt2, Pattern::Cl100k, Pattern::O200k] {
            let bpe = small(pattern);
            write_hugging_face(&bpe, &at("tokenizer.json")).expect("written");
            let read = read_hugging_face(&at("tokenizer.json")).expect("read");
            assert_same(&bpe, &read);
            assert_eq!(read.pattern(), pattern);
        }
    }

    #[test]
    fn what_we_cannot_do_is_refused_by_name() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("tokenizer.json");
        write_hugging_face(&small(Pattern::Gpt2), &path).expect("written");
        let good = std::fs::read_to_string(&path).expect("read");
        for (from, to, names) in [
            ("\"BPE\"", "\"Unigram\"", "Unigram"),
            ("\"normalizer\": null", "\"normalizer\": {}", "normalizes"),
            ("\"use_regex\": true", "\"use_regex\": false", "pattern"),
            ("\"type\": \"ByteLevel\"", "\"type\": \"Metaspace\"", "Metaspace"),
            ("\"byte_fallback\": false", "\"byte_fallback\": true", "byte_fallback"),
            ("{", "[", "JSON"),
        ] {
            std::fs::write(&path, good.replacen(from, to, 1)).expect("written");
            let error = read_hugging_face(&path).expect_err("refused");
            assert_eq!(error.code(), "E0609");
            assert!(error.to_string().contains(names), "{error}");
        }
        let missing = read_hugging_face(&folder.path().join("none")).expect_err("missing");
        assert_eq!(missing.code(), "E0601");
    }

    #[test]
    fn ids_of_gpt2() {
        let (Some(vocab), Some(merges), Some(ids)) = (
            crate::witness::shared("bpe/gpt2_vocab.json"),
            crate::witness::shared("bpe/gpt2_merges.txt"),
            crate::witness::shared("bpe/gpt2_reference_ids.json"),
        ) else {
            return;
        };
        let bpe = read_gpt2(&vocab, &merges, &["<|endoftext|>"]).expect("GPT-2's vocabulary");
        assert_eq!(bpe.vocab_size(), 50_257);
        let reference: BTreeMap<String, Vec<u32>> =
            serde_json::from_str(&std::fs::read_to_string(&ids).expect("read")).expect("a map");
        assert!(reference.len() >= 11);
        for (name, expected) in reference {
            let text = match name.strip_prefix("str:") {
                Some(text) => text.to_owned(),
                None => std::fs::read_to_string(ids.with_file_name(&name)).expect("read"),
            };
            assert_eq!(bpe.encode(&text), expected, "{name}");
            let (mut stream, mut streamed) = (bpe.stream(), Vec::new());
            for character in text.chars() {
                stream.push(character.encode_utf8(&mut [0; 4]), &mut streamed);
            }
            stream.finish(&mut streamed);
            assert_eq!(streamed, expected, "{name}, character by character");
        }
    }
}
