//! What both kinds of world are run by: events in order of time, and a log of what happened.
//!
//! Must not know: what an event is.

use std::{collections::BTreeMap, fmt::Write as _};

use model::Timestamp;

use crate::world::START;

/// Events by their time; of one time, first come first served.
#[derive(Debug)]
pub(crate) struct Queue<E> {
    events: BTreeMap<(Timestamp, u64), E>,
    sequence: u64,
}

impl<E> Queue<E> {
    pub(crate) fn new() -> Self {
        Self {
            events: BTreeMap::new(),
            sequence: 0,
        }
    }

    pub(crate) fn push(&mut self, at: Timestamp, event: E) {
        self.sequence += 1;
        self.events.insert((at, self.sequence), event);
    }

    pub(crate) fn pop(&mut self) -> Option<(Timestamp, E)> {
        let ((at, _), event) = self.events.pop_first()?;
        Some((at, event))
    }

    /// Takes out the events that `which` says, in order of time.
    pub(crate) fn take(&mut self, mut which: impl FnMut(&E) -> bool) -> Vec<E> {
        let taken = self.events.extract_if(.., |_, event| which(event));
        taken.map(|(_, event)| event).collect()
    }
}

/// What happened, line by line, when somebody wants to read it.
#[derive(Debug)]
pub(crate) struct Log(Option<String>);

impl Log {
    pub(crate) fn new(wanted: bool) -> Self {
        Self(wanted.then(String::new))
    }

    pub(crate) fn line(&mut self, now: Timestamp, line: impl FnOnce() -> String) {
        if let Some(log) = &mut self.0 {
            let micros = now.since(START).as_micros();
            // Writing to a String cannot fail.
            let _ = writeln!(
                log,
                "{:>5}.{:06} {}",
                micros / 1_000_000,
                micros % 1_000_000,
                line()
            );
        }
    }

    pub(crate) fn text(self) -> String {
        self.0.unwrap_or_default()
    }
}
