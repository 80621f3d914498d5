//! Arrays in files, by name: NumPy's .npz and safetensors, for `apply`.
//!
//! Numbers are read as f32 (or as integers where they are integers) in row-major order, whatever their type in the file.

use std::io::{BufWriter, Write};
use std::path::Path;

use cs336_compiler::scalar::DType;
use npyz::npz::{NpzArchive, NpzWriter};
use npyz::{DType as NpyType, NpyFile, Order, TypeChar, WriterBuilder};

use crate::checkpoint::{self, Tensor};
use crate::error::LabError;
use crate::files::write_whole;

/// A named array of numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// As in the file; empty if it has none (`arr_0`).
    pub name: String,
    /// Sizes, outermost first.
    pub shape: Vec<usize>,
    /// True for integers and booleans.
    pub integer: bool,
    /// Row-major. Integers up to 2^24 are exact; token ids are below.
    pub values: Vec<f32>,
}

/// Reads a file by its ending.
pub fn read(path: &Path) -> Result<Vec<Array>, LabError> {
    match ending(path)? {
        Ending::Npz => read_npz(path),
        Ending::Safetensors => {
            let bytes = std::fs::read(path).map_err(|source| LabError::read(path, source))?;
            let tensors = checkpoint::from_safetensors(&bytes).map_err(|why| bad(path, why))?;
            Ok(tensors.into_iter().map(from_tensor).collect())
        }
    }
}

/// Writes a file by its ending, whole or not at all. All numbers are f32.
pub fn write(path: &Path, arrays: &[Array]) -> Result<(), LabError> {
    let bytes = match ending(path)? {
        Ending::Npz => npz_bytes(arrays).map_err(|source| LabError::write(path, source))?,
        Ending::Safetensors => {
            let tensors: Vec<Tensor> = arrays.iter().map(to_tensor).collect();
            checkpoint::to_safetensors(&tensors, path)?
        }
    };
    write_whole(path, &bytes)
}

enum Ending {
    Npz,
    Safetensors,
}

fn ending(path: &Path) -> Result<Ending, LabError> {
    match path.extension().and_then(|e| e.to_str()) {
        Some("npz") => Ok(Ending::Npz),
        Some("safetensors") => Ok(Ending::Safetensors),
        _ => Err(bad(path, "it must end in .npz or .safetensors".to_owned())),
    }
}

fn bad(path: &Path, why: String) -> LabError {
    LabError::Tensor(format!("`{}`: {why}", path.display()))
}

fn read_npz(path: &Path) -> Result<Vec<Array>, LabError> {
    let failed = |source| LabError::read(path, source);
    let mut archive = NpzArchive::open(path).map_err(failed)?;
    let names: Vec<String> = archive.array_names().map(str::to_owned).collect();
    let mut arrays = Vec::with_capacity(names.len());
    for name in names {
        let Some(file) = archive.by_name(&name).map_err(failed)? else { continue };
        if file.order() == Order::Fortran && file.shape().len() > 1 {
            return Err(bad(path, format!("`{name}` is column-major; use np.ascontiguousarray")));
        }
        let shape = file.shape().iter().map(|size| *size as usize).collect();
        let (integer, values) =
            numbers(file).map_err(|why| bad(path, format!("`{name}`: {why}")))?;
        let unnamed = name.strip_prefix("arr_").is_some_and(|n| n.parse::<u32>().is_ok());
        let name = if unnamed { String::new() } else { name };
        arrays.push(Array { name, shape, integer, values });
    }
    Ok(arrays)
}

/// The numbers of an array, and whether they are integers. `Err` is one sentence.
fn numbers<R: std::io::Read>(file: NpyFile<R>) -> Result<(bool, Vec<f32>), String> {
    let NpyType::Plain(ty) = file.dtype() else { return Err("it is a record".to_owned()) };
    let text = |error: std::io::Error| error.to_string();
    macro_rules! all {
        ($t:ty) => {
            file.into_vec::<$t>().map_err(text)?.into_iter().map(|v| v as f32).collect()
        };
    }
    let values = match (ty.type_char(), ty.size_field()) {
        (TypeChar::Float, 4) => all!(f32),
        (TypeChar::Float, 8) => all!(f64),
        (TypeChar::Int, 1) => all!(i8),
        (TypeChar::Int, 2) => all!(i16),
        (TypeChar::Int, 4) => all!(i32),
        (TypeChar::Int, 8) => all!(i64),
        (TypeChar::Uint, 1) => all!(u8),
        (TypeChar::Uint, 2) => all!(u16),
        (TypeChar::Uint, 4) => all!(u32),
        (TypeChar::Uint, 8) => all!(u64),
        (TypeChar::Bool, _) => {
            let bools = file.into_vec::<bool>().map_err(text)?;
            return Ok((true, bools.into_iter().map(f32::from).collect()));
        }
        _ => return Err(format!("the element type {ty} is none of float, integer, boolean")),
    };
    Ok((ty.type_char() != TypeChar::Float, values))
}

fn npz_bytes(arrays: &[Array]) -> std::io::Result<Vec<u8>> {
    let mut writer = NpzWriter::new(std::io::Cursor::new(Vec::new()));
    for array in arrays {
        let shape: Vec<u64> = array.shape.iter().map(|size| *size as u64).collect();
        let builder = writer.array(&array.name, Default::default())?;
        let mut out = builder.default_dtype().shape(&shape).begin_nd()?;
        out.extend(array.values.iter().copied())?;
        out.finish()?;
    }
    let zip = writer.zip_writer().finish().map_err(std::io::Error::other)?;
    let mut bytes = BufWriter::new(Vec::new());
    bytes.write_all(zip.get_ref())?;
    bytes.into_inner().map_err(std::io::IntoInnerError::into_error)
}

fn to_tensor(array: &Array) -> Tensor {
    Tensor {
        name: array.name.clone(),
        dtype: DType::F32,
        shape: array.shape.clone(),
        bytes: array.values.iter().flat_map(|v| v.to_le_bytes()).collect(),
    }
}

fn from_tensor(tensor: Tensor) -> Array {
    let Tensor { name, dtype, shape, bytes } = tensor;
    let halves = || bytes.as_chunks::<2>().0.iter().map(|b| u16::from_le_bytes(*b));
    let values = match dtype {
        DType::F32 => bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        DType::I32 => {
            bytes.as_chunks::<4>().0.iter().map(|b| i32::from_le_bytes(*b) as f32).collect()
        }
        DType::Bf16 => halves().map(|bits| half::bf16::from_bits(bits).to_f32()).collect(),
        DType::F16 => halves().map(|bits| half::f16::from_bits(bits).to_f32()).collect(),
        DType::Bool => bytes.iter().map(|b| f32::from(*b)).collect(),
    };
    Array { name, shape, integer: !dtype.is_float(), values }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(name: &str, shape: &[usize], values: &[f32]) -> Array {
        let (shape, values) = (shape.to_vec(), values.to_vec());
        Array { name: name.into(), shape, integer: false, values }
    }

    #[test]
    fn both_kinds_of_files_come_back() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let arrays =
            [array("grad:x", &[2, 2], &[1.0, -2.5, 3.0, f32::INFINITY]), array("out", &[], &[7.0])];
        for name in ["a.npz", "a.safetensors"] {
            let path = folder.path().join(name);
            write(&path, &arrays).expect("written");
            let mut back = read(&path).expect("read");
            back.sort_by(|a, b| a.name.cmp(&b.name));
            assert_eq!(back, arrays, "{name}");
        }
    }

    #[test]
    fn other_files_are_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert_eq!(read(&folder.path().join("a.txt")).expect_err("refused").code(), "E0857");
        assert_eq!(read(&folder.path().join("a.npz")).expect_err("refused").code(), "E0601");
        let path = folder.path().join("b.safetensors");
        std::fs::write(&path, "no").expect("written");
        assert_eq!(read(&path).expect_err("refused").code(), "E0857");
    }
}
