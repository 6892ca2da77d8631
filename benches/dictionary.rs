//! Trains the dictionary with which the ledger packs events: `cargo bench --bench dictionary -- FILE [EVENTS]`.
//!
//! It learns from generated events only, and a seed gives the same file each time. Besides it prints what the
//! dictionary makes of events that it has not seen: `cargo bench --bench dictionary -- --try FILE < events.jsonl`.

mod generator;

use std::io::{BufRead, Write};

/// Large enough for the texts that events share; every packed event pays for a longer one in time.
const SIZE: usize = 16 * 1024;
/// More samples give the same dictionary within 1 %.
const EVENTS: usize = 40_000;
/// The stamps of the samples lie in this year; days and hours are spread so that no date is learnt whole.
const START: i64 = 1_770_000_000_000_000;
/// Mean time between requests, in microseconds: the samples spread over half a year.
const GAP: u64 = 800_000_000;

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--try", file] => measure(&std::fs::read(file)?),
        [file] => Ok(std::fs::write(file, train()?)?),
        _ => Ok(()),
    }
}

fn train() -> std::io::Result<Vec<u8>> {
    let mut generator = generator::Generator::new(7, START).paced(GAP);
    let (mut samples, mut sizes) = (Vec::new(), Vec::with_capacity(EVENTS));
    for i in 0..EVENTS {
        let start = samples.len();
        let form = if i % 2 == 0 { generator::Form::Line } else { generator::Form::Item };
        generator.event(form, &mut samples);
        sizes.push(samples.len() - start);
    }
    zstd::dict::from_continuous(&samples, &sizes, SIZE)
}

/// Prints size and time for each level, event by event and in blocks.
fn measure(dictionary: &[u8]) -> anyhow::Result<()> {
    let events: Vec<Vec<u8>> = std::io::stdin().lock().split(b'\n').collect::<Result<_, _>>()?;
    let raw: usize = events.iter().map(Vec::len).sum();
    let mut out = std::io::stdout().lock();
    writeln!(out, "{} events, {} bytes on average", events.len(), raw / events.len().max(1))?;
    for level in [1, 3, 6, 9, 12, 19] {
        for block in [1, 2, 8, 16, 64, 256] {
            let mut packer = zstd::bulk::Compressor::with_dictionary(level, dictionary)?;
            let begun = std::time::Instant::now();
            let mut packed = 0;
            for group in events.chunks(block) {
                packed += packer.compress(&group.concat())?.len();
            }
            let rate = events.len() as f64 / begun.elapsed().as_secs_f64();
            let share = packed as f64 / raw as f64;
            writeln!(out, "level {level:2} blocks of {block:3}: {share:.3} of raw, {rate:8.0} events/s")?;
        }
    }
    Ok(())
}
