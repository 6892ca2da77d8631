//! Writes generated audit events as JSON lines: `generate COUNT [SEED] [START-MICROSECONDS] [MICROSECONDS-BETWEEN-REQUESTS]`.

mod generator;

use std::io::Write;

/// Events between two writes.
const CHUNK: usize = 1_000;

fn main() -> std::io::Result<()> {
    let numbers: Vec<i64> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let count = numbers.first().copied().unwrap_or(1_000_000).max(0) as usize;
    let seed = numbers.get(1).copied().unwrap_or(1) as u64;
    // Unless told otherwise the events lie on 2026-11-23, the day of the recorded run.
    let start = numbers.get(2).copied().unwrap_or(1_795_392_000_000_000);
    let mut generator = generator::Generator::new(seed, start);
    if let Some(gap) = numbers.get(3) {
        generator = generator.paced(*gap as u64);
    }
    let mut out = std::io::stdout().lock();
    let mut chunk = Vec::new();
    let mut left = count;
    while left > 0 {
        let now = left.min(CHUNK);
        chunk.clear();
        generator.lines(now, &mut chunk);
        out.write_all(&chunk)?;
        left -= now;
    }
    Ok(())
}
