//! The few steps on a file system that the store relies on, as a trait, so that a test can put a disk
//! under it that fills up, fails, and forgets what was not synced.
//!
//! Knows nothing of rows and formats.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use redb::{StorageBackend, backends::FileBackend};

/// A directory of files.
pub(crate) trait Disk {
    /// An open file.
    type File: StorageBackend;

    /// Opens `name`, which must be there.
    fn open(&self, name: &str) -> io::Result<Self::File>;
    /// Makes `name` anew, empty.
    fn create(&self, name: &str) -> io::Result<Self::File>;
    /// Gives a file another name; one that had it is gone.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes `name`, if it is there.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Returns once all names are as they are now even after a power cut.
    fn sync_names(&self) -> io::Result<()>;
    /// Where `name` is, for people.
    fn place(&self, name: &str) -> String;
}

/// A directory of the node.
#[derive(Debug)]
pub(crate) struct Directory(PathBuf);

impl Directory {
    /// The directory at `path`, made if it is not there.
    pub(crate) fn at(path: &Path) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        Ok(Self(path.to_owned()))
    }

    fn open_with(&self, name: &str, options: &mut OpenOptions) -> io::Result<FileBackend> {
        let file = options.read(true).write(true).open(self.0.join(name))?;
        FileBackend::new(file).map_err(io::Error::other)
    }
}

impl Disk for Directory {
    type File = FileBackend;

    fn open(&self, name: &str) -> io::Result<FileBackend> {
        self.open_with(name, &mut OpenOptions::new())
    }

    fn create(&self, name: &str) -> io::Result<FileBackend> {
        self.open_with(name, OpenOptions::new().create(true).truncate(true))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.0.join(from), self.0.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.0.join(name)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn sync_names(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }

    fn place(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}
