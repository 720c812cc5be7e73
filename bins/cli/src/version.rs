//! `version`: of this program, and of the agent on this node.

use std::{path::Path, process::ExitCode};

use anyhow::Result;
use wire::message::{CONTRACT, Verb};

use crate::{agent, status::document::Status, text::foreign};

/// Prints both versions. That no agent answers is said and is no failure.
pub(crate) fn run(socket: &Path) -> Result<ExitCode> {
    crate::print(&format!(
        "terway-cli {} (contract {CONTRACT})",
        env!("CARGO_PKG_VERSION")
    ))?;
    let agent = match agent::ask(socket, Verb::View) {
        Err(silence) => silence.to_string(),
        Ok(document) => match Status::read(&document).map(|status| status.agent.version) {
            Ok(Some(version)) => foreign(&version),
            Ok(None) => "it does not say: an older release".into(),
            Err(why) => why,
        },
    };
    crate::print(&format!("terwayd    {agent}"))?;
    Ok(ExitCode::SUCCESS)
}
