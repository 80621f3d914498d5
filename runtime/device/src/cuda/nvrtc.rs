//! CUDA C++ to machine code, by NVRTC: the same text for the same architecture gives the same bytes, which a folder may keep.

use std::ffi::CString;
use std::path::{Path, PathBuf};

use cudarc::nvrtc::{result, sys};

use super::find::{self, Library};
use crate::error::DeviceError;

/// Changes when the options do.
const OPTIONS: &[&str] =
    &["--std=c++17", "--extra-device-vectorization", "--device-as-default-execution-space"];

/// A compiler for one architecture.
#[derive(Debug, Clone)]
pub(crate) struct Compiler {
    /// For example `sm_90a`.
    arch: String,
    version: (i32, i32),
    folder: Option<PathBuf>,
}

impl Compiler {
    /// For an architecture, with a folder that keeps what was compiled.
    pub(crate) fn new(arch: &str, folder: Option<&Path>) -> Result<Self, DeviceError> {
        find::open(Library::Nvrtc)?;
        let (mut major, mut minor) = (0, 0);
        // SAFETY: two numbers to write to.
        let status = unsafe { sys::nvrtcVersion(&raw mut major, &raw mut minor) };
        status.result().map_err(|e| failed("its version", &e, ""))?;
        Ok(Self {
            arch: arch.to_owned(),
            version: (major, minor),
            folder: folder.map(Path::to_owned),
        })
    }

    /// Machine code of a text; `name` is what the error calls it.
    pub(crate) fn cubin(&self, name: &str, text: &str) -> Result<Vec<u8>, DeviceError> {
        let kept = self.folder.as_ref().map(|f| f.join(self.key(text)));
        if let Some(bytes) = kept.as_ref().and_then(|path| std::fs::read(path).ok())
            && bytes.starts_with(b"\x7fELF")
        {
            return Ok(bytes);
        }
        let made = self.compile(name, text)?;
        if let Some(path) = kept {
            // Only a matter of speed: what cannot be kept is compiled again.
            keep(&path, &made).ok();
        }
        Ok(made)
    }

    fn key(&self, text: &str) -> String {
        let mut hasher = blake3::Hasher::new();
        for part in [text, &self.arch, &format!("{:?}", self.version), &OPTIONS.concat()] {
            hasher.update(part.as_bytes());
            hasher.update(&[0]);
        }
        format!("{}.cubin", &hasher.finalize().to_hex()[..32])
    }

    fn compile(&self, name: &str, text: &str) -> Result<Vec<u8>, DeviceError> {
        let source = CString::new(text).map_err(|e| failed(name, &e, ""))?;
        let program = result::create_program(&source, None).map_err(|e| failed(name, &e, ""))?;
        let mut options: Vec<String> = OPTIONS.iter().map(|o| (*o).to_owned()).collect();
        options.push(format!("--gpu-architecture={}", self.arch));
        // SAFETY: the program was made above and is destroyed below.
        let done = unsafe { result::compile_program(program, &options) };
        let made = match done {
            Ok(()) => machine_code(program).map_err(|e| failed(name, &e, "")),
            Err(error) => {
                // SAFETY: as above.
                let log = unsafe { result::get_program_log(program) }.unwrap_or_default();
                let log: Vec<u8> = log.iter().map(|c| *c as u8).collect();
                let log = String::from_utf8_lossy(&log);
                Err(failed(name, &error, log.trim_end_matches('\0')))
            }
        };
        // SAFETY: it is not used after this.
        unsafe { result::destroy_program(program) }.ok();
        made
    }
}

fn machine_code(program: sys::nvrtcProgram) -> Result<Vec<u8>, result::NvrtcError> {
    let mut size = 0;
    // SAFETY: a compiled program, and a number to write to.
    unsafe { sys::nvrtcGetCUBINSize(program, &raw mut size) }.result()?;
    let mut bytes = vec![0u8; size];
    // SAFETY: as above, with as many bytes as it asked for.
    unsafe { sys::nvrtcGetCUBIN(program, bytes.as_mut_ptr().cast()) }.result()?;
    Ok(bytes)
}

fn keep(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    // Complete or not there, whoever else writes it.
    let part = path.with_extension(format!("{}.part", std::process::id()));
    std::fs::write(&part, bytes)?;
    std::fs::rename(&part, path)
}

fn failed(name: &str, error: &dyn std::fmt::Debug, log: &str) -> DeviceError {
    let reason = if log.is_empty() {
        format!("NVRTC: {error:?}")
    } else {
        format!("NVRTC: {error:?}\n{log}")
    };
    DeviceError::Compile { kernel: name.to_owned(), reason }
}
