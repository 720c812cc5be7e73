//! The last calls, for people and for the demo.

use std::{collections::VecDeque, time::Duration};

use model::Timestamp;
use serde::{Deserialize, Serialize};

/// Calls kept. A lab of 50 nodes makes a few hundred calls a minute in its busiest minutes; at about
/// 200 bytes each this is 200 KiB.
const KEPT: usize = 1000;

/// One call as it was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallRecord {
    /// When it came in.
    pub time: Timestamp,
    /// Its action, or what was sent in its place.
    pub action: String,
    /// AccessKeyId of the caller, empty when the call named none.
    pub caller: String,
    /// The RequestId it was given.
    pub request_id: String,
    /// HTTP status of the answer.
    pub status: u16,
    /// The cloud's error code, when the answer was a refusal.
    pub code: Option<String>,
    /// How long the answer took.
    pub latency: Duration,
    /// Whether the caller got the answer whole.
    pub delivered: bool,
}

/// A ring of calls.
#[derive(Debug, Clone, Default)]
pub(crate) struct Journal(VecDeque<CallRecord>);

impl Journal {
    pub(crate) fn note(&mut self, record: CallRecord) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(record);
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &CallRecord> + ExactSizeIterator {
        self.0.iter()
    }
}
