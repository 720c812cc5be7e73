//! The history of changes, and what a watcher sees of it.
//!
//! A watcher holds nothing but the revision it has seen: there is no queue to grow, and one that
//! falls behind the history is told so (410 `Expired`) and must list again.

use std::{collections::VecDeque, sync::Arc};

use serde_json::Value;

use crate::{
    cluster::{Cluster, Key},
    error::ApiError,
    registry::Resource,
    selector::Selector,
};

/// Changes kept per resource. 200 pods created and deleted in a wave make about 8 changes each,
/// 1,600; four waves behind is a client that has stopped reading. At 4 KiB an object this bounds
/// the history at 26 MiB a resource.
pub const HISTORY_LIMIT: usize = 6_400;

/// One change of one object.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) revision: u64,
    pub(crate) key: Key,
    pub(crate) before: Option<Arc<Value>>,
    /// The new state; of a deleted object the last one, at the revision of its deletion.
    pub(crate) after: Arc<Value>,
    pub(crate) deleted: bool,
}

/// Changes of one resource, oldest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    pub(crate) entries: VecDeque<Entry>,
    /// Revision of the newest forgotten change: what came after it is complete.
    pub(crate) floor: u64,
}

impl History {
    pub(crate) fn record(&mut self, entry: Entry) {
        if self.entries.len() == HISTORY_LIMIT
            && let Some(oldest) = self.entries.pop_front()
        {
            self.floor = oldest.revision;
        }
        self.entries.push_back(entry);
    }

    /// Changes after `revision`.
    ///
    /// # Errors
    /// `Expired` when some of them are forgotten.
    pub(crate) fn since(
        &self,
        revision: u64,
    ) -> Result<impl DoubleEndedIterator<Item = &Entry> + use<'_>, ApiError> {
        if revision < self.floor {
            return Err(ApiError::expired(revision, self.floor));
        }
        let start = self
            .entries
            .partition_point(|entry| entry.revision <= revision);
        Ok(self.entries.range(start..))
    }
}

/// How an object changed in the eyes of one watcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// New, or newly selected.
    Added,
    /// Changed while selected.
    Modified,
    /// Gone, or no longer selected.
    Deleted,
}

impl ChangeKind {
    /// `type` of the watch event.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

/// One event of a watch.
#[derive(Debug, Clone)]
pub struct WatchEvent {
    /// What happened.
    pub kind: ChangeKind,
    /// The object as the watched resource serves it.
    pub object: Arc<Value>,
}

/// What happened since a revision.
#[derive(Debug, Clone)]
pub struct Batch {
    /// In order.
    pub events: Vec<WatchEvent>,
    /// Where the next batch starts.
    pub seen: u64,
}

impl Cluster {
    /// Events of `resource` in `namespace` (empty for all) after revision `since`, at most `limit`.
    ///
    /// # Errors
    /// `Expired` when the history does not reach back to `since`.
    pub fn events_since(
        &self,
        resource: &'static Resource,
        namespace: &str,
        selector: &Selector,
        since: u64,
        limit: usize,
    ) -> Result<Batch, ApiError> {
        if since < self.born {
            return Err(ApiError::expired(since, self.born));
        }
        let mut events = Vec::new();
        if let Some(history) = self.history.get(resource.store()) {
            let mut seen = since;
            for entry in history.since(since)? {
                if events.len() == limit {
                    return Ok(Batch { events, seen });
                }
                seen = entry.revision;
                if !namespace.is_empty() && entry.key.namespace != namespace {
                    continue;
                }
                let was = entry
                    .before
                    .as_ref()
                    .is_some_and(|object| selector.matches(object));
                let is = !entry.deleted && selector.matches(&entry.after);
                let kind = match (was, is) {
                    (false, false) => continue,
                    (false, true) => ChangeKind::Added,
                    (true, true) => ChangeKind::Modified,
                    (true, false) => ChangeKind::Deleted,
                };
                events.push(WatchEvent {
                    kind,
                    object: served(resource, entry, kind),
                });
            }
        }
        Ok(Batch {
            events,
            seen: since.max(self.revision()),
        })
    }
}

/// A watcher that loses an object to its selector sees the last state it selected, but at the
/// revision of the change, so that it can resume from there.
fn served(resource: &'static Resource, entry: &Entry, kind: ChangeKind) -> Arc<Value> {
    let object = match (&entry.before, kind) {
        (Some(before), ChangeKind::Deleted) if !entry.deleted => {
            let mut last = Value::clone(before);
            last["metadata"]["resourceVersion"] = entry.revision.to_string().into();
            Arc::new(last)
        }
        _ => Arc::clone(&entry.after),
    };
    crate::cluster::served(resource, &object)
}
