//! Watches: a stream of JSON lines that follows the history.
//!
//! A watcher is a cursor, so a slow one costs no memory: when the history has moved past it, it is
//! told 410 `Expired` and cut off.

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
};
use futures::stream;
use serde_json::{Value, json};
use tokio::{sync::watch, time::Instant};

use super::{
    Api,
    accept::Form,
    path::Place,
    verbs::{Call, shown},
};
use crate::{ApiError, Cause, ListQuery, Selector, table};

/// How long a watch lasts that names no `timeoutSeconds`: the API server's minimum, 30 minutes.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1_800);

/// How often a quiet watch is told the revision it has reached: the API server's once a minute.
const BOOKMARK_PERIOD: Duration = Duration::from_secs(60);

/// Most events put into one chunk of the answer; the rest follow when it has been sent.
const CHUNK: usize = 256;

struct Watcher {
    api: Api,
    call: Call,
    selector: Selector,
    /// Objects that existed when the watch began, to be sent first.
    initial: VecDeque<Arc<Value>>,
    /// The revision up to which everything was sent.
    seen: u64,
    revision: watch::Receiver<u64>,
    deadline: Instant,
    next_bookmark: Instant,
    /// A watch of tables names the columns once.
    headers: bool,
    done: bool,
}

/// Starts a watch.
///
/// # Errors
/// `BadRequest` and `Invalid` for bad parameters. A version that is too old is told in the stream,
/// as the API server does.
pub(super) fn watch(api: &Api, call: Call) -> Result<Response, ApiError> {
    refuse_streaming_list(&call)?;
    let selector = call.selector()?;
    let timeout = call
        .number("timeoutSeconds")?
        .map_or(DEFAULT_TIMEOUT, Duration::from_secs);
    let revision = api.revision();
    // 0 and none mean: whatever there is now, then what follows.
    let (initial, seen) = match call.number("resourceVersion")? {
        Some(version) if version > 0 => (VecDeque::new(), version),
        _ => {
            let query = ListQuery {
                selector: selector.clone(),
                ..ListQuery::default()
            };
            let (resource, namespace) = (call.place.resource, &call.place.namespace);
            let listing = api.read(|cluster| cluster.list(resource, namespace, &query))?;
            (listing.items.into(), listing.revision)
        }
    };
    let now = Instant::now();
    let watcher = Watcher {
        api: api.clone(),
        call,
        selector,
        initial,
        seen,
        revision,
        deadline: now + timeout,
        next_bookmark: now + BOOKMARK_PERIOD,
        headers: true,
        done: false,
    };
    let lines = stream::unfold(watcher, |mut watcher| async move {
        let lines = watcher.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(lines)), watcher))
    });
    Ok((
        [(CONTENT_TYPE, "application/json")],
        Body::from_stream(lines),
    )
        .into_response())
}

/// Streaming lists are off, as in the release served; clients then list and watch.
fn refuse_streaming_list(call: &Call) -> Result<(), ApiError> {
    let mut causes = Vec::new();
    if !call.parameter("resourceVersionMatch").is_empty() {
        let why = "resourceVersionMatch is forbidden for watch";
        causes.push(Cause::forbidden("resourceVersionMatch", why));
    }
    if !call.parameter("sendInitialEvents").is_empty() {
        let why = "sendInitialEvents is forbidden for watch unless the WatchList feature gate is \
                   enabled";
        causes.push(Cause::forbidden("sendInitialEvents", why));
    }
    if causes.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid_options("ListOptions", &causes))
}

impl Watcher {
    /// The next lines to send; `None` when the watch is over.
    async fn next(&mut self) -> Option<String> {
        while !self.done {
            self.revision.borrow_and_update();
            match self.news() {
                Ok(lines) if !lines.is_empty() => return Some(lines),
                Ok(_) => {}
                Err(refusal) => {
                    self.done = true;
                    return Some(line("ERROR", &refusal.status()));
                }
            }
            let wake = self.next_bookmark.min(self.deadline);
            tokio::select! {
                changed = self.revision.changed() => self.done |= changed.is_err(),
                () = tokio::time::sleep_until(wake) => {
                    self.done = wake == self.deadline;
                    self.next_bookmark = wake + BOOKMARK_PERIOD;
                    if self.call.flag("allowWatchBookmarks") {
                        return Some(self.bookmark());
                    }
                }
            }
        }
        None
    }

    /// What happened since the last call, a chunk at a time.
    fn news(&mut self) -> Result<String, ApiError> {
        if !self.initial.is_empty() {
            let chunk: Vec<_> = self
                .initial
                .drain(..self.initial.len().min(CHUNK))
                .collect();
            return Ok(chunk
                .iter()
                .map(|object| self.event("ADDED", object))
                .collect());
        }
        let Place {
            resource,
            namespace,
            ..
        } = &self.call.place;
        let (selector, seen) = (&self.selector, self.seen);
        let batch = self
            .api
            .read(|cluster| cluster.events_since(resource, namespace, selector, seen, CHUNK))?;
        self.seen = batch.seen;
        Ok(batch
            .events
            .iter()
            .map(|e| self.event(e.kind.as_str(), &e.object))
            .collect())
    }

    fn event(&mut self, kind: &str, object: &Value) -> String {
        let headers = std::mem::replace(&mut self.headers, false);
        match shown(self.api.now(), &self.call, headers, object) {
            Some(shown) => line(kind, &shown),
            None => line(kind, object),
        }
    }

    fn bookmark(&self) -> String {
        let resource = self.call.place.resource;
        let metadata =
            json!({ "resourceVersion": self.seen.to_string(), "creationTimestamp": null });
        let object = json!({
            "kind": resource.kind, "apiVersion": resource.api_version(), "metadata": metadata,
        });
        match self.call.form {
            Form::Object => line("BOOKMARK", &object),
            Form::Table(version) => {
                let metadata = json!({ "resourceVersion": self.seen.to_string() });
                let none = std::iter::empty();
                let (now, rows) = (self.api.now(), self.call.row_object);
                let empty = table::table(now, resource, version, metadata, false, rows, none);
                line("BOOKMARK", &empty)
            }
            Form::Metadata(version) => line("BOOKMARK", &table::partial(version, &object)),
        }
    }
}

fn line(kind: &str, object: &Value) -> String {
    let mut line = json!({ "type": kind, "object": object }).to_string();
    line.push('\n');
    line
}
