//! Documents: paths they name exist, both READMEs have the same shape, nothing of a machine stays.

use std::path::{Path, PathBuf};

use super::{Breach, has_end, read};
use crate::build::root;

/// First parts of paths that a document means as places in this repository.
const PLACES: [&str; 10] = [
    "crates/",
    "bins/",
    "bpf/",
    "lab/",
    "xtask/",
    "docs/",
    "fixtures/",
    "deploy/",
    ".ci/",
    "ARCHITECTURE.md",
];

pub(super) fn check(files: &[PathBuf]) -> anyhow::Result<Vec<Breach>> {
    let mut breaches = Vec::new();
    for file in files.iter().filter(|file| has_end(file, "md")) {
        let text = read(file)?;
        for path in paths(&text) {
            if !root().join(path).exists() {
                breaches.push(format!(
                    "{} names {path}, which does not exist",
                    file.display()
                ));
            }
        }
    }
    let shape = |name: &str| -> anyhow::Result<Vec<usize>> {
        let text = read(Path::new(name))?;
        let headings = text.lines().filter(|line| line.starts_with('#'));
        Ok(headings
            .map(|line| line.chars().take_while(|c| *c == '#').count())
            .collect())
    };
    if shape("README.md")? != shape("README.zh-CN.md")? {
        breaches.push(
            "README.md and README.zh-CN.md have different headings; they must say the same".into(),
        );
    }
    Ok(breaches)
}

/// Paths in backquotes or as link targets.
fn paths(text: &str) -> Vec<&str> {
    let quoted = text.split('`').skip(1).step_by(2);
    let linked = text
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next());
    let looks = |word: &&str| {
        PLACES.iter().any(|place| word.starts_with(place))
            && !word.contains(['*', '<', ' ', '{', '\n', '$', '#'])
    };
    quoted
        .chain(linked)
        .filter(looks)
        .map(|path| path.split(':').next().unwrap_or(path))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_found_in_quotes_and_links() {
        let text =
            "see `crates/model/src/lib.rs` and [x](docs/a.md), not `crates/*/src` nor `lab up`";
        assert_eq!(paths(text), ["crates/model/src/lib.rs", "docs/a.md"]);
    }
}
