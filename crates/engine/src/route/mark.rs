//! What nodes and people are told: the condition NetworkUnavailable, and a notice whenever it stands
//! differently about a node. It must not know how a route is made.

use std::collections::BTreeMap;

use model::Timestamp;

use super::{
    Routes,
    message::{Action, Notice, Standing},
    plan::Plan,
};
use crate::retry::Backoff;

/// Conditions being written, and those that could not be.
#[derive(Debug, Default)]
pub(super) struct Marks(BTreeMap<String, Mark>);

#[derive(Debug, Default)]
struct Mark {
    under_way: Option<bool>,
    failures: u32,
    not_before: Timestamp,
}

impl Marks {
    pub(super) fn forget(&mut self, node: &str) {
        self.0.remove(node);
    }

    pub(super) fn deadlines(&self) -> impl Iterator<Item = Timestamp> {
        self.0.values().map(|mark| mark.not_before)
    }
}

impl Routes {
    /// Says what has changed since it was said last, and writes conditions that say otherwise. A node of
    /// which nothing is certain keeps the condition it has.
    pub(super) fn tell(&mut self, now: Timestamp, plan: &Plan) {
        if self.seen.is_none() {
            return;
        }
        for (node, standing) in &plan.standings {
            let before = self.told.get(node);
            // What was in the way is tried again now and then: that is no news, nor is it in other words.
            let again = match (before, standing) {
                (Some(Standing::Blocked(..)), Standing::Missing) => true,
                (Some(Standing::Blocked(one, _)), Standing::Blocked(other, _)) => one == other,
                _ => false,
            };
            if again {
                self.mark(now, node, standing);
                continue;
            }
            let before = self.told.insert(node.clone(), standing.clone());
            // What stood when this process began is no news.
            let news = before.as_ref() != Some(standing);
            let notice = match standing {
                Standing::Reachable if news && before.is_some() => Notice::Reachable(node.clone()),
                Standing::Blocked(obstacle, why) if news => {
                    Notice::Blocked(node.clone(), *obstacle, why.clone())
                }
                _ => {
                    self.mark(now, node, standing);
                    continue;
                }
            };
            self.actions.push(Action::Notice(notice));
            self.mark(now, node, standing);
        }
    }

    fn mark(&mut self, now: Timestamp, node: &str, standing: &Standing) {
        let says = self.nodes.get(node).and_then(|node| node.unavailable);
        let wanted = match standing {
            Standing::Reachable => Ok(()),
            Standing::Blocked(_, why) => Err(why.clone()),
            Standing::Pending | Standing::Missing => return,
        };
        let mark = self.marks.0.entry(node.to_owned()).or_default();
        if says == Some(wanted.is_err()) || mark.under_way.is_some() || mark.not_before > now {
            return;
        }
        mark.under_way = Some(wanted.is_err());
        self.actions.push(Action::Mark(node.to_owned(), wanted));
    }

    pub(super) fn marked(&mut self, now: Timestamp, name: &str, outcome: Result<(), String>) {
        let Some(mark) = self.marks.0.get_mut(name) else {
            return;
        };
        let wrote = mark.under_way.take();
        match outcome {
            Ok(()) => {
                mark.failures = 0;
                // The watch brings it a moment later.
                if let Some(node) = self.nodes.get_mut(name) {
                    node.unavailable = wrote;
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
