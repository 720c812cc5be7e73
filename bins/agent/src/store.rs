//! The ledger's rows on disk, in one file that survives a kill at any moment (redb: copy-on-write
//! pages, two checksummed roots, one sync a commit).
//!
//! A file appears under its name only whole and synced, so one that cannot be read is damaged, never
//! half made: it is set aside, not overwritten, and people are told. After a write that failed nothing is
//! known of the file any more, because the kernel may have dropped what it could not write and call it
//! written; the next write makes the file anew from the ledger in memory, which is the truth.
//!
//! The file carries the number of its format. A newer one is refused, so that a downgrade never
//! misreads what an upgrade wrote.

mod disk;
#[cfg(test)]
mod tests;

use std::io::ErrorKind;

use engine::{
    ledger::{Change, Entry, EntryKey, Ledger, Violation},
    node::Config,
};
use redb::{
    Database, ReadTransaction, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition,
    WriteTransaction,
};

use crate::facts::Known;

pub(crate) use disk::{Directory, Disk};

/// The newest format this release knows, and the one it writes as long as an older release could read all
/// rows: one of before pods had several interfaces would forget all but the first.
const FORMAT: u64 = FORMAT_OF_IPVLAN;
const FORMAT_OF_ONE_INTERFACE: u64 = 1;
const FORMAT_OF_SEVERAL_INTERFACES: u64 = 2;
/// An older release looks for a VLAN in the row of a pod with an ENI of its own.
const FORMAT_OF_WHOLE_ENIS: u64 = 3;
/// An older release would take the pod for one on a veth pair, and its end for long gone.
const FORMAT_OF_IPVLAN: u64 = 4;

/// Pages kept in memory. A node's ledger of 300 rows of 300 bytes is 90 KiB.
const CACHE_BYTES: usize = 512 * 1024;

/// The ledger, one that is being made, and one that could not be read.
const FILE: &str = "ledger.redb";
const DRAFT: &str = "ledger.draft";
const DAMAGED: &str = "ledger.damaged";
/// A ledger that another instance wrote.
const FOREIGN: &str = "ledger.foreign";

const ROWS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("ledger");
const FACTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("facts");
/// Rows of the second table: the file's format, and what the node needs to start without the cloud.
const FORMAT_ROW: &str = "format";
const CONFIG_ROW: &str = "config";
const KNOWN_ROW: &str = "known";

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
    #[error("the rows of the ledger's store contradict each other")]
    Rows(#[source] Violation),
    #[error("the ledger's store has no {0}")]
    Lacks(&'static str),
}

impl StoreError {
    /// What the file system said, if it was asked.
    pub(crate) fn kind(&self) -> Option<ErrorKind> {
        match self {
            StoreError::File { source, .. } => Some(source.kind()),
            StoreError::Database { source, .. } => match &**source {
                redb::Error::Io(error) => Some(error.kind()),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether the file itself is at fault. What is not may pass: a full disk, a disk that is read-only,
    /// a process that still has the file open.
    fn is_damage(&self) -> bool {
        match self {
            StoreError::Newer { .. } | StoreError::File { .. } => false,
            StoreError::Row { .. } | StoreError::Rows(_) | StoreError::Lacks(_) => true,
            StoreError::Database { source, .. } => match &**source {
                redb::Error::Io(error) => matches!(
                    error.kind(),
                    ErrorKind::InvalidData | ErrorKind::UnexpectedEof
                ),
                redb::Error::Corrupted(_)
                | redb::Error::UpgradeRequired(_)
                | redb::Error::TableTypeMismatch { .. }
                | redb::Error::TableIsMultimap(_)
                | redb::Error::TableDoesNotExist(_)
                | redb::Error::TypeDefinitionChanged { .. } => true,
                _ => false,
            },
        }
    }
}

fn database<E: Into<redb::Error>>(doing: &'static str) -> impl Fn(E) -> StoreError {
    move |error| StoreError::Database {
        doing,
        source: Box::new(error.into()),
    }
}

/// The store.
pub(crate) struct Store<D = Directory> {
    disk: D,
    /// Nothing once a write failed.
    file: Option<Database>,
    /// The format it has.
    format: u64,
    /// What was last to be kept beside the rows.
    facts: Facts,
}

/// What stands beside the rows, as it is written.
#[derive(Debug, Default)]
struct Facts {
    config: Option<Vec<u8>>,
    known: Option<Vec<u8>>,
}

/// What a store held when it was opened.
#[derive(Default)]
pub(crate) struct Contents {
    pub(crate) ledger: Ledger,
    /// The configuration the node last ran with, so that it can start without the cloud.
    pub(crate) config: Option<Config>,
    /// What the cloud last said of the node.
    pub(crate) known: Option<Known>,
}

/// A file that was set aside: where it is now, and what was wrong with it.
#[derive(Debug)]
pub(crate) struct SetAside {
    pub(crate) path: String,
    pub(crate) why: String,
}

impl<D: Disk> Store<D> {
    /// Opens the store on `disk` and reads it whole. A file that is damaged is set aside, beside a new
    /// store.
    pub(crate) fn open(disk: D) -> Result<(Self, Contents, Option<SetAside>), StoreError> {
        let mut store = Self {
            disk,
            file: None,
            format: FORMAT_OF_ONE_INTERFACE,
            facts: Facts::default(),
        };
        let found = match store.disk.open(FILE) {
            Ok(file) => store.read(file),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                store.make(&Ledger::default())?;
                return Ok((store, Contents::default(), None));
            }
            Err(error) => Err(store.failed("opening", FILE)(error)),
        };
        match found {
            Ok(contents) => Ok((store, contents, None)),
            Err(error) if error.is_damage() => {
                let why = crate::cause::chain(&error);
                let path = store.set_aside(DAMAGED)?;
                Ok((store, Contents::default(), Some(SetAside { path, why })))
            }
            Err(error) => Err(error),
        }
    }

    /// Sets the file aside because it is another instance's, and begins a new one.
    pub(crate) fn disown(&mut self) -> Result<String, StoreError> {
        self.facts = Facts::default();
        self.set_aside(FOREIGN)
    }

    /// Renames the file to `name`; one that was set aside before under that name is lost, so that a
    /// disk that damages file after file does not fill up.
    fn set_aside(&mut self, name: &str) -> Result<String, StoreError> {
        self.file = None;
        let failed = self.failed("setting aside", FILE);
        self.disk.rename(FILE, name).map_err(failed)?;
        self.make(&Ledger::default())?;
        Ok(self.disk.place(name))
    }

    fn failed(
        &self,
        doing: &'static str,
        name: &str,
    ) -> impl FnOnce(std::io::Error) -> StoreError + use<D> {
        let path = self.disk.place(name);
        move |source| StoreError::File {
            doing,
            path,
            source,
        }
    }

    fn read(&mut self, file: D::File) -> Result<Contents, StoreError> {
        // An empty file would be taken for a new database, and everything for forgotten.
        if file.len().map_err(self.failed("reading", FILE))? == 0 {
            return Err(StoreError::Lacks("content"));
        }
        let mut builder = Database::builder();
        // Without this a file that was altered behind redb's back is trusted.
        builder.set_check_integrity_on_open(true);
        builder.set_cache_size(CACHE_BYTES);
        let opened = builder.create_with_backend(file);
        let opened = opened.map_err(database("opening"))?;
        let read = opened.begin_read().map_err(database("reading"))?;
        self.facts = Facts {
            config: fact(&read, CONFIG_ROW)?,
            known: fact(&read, KNOWN_ROW)?,
        };
        self.check_format(&read)?;
        let ledger = Ledger::restore(rows(&read)?).map_err(StoreError::Rows)?;
        drop(read);
        self.file = Some(opened);
        // What another release wrote in another form is simply asked for again.
        let config = self.facts.config.as_deref();
        let known = self.facts.known.as_deref();
        Ok(Contents {
            ledger,
            config: config.and_then(|text| serde_json::from_slice(text).ok()),
            known: known.and_then(|text| serde_json::from_slice(text).ok()),
        })
    }

    fn check_format(&mut self, read: &ReadTransaction) -> Result<(), StoreError> {
        let number = fact(read, FORMAT_ROW)?.and_then(|row| row.try_into().ok());
        let found = number
            .map(u64::from_be_bytes)
            .ok_or(StoreError::Lacks("number of its format"))?;
        if found > FORMAT {
            let path = self.disk.place(FILE);
            return Err(StoreError::Newer { path, found });
        }
        self.format = found;
        Ok(())
    }

    /// Writes `changes`, all or none, and returns once they survive a power cut. `ledger` is what they
    /// led to, perhaps with later ones: after a failed write all of it is written.
    pub(crate) fn write(&mut self, changes: &[Change], ledger: &Ledger) -> Result<(), StoreError> {
        let Some(file) = &self.file else {
            return self.make(ledger);
        };
        let format = self.format.max(format_of(changes));
        let rises = format > self.format;
        let written = commit(file, |write| {
            if rises {
                put_format(write, format)?;
            }
            put(write, changes)
        });
        self.format = format;
        self.trusted(written)
    }

    /// Keeps configuration and facts for a start without the cloud.
    pub(crate) fn keep(&mut self, config: &Config, known: &Known) -> Result<(), StoreError> {
        let text = |row: &str, value: serde_json::Result<Vec<u8>>| {
            value.map(Some).map_err(|source| StoreError::Row {
                row: row.into(),
                source,
            })
        };
        self.facts = Facts {
            config: text(CONFIG_ROW, serde_json::to_vec(config))?,
            known: text(KNOWN_ROW, serde_json::to_vec(known))?,
        };
        // Without a file they go into the one that the next write makes.
        let Some(file) = &self.file else {
            return Ok(());
        };
        let written = commit(file, |write| put_facts(write, &self.facts));
        self.trusted(written)
    }

    fn trusted(&mut self, written: Result<(), StoreError>) -> Result<(), StoreError> {
        if written.is_err() {
            self.file = None;
        }
        written
    }

    /// Makes the file anew with all of `ledger`, in the place of the one that was there.
    fn make(&mut self, ledger: &Ledger) -> Result<(), StoreError> {
        let made = self.draft(ledger).and_then(|file| {
            let failed = self.failed("renaming into place", FILE);
            self.disk.rename(DRAFT, FILE).map_err(failed)?;
            let failed = self.failed("syncing the directory of", FILE);
            self.disk.sync_names().map_err(failed)?;
            Ok(file)
        });
        if made.is_err() {
            // Half a draft on a full disk takes the room that others need; the next one is made anew.
            let _ = self.disk.remove(DRAFT);
        }
        self.file = Some(made?);
        Ok(())
    }

    fn draft(&mut self, ledger: &Ledger) -> Result<Database, StoreError> {
        let file = self.disk.create(DRAFT);
        let file = file.map_err(self.failed("making", DRAFT))?;
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES);
        let made = builder.create_with_backend(file);
        let made = made.map_err(database("making"))?;
        let rows: Vec<Change> = ledger.entries().map(Change::Put).collect();
        self.format = format_of(&rows);
        commit(&made, |write| {
            put_format(write, self.format)?;
            put_facts(write, &self.facts)?;
            put(write, &rows)
        })?;
        Ok(made)
    }
}

fn commit(
    file: &Database,
    fill: impl FnOnce(&WriteTransaction) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let write = file.begin_write().map_err(database("writing"))?;
    fill(&write)?;
    write.commit().map_err(database("writing"))
}

/// The format that rows of these changes need.
fn format_of(changes: &[Change]) -> u64 {
    let needed = changes.iter().map(|change| match change {
        Change::Put(Entry::Attachment(it)) if !it.joint.is_veth() => FORMAT_OF_IPVLAN,
        Change::Put(Entry::Attachment(it)) if it.is_whole() => FORMAT_OF_WHOLE_ENIS,
        Change::Put(Entry::Attachment(it)) if !it.further.is_empty() => {
            FORMAT_OF_SEVERAL_INTERFACES
        }
        Change::Put(_) | Change::Delete(_) => FORMAT_OF_ONE_INTERFACE,
    });
    needed.max().unwrap_or(FORMAT_OF_ONE_INTERFACE)
}

fn put_format(write: &WriteTransaction, format: u64) -> Result<(), StoreError> {
    let mut facts = write.open_table(FACTS).map_err(database("writing"))?;
    let format = format.to_be_bytes();
    let new = facts.insert(FORMAT_ROW, format.as_slice());
    new.map_err(database("writing")).map(drop)
}

fn put_facts(write: &WriteTransaction, facts: &Facts) -> Result<(), StoreError> {
    let mut table = write.open_table(FACTS).map_err(database("writing"))?;
    for (row, value) in [(CONFIG_ROW, &facts.config), (KNOWN_ROW, &facts.known)] {
        if let Some(value) = value {
            let new = table.insert(row, value.as_slice());
            new.map_err(database("writing"))?;
        }
    }
    Ok(())
}

fn put(write: &WriteTransaction, changes: &[Change]) -> Result<(), StoreError> {
    let mut rows = write.open_table(ROWS).map_err(database("writing"))?;
    for change in changes {
        match change {
            Change::Put(entry) => {
                let key = row_key(&entry.key());
                let value = serde_json::to_vec(entry).map_err(|source| StoreError::Row {
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
    Ok(())
}

fn fact(read: &ReadTransaction, row: &str) -> Result<Option<Vec<u8>>, StoreError> {
    let facts = read.open_table(FACTS).map_err(database("reading"))?;
    let found = facts.get(row).map_err(database("reading"))?;
    Ok(found.map(|value| value.value().to_owned()))
}

fn rows(read: &ReadTransaction) -> Result<Vec<Entry>, StoreError> {
    let table = read.open_table(ROWS).map_err(database("reading"))?;
    let mut entries = Vec::new();
    for row in table.iter().map_err(database("reading"))? {
        let (key, value) = row.map_err(database("reading"))?;
        let entry = serde_json::from_slice(value.value()).map_err(|source| StoreError::Row {
            row: key.value().to_owned(),
            source,
        })?;
        entries.push(entry);
    }
    Ok(entries)
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
