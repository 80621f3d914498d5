//! Encodes or learns, timed, for `tests/bench/bpe.py`: `tokenizers encode TEXT RANKS PATTERN [IDS]` and `tokenizers train TEXT VOCAB`.
//!
//! Prints a line of JSON. Encoding is done by one thread that has met none of the text; its time is that of the processor, since others may
//! use the machine. Learning takes what threads there are, and the clock. With `IDS` the ids are written, four bytes each.

#![allow(clippy::print_stdout, reason = "a program to be read by a script")]
#![allow(clippy::disallowed_methods, reason = "which is told the time that it needs")]

use std::time::Instant;

use cs336_data::bpe::{self, Encoder, Pattern, TieRule, TrainOptions, ranks};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let arg = |n: usize| args.get(n).map_or("", String::as_str);
    let text = std::fs::read_to_string(arg(2))?;
    if arg(1) == "train" {
        let (special, ties) = (Vec::new(), TieRule::GreaterPair);
        let options =
            TrainOptions { vocab: arg(3).parse()?, special, ties, pattern: Pattern::Gpt2 };
        let begin = Instant::now();
        let learnt = bpe::train(&[&text], &options)?;
        let seconds = begin.elapsed().as_secs_f64();
        println!("{{\"seconds\": {seconds}, \"count\": {}}}", learnt.vocab_size());
        return Ok(());
    }
    let pattern = Pattern::named(arg(4)).ok_or("no such pattern")?;
    let begin = Instant::now();
    let vocabulary = ranks::read_ranks(arg(3).as_ref(), pattern, &[])?;
    let load = begin.elapsed().as_secs_f64();
    let mut ids = Vec::with_capacity(text.len());
    let begin = processor()?;
    Encoder::new(&vocabulary).encode(&text, &mut ids);
    let seconds = processor()? - begin;
    println!("{{\"seconds\": {seconds}, \"load\": {load}, \"count\": {}}}", ids.len());
    if !arg(5).is_empty() {
        std::fs::write(arg(5), ids.iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<_>>())?;
    }
    Ok(())
}

/// Seconds for which this thread was on a processor.
fn processor() -> Result<f64, Box<dyn std::error::Error>> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds: f64 = text.split(' ').next().ok_or("no time")?.parse()?;
    Ok(nanoseconds / 1e9)
}
