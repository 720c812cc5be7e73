//! Where access keys come from, and keeping temporary ones fresh.
//!
//! The first source of the chain that is configured wins. A source that is configured but broken is
//! an error, not a reason to go on: acting as somebody else than intended is worse than not acting.

mod source;

use core::time::Duration;
use std::{
    io,
    path::PathBuf,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use tokio::{sync::Mutex, time::Instant};

use crate::{Deadline, Keys, MetadataError, config::CALL_TIMEOUT};

use source::Lease;
pub use source::Source;

/// A temporary key is renewed this long before it expires: 10 minutes are 20 tries at
/// [`RENEWAL_INTERVAL`], and a small part of the hours a role's key lives.
pub const RENEWAL_MARGIN: Duration = Duration::from_secs(10 * 60);
/// A temporary key is not used any more this long before it expires: the longest call (20 s), doubled
/// for clocks that differ.
pub const USE_MARGIN: Duration = Duration::from_secs(40);
/// At most this often is a key asked for again while the present one is still good, and a file read
/// again.
pub const RENEWAL_INTERVAL: Duration = Duration::from_secs(30);
/// A failure is told to everybody who asks within this time, so that callers who waited for one
/// attempt do not each make another.
const FAILURE_SHARED: Duration = Duration::from_secs(1);
/// Longest one attempt to get keys may take: as long as the call that waits for it.
const FETCH_TIMEOUT: Duration = CALL_TIMEOUT;

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// No source is configured.
    #[error("no AccessKey in the configuration or its files, and the instance has no RAM role")]
    NoSource,
    /// A key file cannot be read.
    #[error("AccessKey file {path:?} cannot be read")]
    File {
        /// The file.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// A key file holds no key.
    #[error("AccessKey file {path:?} holds no key: expected one word")]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// The metadata service did not give the role's keys.
    #[error("the instance metadata service did not give keys for the instance's RAM role")]
    Role(#[source] MetadataError),
    /// What it gave cannot be used. The document is secret, so only the place is named.
    #[error("the keys of RAM role {role:?} cannot be used: {what}")]
    Document {
        /// The role.
        role: String,
        /// What is wrong with them.
        what: String,
    },
    /// The attempt, this caller's or the one it waited for, took longer than the caller had.
    #[error("the deadline passed while keys were being fetched; the metadata service may be slow")]
    Deadline,
}

#[derive(Default)]
struct State {
    lease: Option<Lease>,
    failure: Option<(Instant, Arc<CredentialError>)>,
}

/// A chain of sources and the keys it last gave.
pub struct Credentials {
    sources: Vec<Source>,
    /// Locked while keys are fetched: everybody else waits for that one attempt.
    state: Mutex<State>,
}

impl Credentials {
    /// Keys from the first of `sources` that is configured.
    pub fn new(sources: Vec<Source>) -> Self {
        Self {
            sources,
            state: Mutex::default(),
        }
    }

    /// Keys that are good for a call sent now.
    ///
    /// # Errors
    /// When there are none, or none before the deadline. While the present keys are usable a failed
    /// renewal is no error.
    pub async fn keys(&self, deadline: Deadline) -> Result<Keys, Arc<CredentialError>> {
        tokio::time::timeout_at(deadline.instant(), self.current(unix_seconds()))
            .await
            .unwrap_or_else(|_| Err(Arc::new(CredentialError::Deadline)))
    }

    /// Drops `keys`, which the cloud no longer knows, unless newer ones are here already.
    pub(crate) fn forget(&self, keys: &Keys) {
        // Somebody who holds the lock is about to fetch newer ones.
        if let Ok(mut state) = self.state.try_lock() {
            state.lease.take_if(|lease| lease.keys == *keys);
        }
    }

    async fn current(&self, now: u64) -> Result<Keys, Arc<CredentialError>> {
        let mut state = self.state.lock().await;
        if let Some(lease) = &state.lease
            && lease.is_fresh(now)
        {
            return Ok(lease.keys.clone());
        }
        if let Some((when, failure)) = &state.failure
            && when.elapsed() < FAILURE_SHARED
        {
            return Err(Arc::clone(failure));
        }
        // Not the caller's deadline: a hurried caller gives up without deciding for those behind it.
        match self.fetch(now, Deadline::within(FETCH_TIMEOUT)).await {
            Ok(lease) => {
                let keys = lease.keys.clone();
                *state = State {
                    lease: Some(lease),
                    failure: None,
                };
                Ok(keys)
            }
            Err(error) => match &mut state.lease {
                Some(lease) if lease.is_usable(now) => {
                    lease.renew_at = Some(now + RENEWAL_INTERVAL.as_secs());
                    Ok(lease.keys.clone())
                }
                _ => {
                    let error = Arc::new(error);
                    state.failure = Some((Instant::now(), Arc::clone(&error)));
                    Err(error)
                }
            },
        }
    }

    async fn fetch(&self, now: u64, deadline: Deadline) -> Result<Lease, CredentialError> {
        for source in &self.sources {
            if let Some(lease) = source.fetch(now, deadline).await? {
                return Ok(lease);
            }
        }
        Err(CredentialError::NoSource)
    }
}

fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failed_renewal_keeps_the_keys_that_are_still_good() {
        let directory = tempfile::tempdir().unwrap();
        let (id, secret) = (directory.path().join("id"), directory.path().join("secret"));
        std::fs::write(&id, "first").unwrap();
        std::fs::write(&secret, "s").unwrap();
        let chain = vec![Source::Files {
            id: id.clone(),
            secret: secret.clone(),
        }];
        let credentials = Credentials::new(chain);
        let interval = RENEWAL_INTERVAL.as_secs();
        assert_eq!(credentials.current(0).await.unwrap().id, "first");

        std::fs::write(&id, "second").unwrap();
        let kept = credentials.current(interval - 1).await.unwrap();
        assert_eq!(kept.id, "first", "not read again before it is due");

        std::fs::remove_file(&secret).unwrap();
        let kept = credentials.current(interval).await.unwrap();
        assert_eq!(kept.id, "first", "the renewal failed");

        std::fs::write(&secret, "s").unwrap();
        let renewed = credentials.current(2 * interval).await.unwrap();
        assert_eq!(renewed.id, "second");

        credentials.forget(&kept);
        std::fs::remove_file(&secret).unwrap();
        let still = credentials.current(2 * interval).await;
        assert!(
            still.is_ok(),
            "older keys than the present ones were forgotten"
        );
        credentials.forget(&renewed);
        assert!(credentials.current(2 * interval).await.is_err());
    }
}
