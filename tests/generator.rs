//! The generator of the benchmarks makes valid events, the same ones each time, as a real API server mixes them.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::Value;

#[path = "../benches/generator.rs"]
mod generator;
#[path = "support/skipped.rs"]
mod skipped;

use generator::{Form, Generator};
use skipped::skipped;

/// 2026-11-23T00:00:00Z, the day of the recorded run.
const START: i64 = 1_795_392_000_000_000;
/// Enough that chance moves no share by a percent.
const EVENTS: usize = 60_000;
/// Total variation that a distribution may differ by: what a sample of a few thousand leaves open, and no more.
const TOLERANCE: f64 = 0.03;

fn generated(count: usize) -> Vec<Value> {
    let mut generator = Generator::new(7, START);
    let mut line = Vec::new();
    (0..count)
        .map(|_| {
            line.clear();
            generator.event(Form::Line, &mut line);
            serde_json::from_slice(&line)
                .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&line)))
        })
        .collect()
}

/// How often each text that `of` gives occurs, as shares of the whole.
fn shares(events: &[Value], of: impl Fn(&Value) -> String) -> BTreeMap<String, f64> {
    let mut shares = BTreeMap::new();
    for event in events {
        *shares.entry(of(event)).or_insert(0.0) += 1.0 / events.len() as f64;
    }
    shares
}

fn distance(a: &BTreeMap<String, f64>, b: &BTreeMap<String, f64>) -> f64 {
    let keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
    keys.map(|key| (a.get(key).unwrap_or(&0.0) - b.get(key).unwrap_or(&0.0)).abs()).sum::<f64>() / 2.0
}

#[test]
fn generated_events_are_mixed_as_the_recorded_ones() {
    let sample =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/samples/kube-apiserver-1.36/run1.jsonl");
    let Ok(text) = fs::read_to_string(&sample) else {
        skipped("../shared is absent");
        return;
    };
    let recorded: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let generated = generated(EVENTS);
    let at = |pointer: &'static str| {
        move |event: &Value| event.pointer(pointer).map(Value::to_string).unwrap_or_default()
    };
    for pointer in [
        "/verb",
        "/level",
        "/stage",
        "/responseStatus/code",
        "/objectRef/resource",
        "/user/username",
        "/userAgent",
    ] {
        let off = distance(&shares(&recorded, at(pointer)), &shares(&generated, at(pointer)));
        assert!(off < TOLERANCE, "{pointer} is off by {off:.3}");
    }
    let size = |event: &Value| event.to_string().len();
    for quantile in [0.1, 0.5, 0.9, 0.99] {
        let (theirs, ours) = (nth(&recorded, quantile, size), nth(&generated, quantile, size));
        assert!((0.8..1.25).contains(&(ours / theirs)), "size at {quantile}: {ours} instead of {theirs}");
    }
}

fn nth(events: &[Value], quantile: f64, of: impl Fn(&Value) -> usize) -> f64 {
    let mut sizes: Vec<usize> = events.iter().map(of).collect();
    sizes.sort_unstable();
    sizes[(sizes.len() as f64 * quantile) as usize] as f64
}

#[test]
fn the_same_seed_makes_the_same_events_and_another_makes_others() {
    let list = |seed| {
        let mut out = Vec::new();
        Generator::new(seed, START).event_list(400, &mut out);
        out
    };
    assert_eq!(list(1), list(1));
    assert_ne!(list(1), list(2));
    let parsed: Value = serde_json::from_slice(&list(1)).unwrap();
    assert_eq!(parsed["items"].as_array().map(Vec::len), Some(400));
    assert!(parsed["items"][0].get("kind").is_none());
}

#[test]
fn stages_of_a_request_follow_each_other() {
    let events = generated(2_000);
    for event in &events {
        let (received, stage) = (&event["requestReceivedTimestamp"], &event["stageTimestamp"]);
        assert!(received.as_str() <= stage.as_str(), "{event}");
        assert_eq!(event["stage"] == "RequestReceived", received == stage, "{event}");
    }
}
