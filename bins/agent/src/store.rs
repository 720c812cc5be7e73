//! The ledger's rows on disk, in one file that survives a kill at any moment (redb: copy-on-write
//! pages, two checksummed roots, one sync a commit).
//!
//! The file carries the number of its format. A newer one is refused, so that a downgrade never
//! misreads what an upgrade wrote; one that cannot be opened at all is set aside, not overwritten.

use std::{
    fs,
    path::{Path, PathBuf},
};

use engine::{
    ledger::{Change, Entry, EntryKey},
    node::Config,
};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use crate::facts::Known;

/// The format this release writes.
const FORMAT: u64 = 1;

/// Pages kept in memory. A node's ledger of 300 rows of 300 bytes is 90 KiB.
const CACHE_BYTES: usize = 512 * 1024;

const ROWS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("ledger");
const FACTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("facts");

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error(
        "{path} has format {found}, this release knows {FORMAT}; run the release that wrote it"
    )]
    Newer { path: String, found: u64 },
    #[error("{doing} {path}")]
    File {
        doing: &'static str,
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{doing} the ledger's store")]
    Database {
        doing: &'static str,
        #[source]
        source: Box<redb::Error>,
    },
    #[error("a row of the ledger's store cannot be read: {row}")]
    Row {
        row: String,
        #[source]
        source: serde_json::Error,
    },
}

fn database<E: Into<redb::Error>>(doing: &'static str) -> impl Fn(E) -> StoreError {
    move |error| StoreError::Database {
        doing,
        source: Box::new(error.into()),
    }
}

/// The store.
pub(crate) struct Store(Database);

/// What a store held when it was opened.
#[derive(Default)]
pub(crate) struct Contents {
    pub(crate) rows: Vec<Entry>,
    /// The configuration the node last ran with, so that it can start without the cloud.
    pub(crate) config: Option<Config>,
    /// What the cloud last said of the node.
    pub(crate) known: Option<Known>,
}

impl Store {
    /// Opens the store at `path` and reads it whole. A file that is damaged is renamed to
    /// `PATH.damaged` and its path returned, beside a new store.
    pub(crate) fn open(path: &Path) -> Result<(Self, Contents, Option<PathBuf>), StoreError> {
        if let Some(directory) = path.parent() {
            let path = || directory.display().to_string();
            fs::create_dir_all(directory).map_err(|source| StoreError::File {
                doing: "making",
                path: path(),
                source,
            })?;
        }
        match Self::open_and_read(path) {
            Ok((store, contents)) => Ok((store, contents, None)),
            Err(error @ StoreError::Newer { .. }) => Err(error),
            Err(error) if path.exists() => {
                tracing::error!(%error, source = ?std::error::Error::source(&error), "the ledger's store is damaged");
                let aside = path.with_extension("damaged");
                fs::rename(path, &aside).map_err(|source| StoreError::File {
                    doing: "setting aside",
                    path: path.display().to_string(),
                    source,
                })?;
                let (store, contents) = Self::open_and_read(path)?;
                Ok((store, contents, Some(aside)))
            }
            Err(error) => Err(error),
        }
    }

    fn open_and_read(path: &Path) -> Result<(Self, Contents), StoreError> {
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES);
        let opened = builder.create(path).map_err(database("opening"))?;
        let store = Self(opened);
        store.check_format(path)?;
        let contents = store.read()?;
        Ok((store, contents))
    }

    fn check_format(&self, path: &Path) -> Result<(), StoreError> {
        let write = self.0.begin_write().map_err(database("opening"))?;
        {
            let mut facts = write.open_table(FACTS).map_err(database("opening"))?;
            write.open_table(ROWS).map_err(database("opening"))?;
            let found = facts
                .get("format")
                .map_err(database("reading"))?
                .map(|value| {
                    value
                        .value()
                        .try_into()
                        .map(u64::from_be_bytes)
                        .unwrap_or(u64::MAX)
                });
            match found {
                Some(found) if found > FORMAT => {
                    return Err(StoreError::Newer {
                        path: path.display().to_string(),
                        found,
                    });
                }
                Some(_) => {}
                None => {
                    facts
                        .insert("format", FORMAT.to_be_bytes().as_slice())
                        .map_err(database("writing"))?;
                }
            }
        }
        write.commit().map_err(database("writing"))
    }

    fn read(&self) -> Result<Contents, StoreError> {
        let read = self.0.begin_read().map_err(database("reading"))?;
        let mut contents = Contents::default();
        let rows = read.open_table(ROWS).map_err(database("reading"))?;
        for row in rows.iter().map_err(database("reading"))? {
            let (key, value) = row.map_err(database("reading"))?;
            let entry =
                serde_json::from_slice(value.value()).map_err(|source| StoreError::Row {
                    row: key.value().to_owned(),
                    source,
                })?;
            contents.rows.push(entry);
        }
        let facts = read.open_table(FACTS).map_err(database("reading"))?;
        // What another release wrote in another form is simply asked for again.
        let text = |name| facts.get(name).map_err(database("reading"));
        contents.config = text("config")?.and_then(|row| serde_json::from_slice(row.value()).ok());
        contents.known = text("known")?.and_then(|row| serde_json::from_slice(row.value()).ok());
        Ok(contents)
    }

    /// Writes `changes`, all or none, and returns once they survive a power cut.
    pub(crate) fn write(&self, changes: &[Change]) -> Result<(), StoreError> {
        let write = self.0.begin_write().map_err(database("writing"))?;
        {
            let mut rows = write.open_table(ROWS).map_err(database("writing"))?;
            for change in changes {
                match change {
                    Change::Put(entry) => {
                        let key = row_key(&entry.key());
                        let value =
                            serde_json::to_vec(entry).map_err(|source| StoreError::Row {
                                row: key.clone(),
                                source,
                            })?;
                        rows.insert(key.as_str(), value.as_slice())
                            .map_err(database("writing"))?;
                    }
                    Change::Delete(EntryKey::Eni(eni)) => {
                        rows.remove(row_key(&EntryKey::Eni(eni.clone())).as_str())
                            .map_err(database("writing"))?;
                        // The ledger drops an ENI's addresses with it.
                        rows.retain(|_, value| !is_address_of(value, eni))
                            .map_err(database("writing"))?;
                    }
                    Change::Delete(key) => {
                        rows.remove(row_key(key).as_str())
                            .map_err(database("writing"))?;
                    }
                }
            }
        }
        write.commit().map_err(database("writing"))
    }

    /// Keeps configuration and facts for a start without the cloud.
    pub(crate) fn keep(&self, config: &Config, known: &Known) -> Result<(), StoreError> {
        let text = |row: &str, value: serde_json::Result<Vec<u8>>| {
            value.map_err(|source| StoreError::Row {
                row: row.into(),
                source,
            })
        };
        let config = text("config", serde_json::to_vec(config))?;
        let known = text("known", serde_json::to_vec(known))?;
        let write = self.0.begin_write().map_err(database("writing"))?;
        {
            let mut facts = write.open_table(FACTS).map_err(database("writing"))?;
            facts
                .insert("config", config.as_slice())
                .map_err(database("writing"))?;
            facts
                .insert("known", known.as_slice())
                .map_err(database("writing"))?;
        }
        write.commit().map_err(database("writing"))
    }
}

fn is_address_of(value: &[u8], eni: &model::EniId) -> bool {
    matches!(serde_json::from_slice(value), Ok(Entry::Address(entry)) if entry.eni == *eni)
}

fn row_key(key: &EntryKey) -> String {
    match key {
        EntryKey::Eni(id) => format!("eni/{id}"),
        EntryKey::Address(address) => format!("address/{address}"),
        EntryKey::Attachment(key) => format!("attachment/{key}"),
        EntryKey::Intent(id) => format!("intent/{id:020}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::ledger::{AddressEntry, AddressState, EniEntry, EniStage, Ledger};
    use model::{DualStack, EniId, Mac, VSwitchId};

    fn rows() -> Vec<Change> {
        let id = EniId::new("eni-1").unwrap();
        vec![
            Change::Put(Entry::Eni(EniEntry {
                id: id.clone(),
                mac: Mac([2; 6]),
                vswitch: VSwitchId::new("vsw-1").unwrap(),
                stage: EniStage::Attached,
                gateway: DualStack::default(),
                subnet: DualStack::default(),
            })),
            Change::Put(Entry::Address(AddressEntry {
                address: "10.0.0.1".parse().unwrap(),
                eni: id,
                primary: true,
                state: AddressState::Fresh,
                unseen: 0,
                reserved: None,
            })),
        ]
    }

    #[test]
    fn what_is_written_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state/ledger.redb");
        let (store, contents, _) = Store::open(&path).unwrap();
        assert!(contents.rows.is_empty());
        store.write(&rows()).unwrap();
        drop(store);
        let (store, contents, aside) = Store::open(&path).unwrap();
        assert!(aside.is_none());
        let ledger = Ledger::restore(contents.rows).unwrap();
        assert_eq!((ledger.enis().count(), ledger.addresses().count()), (1, 1));
        store
            .write(&[Change::Delete(EntryKey::Eni(EniId::new("eni-1").unwrap()))])
            .unwrap();
        drop(store);
        assert!(
            Store::open(&path).unwrap().1.rows.is_empty(),
            "its addresses went with it"
        );
    }

    #[test]
    fn a_damaged_file_is_set_aside_and_a_newer_one_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger.redb");
        fs::write(&path, b"this is no database").unwrap();
        let (store, contents, aside) = Store::open(&path).unwrap();
        assert!(contents.rows.is_empty());
        assert_eq!(fs::read(aside.unwrap()).unwrap(), b"this is no database");
        let write = store.0.begin_write().unwrap();
        write
            .open_table(FACTS)
            .unwrap()
            .insert("format", 9_u64.to_be_bytes().as_slice())
            .unwrap();
        write.commit().unwrap();
        drop(store);
        assert!(matches!(
            Store::open(&path),
            Err(StoreError::Newer { found: 9, .. })
        ));
        assert!(path.exists(), "a newer store stays where it is");
    }
}
