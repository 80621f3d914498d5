//! TensorBoard's event files: a run's metrics as scalars.
//!
//! A file is a sequence of TFRecords: length (u64), its checksum, the bytes, their checksum; all little-endian, checksums CRC-32C,
//! rotated and offset ("masked") as TensorFlow does. Each record is the protobuf message `Event`: `wall_time` (1, double), `step`
//! (2, int64), `file_version` (3, string; in the first record only) or `summary` (5), whose `value`s (1) have a `tag` (1) and a
//! `simple_value` (2, float). That is all of both formats that scalars need, so neither is worth a dependency.

use crate::rows::Row;

/// The name of the event file of a run that was begun at `created`; TensorBoard finds files by the word in the middle.
pub fn file_name(created: u64) -> String {
    format!("events.out.tfevents.{created:010}.cs336c")
}

/// The bytes of an event file. `at`: when a step ended, in seconds since 1970.
pub fn events(rows: &[Row], at: &dyn Fn(u64) -> f64) -> Vec<u8> {
    let mut out = Vec::new();
    let mut first = Vec::new();
    double(&mut first, 1, at(0));
    bytes(&mut first, 3, b"brain.Event:2");
    record(&mut out, &first);
    for row in rows {
        let mut summary = Vec::new();
        for (name, value) in row.values() {
            let mut scalar = Vec::new();
            bytes(&mut scalar, 1, tag(name).as_bytes());
            key(&mut scalar, 2, 5);
            scalar.extend_from_slice(&(value as f32).to_le_bytes());
            bytes(&mut summary, 1, &scalar);
        }
        let mut event = Vec::new();
        double(&mut event, 1, at(row.step));
        key(&mut event, 2, 0);
        varint(&mut event, row.step);
        bytes(&mut event, 5, &summary);
        record(&mut out, &event);
    }
    out
}

/// Tags with a slash form groups in TensorBoard.
fn tag(column: &str) -> String {
    column.replacen(':', "/", 1)
}

fn record(out: &mut Vec<u8>, data: &[u8]) {
    let length = (data.len() as u64).to_le_bytes();
    out.extend_from_slice(&length);
    out.extend_from_slice(&masked(&length).to_le_bytes());
    out.extend_from_slice(data);
    out.extend_from_slice(&masked(data).to_le_bytes());
}

fn masked(data: &[u8]) -> u32 {
    crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), a bit at a time: event files are small.
fn crc32c(data: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 }
        })
    };
    !data.iter().fold(!0, step)
}

fn key(out: &mut Vec<u8>, field: u64, wire: u64) {
    varint(out, field << 3 | wire);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn bytes(out: &mut Vec<u8>, field: u64, data: &[u8]) {
    key(out, field, 2);
    varint(out, data.len() as u64);
    out.extend_from_slice(data);
}

fn double(out: &mut Vec<u8>, field: u64, value: f64) {
    key(out, field, 1);
    out.extend_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_castagnoli() {
        // RFC 3720, B.4: 32 bytes of zeros, and the usual check text.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn records_have_lengths_and_follow_each_other() {
        let mut row = Row::new(300);
        row.set("loss", 1.5);
        row.set("measure:blocks.load", 0.25);
        let out = events(&[row], &|step| step as f64);
        let mut at = 0;
        let mut records = Vec::new();
        while at < out.len() {
            let length = u64::from_le_bytes(out[at..at + 8].try_into().expect("8 bytes")) as usize;
            records.push(&out[at + 12..at + 12 + length]);
            at += length + 16;
        }
        assert_eq!(records.len(), 2);
        assert!(records[0].ends_with(b"\x1a\x0dbrain.Event:2"));
        // 300 as a varint, then the summary with both tags.
        assert_eq!(records[1][9..12], [0x10, 0xac, 0x02]);
        let text = String::from_utf8_lossy(records[1]);
        assert!(text.contains("loss") && text.contains("measure/blocks.load"));
    }
}
