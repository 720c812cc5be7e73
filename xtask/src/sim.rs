//! `cargo xtask sim`: builds the simulator for speed and passes its arguments on.

use anyhow::{Context, bail};

use crate::build::{cargo, root};

/// Builds `terway-sim` and runs it with `arguments`; bare options are those of `terway-sim run`.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    let bare = arguments.first().is_none_or(|first| first.starts_with('-'));
    let mut run = cargo(&[
        "run",
        "--release",
        "--locked",
        "--quiet",
        "--package",
        "terway-sim",
        "--",
    ]);
    if bare && arguments.first().is_none_or(|first| first != "--help") {
        run.arg("run");
    }
    let status = run
        .args(arguments)
        .current_dir(root())
        .status()
        .context("starting the simulator")?;
    if !status.success() {
        bail!("the simulator ended with {status}");
    }
    Ok(())
}
