//! Tar files that depend on nothing but their content: entries sorted by path, owner 0, times 0.

use std::{collections::BTreeMap, io, path::Path};

use tar::{Builder, EntryType, Header};

/// Modes of what is in an image: programs are run, all else is read.
const DIRECTORY: u32 = 0o755;

/// A file: its mode and its bytes.
pub(super) struct File {
    pub(super) mode: u32,
    pub(super) bytes: Vec<u8>,
}

impl File {
    pub(super) const fn program(bytes: Vec<u8>) -> Self {
        Self { mode: 0o755, bytes }
    }

    pub(super) const fn data(bytes: Vec<u8>) -> Self {
        Self { mode: 0o644, bytes }
    }
}

/// A tar of `files`, by their paths without a leading slash, and of the directories above them.
pub(super) fn tar(files: &BTreeMap<String, File>) -> io::Result<Vec<u8>> {
    let mut entries: BTreeMap<String, Option<&File>> = BTreeMap::new();
    for (path, file) in files {
        let above = Path::new(path).ancestors().skip(1);
        for directory in above.filter(|directory| !directory.as_os_str().is_empty()) {
            entries.insert(format!("{}/", directory.display()), None);
        }
        entries.insert(path.clone(), Some(file));
    }
    let mut tar = Builder::new(Vec::new());
    for (path, file) in entries {
        let (kind, mode, bytes) = match file {
            Some(file) => (EntryType::Regular, file.mode, file.bytes.as_slice()),
            None => (EntryType::Directory, DIRECTORY, [].as_slice()),
        };
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, &path, bytes)?;
    }
    tar.into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_sorted_owned_by_root_and_without_time() {
        let files = BTreeMap::from([
            ("usr/local/bin/b".to_owned(), File::program(b"B".to_vec())),
            ("usr/local/bin/a".to_owned(), File::program(b"A".to_vec())),
            ("etc/x".to_owned(), File::data(b"X".to_vec())),
        ]);
        let bytes = tar(&files).unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let entries: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let header = entry.header();
                let owner = (header.uid().unwrap(), header.gid().unwrap());
                assert_eq!((owner, header.mtime().unwrap()), ((0, 0), 0));
                let path = entry.path().unwrap().display().to_string();
                (path, header.mode().unwrap())
            })
            .collect();
        let entries: Vec<_> = entries
            .iter()
            .map(|(path, mode)| (path.as_str(), *mode))
            .collect();
        assert_eq!(
            entries,
            [
                ("etc/", 0o755),
                ("etc/x", 0o644),
                ("usr/", 0o755),
                ("usr/local/", 0o755),
                ("usr/local/bin/", 0o755),
                ("usr/local/bin/a", 0o755),
                ("usr/local/bin/b", 0o755),
            ]
        );
    }
}
