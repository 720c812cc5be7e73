//! The places keys come from, and reading each of them once.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Deserialize;

use super::{CredentialError, RENEWAL_INTERVAL, RENEWAL_MARGIN, USE_MARGIN};
use crate::{Deadline, Keys, Metadata, MetadataError, Secret, utc};

/// Longest file that can be a key: keys have 16 to 30 characters.
const KEY_FILE_BYTES_MAX: usize = 1024;
/// Where the metadata service keeps what the instance's RAM role may be assumed with.
const ROLE_PATH: &str = "ram/security-credentials/";

/// One place keys may come from.
pub enum Source {
    /// Keys written in the configuration.
    Static(Keys),
    /// A file with the AccessKey id and one with its secret, as a mounted Secret has them. Not
    /// configured when the first does not exist.
    Files {
        /// Holds the AccessKey id.
        id: PathBuf,
        /// Holds the AccessKey secret.
        secret: PathBuf,
    },
    /// The instance's RAM role, through the metadata service.
    InstanceRole(Arc<Metadata>),
}

/// Keys and how long they are good.
#[derive(Clone)]
pub(super) struct Lease {
    pub(super) keys: Keys,
    /// When to ask again, in seconds since the Unix epoch; never for keys that do not change.
    pub(super) renew_at: Option<u64>,
    /// When to stop using them, in seconds since the Unix epoch.
    pub(super) unusable_at: Option<u64>,
}

impl Lease {
    pub(super) fn is_fresh(&self, now: u64) -> bool {
        self.renew_at.is_none_or(|at| now < at)
    }

    pub(super) fn is_usable(&self, now: u64) -> bool {
        self.unusable_at.is_none_or(|at| now < at)
    }
}

impl Source {
    /// Its keys; nothing when it is not configured.
    pub(super) async fn fetch(
        &self,
        now: u64,
        deadline: Deadline,
    ) -> Result<Option<Lease>, CredentialError> {
        match self {
            Source::Static(keys) => Ok(Some(Lease {
                keys: keys.clone(),
                renew_at: None,
                unusable_at: None,
            })),
            Source::Files { id, secret } => Ok(read_files(id, secret).await?.map(|keys| Lease {
                keys,
                // A mounted Secret is replaced in place when it is rotated.
                renew_at: Some(now + RENEWAL_INTERVAL.as_secs()),
                unusable_at: None,
            })),
            Source::InstanceRole(metadata) => assume_role(metadata, now, deadline).await,
        }
    }
}

async fn read_files(id: &Path, secret: &Path) -> Result<Option<Keys>, CredentialError> {
    match read_key(id).await {
        Ok(id) => Ok(Some(Keys::permanent(id, read_key(secret).await?))),
        Err(CredentialError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

async fn read_key(path: &Path) -> Result<String, CredentialError> {
    let text = tokio::fs::read_to_string(path)
        .await
        .map_err(|source| CredentialError::File {
            path: path.into(),
            source,
        })?;
    let key = text.trim();
    let word = key.bytes().all(|byte| byte.is_ascii_graphic());
    if key.is_empty() || key.len() > KEY_FILE_BYTES_MAX || !word {
        return Err(CredentialError::NoKey { path: path.into() });
    }
    Ok(key.to_owned())
}

async fn assume_role(
    metadata: &Metadata,
    now: u64,
    deadline: Deadline,
) -> Result<Option<Lease>, CredentialError> {
    let role = match metadata.word(ROLE_PATH, deadline).await {
        Ok(role) => role,
        Err(MetadataError::Absent { .. }) => return Ok(None),
        Err(error) => return Err(CredentialError::Role(error)),
    };
    let path = format!("{ROLE_PATH}{role}");
    let text = metadata
        .text(&path, deadline)
        .await
        .map_err(CredentialError::Role)?;
    lease_from(&text, now)
        .map(Some)
        .map_err(|what| CredentialError::Document { role, what })
}

/// What the metadata service says about a role. The names are those of the public documentation,
/// "Instance RAM roles".
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RoleDocument {
    access_key_id: String,
    access_key_secret: String,
    security_token: String,
    expiration: String,
    code: String,
}

/// The lease a role's document grants, or what is wrong with it in words that hold none of it.
fn lease_from(text: &str, now: u64) -> Result<Lease, String> {
    let document: RoleDocument = serde_json::from_str(text)
        // The parser quotes what it stumbles over; the place is enough.
        .map_err(|error| {
            let (line, column) = (error.line(), error.column());
            format!("not the documented JSON (line {line}, column {column})")
        })?;
    if document.code != "Success" {
        return Err("its Code is not Success".into());
    }
    let secrets = [
        &document.access_key_id,
        &document.access_key_secret,
        &document.security_token,
    ];
    if secrets.iter().any(|text| text.is_empty()) {
        return Err("a key is empty".into());
    }
    let expiry =
        utc::seconds(&document.expiration).ok_or_else(|| "Expiration is no UTC time".to_owned())?;
    let unusable_at = expiry.saturating_sub(USE_MARGIN.as_secs());
    if unusable_at <= now {
        return Err(format!("they expire at {}", document.expiration));
    }
    // The service may hand out a key it gave before until it has the next: ask again, but not at once.
    let renew_at = expiry
        .saturating_sub(RENEWAL_MARGIN.as_secs())
        .max(now + RENEWAL_INTERVAL.as_secs())
        .min(unusable_at);
    Ok(Lease {
        keys: Keys {
            id: document.access_key_id,
            secret: Secret::new(document.access_key_secret),
            token: Some(Secret::new(document.security_token)),
        },
        renew_at: Some(renew_at),
        unusable_at: Some(unusable_at),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLE: &str = include_str!("../../../../fixtures/cloud/metadata/role.json");
    /// The fixture's Expiration.
    const EXPIRY: u64 = 1_793_510_401;

    #[test]
    fn a_role_is_renewed_before_its_keys_expire() {
        let lease = lease_from(ROLE, EXPIRY - 6 * 3_600).unwrap();
        assert_eq!(lease.keys.id, "STS.example");
        assert_eq!(lease.renew_at, Some(EXPIRY - RENEWAL_MARGIN.as_secs()));
        assert_eq!(lease.unusable_at, Some(EXPIRY - USE_MARGIN.as_secs()));
    }

    #[test]
    fn keys_about_to_expire_are_asked_for_again_but_not_at_once() {
        let now = EXPIRY - 300;
        let lease = lease_from(ROLE, now).unwrap();
        assert!(lease.is_fresh(now) && lease.is_usable(now));
        assert_eq!(lease.renew_at, Some(now + RENEWAL_INTERVAL.as_secs()));
        assert!(lease_from(ROLE, EXPIRY - 10).is_err());
    }

    #[test]
    fn a_bad_role_document_is_refused_without_being_quoted() {
        let broken = [
            ROLE.replace("\"example-secret\"", "{\"example-secret\": 1}"),
            ROLE.replace("\"Success\"", "\"example-secret\""),
            ROLE.replace("\"example-token\"", "\"\""),
            ROLE.replace("2026-11-01T05:20:01Z", "tomorrow"),
            ROLE.replace("AccessKeyId", "example-secret"),
            ROLE[..ROLE.len() / 2].to_owned(),
            String::new(),
        ];
        for document in broken {
            let what = lease_from(&document, 0).err().unwrap();
            assert!(!what.contains("example-"), "{what}");
        }
    }
}
