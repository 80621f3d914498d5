//! Where CUDA's libraries are. They are opened here, kept open, before the first call of cudarc, which would panic over a missing one.
//!
//! Looked for, in order: what the system's loader knows, the folders of `CUDA_HOME` and `CUDA_PATH`, the usual places of a toolkit, and
//! Python environments with NVIDIA's packages (`VIRTUAL_ENV`, `CONDA_PREFIX`, system-wide).

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::error::DeviceError;

/// A library of CUDA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Library {
    /// The driver.
    Driver,
    /// The run-time compiler.
    Nvrtc,
    /// Contractions.
    CublasLt,
}

impl Library {
    /// Names to try with the loader.
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Driver => &["libcuda.so.1", "libcuda.so", "nvcuda.dll"],
            Self::Nvrtc => &["libnvrtc.so.13", "libnvrtc.so", "nvrtc64_130_0.dll"],
            Self::CublasLt => &["libcublasLt.so.13", "libcublasLt.so", "cublasLt64_13.dll"],
        }
    }

    /// What must be open before it.
    fn companion(self) -> Option<&'static str> {
        match self {
            // NVRTC opens this by its bare name.
            Self::Nvrtc => Some("libnvrtc-builtins.so.13.0"),
            Self::Driver | Self::CublasLt => None,
        }
    }

    /// For messages: what people install.
    fn source(self) -> &'static str {
        match self {
            Self::Driver => "NVIDIA's driver, version 580 or later",
            Self::Nvrtc => "the CUDA toolkit 13, or `pip install nvidia-cuda-nvrtc`",
            Self::CublasLt => "the CUDA toolkit 13, or `pip install nvidia-cublas`",
        }
    }
}

/// Makes sure that the library is open; the error says what was looked for.
pub(crate) fn open(library: Library) -> Result<(), DeviceError> {
    static OPEN: Mutex<Vec<(&str, libloading::Library)>> = Mutex::new(Vec::new());
    let mut open = OPEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if open.iter().any(|(name, _)| library.names().contains(name)) {
        return Ok(());
    }
    for name in library.names() {
        if let Some(found) = load(Path::new(name)) {
            open.push((name, found));
            return Ok(());
        }
    }
    let folders = folders();
    for folder in &folders {
        let Some(name) = library.names().first() else { continue };
        if let Some(companion) = library.companion()
            && let Some(found) = load(&folder.join(companion))
        {
            open.push((companion, found));
        }
        if let Some(found) = load(&folder.join(name)) {
            open.push((name, found));
            return Ok(());
        }
    }
    let looked: Vec<String> = folders.iter().map(|f| f.display().to_string()).collect();
    Err(DeviceError::NoCuda {
        what: library.names()[0].to_owned(),
        looked: if looked.is_empty() {
            "the loader's folders".to_owned()
        } else {
            format!("the loader's folders, {}", looked.join(", "))
        },
        source_of_it: library.source().to_owned(),
    })
}

fn load(path: &Path) -> Option<libloading::Library> {
    // SAFETY: initialisers of NVIDIA's libraries run; they are what the user has installed for this purpose.
    unsafe { libloading::Library::new(path) }.ok()
}

/// Folders that exist and may hold the libraries.
fn folders() -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = Vec::new();
    for variable in ["CUDA_HOME", "CUDA_PATH"] {
        if let Some(home) = std::env::var_os(variable) {
            all.push(Path::new(&home).join("lib64"));
            all.push(Path::new(&home).join("lib"));
        }
    }
    all.push("/usr/local/cuda/lib64".into());
    all.push("/opt/cuda/lib64".into());
    let mut roots: Vec<PathBuf> = Vec::new();
    for variable in ["VIRTUAL_ENV", "CONDA_PREFIX"] {
        roots.extend(std::env::var_os(variable).map(|root| Path::new(&root).join("lib")));
    }
    roots.extend(["/usr/local/lib", "/usr/lib"].map(PathBuf::from));
    for root in roots {
        for python in children(&root, "python3") {
            for packages in ["site-packages", "dist-packages"] {
                let nvidia = python.join(packages).join("nvidia");
                all.extend(children(&nvidia, "").into_iter().map(|p| p.join("lib")));
            }
        }
    }
    all.retain(|f| f.is_dir());
    all
}

/// Folders in a folder, by name, in order.
fn children(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<PathBuf> = entries
        .filter_map(|e| e.ok())
        .filter(|e| e.file_name().to_string_lossy().starts_with(prefix))
        .map(|e| e.path())
        .collect();
    found.sort();
    found
}
