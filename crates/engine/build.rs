//! Names the machine that is built by a digest of its sources, so that a recording says which one made
//! it: two builds between two releases differ where their decisions may, and the same sources are the
//! same machine on every host and for every target.

#![allow(
    clippy::disallowed_methods,
    reason = "a build script is no decision: it reads the sources"
)]

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// What decides: this package, and the vocabulary it decides in.
const SOURCES: [&str; 2] = ["src", "../model/src"];

fn main() -> io::Result<()> {
    let mut files = Vec::new();
    for folder in SOURCES {
        println!("cargo::rerun-if-changed={folder}");
        list(Path::new(folder), &mut files)?;
    }
    files.sort();
    let mut digest = Fnv::default();
    for file in files {
        digest.take(file.to_string_lossy().as_bytes());
        digest.take(&fs::read(&file)?);
    }
    println!("cargo::rustc-env=TERWAY_ENGINE_BUILD={:016x}", digest.0);
    Ok(())
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            list(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

/// FNV-1a (Fowler, Noll, Vo; 64 bits): nobody forges the sources of his own build.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}
