//! Files that are whole or not there.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::LabError;

/// Writes `bytes` as `path` whole or not at all: a temporary name, to the disk, then the name.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), LabError> {
    let failed = |source| LabError::write(path, source);
    let folder = folder_of(path);
    std::fs::create_dir_all(folder).map_err(failed)?;
    let mut file = temporary(0o666).tempfile_in(folder).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    sync_folder(folder);
    Ok(())
}

/// Makes temporary files and folders with the permissions that others have: their names change, their permissions stay.
pub(crate) fn temporary<'a, 'b>(_mode: u32) -> tempfile::Builder<'a, 'b> {
    #[cfg_attr(not(unix), allow(unused_mut, reason = "only Unix has such permissions"))]
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(_mode));
    builder
}

/// Writes JSON that people can read.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<(), LabError> {
    let mut text = serde_json::to_string_pretty(value)
        .map_err(|error| LabError::RunFile { path: path.to_owned(), why: error.to_string() })?;
    text.push('\n');
    write_whole(path, text.as_bytes())
}

/// Reads JSON; what is there but cannot be understood is an error that names the file.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, LabError> {
    let bytes = std::fs::read(path).map_err(|source| LabError::read(path, source))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| LabError::RunFile { path: path.to_owned(), why: error.to_string() })
}

/// The folder that a path is in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes names in a folder reach the disk. Where folders cannot be synced, a name may be lost by a power cut, never bytes.
pub(crate) fn sync_folder(folder: &Path) {
    File::open(folder).and_then(|folder| folder.sync_all()).ok();
}
