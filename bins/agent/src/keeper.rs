//! The ledger's store as a running agent has it: what cannot be opened is waited for, what cannot be
//! written is tried again, and people are told of both.
//!
//! Never decides what is written, and never gives a ledger up because a disk is in trouble.

use std::{io::ErrorKind, path::Path, sync::Arc, thread, time::Duration};

use engine::ledger::{Change, Ledger};
use model::InstanceId;

use crate::{
    cause::chain,
    health::{Health, Part},
    notices::Notices,
    store::{Contents, Directory, Store, StoreError},
};

/// How often a store that cannot be opened is tried. Nothing can be served without it, and space may
/// return at any moment.
const OPEN_PERIOD: Duration = Duration::from_secs(1);

/// Failed writes in a row after which ADDs are refused at once. The machine writes again after half a
/// second; what passes within that is not worth a refusal.
const FAILURES_MAX: u32 = 2;

/// The store, and what is wrong with it.
pub(crate) struct Keeper {
    store: Store,
    notices: Notices,
    health: Arc<Health>,
    failures: u32,
    /// The last failure, if nothing was written since.
    trouble: String,
}

impl Keeper {
    pub(crate) fn new(store: Store, notices: Notices, health: Arc<Health>) -> Self {
        Self {
            store,
            notices,
            health,
            failures: 0,
            trouble: String::new(),
        }
    }

    /// The store.
    pub(crate) fn store(&mut self) -> &mut Store {
        &mut self.store
    }

    /// Writes `changes`, which led to `ledger`; a failure is told to people and returned as they read it.
    pub(crate) fn write(&mut self, changes: &[Change], ledger: &Ledger) -> Result<(), String> {
        let Err(error) = self.store.write(changes, ledger) else {
            if self.failures > 0 {
                self.failures = 0;
                self.health.stands(Part::Ledger);
                self.notices.ledger_usable();
            }
            return Ok(());
        };
        self.failures += 1;
        self.trouble = told(&error);
        self.health.lacks(Part::Ledger, self.trouble.clone());
        if self.failures == 1 {
            self.notices.ledger_unusable(&self.trouble);
        }
        Err(self.trouble.clone())
    }

    /// Why no ADD can be served, if the store fails for longer than a moment.
    pub(crate) fn refusal(&self) -> Option<&str> {
        (self.failures >= FAILURES_MAX).then_some(self.trouble.as_str())
    }
}

/// Opens the store in `state`, which takes as long as the disk lets it. A ledger that another instance
/// wrote (a disk that moved, an image made of a node) is set aside: its ENIs are not here.
pub(crate) fn open(
    state: &Path,
    instance: Option<InstanceId>,
    notices: &Notices,
    health: &Health,
) -> (Store, Contents) {
    let mut complaint = String::new();
    loop {
        match attempt(state, instance.as_ref(), notices) {
            Ok(opened) => {
                if !complaint.is_empty() {
                    notices.ledger_usable();
                }
                health.stands(Part::Ledger);
                return opened;
            }
            Err(error) => {
                let text = told(&error);
                if text != complaint {
                    health.lacks(Part::Ledger, text.as_str());
                    notices.ledger_unusable(&text);
                    complaint = text;
                }
            }
        }
        thread::sleep(OPEN_PERIOD);
    }
}

fn attempt(
    state: &Path,
    instance: Option<&InstanceId>,
    notices: &Notices,
) -> Result<(Store, Contents), StoreError> {
    let disk = Directory::at(state).map_err(|source| StoreError::File {
        doing: "making",
        path: state.display().to_string(),
        source,
    })?;
    let (mut store, contents, aside) = Store::open(disk)?;
    if let Some(aside) = aside {
        notices.ledger_set_aside(&format!(
            "the ledger was damaged ({}) and is kept as {}; a new one is filled from cloud and kernel",
            aside.why, aside.path
        ));
    }
    let wrote = contents.known.as_ref().map(|known| &known.instance);
    match (wrote, instance) {
        (Some(wrote), Some(instance)) if wrote != instance => {
            let path = store.disown()?;
            notices.ledger_set_aside(&format!(
                "the ledger is of instance {wrote} and this is {instance}; it is kept as {path}"
            ));
            Ok((store, Contents::default()))
        }
        _ => Ok((store, contents)),
    }
}

/// An error of the store with what ends it.
fn told(error: &StoreError) -> String {
    let end = match error.kind() {
        Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
            "; free space or inodes there, no restart is needed"
        }
        Some(ErrorKind::ReadOnlyFilesystem) => {
            "; make the file system writable again, no restart is needed"
        }
        Some(_) => "; look at the node's disk and at the kernel's log",
        None => "",
    };
    format!("{}{end}", chain(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn a_disk_in_trouble_is_named_with_what_ends_it() {
        for (kind, end) in [
            (ErrorKind::StorageFull, "free space"),
            (ErrorKind::ReadOnlyFilesystem, "writable"),
            (ErrorKind::Other, "the node's disk"),
        ] {
            let source = Box::new(redb::Error::Io(io::Error::from(kind)));
            let doing = "writing";
            assert!(told(&StoreError::Database { doing, source }).contains(end));
        }
    }
}
