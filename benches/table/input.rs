//! The events that the rows carry, from the generator.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
    sync::Arc,
};

use bytes::Bytes;
use ingest::{
    record::{Boot, Draft, Envelope, Kind, Record, RecordId, Seq},
    time::Timestamp,
};
use uuid::Uuid;

use crate::generator::{Form, Generator};

/// The same events in every run.
const SEED: u64 = 42;
/// Events are spread over this much time before now, so that none is refused and they fill two day folders.
const SPREAD_MICROS: i64 = 36 * 3_600 * 1_000_000;

/// A generator whose `count` events lie in the hours before now.
pub(crate) fn recent(count: usize) -> Generator {
    let start = ingest::time::Clock::system().now().micros() - SPREAD_MICROS;
    // A request has two events, and the last ones must not lie in the future.
    Generator::new(SEED, start).paced((SPREAD_MICROS as u64 * 19 / 10 / count.max(1) as u64).max(1))
}

/// A generator whose events lie at the moment when they are posted, `rate` of them in a second.
pub(crate) fn from_now(rate: usize) -> Generator {
    let now = ingest::time::Clock::system().now().micros();
    Generator::new(SEED, now).paced(1_950_000 / rate.max(1) as u64)
}

/// Bodies of webhook batches: `count` EventLists of `batch` events.
pub(crate) fn event_lists(count: usize, batch: usize) -> Vec<Bytes> {
    let mut generator = recent(count * batch);
    let mut body = Vec::new();
    (0..count)
        .map(|_| {
            body.clear();
            generator.event_list(batch, &mut body);
            Bytes::copy_from_slice(&body)
        })
        .collect()
}

/// Writes `count` events as an audit log file; returns its length in bytes.
pub(crate) fn log_file(path: &Path, count: usize) -> anyhow::Result<u64> {
    /// Events between two writes.
    const CHUNK: usize = 1_000;
    let (mut generator, mut chunk) = (recent(count), Vec::new());
    let mut file = BufWriter::new(File::create(path)?);
    let mut left = count;
    while left > 0 {
        let now = left.min(CHUNK);
        chunk.clear();
        generator.lines(now, &mut chunk);
        file.write_all(&chunk)?;
        left -= now;
    }
    file.flush()?;
    Ok(path.metadata()?.len())
}

/// One event of now whose object has this name.
pub(crate) fn named_event(name: &str) -> Vec<u8> {
    let now = ingest::time::Clock::system().now();
    format!(
        r#"{{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"{}","stage":"ResponseComplete","requestURI":"/api/v1/namespaces/probe/pods/{name}","verb":"get","user":{{"username":"probe"}},"objectRef":{{"resource":"pods","namespace":"probe","name":"{name}","apiVersion":"v1"}},"responseStatus":{{"metadata":{{}},"code":200}},"requestReceivedTimestamp":"{now}","stageTimestamp":"{now}"}}"#,
        Uuid::new_v4()
    )
    .into_bytes()
}

/// Events as the journal takes them.
pub(crate) fn drafts(count: usize) -> Vec<Draft> {
    let mut generator = recent(count);
    let cluster: Arc<str> = "bench".into();
    (0..count as u64)
        .map(|n| {
            let mut event = Vec::new();
            generator.event(Form::Item, &mut event);
            let at = stage_time(&event);
            Draft {
                id: numbered(at, n),
                cluster: Arc::clone(&cluster),
                kind: Kind::Audit,
                at,
                rules: "".into(),
                redactions: 0,
                event: Bytes::from(event),
            }
        })
        .collect()
}

/// The same events as records, numbered as a journal would.
pub(crate) fn records(drafts: &[Draft]) -> Vec<Record> {
    let cluster: Arc<str> = "bench".into();
    drafts.iter().zip(1..).map(|(draft, seq)| record(&draft.event, seq, &cluster)).collect()
}

/// The record of one line of an audit log: what both a ledger and an index need, without redaction and keys.
pub(crate) fn record(line: &[u8], seq: u64, cluster: &Arc<str>) -> Record {
    let at = stage_time(line);
    Record {
        envelope: Envelope {
            v: Envelope::VERSION,
            id: numbered(at, seq),
            cluster: Arc::clone(cluster),
            source: Arc::clone(cluster),
            boot: Boot(Uuid::from_u128(1)),
            seq: Seq(seq),
            received_at: at,
            kind: Kind::Audit,
            at,
            rules: Arc::clone(cluster),
            redactions: 0,
        },
        event: Bytes::copy_from_slice(line),
    }
}

/// An id of this instant that no other event of the run has.
fn numbered(at: Timestamp, n: u64) -> RecordId {
    RecordId(Uuid::from_u128(RecordId::floor(at).0.as_u128() | u128::from(n)))
}

fn stage_time(event: &[u8]) -> Timestamp {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Times {
        stage_timestamp: Timestamp,
    }
    serde_json::from_slice::<Times>(event).map(|times| times.stage_timestamp).unwrap_or_default()
}
