//! What nodes and people are told: the condition NetworkUnavailable, and a notice whenever it stands
//! differently about a node. It must not know how a route is made.

use std::{collections::BTreeMap, time::Duration};

use model::Timestamp;

use super::{
    Routes,
    message::{Action, Notice, Standing},
    plan::Plan,
};
use crate::retry::Backoff;

/// Conditions written at once: a cluster whose route controller begins has as many to write as nodes, and the API
/// server has others to serve.
pub(super) const WRITES_MAX: usize = 20;
/// Before a condition is written again as it was: somebody else writes it too, and who writes more often wins nothing.
pub(super) const CONTESTED: Duration = Duration::from_secs(30);
/// What a node without any condition is told until its entry is there.
const AWAITED: &str = "the VPC's route table does not lead to its pods yet";

/// Conditions written and being written, and those that could not be.
#[derive(Debug, Default)]
pub(super) struct Marks(BTreeMap<String, Mark>);

#[derive(Debug, Default)]
struct Mark {
    under_way: Option<bool>,
    /// What was written last, and from when on the same may be again.
    wrote: Option<(bool, Timestamp)>,
    failures: u32,
    not_before: Timestamp,
}

impl Marks {
    pub(super) fn forget(&mut self, node: &str) {
        self.0.remove(node);
    }

    pub(super) fn deadlines(&self) -> impl Iterator<Item = Timestamp> {
        let again = |mark: &Mark| mark.wrote.map(|(_, again)| again);
        self.0
            .values()
            .flat_map(move |mark| again(mark).into_iter().chain([mark.not_before]))
    }

    fn under_way(&self) -> usize {
        let marks = self.0.values();
        marks.filter(|mark| mark.under_way.is_some()).count()
    }
}

impl Routes {
    /// Says what has changed since it was said last, and writes conditions that say otherwise. A node of
    /// which nothing is certain keeps the condition it has.
    pub(super) fn tell(&mut self, now: Timestamp, plan: &Plan) {
        if self.seen.is_none() {
            return;
        }
        let mut room = WRITES_MAX.saturating_sub(self.marks.under_way());
        for (node, standing) in &plan.standings {
            let before = self.told.get(node);
            // What was in the way is tried again now and then: that is no news, nor is it in other words.
            let again = match (before, standing) {
                (Some(Standing::Blocked(..)), Standing::Missing) => true,
                (Some(Standing::Blocked(one, _)), Standing::Blocked(other, _)) => one == other,
                _ => false,
            };
            if !again {
                let before = self.told.insert(node.clone(), standing.clone());
                self.tell_news(node, before.as_ref(), standing);
            }
            if room > 0 && self.mark(now, node, standing) {
                room -= 1;
            }
        }
    }

    fn tell_news(&mut self, node: &str, before: Option<&Standing>, standing: &Standing) {
        let notice = match standing {
            _ if before == Some(standing) => return,
            // What stood when this process began is no news.
            Standing::Reachable if before.is_some() => Notice::Reachable(node.to_owned()),
            Standing::Blocked(obstacle, why) => {
                Notice::Blocked(node.to_owned(), *obstacle, why.clone())
            }
            _ => return,
        };
        self.actions.push(Action::Notice(notice));
    }

    /// Has the condition written if it says otherwise and may be now; says whether.
    fn mark(&mut self, now: Timestamp, node: &str, standing: &Standing) -> bool {
        let says = self.nodes.get(node).and_then(|node| node.unavailable);
        let wanted = match standing {
            Standing::Reachable => Ok(()),
            Standing::Blocked(_, why) => Err(why.clone()),
            // Without a condition the scheduler takes it for reachable.
            Standing::Pending | Standing::Missing if says.is_none() => Err(AWAITED.to_owned()),
            Standing::Pending | Standing::Missing => return false,
        };
        let mark = self.marks.0.entry(node.to_owned()).or_default();
        let contested = mark
            .wrote
            .is_some_and(|(wrote, again)| wrote == wanted.is_err() && again > now);
        let waits = mark.under_way.is_some() || mark.not_before > now || contested;
        if says == Some(wanted.is_err()) || waits {
            return false;
        }
        mark.under_way = Some(wanted.is_err());
        self.actions.push(Action::Mark(node.to_owned(), wanted));
        true
    }

    pub(super) fn marked(&mut self, now: Timestamp, name: &str, outcome: Result<(), String>) {
        let Some(mark) = self.marks.0.get_mut(name) else {
            return;
        };
        // A node that went and came again meanwhile is written anew.
        let Some(wrote) = mark.under_way.take() else {
            return;
        };
        match outcome {
            Ok(()) => {
                mark.failures = 0;
                mark.wrote = Some((wrote, now.after(CONTESTED)));
                // The watch brings it a moment later.
                if let Some(node) = self.nodes.get_mut(name) {
                    node.unavailable = Some(wrote);
                }
            }
            Err(why) => {
                mark.failures += 1;
                mark.not_before = now.after(Backoff::CLOUD.wait(mark.failures, &mut self.dice));
                let notice = Notice::MarkFailed(name.to_owned(), why);
                self.actions.push(Action::Notice(notice));
            }
        }
    }
}
