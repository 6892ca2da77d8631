//! `GET /v1/tail`: matching records as they arrive, as server-sent events that can be taken up again.
//!
//! Each message's id is where following goes on after it: a client that sends it back as `Last-Event-ID` misses
//! nothing. A record that is indexed and not yet in the ledger is waited for, and everything behind it with it, so
//! that the order stays and no id lies beyond a record that was not given. A slow client slows only its own stream: the next part is read when the last one was taken.

mod followers;

use std::{convert::Infallible, time::Duration};

use axum::{
    Extension,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{
        IntoResponse, Sse,
        sse::{Event, KeepAlive},
    },
};
use futures::{Stream, stream};
use index::{Commit, TailPage, TailToken};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::watch;

use self::followers::Follower;
pub use self::followers::Followers;
use crate::{
    access::{Caller, Scope, scope::Narrowed},
    asked::Query,
    errors::ApiError,
    events::Item,
    fetched::{LogEnd, PENDING_WAIT},
    search::Search,
};

/// Records that are read and sent together.
const PART: usize = 200;

/// How often something is sent when nothing arrives, so that neither side takes the other for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What following is to roles.
const VERB: &str = "watch";

/// The query of `GET /v1/tail`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TailQuery {
    #[serde(default)]
    q: String,
}

pub(crate) async fn tail(
    State(search): State<Search>,
    State(followers): State<Followers>,
    Extension(caller): Extension<Caller>,
    scope: Scope,
    Query(asked): Query<TailQuery>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, ApiError> {
    let query = search.parse(&asked.q, &scope)?;
    let token = match headers.get("last-event-id").and_then(|id| id.to_str().ok()) {
        Some(id) => id.parse().map_err(|_| {
            ApiError::bad_request(
                "bad_event_id",
                "the Last-Event-ID does not read: leave it out to begin now",
            )
        })?,
        None => search.tail_from_now(),
    };
    let place = followers.enter(&caller.effective().username)?;
    let commits = search.commits();
    let following = Following { search, caller, scope, query, token, unsent: None, commits, _place: place };
    let stop = followers.stop.clone();
    let stream = futures::StreamExt::take_until(following.stream(), async move { stop.cancelled().await });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

/// One client.
struct Following {
    search: Search,
    caller: Caller,
    /// What it could see when it began.
    scope: Scope,
    query: Narrowed,
    /// Where the next part begins.
    token: TailToken,
    /// The last part, while not all of it was sent.
    unsent: Option<Part>,
    commits: watch::Receiver<Commit>,
    _place: Follower,
}

impl Following {
    /// Ends after an error: the client comes back where it was.
    fn stream(self) -> impl Stream<Item = Result<Event, Infallible>> {
        let parts = stream::unfold(Some(self), |following| async move {
            let mut following = following?;
            match following.part().await {
                Ok(events) => Some((events, Some(following))),
                Err(error) => {
                    tracing::warn!(?error, "a follower is broken off");
                    Some((
                        vec![
                            Event::default()
                                .event("error")
                                .data("following broke off; it goes on after a new request"),
                        ],
                        None,
                    ))
                }
            }
        });
        futures::StreamExt::flat_map(parts, |events| stream::iter(events.into_iter().map(Ok)))
    }

    /// The next messages, as soon as there are some; a comment while the ledger is waited for.
    async fn part(&mut self) -> Result<Vec<Event>, ApiError> {
        let mut part = match self.unsent.take() {
            Some(part) => part,
            None => Part { page: self.found().await?, done: 0, end: None },
        };
        // What is taken from a role is not given any more, nor is anything of before given under another one.
        if self.caller.scope(VERB) != self.scope {
            return Err(ApiError::new(
                StatusCode::FORBIDDEN,
                "forbidden",
                "what the caller may see has changed",
            ));
        }
        let events = part.messages(&self.search, &self.scope).await?;
        if part.done < part.page.hits.len() {
            self.unsent = Some(part);
        }
        Ok(events)
    }

    /// What was found next, as soon as there is something.
    async fn found(&mut self) -> Result<TailPage, ApiError> {
        loop {
            // What is committed while the query runs is seen by the next one.
            self.commits.borrow_and_update();
            let page = self.search.follow(&self.query, self.token, PART).await?;
            self.token = page.token;
            if !page.hits.is_empty() || page.partial.is_some() {
                return Ok(page);
            }
            if !page.more && self.commits.changed().await.is_err() {
                return Err(ApiError::unavailable("stopping", "the index was closed"));
            }
        }
    }
}

/// What was found, and how much of it was dealt with.
struct Part {
    page: TailPage,
    done: usize,
    /// Where the log ended when one of these was not in the ledger.
    end: Option<LogEnd>,
}

impl Part {
    /// The messages of what the ledger has, up to the first record that it does not have yet.
    async fn messages(&mut self, search: &Search, scope: &Scope) -> Result<Vec<Event>, ApiError> {
        let left = &self.page.hits[self.done..];
        let mut fetched = search.fetch(left, &mut self.end, Duration::ZERO).await?;
        if let (0, [first, ..]) = (fetched.done, left) {
            fetched = search.fetch(&[*first], &mut self.end, PENDING_WAIT).await?;
        }
        self.done += fetched.done;
        let mut events = Vec::with_capacity(fetched.records.len() + 2);
        for record in &fetched.records {
            let item =
                serde_json::to_string(&Item::new(record, scope)?).map_err(|e| ApiError::internal(&e))?;
            events.push(Event::default().event("event").data(item));
        }
        if !fetched.gone.is_empty() {
            let ids: Vec<String> = fetched.gone.iter().map(ToString::to_string).collect();
            events.push(Event::default().event("gone").data(json!({ "gone": ids }).to_string()));
        }
        if let Some(partial) = self.page.partial
            && self.done == self.page.hits.len()
        {
            events.push(Event::default().event("partial").data(partial.as_str()));
        }
        // A message's id says that it and everything before it was taken, so only the last one of a part has one.
        Ok(match events.pop() {
            Some(last) => {
                let token = self.page.token_after(self.done);
                let token = if scope.is_everything() { token } else { token.veiled() };
                events.push(last.id(token.to_string()));
                events
            }
            None => vec![Event::default().comment("waiting for the ledger")],
        })
    }
}
