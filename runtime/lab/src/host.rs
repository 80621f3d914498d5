//! The one clock and the one reader of environment variables.
//!
//! Everything in this crate that wants to know the time or the environment asks a [`Host`]. The CLI brings the real one;
//! tests bring a [`FakeHost`], whose time passes only when it is told to.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

/// What the surroundings tell.
pub trait Host: Sync {
    /// Seconds on a clock that never goes back.
    fn seconds(&self) -> f64;

    /// Seconds since 1970-01-01 UTC, for manifests.
    fn unix_time(&self) -> u64;

    /// An environment variable.
    fn env(&self, name: &str) -> Option<String>;

    /// Lets time pass.
    fn sleep(&self, seconds: f64) {
        std::thread::sleep(std::time::Duration::from_secs_f64(seconds.max(0.0)));
    }

    /// Bytes of memory that programs could take now; `None` if that cannot be found out.
    fn free_memory(&self) -> Option<u64> {
        None
    }
}

/// The folder for data, tokenizers, facts and calibrations: `CS336C_CACHE`, else the platform's cache folder, else one here.
pub fn cache_folder(host: &dyn Host) -> PathBuf {
    let set = |name: &str| host.env(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(folder) = set("CS336C_CACHE") {
        return folder;
    }
    let platform = if cfg!(target_os = "windows") {
        set("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        set("HOME").map(|home| home.join("Library/Caches"))
    } else {
        set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")))
    };
    platform.map_or_else(|| PathBuf::from(".cs336c-cache"), |folder| folder.join("cs336c"))
}

/// A host for tests.
#[derive(Debug, Default)]
pub struct FakeHost {
    /// What the clock shows.
    pub now: Seconds,
    /// How far the clock moves each time it is read.
    pub tick: Seconds,
    /// The environment.
    pub vars: BTreeMap<String, String>,
}

/// A time that threads may share.
#[derive(Debug, Default)]
pub struct Seconds(AtomicU64);

impl Seconds {
    /// What it is.
    pub fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::SeqCst))
    }

    /// Makes it something else.
    pub fn set(&self, seconds: f64) {
        self.0.store(seconds.to_bits(), Ordering::SeqCst);
    }
}

impl Host for FakeHost {
    fn seconds(&self) -> f64 {
        self.now.set(self.now.get() + self.tick.get());
        self.now.get()
    }

    fn sleep(&self, seconds: f64) {
        self.now.set(self.now.get() + seconds);
    }

    fn unix_time(&self) -> u64 {
        1_700_000_000 + self.now.get() as u64
    }

    fn env(&self, name: &str) -> Option<String> {
        self.vars.get(name).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_folder_can_be_chosen() {
        let mut host = FakeHost::default();
        assert_eq!(cache_folder(&host), PathBuf::from(".cs336c-cache"));
        host.vars.insert("HOME".into(), "/home/ada".into());
        assert!(cache_folder(&host).starts_with("/home/ada"));
        host.vars.insert("CS336C_CACHE".into(), "/big/disk".into());
        assert_eq!(cache_folder(&host), PathBuf::from("/big/disk"));
    }
}
