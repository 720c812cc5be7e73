//! The repository's rules as a test: arrows between packages, sizes, names, documented paths,
//! dependencies with a reason, manifests that say what the code does, notices that are explained, and how much of the code does not ship.

mod arrows;
mod manifests;
mod notices;
mod sources;
mod text;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};

use crate::build::root;

/// One breach of a rule, as a sentence that names the place.
pub(crate) type Breach = String;

pub(crate) fn run() -> anyhow::Result<()> {
    let files = tracked()?;
    let mut breaches = Vec::new();
    breaches.extend(arrows::check()?);
    breaches.extend(sources::check(&files)?);
    breaches.extend(text::check(&files)?);
    breaches.extend(manifests::check(&files)?);
    breaches.extend(notices::check()?);
    sources::print_ratio(&files)?;
    if breaches.is_empty() {
        println!("tidy: {} files, no breach", files.len());
        return Ok(());
    }
    for breach in &breaches {
        eprintln!("tidy: {breach}");
    }
    bail!("{} breaches of the repository's rules", breaches.len());
}

/// The files git knows or would add, relative to the root.
fn tracked() -> anyhow::Result<Vec<PathBuf>> {
    let output = std::process::Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .context("asking git for the files")?;
    if !output.status.success() {
        bail!(
            "git ls-files failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let names = String::from_utf8_lossy(&output.stdout);
    let files = names
        .lines()
        .map(PathBuf::from)
        .filter(|file| root().join(file).is_file());
    Ok(files.collect())
}

fn read(file: &Path) -> anyhow::Result<String> {
    fs::read_to_string(root().join(file)).with_context(|| format!("reading {}", file.display()))
}

fn has_end(file: &Path, end: &str) -> bool {
    file.extension().is_some_and(|extension| extension == end)
}
