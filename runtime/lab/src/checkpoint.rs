//! Checkpoints: all weights and states of a run, to disk and back.
//!
//! A checkpoint is a folder `checkpoints/<step>/` with `weights.safetensors`, `state.safetensors` and `checkpoint.json`, which
//! holds the counters of the run and the BLAKE3 hash of the other files and of itself. It is written under a temporary name,
//! reaches the disk, and only then takes its name: a kill or a full disk leaves the checkpoints before it. Loading verifies every byte; a damaged
//! checkpoint is refused with its code and the one before it is used.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use cs336_compiler::scalar::DType;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use crate::error::LabError;
use crate::files::{read_json, sync_folder, temporary};

/// The version of `checkpoint.json`.
const VERSION: u64 = 1;
const WEIGHTS: &str = "weights.safetensors";
const STATE: &str = "state.safetensors";
const INDEX: &str = "checkpoint.json";

/// A named array of numbers, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Storage name.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Sizes, outermost first.
    pub shape: Vec<usize>,
    /// Little-endian elements.
    pub bytes: Vec<u8>,
}

/// How far a run has come.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Counters {
    /// Optimizer steps done.
    pub step: u64,
    /// Tokens learned from.
    pub tokens: u64,
    /// Model FLOPs spent.
    pub flops: f64,
    /// Seconds on the train clock: evaluation, sampling and saving are not on it.
    pub seconds: f64,
}

/// What a checkpoint brings back.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// Its folder.
    pub path: PathBuf,
    /// Where the run was.
    pub counters: Counters,
    /// Trained parameters.
    pub weights: Vec<Tensor>,
    /// Optimizer and layer state.
    pub states: Vec<Tensor>,
}

/// What was found in a folder of checkpoints.
#[derive(Debug, Default)]
pub struct Found {
    /// The newest sound one.
    pub newest: Option<Loaded>,
    /// Newer ones that were refused, newest first.
    pub refused: Vec<LabError>,
}

#[derive(Serialize, Deserialize)]
struct Index {
    version: u64,
    key: String,
    counters: Counters,
    files: BTreeMap<String, FileEntry>,
    /// Of the JSON of the fields above.
    blake3: String,
}

#[derive(Serialize, Deserialize)]
struct FileEntry {
    bytes: u64,
    blake3: String,
}

/// Saves a checkpoint in the folder `all`, then deletes the oldest so that `keep` are left (at least one).
pub fn save(
    all: &Path,
    key: &str,
    counters: Counters,
    weights: &[Tensor],
    states: &[Tensor],
    keep: u64,
) -> Result<PathBuf, LabError> {
    let failed = |source| LabError::write(all, source);
    std::fs::create_dir_all(all).map_err(failed)?;
    let folder = temporary(0o777).prefix(".unfinished-").tempdir_in(all).map_err(failed)?;
    let path = path_of(all, counters.step);
    let mut files = BTreeMap::new();
    for (name, tensors) in [(WEIGHTS, weights), (STATE, states)] {
        let bytes = to_safetensors(tensors, &all.join(name))?;
        put(folder.path(), name, &bytes, &path)?;
        let blake3 = blake3::hash(&bytes).to_hex().to_string();
        files.insert(name.to_owned(), FileEntry { bytes: bytes.len() as u64, blake3 });
    }
    let mut index =
        Index { version: VERSION, key: key.to_owned(), counters, files, blake3: String::new() };
    index.blake3 = index.hash();
    let text = serde_json::to_string_pretty(&index).expect("numbers and texts are JSON") + "\n";
    put(folder.path(), INDEX, text.as_bytes(), &path)?;
    sync_folder(folder.path());
    if path.exists() {
        // The same step of the same run: equal if it is sound, and no loss if it is not.
        let old = all.join(format!(".replaced-{}", counters.step));
        std::fs::remove_dir_all(&old).ok();
        std::fs::rename(&path, &old).map_err(|source| LabError::write(&path, source))?;
    }
    std::fs::rename(folder.path(), &path).map_err(|source| LabError::write(&path, source))?;
    // It has its name now, so there is nothing temporary left to delete.
    let _moved = folder.keep();
    sync_folder(all);
    sweep(all, keep);
    Ok(path)
}

/// The newest sound checkpoint of the run `key`, and the newer ones that were refused.
pub fn newest(all: &Path, key: &str) -> Result<Found, LabError> {
    let mut found = Found::default();
    for step in steps(all)?.into_iter().rev() {
        match load(&path_of(all, step), Some(key)) {
            Ok(loaded) => {
                found.newest = Some(loaded);
                break;
            }
            Err(error) => found.refused.push(error),
        }
    }
    Ok(found)
}

/// Loads one checkpoint and verifies all of it; with a key, also that it is of this run.
pub fn load(path: &Path, key: Option<&str>) -> Result<Loaded, LabError> {
    let bad = |why: String| LabError::Checkpoint { path: path.to_owned(), why };
    let index_path = path.join(INDEX);
    let value: serde_json::Value =
        read_json(&index_path).map_err(|error| bad(format!("`{INDEX}`: {error}")))?;
    let found = value.get("version").and_then(serde_json::Value::as_u64);
    let index: Index = match serde_json::from_value(value) {
        Ok(index) => index,
        Err(error) => {
            return Err(match found {
                Some(found) if found > VERSION => LabError::Data(cs336_data::DataError::Version {
                    path: index_path,
                    found,
                    known: VERSION,
                }),
                Some(_) | None => bad(format!("`{INDEX}`: {error}")),
            });
        }
    };
    if index.hash() != index.blake3 {
        return Err(bad(format!("the checksum of `{INDEX}` does not agree")));
    }
    if index.version != VERSION {
        return Err(LabError::Data(cs336_data::DataError::Version {
            path: index_path,
            found: index.version,
            known: VERSION,
        }));
    }
    if key.is_some_and(|key| key != index.key) {
        return Err(bad("it belongs to another run".to_owned()));
    }
    let read = |name: &str| -> Result<Vec<Tensor>, LabError> {
        let entry = index.files.get(name).ok_or_else(|| bad(format!("`{name}` is not listed")))?;
        let bytes = std::fs::read(path.join(name)).map_err(|e| bad(format!("`{name}`: {e}")))?;
        if bytes.len() as u64 != entry.bytes {
            return Err(bad(format!("`{name}` has {} bytes, not {}", bytes.len(), entry.bytes)));
        }
        if blake3::hash(&bytes).to_hex().as_str() != entry.blake3 {
            return Err(bad(format!("the checksum of `{name}` does not agree")));
        }
        from_safetensors(&bytes).map_err(|why| bad(format!("`{name}`: {why}")))
    };
    let (weights, states) = (read(WEIGHTS)?, read(STATE)?);
    Ok(Loaded { path: path.to_owned(), counters: index.counters, weights, states })
}

/// The steps of the checkpoints that are there, oldest first, sound or not.
pub fn steps(all: &Path) -> Result<Vec<u64>, LabError> {
    let entries = match std::fs::read_dir(all) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(LabError::read(all, source)),
    };
    let mut steps: Vec<u64> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    steps.sort_unstable();
    Ok(steps)
}

/// The folder of a step.
pub fn path_of(all: &Path, step: u64) -> PathBuf {
    all.join(format!("{step:08}"))
}

/// The bytes of a safetensors file; `path` is for messages.
pub fn to_safetensors(tensors: &[Tensor], path: &Path) -> Result<Vec<u8>, LabError> {
    let bad = |why: String| LabError::RunFile { path: path.to_owned(), why };
    let mut views = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let view = TensorView::new(dtype_out(tensor.dtype), tensor.shape.clone(), &tensor.bytes)
            .map_err(|error| bad(format!("`{}`: {error}", tensor.name)))?;
        views.push((tensor.name.as_str(), view));
    }
    safetensors::serialize(views, None).map_err(|error| bad(error.to_string()))
}

/// The tensors of a safetensors file by name. `Err` is one sentence.
pub fn from_safetensors(bytes: &[u8]) -> Result<Vec<Tensor>, String> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
    let mut tensors = Vec::with_capacity(file.len());
    for (name, view) in file.tensors() {
        let dtype = dtype_in(view.dtype())
            .ok_or_else(|| format!("`{name}` has the element type {:?}", view.dtype()))?;
        let (shape, bytes) = (view.shape().to_vec(), view.data().to_vec());
        tensors.push(Tensor { name, dtype, shape, bytes });
    }
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(tensors)
}

fn dtype_out(dtype: DType) -> Dtype {
    match dtype {
        DType::F32 => Dtype::F32,
        DType::Bf16 => Dtype::BF16,
        DType::F16 => Dtype::F16,
        DType::I32 => Dtype::I32,
        DType::Bool => Dtype::BOOL,
    }
}

/// Safetensors knows more types than we do.
fn dtype_in(dtype: Dtype) -> Option<DType> {
    match dtype {
        Dtype::F32 => Some(DType::F32),
        Dtype::BF16 => Some(DType::Bf16),
        Dtype::F16 => Some(DType::F16),
        Dtype::I32 => Some(DType::I32),
        Dtype::BOOL => Some(DType::Bool),
        _ => None,
    }
}

impl Index {
    fn hash(&self) -> String {
        let parts = (self.version, &self.key, &self.counters, &self.files);
        let text = serde_json::to_string(&parts).expect("numbers and texts are JSON");
        blake3::hash(text.as_bytes()).to_hex().to_string()
    }
}

/// A file of the checkpoint that will be `last`, on the disk when this returns.
fn put(folder: &Path, name: &str, bytes: &[u8], last: &Path) -> Result<(), LabError> {
    let failed = |source| LabError::write(&last.join(name), source);
    let mut file = File::create(folder.join(name)).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    file.sync_all().map_err(failed)
}

/// Deletes the oldest checkpoints and what killed writers left. Whatever cannot be deleted stays: that is no reason to stop a run.
fn sweep(all: &Path, keep: u64) {
    let steps = steps(all).unwrap_or_default();
    let keep = usize::try_from(keep.max(1)).unwrap_or(usize::MAX);
    for step in steps.iter().rev().skip(keep) {
        std::fs::remove_dir_all(path_of(all, *step)).ok();
    }
    for entry in std::fs::read_dir(all).into_iter().flatten().filter_map(Result::ok) {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(".unfinished-") || name.starts_with(".replaced-") {
            std::fs::remove_dir_all(entry.path()).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(name: &str, values: &[f32]) -> Tensor {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Tensor { name: name.to_owned(), dtype: DType::F32, shape: vec![values.len()], bytes }
    }

    fn counters(step: u64) -> Counters {
        Counters { step, tokens: step * 64, flops: step as f64 * 1e9, seconds: 0.1 * step as f64 }
    }

    fn save_at(all: &Path, step: u64, keep: u64) -> PathBuf {
        let weights = [tensor("blocks.wq", &[step as f32, 2.0]), tensor("a.gain", &[f32::NAN])];
        save(all, "k", counters(step), &weights, &[tensor("m:a.gain", &[0.5])], keep)
            .expect("saved")
    }

    #[test]
    fn what_is_saved_comes_back() {
        let all = tempfile::tempdir().expect("a temporary folder");
        save_at(all.path(), 7, 2);
        let found = newest(all.path(), "k").expect("read");
        let loaded = found.newest.expect("sound");
        assert_eq!(loaded.counters, counters(7));
        assert_eq!(loaded.weights[1], tensor("blocks.wq", &[7.0, 2.0]));
        assert_eq!(loaded.weights[0].bytes, tensor("a.gain", &[f32::NAN]).bytes);
        assert_eq!(loaded.states, [tensor("m:a.gain", &[0.5])]);
        assert_eq!(newest(&all.path().join("none"), "k").expect("nothing").newest, None);
    }

    #[test]
    fn the_newest_are_kept() {
        let all = tempfile::tempdir().expect("a temporary folder");
        for step in [5, 10, 15, 20] {
            save_at(all.path(), step, 2);
        }
        assert_eq!(steps(all.path()).expect("listed"), [15, 20]);
        save_at(all.path(), 20, 0);
        assert_eq!(steps(all.path()).expect("listed"), [20]);
        let names = std::fs::read_dir(all.path()).expect("listed").count();
        assert_eq!(names, 1, "nothing temporary is left");
    }

    #[test]
    fn any_flipped_byte_is_refused_and_the_one_before_is_used() {
        let all = tempfile::tempdir().expect("a temporary folder");
        save_at(all.path(), 1, 2);
        let path = save_at(all.path(), 2, 2);
        for name in [WEIGHTS, STATE, INDEX] {
            let file = path.join(name);
            let sound = std::fs::read(&file).expect("read");
            for at in 0..sound.len() {
                // White space of the JSON may be another white space; everything that means something may not change.
                let mut bytes = sound.clone();
                bytes[at] ^= 1;
                if name == INDEX && sound[at].is_ascii_whitespace() {
                    continue;
                }
                std::fs::write(&file, &bytes).expect("written");
                let found = newest(all.path(), "k").expect("read");
                assert_eq!(found.newest.map(|l| l.counters.step), Some(1), "{name} byte {at}");
                let code = found.refused.first().map(LabError::code);
                assert!(matches!(code, Some("E0851" | "E0608")), "{name} byte {at}: {code:?}");
            }
            std::fs::write(&file, &sound[..sound.len() - 2]).expect("written");
            assert_eq!(newest(all.path(), "k").expect("read").refused.len(), 1);
            std::fs::remove_file(&file).expect("removed");
            assert_eq!(newest(all.path(), "k").expect("read").refused.len(), 1);
            std::fs::write(&file, &sound).expect("written");
            assert_eq!(newest(all.path(), "k").expect("read").refused.len(), 0);
        }
        assert_eq!(newest(all.path(), "other run").expect("read").newest, None);
    }

    #[test]
    fn a_save_that_fails_leaves_the_ones_before() {
        let all = tempfile::tempdir().expect("a temporary folder");
        save_at(all.path(), 1, 2);
        let wrong = Tensor { shape: vec![3], ..tensor("x", &[1.0]) };
        assert!(save(all.path(), "k", counters(2), &[wrong], &[], 2).is_err());
        assert_eq!(newest(all.path(), "k").expect("read").newest.map(|l| l.counters.step), Some(1));
        let blocked = all.path().join("file");
        std::fs::write(&blocked, "").expect("written");
        let error = save(&blocked, "k", counters(2), &[], &[], 2).expect_err("no folder");
        assert_eq!(error.code(), "E0607");
    }
}
