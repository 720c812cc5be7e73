//! `cargo xtask sim` and `cargo xtask fuzz`: build the program for speed and pass its arguments on.

use anyhow::{Context, bail};

use crate::build::{cargo, root};

/// Builds `terway-sim` and runs it with `arguments`; bare options are those of `terway-sim run`.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    let first = arguments.first().map_or("-", String::as_str);
    let bare = first.starts_with('-') && first != "--help";
    let run = bare.then(|| "run".to_owned());
    let arguments: Vec<_> = run.into_iter().chain(arguments.iter().cloned()).collect();
    pass_on("terway-sim", &arguments)
}

/// Builds `terway-fuzz` and runs it with `arguments`.
pub(crate) fn fuzz(arguments: &[String]) -> anyhow::Result<()> {
    pass_on("terway-fuzz", arguments)
}

fn pass_on(package: &str, arguments: &[String]) -> anyhow::Result<()> {
    let mut run = cargo(&[
        "run",
        "--release",
        "--locked",
        "--quiet",
        "--package",
        package,
        "--",
    ]);
    let status = run
        .args(arguments)
        .current_dir(root())
        .status()
        .with_context(|| format!("starting {package}"))?;
    if !status.success() {
        bail!("{package} ended with {status}");
    }
    Ok(())
}
