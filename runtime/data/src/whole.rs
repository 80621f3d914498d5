//! Writing files so that under their name they are whole or not there.
//!
//! The bytes go to a temporary name in the same folder, reach the disk, and only then take the name. Whatever fails on
//! the way (a full disk, a kill) leaves what was there before; the temporary file goes with the error.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::error::DataError;

/// Writes `bytes` as the file `path`; makes its folder where needed.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), DataError> {
    write_whole_with(path, |file| {
        file.write_all(bytes).map_err(|source| DataError::write(path, source))
    })
}

/// Writes what `fill` writes as the file `path`; makes its folder where needed.
pub(crate) fn write_whole_with(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<&mut File>) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let failed = |source: io::Error| DataError::write(path, source);
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    };
    std::fs::create_dir_all(folder).map_err(failed)?;
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    let mut buffered = BufWriter::with_capacity(1 << 18, file.as_file_mut());
    fill(&mut buffered)?;
    buffered.flush().map_err(failed)?;
    drop(buffered);
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    // The name is part of the folder; where folders cannot be synced, the name may be lost, never the bytes.
    File::open(folder).and_then(|folder| folder.sync_all()).or(Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_loses_nothing() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("deep/er/file");
        write_whole(&path, b"old").expect("written");
        let full = || io::Error::new(io::ErrorKind::StorageFull, "disk full");
        let error = write_whole_with(&path, |file| {
            file.write_all(b"half of the new").map_err(|source| DataError::write(&path, source))?;
            Err(DataError::write(&path, full()))
        })
        .expect_err("full");
        assert_eq!(error.code(), "E0607");
        assert!(error.to_string().contains("file"), "{error}");
        assert!(error.help().contains("make room"), "{}", error.help());
        assert_eq!(std::fs::read(&path).expect("still there"), b"old");
        let names = std::fs::read_dir(path.parent().expect("a folder")).expect("listed").count();
        assert_eq!(names, 1, "no temporary file is left");
    }
}
