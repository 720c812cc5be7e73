//! ClientTokens: what makes a repeated call the same call.
//!
//! A call that succeeded is remembered with what it asked for and what it answered. The same call
//! gets the same answer under a new RequestId; another call under the same token is refused. Calls
//! that were refused leave nothing behind, so they may be tried again under their token.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use model::Timestamp;
use serde_json::{Map, Value};

use crate::refusal::{Outcome, Refusal};

/// How long an answer is kept. The cloud promises no figure for these calls; a day outlives every
/// retry of a node that reboots.
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// Answers kept. 10,000 creates and assigns a day are 7 a minute around the clock; with about 2 KiB
/// each they take 20 MiB.
const ANSWERS_MAX: usize = 10_000;

type Key = (String, String);

#[derive(Debug, Clone)]
struct Answer {
    substance: BTreeMap<String, String>,
    body: Map<String, Value>,
}

/// The answers given under tokens.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tokens {
    answers: BTreeMap<Key, Answer>,
    order: VecDeque<(Timestamp, Key)>,
}

impl Tokens {
    /// The answer to the same call, if it was given.
    pub(crate) fn recall(
        &mut self,
        now: Timestamp,
        action: &str,
        token: &str,
        substance: &BTreeMap<String, String>,
    ) -> Outcome<Option<Map<String, Value>>> {
        self.forget(now);
        match self.answers.get(&(action.to_owned(), token.to_owned())) {
            None => Ok(None),
            Some(answer) if answer.substance == *substance => Ok(Some(answer.body.clone())),
            Some(_) => Err(Refusal::token_reused()),
        }
    }

    pub(crate) fn remember(
        &mut self,
        now: Timestamp,
        action: &str,
        token: &str,
        substance: BTreeMap<String, String>,
        body: Map<String, Value>,
    ) {
        let key = (action.to_owned(), token.to_owned());
        self.answers.insert(key.clone(), Answer { substance, body });
        self.order.push_back((now.after(KEPT), key));
    }

    fn forget(&mut self, now: Timestamp) {
        while let Some((until, _)) = self.order.front() {
            if *until > now && self.order.len() < ANSWERS_MAX {
                break;
            }
            if let Some((_, key)) = self.order.pop_front() {
                self.answers.remove(&key);
            }
        }
    }
}
