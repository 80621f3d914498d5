//! The folder of a run: `runs/<name>-<key8>/`.
//!
//! | name | what |
//! | --- | --- |
//! | `manifest.json` | what the run is: sources, key and its inputs, seeds, versions, machine; written once |
//! | `metrics.jsonl`, `metrics.parquet` | one row per step; at the end also as Parquet |
//! | `samples.jsonl` | texts that the model wrote on the way |
//! | `events.jsonl` | what happened when: starts, saves, resumes, speed; not part of the result |
//! | `checkpoints/<step>/` | see [`crate::checkpoint`] |
//! | `failure.json` | why it failed, until it is tried again |
//! | `stopped.json` | at which rung its sweep stopped it, until it goes on all the same |
//! | `asked.json`, `answer.json` | of a run of others: what was asked and paid for, and the answer as it came |
//! | `result.json` | the figures of the finished run; its being there says that the run is finished |
//! | `damaged-1/` | what said which run this is and how it ended, where it could not be read any more |
//! | `lock` | held while a process writes here |

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::checkpoint;
use crate::error::LabError;
use crate::files::{read_json, write_json, write_whole};
use crate::host::Host;
use crate::key::{KeyInputs, key8};

/// The version of `manifest.json` and `result.json`.
pub const SCHEMA_VERSION: u64 = 1;

/// What a run is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`SCHEMA_VERSION`].
    pub version: u64,
    /// The node's name.
    pub name: String,
    /// The run's key.
    pub key: String,
    /// What the key is made of.
    pub inputs: KeyInputs,
    /// The program as it was: name and text of every file of the user, `--set` included.
    pub sources: Vec<(String, String)>,
    /// Seeds by purpose.
    pub seeds: Value,
    /// The version of this program.
    pub cs336c: String,
    /// Operating system, processor, threads.
    pub machine: Value,
    /// When it was started first, in seconds since 1970.
    pub created: u64,
    /// Figures that are known from the start, as the ledger has them: of runs that come to no end too.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<String, f64>,
}

/// Where a run stands.
#[derive(Debug, Clone, PartialEq)]
pub enum Status {
    /// Nothing is there.
    New,
    /// It has a folder; the step of its newest checkpoint, 0 if there is none.
    Incomplete {
        /// Steps that need not be done again.
        step: u64,
    },
    /// It failed and was not tried again.
    Failed {
        /// Steps that need not be done again.
        step: u64,
        /// Code of what went wrong.
        code: String,
        /// What went wrong.
        why: String,
    },
    /// Its sweep stopped it early; what there is of it is whole.
    Stopped {
        /// Steps that need not be done again.
        step: u64,
        /// The content of `stopped.json`.
        at: Stopped,
    },
    /// Finished; the figures.
    Done {
        /// The content of `result.json`.
        result: Value,
    },
}

/// An open run; nobody else writes it meanwhile.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    /// Its lock ends with it.
    _lock: File,
    events: File,
    /// What was damaged when it was opened, and what became of it.
    mended: Option<LabError>,
}

/// The folder of the run `name` with `key`; below `root`, whatever the name is.
pub fn path_of(root: &Path, name: &str, key: &str) -> PathBuf {
    let safe = |part: &str| match part {
        "" | "." | ".." => "~".to_owned(),
        part => part.replace('\\', "~"),
    };
    let parts: Vec<String> = name.split('/').map(safe).collect();
    root.join(format!("{}-{}", parts.join("/"), key8(key)))
}

/// Where a run stands, without opening it. What is damaged counts as not there: the run then goes on from its checkpoints.
pub fn status(path: &Path) -> Result<Status, LabError> {
    let manifest = path.join("manifest.json");
    if !manifest.exists() {
        return Ok(Status::New);
    }
    let sound = sound::<Manifest>(&manifest)?.is_some();
    if let (true, Some(result)) = (sound, sound_or_none(&path.join("result.json"))?) {
        return Ok(Status::Done { result });
    }
    let steps = checkpoint::steps(&path.join("checkpoints"))?;
    let step = steps.last().copied().unwrap_or(0);
    if let (true, Some(at)) = (sound, sound_or_none(&path.join("stopped.json"))?) {
        return Ok(Status::Stopped { step, at });
    }
    if let (true, Some(failure)) = (sound, sound_or_none(&path.join("failure.json"))?) {
        let Failure { code, why, .. } = failure;
        return Ok(Status::Failed { step, code, why });
    }
    Ok(Status::Incomplete { step })
}

/// A file of a run; `None`: it is damaged.
fn sound<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, LabError> {
    match read_json(path) {
        Ok(value) => Ok(Some(value)),
        Err(LabError::RunFile { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The same; `None` also where there is no such file.
fn sound_or_none<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, LabError> {
    if path.exists() { sound(path) } else { Ok(None) }
}

/// `stopped.json`: where a run stood when its sweep stopped it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stopped {
    /// [`SCHEMA_VERSION`].
    pub version: u64,
    /// The rung, counted from 1.
    pub rung: usize,
    /// The step at which it was compared.
    pub step: u64,
    /// What was compared there; `None`: it is not a number.
    pub measure: Option<f64>,
}

/// Marks the run in the folder `path` as stopped by its sweep. It is nobody's meanwhile: its sweep has closed it.
pub(crate) fn stop(path: &Path, at: &Stopped) -> Result<(), LabError> {
    write_json(&path.join("stopped.json"), at)
}

/// `failure.json`.
#[derive(Serialize, Deserialize)]
struct Failure {
    version: u64,
    code: String,
    why: String,
}

/// The runs under a folder.
#[derive(Debug, Default)]
pub struct Listed {
    /// In the order of their paths.
    pub runs: Vec<(PathBuf, Manifest)>,
    /// Of folders whose manifest cannot be read: what is wrong, in the same order.
    pub damaged: Vec<LabError>,
}

/// All runs under `root`: folders with a manifest.
pub fn list(root: &Path) -> Result<Listed, LabError> {
    let (mut found, mut damaged, mut open) = (Vec::new(), Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = open.pop() {
        let manifest = folder.join("manifest.json");
        if manifest.exists() {
            match read_json(&manifest) {
                Ok(read) => found.push((folder, read)),
                Err(error) => damaged.push((folder, error)),
            }
            continue;
        }
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(source) => return Err(LabError::read(&folder, source)),
        };
        open.extend(entries.filter_map(Result::ok).map(|e| e.path()).filter(|path| path.is_dir()));
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    damaged.sort_by(|a, b| a.0.cmp(&b.0));
    let damaged = damaged.into_iter().map(|(_, error)| error).collect();
    Ok(Listed { runs: found, damaged })
}

/// Which runs there are, by key.
#[derive(Debug, Default)]
pub struct Known(BTreeMap<String, String>);

impl Known {
    /// The runs under `root`.
    pub fn read(root: &Path) -> Result<Self, LabError> {
        Ok(Self(list(root)?.runs.into_iter().map(|(_, m)| (m.key, m.name)).collect()))
    }

    /// The name that the run with `key` has.
    pub fn name_of(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }
}

impl RunDir {
    /// Opens the run's folder, makes it and its manifest where they are not there, and takes its lock.
    pub fn open(root: &Path, manifest: &Manifest) -> Result<Self, LabError> {
        let path = path_of(root, &manifest.name, &manifest.key);
        let failed = |source| LabError::write(&path, source);
        std::fs::create_dir_all(&path).map_err(failed)?;
        let append = |name: &str| {
            let path = path.join(name);
            let opened = OpenOptions::new().create(true).append(true).open(&path);
            opened.map_err(|source| LabError::write(&path, source))
        };
        let lock = append("lock")?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LabError::Locked { dir: path }),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let manifest_path = path.join("manifest.json");
        let mended = damaged(&manifest_path)?;
        if mended.is_some() {
            // Checkpoints carry the key of their run, so the run goes on from them; what else was said of it is made anew.
            keep_aside(&path)?;
        }
        if manifest_path.exists() {
            let there: Value = read_json(&manifest_path)?;
            let found = there.get("version").and_then(Value::as_u64).unwrap_or(0);
            if found != SCHEMA_VERSION {
                return Err(LabError::Data(cs336_data::DataError::Version {
                    path: manifest_path,
                    found,
                    known: SCHEMA_VERSION,
                }));
            }
            if there.get("key").and_then(Value::as_str) != Some(&manifest.key) {
                return Err(LabError::RunFile {
                    path: manifest_path,
                    why: "it is the manifest of another run".to_owned(),
                });
            }
        } else {
            write_json(&manifest_path, manifest)?;
        }
        let events = append("events.jsonl")?;
        Ok(Self { path, _lock: lock, events, mended })
    }

    /// What was damaged when it was opened; its files are kept in `damaged-1`.
    pub fn mended(&self) -> Option<&LabError> {
        self.mended.as_ref()
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `metrics.jsonl`.
    pub fn metrics(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    /// `checkpoints`.
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// Notes what happened. Events are for people and lost without harm, so a full disk does not stop a run here.
    pub fn event(&mut self, host: &dyn Host, kind: &str, fields: Value) {
        let mut event = json!({ "at": host.unix_time(), "event": kind });
        if let (Some(event), Value::Object(fields)) = (event.as_object_mut(), fields) {
            event.extend(fields);
        }
        self.events.write_all((event.to_string() + "\n").as_bytes()).ok();
    }

    /// Appends a text that the model wrote after `step`.
    pub fn sample(&self, step: u64, prompt: &str, text: &str) -> Result<(), LabError> {
        let path = self.path.join("samples.jsonl");
        let line = json!({ "step": step, "prompt": prompt, "text": text }).to_string() + "\n";
        let opened = OpenOptions::new().create(true).append(true).open(&path);
        opened
            .and_then(|mut file| file.write_all(line.as_bytes()))
            .map_err(|source| LabError::write(&path, source))
    }

    /// Drops samples past `step`, so that a resumed run writes them anew.
    pub fn keep_samples(&self, step: u64) -> Result<(), LabError> {
        let path = self.path.join("samples.jsonl");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(LabError::read(&path, source)),
        };
        let early = |line: &&str| {
            let value: Value = serde_json::from_str(line).unwrap_or(Value::Null);
            value.get("step").and_then(Value::as_u64).is_some_and(|at| at <= step)
        };
        let kept: String = text.lines().filter(early).map(|line| format!("{line}\n")).collect();
        if kept == text { Ok(()) } else { write_whole(&path, kept.as_bytes()) }
    }

    /// Marks the run as failed.
    pub fn fail(&mut self, host: &dyn Host, error: &LabError) -> Result<(), LabError> {
        let (code, why) = (error.code().to_owned(), error.to_string());
        self.event(host, "failed", json!({ "code": code, "why": why }));
        let failure = Failure { version: SCHEMA_VERSION, code, why };
        write_json(&self.path.join("failure.json"), &failure)
    }

    /// It goes on: that it failed before, or that its sweep stopped it, does not count.
    pub fn forgive(&self) -> Result<(), LabError> {
        for name in ["failure.json", "stopped.json"] {
            let path = self.path.join(name);
            if let Err(source) = std::fs::remove_file(&path)
                && source.kind() != std::io::ErrorKind::NotFound
            {
                return Err(LabError::write(&path, source));
            }
        }
        Ok(())
    }

    /// Marks the run as finished, with its figures.
    pub fn finish(&self, result: &Value) -> Result<(), LabError> {
        write_json(&self.path.join("result.json"), result)
    }
}

/// What is wrong with a manifest that is there and cannot be read. One of another version can.
fn damaged(manifest: &Path) -> Result<Option<LabError>, LabError> {
    if !manifest.exists() {
        return Ok(None);
    }
    let version = match read_json::<Value>(manifest) {
        Ok(there) => there.get("version").and_then(Value::as_u64),
        Err(_) => None,
    };
    match (version, read_json::<Manifest>(manifest)) {
        (Some(version), _) if version != SCHEMA_VERSION => Ok(None),
        (_, Ok(_)) => Ok(None),
        (_, Err(error @ LabError::RunFile { .. })) => Ok(Some(error)),
        (_, Err(error)) => Err(error),
    }
}

/// Moves what says which run this is and how it ended to a folder of its own, `damaged-1`.
fn keep_aside(path: &Path) -> Result<(), LabError> {
    let free = (1..).map(|n| path.join(format!("damaged-{n}"))).find(|p| !p.exists());
    let aside = free.expect("there are more numbers than folders");
    let failed = |source| LabError::write(&aside, source);
    std::fs::create_dir_all(&aside).map_err(failed)?;
    for name in ["result.json", "failure.json", "stopped.json", "manifest.json"] {
        if path.join(name).exists() {
            std::fs::rename(path.join(name), aside.join(name)).map_err(failed)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::FakeHost;

    #[test]
    fn folders_lie_below_the_root() {
        let at = |name: &str| path_of(Path::new("runs"), name, "0123456789").display().to_string();
        assert_eq!(at("iso/07"), "runs/iso/07-01234567");
        assert_eq!(at("../evil"), "runs/~/evil-01234567");
        assert_eq!(at("/abs"), "runs/~/abs-01234567");
        assert_eq!(at(""), "runs/~-01234567");
    }

    fn manifest(name: &str) -> Manifest {
        let inputs = KeyInputs {
            meaning: "train".to_owned(),
            data: BTreeMap::new(),
            numerics: 1,
            device: None,
        };
        Manifest {
            version: SCHEMA_VERSION,
            name: name.to_owned(),
            key: inputs.key(),
            inputs,
            sources: vec![("a.cs336".to_owned(), "knob x = 1".to_owned())],
            seeds: json!({ "order": 1 }),
            cs336c: "0.1.0".to_owned(),
            machine: json!({ "os": "linux" }),
            created: 0,
            columns: BTreeMap::new(),
        }
    }

    #[test]
    fn a_run_goes_from_new_to_done() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let manifest = manifest("iso/07");
        let path = path_of(root.path(), &manifest.name, &manifest.key);
        assert_eq!(status(&path).expect("read"), Status::New);
        let mut run = RunDir::open(root.path(), &manifest).expect("opened");
        run.event(&FakeHost::default(), "start", json!({ "step": 0 }));
        assert_eq!(status(&path).expect("read"), Status::Incomplete { step: 0 });
        run.finish(&json!({ "loss": 1.5 })).expect("written");
        assert_eq!(status(&path).expect("read"), Status::Done { result: json!({ "loss": 1.5 }) });
        let listed = list(root.path()).expect("listed").runs;
        assert_eq!(listed, [(path.clone(), manifest)]);
        let events = std::fs::read_to_string(path.join("events.jsonl")).expect("read");
        assert_eq!(events.lines().count(), 1);
    }

    #[test]
    fn a_failed_run_says_why_until_it_is_tried_again() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let mut run = RunDir::open(root.path(), &manifest("a")).expect("opened");
        run.forgive().expect("nothing to forgive");
        let error = LabError::Tensor("too short".to_owned());
        run.fail(&FakeHost::default(), &error).expect("written");
        let failed =
            Status::Failed { step: 0, code: "E0857".to_owned(), why: "too short".to_owned() };
        assert_eq!(status(run.path()).expect("read"), failed);
        run.forgive().expect("removed");
        assert_eq!(status(run.path()).expect("read"), Status::Incomplete { step: 0 });
    }

    #[test]
    fn two_writers_do_not_meet() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let first = RunDir::open(root.path(), &manifest("a")).expect("opened");
        let second = RunDir::open(root.path(), &manifest("a"));
        assert_eq!(second.expect_err("locked").code(), "E0850");
        drop(first);
        RunDir::open(root.path(), &manifest("a")).expect("free again");
    }

    #[test]
    fn a_damaged_manifest_hides_no_other_run_and_is_kept_aside() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let other = Manifest { key: "0123456789".to_owned(), ..manifest("b") };
        RunDir::open(root.path(), &other).expect("opened");
        let run = RunDir::open(root.path(), &manifest("a")).expect("opened");
        run.finish(&json!({ "loss": 1.5 })).expect("written");
        let path = run.path().to_owned();
        drop(run);
        std::fs::write(path.join("manifest.json"), "{\"version\": 1, \"na").expect("written");
        let listed = list(root.path()).expect("listed");
        assert_eq!((listed.runs.len(), listed.damaged.len()), (1, 1));
        assert!(listed.damaged[0].to_string().contains("manifest.json"), "{:?}", listed.damaged);
        // Nobody can say any more of which run the result is.
        assert_eq!(status(&path).expect("read"), Status::Incomplete { step: 0 });
        let run = RunDir::open(root.path(), &manifest("a")).expect("opened");
        assert_eq!(run.mended().map(LabError::code), Some("E0856"));
        assert_eq!(list(root.path()).expect("listed").runs.len(), 2);
        let kept = |name: &str| path.join("damaged-1").join(name).exists();
        assert!(kept("manifest.json") && kept("result.json"));
        assert_eq!(status(&path).expect("read"), Status::Incomplete { step: 0 });
    }

    #[test]
    fn other_versions_and_other_keys_are_refused() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let run = RunDir::open(root.path(), &manifest("a")).expect("opened");
        let path = run.path().join("manifest.json");
        drop(run);
        let text = std::fs::read_to_string(&path).expect("read");
        for (from, to, code) in [
            ("\"version\": 1", "\"version\": 2", "E0608"),
            ("\"key\": \"", "\"key\": \"0", "E0856"),
        ] {
            std::fs::write(&path, text.replacen(from, to, 1)).expect("written");
            let error = RunDir::open(root.path(), &manifest("a")).expect_err("refused");
            assert_eq!(error.code(), code, "{to}");
        }
    }

    #[test]
    fn samples_past_a_step_are_dropped() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let run = RunDir::open(root.path(), &manifest("a")).expect("opened");
        run.keep_samples(3).expect("nothing there");
        for step in [2, 4, 6] {
            run.sample(step, "Once", " upon\na time").expect("written");
        }
        run.keep_samples(4).expect("cut");
        let text = std::fs::read_to_string(run.path().join("samples.jsonl")).expect("read");
        assert_eq!(text.lines().count(), 2);
    }
}
