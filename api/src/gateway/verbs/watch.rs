//! `watch`: what is there, if that was asked for, then each change as it happens.

use std::{
    convert::Infallible,
    panic::AssertUnwindSafe,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::{BufMut, Bytes, BytesMut};
use futures::FutureExt;
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use uuid::Uuid;

use super::Call;
use crate::gateway::{
    audit::Trail,
    limits::Place,
    negotiate::{Included, Shape, Version},
    object::Object,
    registry::{ListOptions, Registry, version},
    request::parameter,
    resources::Resource,
    selectors::Selectors,
    serve::panicked,
    status::Status,
    store::{Batch, Change, ChangeKind, Revision, Watch, WatchError},
    tables::Tables,
};

/// How long a watch runs where its client does not say: between this and twice this, so that they do not all end at once.
const TIME: Duration = Duration::from_secs(1_800);

/// Time between two marks of progress.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);

/// Events that wait for a slow reader before the store's own bound counts.
const WAITING: usize = 64;

/// Where a watch begins.
enum Start {
    /// With what is there now.
    Everything,
    /// After this revision.
    After(Revision),
}

/// What a watch sends.
struct Feed {
    resource: &'static Resource,
    selectors: Selectors,
    wants_bookmarks: bool,
    marks_initial: bool,
    /// Whole objects where there is none.
    table: Option<TableFeed>,
    sender: mpsc::Sender<Result<Bytes, Infallible>>,
}

/// What turns each object into a table, where tables were asked for.
struct TableFeed {
    clock: Registry,
    resource: &'static Resource,
    version: Version,
    included: Included,
    is_first: AtomicBool,
}

impl TableFeed {
    fn show(&self, object: Value) -> Value {
        let tables = Tables::of(self.resource, self.version, self.included, self.clock.now());
        tables.event(object, self.is_first.swap(false, Ordering::Relaxed))
    }
}

/// A watch that is about to be answered.
pub(in crate::gateway) struct Begun {
    lines: mpsc::Receiver<Result<Bytes, Infallible>>,
    watch: Watch,
    feed: Feed,
    objects: Vec<Object>,
    time: Duration,
}

impl Begun {
    /// Answers with a stream that is recorded at its begin and its end, and holds its place until then.
    pub(in crate::gateway) async fn answer(self, mut trail: Trail, place: Place) -> Response {
        trail.answers(StatusCode::OK.as_u16());
        if let Err(error) = trail.started().await {
            return Status::from(error).into_response();
        }
        let Self { lines, watch, feed, objects, time } = self;
        let mut response = Response::new(Body::from_stream(ReceiverStream::new(lines)));
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        tokio::spawn(async move {
            let fed = AssertUnwindSafe(feed.run(watch, objects, time)).catch_unwind().await;
            drop(place);
            if fed.is_err() {
                panicked(trail).await;
            } else if let Err(error) = trail.complete().await {
                tracing::error!(%error, "the end of a watch could not be recorded");
            }
        });
        response
    }
}

impl Call<'_> {
    /// Begins a watch: what it shows first is read.
    ///
    /// # Errors
    /// What the client is told instead.
    pub(in crate::gateway) async fn begin_watch(&self) -> Result<Begun, Status> {
        let selectors = self.selectors()?;
        let marks_initial = self.flag("sendInitialEvents");
        let start = match parameter(self.query, "resourceVersion").as_deref() {
            None | Some("" | "0") => Start::Everything,
            Some(_) if marks_initial => Start::Everything,
            Some(text) => Start::After(Revision(
                text.parse()
                    .map_err(|_| Status::bad_request(format!("invalid resource version {text:?}")))?,
            )),
        };
        let namespace = self.target().namespace;
        let (objects, after) = match start {
            Start::After(revision) => (Vec::new(), revision),
            Start::Everything => {
                let all = ListOptions::newest();
                let page = self.registry.list(self.resource, namespace, &selectors, &all).await?;
                let objects =
                    page.items.iter().map(|raw| version::read(self.resource, &raw.value, raw.revision.0));
                (objects.collect::<Result<_, _>>().map_err(Status::internal)?, page.revision)
            }
        };
        let watch = self.registry.watch(self.resource, namespace, after);
        let (sender, lines) = mpsc::channel(WAITING);
        let feed = Feed {
            resource: self.resource,
            selectors,
            wants_bookmarks: self.flag("allowWatchBookmarks"),
            marks_initial,
            table: self.table(),
            sender,
        };
        Ok(Begun { lines, watch, feed, objects, time: self.time() })
    }

    fn table(&self) -> Option<TableFeed> {
        let Shape::Table(version) = self.accepted.shape else { return None };
        Some(TableFeed {
            clock: self.registry.clone(),
            resource: self.resource,
            version,
            included: self.accepted.included,
            is_first: AtomicBool::new(true),
        })
    }

    fn flag(&self, name: &str) -> bool {
        parameter(self.query, name).is_some_and(|value| matches!(&*value, "true" | "1"))
    }

    fn time(&self) -> Duration {
        let asked = parameter(self.query, "timeoutSeconds").and_then(|text| text.parse::<u64>().ok());
        match asked.filter(|seconds| *seconds > 0) {
            Some(seconds) => Duration::from_secs(seconds),
            None => TIME + TIME.mul_f64(f64::from(Uuid::new_v4().as_bytes()[0]) / 256.0),
        }
    }
}

/// Why the feed ends.
struct Over;

impl Feed {
    async fn run(self, mut watch: Watch, objects: Vec<Object>, time: Duration) {
        let ends = Instant::now() + time;
        let fed = async {
            self.feed(&mut watch, objects).await.err();
        };
        // The time is over, the reader has gone, or the store has nothing more: the stream ends.
        let gone = self.sender.closed();
        tokio::select! {
            () = fed => {}
            () = tokio::time::sleep_until(ends) => {}
            () = gone => {}
        }
    }

    async fn feed(&self, watch: &mut Watch, objects: Vec<Object>) -> Result<(), Over> {
        let mut reached = Revision(0);
        for object in objects {
            reached = reached.max(Revision(object.resource_version().parse().unwrap_or(0)));
            self.send("ADDED", object.into_value()).await?;
        }
        if self.marks_initial {
            self.bookmark(reached, true).await?;
        }
        let mut marked = Instant::now();
        while let Some(batch) = watch.next().await {
            let Batch { changes, reached } = match batch {
                Ok(batch) => batch,
                Err(error) => return self.fail(&error).await,
            };
            for change in &changes {
                self.change(change).await?;
            }
            if self.wants_bookmarks && marked.elapsed() >= BOOKMARK_EVERY {
                self.bookmark(reached, false).await?;
                marked = Instant::now();
            }
        }
        Ok(())
    }

    /// Objects that come to be selected are added, those that no longer are deleted.
    async fn change(&self, change: &Change) -> Result<(), Over> {
        if change.kind != ChangeKind::Created && change.previous.is_none() {
            // What it was before is compacted: whether it was meant then, or what is gone now, is not known.
            self.fail(&WatchError::Behind).await?;
            return Err(Over);
        }
        let read = |value: &Option<Bytes>| {
            value.as_ref().map(|value| version::read(self.resource, value, change.revision.0)).transpose()
        };
        let (old, new) = match (read(&change.previous), read(&change.value)) {
            (Ok(old), Ok(new)) => (old, new),
            (Err(error), _) | (_, Err(error)) => {
                let status = Status::internal(error);
                return self.send("ERROR", status_value(&status)).await;
            }
        };
        let is_meant = |object: &Option<Object>| {
            object
                .as_ref()
                .is_some_and(|o| self.selectors.is_all() || self.selectors.matches(&o.clone().into_value()))
        };
        let (was, is) = (is_meant(&old), is_meant(&new));
        let (event, object) = match (was, is) {
            (false, true) => ("ADDED", new),
            (true, true) => ("MODIFIED", new),
            (true, false) => ("DELETED", old),
            (false, false) => return Ok(()),
        };
        match object {
            Some(object) => self.send(event, object.into_value()).await,
            None => Ok(()),
        }
    }

    async fn bookmark(&self, reached: Revision, is_initial: bool) -> Result<(), Over> {
        let mut metadata = json!({ "resourceVersion": reached.to_string() });
        if is_initial {
            metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        let (kind, api_version) = (self.resource.kind, self.resource.api_version());
        let object = json!({ "kind": kind, "apiVersion": api_version, "metadata": metadata });
        self.send("BOOKMARK", object).await
    }

    async fn fail(&self, error: &WatchError) -> Result<(), Over> {
        let status = match error {
            WatchError::Behind => Status::expired("the watch fell behind: list again and watch from there"),
            WatchError::Compacted { oldest } => {
                Status::expired(format!("too old resource version: the oldest is {oldest}"))
            }
            WatchError::Store(error) => Status::unavailable(error.to_string(), 1),
        };
        self.send("ERROR", status_value(&status)).await
    }

    async fn send(&self, event: &str, object: Value) -> Result<(), Over> {
        let object = match &self.table {
            Some(table) if event != "ERROR" => table.show(object),
            _ => object,
        };
        let mut line = BytesMut::with_capacity(512);
        line.extend_from_slice(br#"{"type":""#);
        line.extend_from_slice(event.as_bytes());
        line.extend_from_slice(br#"","object":"#);
        let written = serde_json::to_writer((&mut line).writer(), &object);
        debug_assert!(written.is_ok(), "values can be written to memory");
        line.extend_from_slice(b"}\n");
        self.sender.send(Ok(line.freeze())).await.map_err(|_| Over)
    }
}

fn status_value(status: &Status) -> Value {
    serde_json::from_slice(&status.to_json()).unwrap_or_default()
}
