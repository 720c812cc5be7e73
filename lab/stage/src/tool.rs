//! Other programs, run to their end: their output, or a sentence with what they said.

use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// Runs `line`, split at spaces, and returns its standard output.
///
/// # Errors
/// When it cannot be started or ends with a status other than 0.
pub(crate) fn run(line: &str) -> Result<String> {
    let mut words = line.split_whitespace();
    let program = words.next().unwrap_or_default();
    let mut command = Command::new(program);
    command.args(words);
    output(line, command)
}

/// Runs `command`, which errors call `what`, and returns its standard output.
///
/// # Errors
/// As for [`run`].
pub(crate) fn output(what: &str, mut command: Command) -> Result<String> {
    let Output {
        status,
        stdout,
        stderr,
    } = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run `{what}`: is the program installed?"))?;
    if !status.success() {
        let said = String::from_utf8_lossy(&stderr);
        bail!("`{what}` ended with {status}: {}", said.trim());
    }
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}
