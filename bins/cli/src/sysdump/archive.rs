//! A tar archive in memory (POSIX ustar), bounded: what no longer fits is left out and said so.

/// Longest one file: an agent's log of a day at info level has about 1 MiB.
pub(crate) const FILE_BYTES_MAX: usize = 4 << 20;

/// Longest archive: what issue trackers and chats still take, packed about a tenth of it.
pub(crate) const ARCHIVE_BYTES_MAX: usize = 64 << 20;

const BLOCK: usize = 512;
/// Longest name and prefix a header holds.
const NAME_MAX: usize = 100;
const PREFIX_MAX: usize = 155;

/// An archive that grows.
pub(crate) struct Archive {
    bytes: Vec<u8>,
    modified: u64,
    left_out: Vec<String>,
}

impl Archive {
    /// An empty archive whose files are all of the time `modified`, in seconds since the Unix epoch.
    pub(crate) fn new(modified: u64) -> Self {
        Self {
            bytes: Vec::new(),
            modified,
            left_out: Vec::new(),
        }
    }

    /// Adds a file. One that is too long keeps its end, where logs say what matters.
    pub(crate) fn add(&mut self, path: &str, text: &str) {
        let mut text = text.as_bytes();
        if text.len() > FILE_BYTES_MAX {
            let cut = text.len() - FILE_BYTES_MAX;
            self.leave_out(format!("the first {cut} bytes of {path}"));
            text = text.get(cut..).unwrap_or_default();
        }
        let Some(header) = header(path, text.len(), self.modified) else {
            return self.leave_out(format!("{path}: its name is too long"));
        };
        if self.bytes.len() + text.len() + 2 * BLOCK > ARCHIVE_BYTES_MAX {
            return self.leave_out(format!("{path}: the archive is full"));
        }
        self.bytes.extend_from_slice(&header);
        self.bytes.extend_from_slice(text);
        let padded = self.bytes.len().next_multiple_of(BLOCK);
        self.bytes.resize(padded, 0);
    }

    /// Writes down what is not in the archive.
    pub(crate) fn leave_out(&mut self, what: String) {
        self.left_out.push(what);
    }

    /// What is not in the archive.
    pub(crate) fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// The archive, closed.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        // Two empty blocks end an archive.
        let end = self.bytes.len() + 2 * BLOCK;
        self.bytes.resize(end, 0);
        self.bytes
    }
}

/// The header of a file (POSIX.1-1988, ustar), or nothing when its path fits none.
fn header(path: &str, size: usize, modified: u64) -> Option<[u8; BLOCK]> {
    let (prefix, name) = split(path)?;
    let mut block = [0; BLOCK];
    let mut put = |at: usize, text: &str| {
        if let Some(field) = block.get_mut(at..at + text.len()) {
            field.copy_from_slice(text.as_bytes());
        }
    };
    put(0, name);
    put(100, "0000600\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{size:011o}\0"));
    put(136, &format!("{:011o}\0", modified & 0o77_777_777_777));
    // The sum is taken with its own field blank.
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\u{0}00");
    put(345, prefix);
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    let text = format!("{sum:06o}\0 ");
    block.get_mut(148..156)?.copy_from_slice(text.as_bytes());
    Some(block)
}

fn split(path: &str) -> Option<(&str, &str)> {
    if path.len() <= NAME_MAX {
        return Some(("", path));
    }
    let cuts = path.match_indices('/').map(|(at, _)| path.split_at(at));
    let mut cuts = cuts.map(|(prefix, rest)| (prefix, rest.get(1..).unwrap_or_default()));
    cuts.find(|(prefix, name)| prefix.len() <= PREFIX_MAX && (1..=NAME_MAX).contains(&name.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn another_program_reads_it() {
        let mut archive = Archive::new(1_795_385_160);
        let deep = format!("{}/{}/log.txt", "d".repeat(60), "e".repeat(60));
        archive.add("a.txt", "hello");
        archive.add(&deep, &"x".repeat(1000));
        archive.add(&"n".repeat(300), "lost");
        assert_eq!(archive.left_out().len(), 1);
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("x.tar");
        std::fs::write(&file, archive.finish()).unwrap();
        let unpacked = Command::new("tar")
            .arg("-xf")
            .arg(&file)
            .arg("-C")
            .arg(directory.path())
            .output()
            .unwrap();
        assert!(
            unpacked.status.success() && unpacked.stderr.is_empty(),
            "{unpacked:?}"
        );
        let read = |path: &str| std::fs::read_to_string(directory.path().join(path)).unwrap();
        assert_eq!(read("a.txt"), "hello");
        assert_eq!(read(&deep).len(), 1000);
    }

    #[test]
    fn it_is_bounded_and_keeps_the_end_of_a_log() {
        let mut archive = Archive::new(0);
        let long = format!("{}END", "x".repeat(FILE_BYTES_MAX));
        for _ in 0..20 {
            archive.add("log", &long);
        }
        assert!(archive.left_out().iter().any(|what| what.contains("full")));
        let bytes = archive.finish();
        assert!(bytes.len() <= ARCHIVE_BYTES_MAX);
        assert!(bytes.windows(3).any(|window| window == b"END"));
    }
}
