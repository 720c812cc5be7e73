//! What a DEL leaves behind when the agent does not answer: a small file that says which attachment
//! is gone and since when. The plugin may then report success, because the file is on the disk
//! before it does; the agent settles it when it comes back.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use model::{AttachmentKey, Timestamp};
use serde::{Deserialize, Serialize};

/// Tombstones read at once. A node that is drained while the agent is down leaves one a pod, so 256;
/// the rest of a larger heap is read in the next round.
pub const READ_MAX: usize = 1024;

/// A DEL nobody answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// Sandbox and interface.
    pub key: AttachmentKey,
    /// When the DEL started: an ADD that started earlier is dead.
    pub deleted: Timestamp,
}

/// Why a tombstone could not be written, read or removed.
#[derive(Debug, thiserror::Error)]
pub enum TombstoneError {
    /// The file system refused.
    #[error("{doing} {path}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A file that is no tombstone.
    #[error("{path} is no tombstone; it is left where it is")]
    Undecodable {
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> TombstoneError {
    let path = path.to_owned();
    move |source| TombstoneError::Io {
        doing,
        path,
        source,
    }
}

fn path_of(directory: &Path, key: &AttachmentKey) -> PathBuf {
    // Both parts are names without '/', and neither can hold '@'.
    directory.join(format!("{}@{}.json", key.container, key.interface))
}

impl Tombstone {
    /// Writes the tombstone so that it survives a power cut: file synced, renamed into place,
    /// directory synced.
    ///
    /// # Errors
    /// When any of these steps fails; then the DEL must fail too.
    pub fn write(&self, directory: &Path) -> Result<(), TombstoneError> {
        fs::create_dir_all(directory).map_err(io_error("making", directory))?;
        let path = path_of(directory, &self.key);
        let draft = path.with_extension("draft");
        let text = serde_json::to_vec(self).map_err(|source| TombstoneError::Undecodable {
            path: path.clone(),
            source,
        })?;
        let mut file = File::create(&draft).map_err(io_error("creating", &draft))?;
        file.write_all(&text).map_err(io_error("writing", &draft))?;
        file.sync_all().map_err(io_error("syncing", &draft))?;
        fs::rename(&draft, &path).map_err(io_error("renaming into place", &path))?;
        sync_directory(directory)
    }

    /// Removes the tombstone; one that is gone already is fine.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn remove(&self, directory: &Path) -> Result<(), TombstoneError> {
        let path = path_of(directory, &self.key);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(io_error("removing", &path)(error))
            }
            Ok(()) | Err(_) => sync_directory(directory),
        }
    }
}

fn sync_directory(directory: &Path) -> Result<(), TombstoneError> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(io_error("syncing", directory))
}

/// The tombstones in `directory`, at most [`READ_MAX`] of them, and what could not be read.
pub fn read(directory: &Path) -> (Vec<Tombstone>, Vec<TombstoneError>) {
    let (mut found, mut errors) = (Vec::new(), Vec::new());
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return (found, errors),
        Err(error) => return (found, vec![io_error("listing", directory)(error)]),
    };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    for path in paths
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .take(READ_MAX)
    {
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) => {
                errors.push(io_error("reading", &path)(error));
                continue;
            }
        };
        match serde_json::from_slice(&text) {
            Ok(tombstone) => found.push(tombstone),
            Err(source) => errors.push(TombstoneError::Undecodable { path, source }),
        }
    }
    (found, errors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{ContainerId, InterfaceName};

    #[test]
    fn a_tombstone_is_written_read_and_removed() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path().join("deep/er");
        let tombstone = Tombstone {
            key: AttachmentKey {
                container: ContainerId::new("c1").unwrap(),
                interface: InterfaceName::new("eth0").unwrap(),
            },
            deleted: Timestamp::from_nanos(7),
        };
        assert!(read(&directory).0.is_empty(), "nothing there yet");
        tombstone.write(&directory).unwrap();
        tombstone.write(&directory).unwrap();
        fs::write(directory.join("junk.json"), "{").unwrap();
        let (found, errors) = read(&directory);
        assert_eq!(found, std::slice::from_ref(&tombstone));
        assert_eq!(
            errors.len(),
            1,
            "junk is reported, not taken and not removed"
        );
        tombstone.remove(&directory).unwrap();
        tombstone.remove(&directory).unwrap();
        assert!(read(&directory).0.is_empty());
        assert!(directory.join("junk.json").exists());
    }
}
