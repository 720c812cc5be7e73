//! ENIs as they were a moment ago: the picture that a late view paints.
//!
//! The cloud's Describe and its metadata trail behind what a call has done. Each keeps its own lag;
//! this keeps the versions that the longest lag still needs, and no more.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use model::{EniId, Timestamp};

use crate::state::Eni;

/// Every ENI in its last versions, `None` for "gone".
#[derive(Debug, Clone)]
pub(crate) struct History {
    versions: BTreeMap<EniId, VecDeque<(Timestamp, Option<Eni>)>>,
    graves: VecDeque<(Timestamp, EniId)>,
    reach: Duration,
}

impl History {
    /// A history that can be asked about up to `reach` ago.
    pub(crate) fn new(reach: Duration) -> Self {
        Self {
            versions: BTreeMap::new(),
            graves: VecDeque::new(),
            reach,
        }
    }

    /// Changes how far back it can be asked about, from now on.
    pub(crate) fn reach(&mut self, reach: Duration) {
        self.reach = reach;
    }

    pub(crate) fn record(&mut self, now: Timestamp, id: &EniId, version: Option<Eni>) {
        if version.is_none() {
            self.graves.push_back((now.after(self.reach), id.clone()));
        }
        let versions = self.versions.entry(id.clone()).or_default();
        versions.push_back((now, version));
        while versions
            .get(1)
            .is_some_and(|(since, _)| since.after(self.reach) <= now)
        {
            versions.pop_front();
        }
        while self.graves.front().is_some_and(|(until, _)| *until <= now) {
            if let Some((_, id)) = self.graves.pop_front() {
                self.versions.remove(&id);
            }
        }
    }

    /// The ENIs that a view with `lag` shows at `now`, by id.
    pub(crate) fn view(&self, now: Timestamp, lag: Duration) -> impl Iterator<Item = &Eni> {
        self.versions.values().filter_map(move |versions| {
            let seen = versions
                .iter()
                .rev()
                .find(|(since, _)| since.after(lag) <= now);
            seen.and_then(|(_, version)| version.as_ref())
        })
    }
}
