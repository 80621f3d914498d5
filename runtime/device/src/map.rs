//! Files as memory, read only, without copying.

use std::path::Path;

use memmap2::Mmap;

use crate::error::DeviceError;

/// A file's bytes.
///
/// The file must not be shortened or changed while it is mapped; the project's own data files are written under
/// another name and renamed when complete, and never changed afterwards.
#[derive(Debug)]
pub struct Mapped {
    /// None for an empty file, which cannot be mapped.
    map: Option<Mmap>,
}

impl Mapped {
    /// Maps the file at `path`.
    pub fn open(path: &Path) -> Result<Self, DeviceError> {
        let fail = |e: std::io::Error| DeviceError::File {
            path: path.display().to_string(),
            reason: e.to_string(),
        };
        let file = std::fs::File::open(path).map_err(fail)?;
        if file.metadata().map_err(fail)?.len() == 0 {
            return Ok(Self { map: None });
        }
        // SAFETY: the mapping is read only, and files that are mapped are not changed (see the type's comment).
        let map = unsafe { Mmap::map(&file) }.map_err(fail)?;
        Ok(Self { map: Some(map) })
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        self.map.as_deref().unwrap_or(&[])
    }

    /// The bytes as little-endian u16 numbers, without copying, if the length is even.
    pub fn u16s(&self) -> Option<&[u16]> {
        let bytes = self.bytes();
        if !bytes.len().is_multiple_of(2) || cfg!(target_endian = "big") {
            return None;
        }
        // SAFETY: mappings begin at a page, so they are aligned; every bit pattern is a u16.
        Some(unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len() / 2) })
    }
}

impl std::ops::Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_seen_as_they_are() {
        let folder = std::env::temp_dir().join(format!("cs336-map-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let (full, empty) = (folder.join("full"), folder.join("empty"));
        std::fs::write(&full, [1u8, 0, 2, 1]).expect("written");
        std::fs::write(&empty, []).expect("written");
        assert_eq!(Mapped::open(&full).expect("mapped").u16s(), Some(&[1u16, 258][..]));
        assert!(Mapped::open(&empty).expect("mapped").is_empty());
        assert_eq!(Mapped::open(&folder.join("none")).expect_err("missing").code(), "E0808");
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}
