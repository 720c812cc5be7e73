//! `sysdump`: one archive for a report. Bounded, without secrets, and it says what it left out.
//!
//! Secret objects are never asked for. Everything gathered passes [`redact`] before it is written.

mod archive;
mod gather;
pub(crate) mod redact;

use std::{
    fs::OpenOptions,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};

use crate::{
    agent::now_seconds,
    cluster::{Cluster, Where},
};
use archive::Archive;
use redact::Redactor;

/// Arguments of `sysdump`.
#[derive(Debug, clap::Args)]
pub(crate) struct SysdumpArgs {
    /// The archive, or - for standard output; else terway-sysdump-TIME.tar here
    #[arg(short, long)]
    output: Option<PathBuf>,
    /// Most nodes that are asked; those where something is wrong come first
    #[arg(long, default_value_t = 50)]
    nodes: usize,
}

/// How the files of recordings are called.
const RECORDING: &str = "recording.jsonl";

/// What was gathered: path in the archive and text.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    files: Vec<(String, String)>,
    left_out: Vec<String>,
}

impl Gathered {
    fn add(&mut self, path: impl Into<String>, text: impl Into<String>) {
        self.files.push((path.into(), text.into()));
    }

    /// Adds what was asked for, or writes down why there is no answer.
    fn answer(&mut self, path: &str, answer: Result<String, String>) {
        match answer {
            Ok(text) => self.add(path, text),
            Err(why) => self.left_out.push(format!("{path}: {why}")),
        }
    }
}

/// Carries out `sysdump`.
pub(crate) fn run(arguments: &SysdumpArgs, socket: &Path, place: &Where) -> Result<ExitCode> {
    let now = now_seconds();
    let runtime = crate::runtime()?;
    let gathered = runtime.block_on(async {
        let mut gathered = Gathered::default();
        if socket.exists() {
            gather::here(socket, &mut gathered);
        }
        match Cluster::connect(place).await {
            Ok(cluster) => gather::cluster(&cluster, arguments.nodes, &mut gathered).await,
            Err(error) => gathered.left_out.push(format!("the cluster: {error:#}")),
        }
        // Logs come in any order.
        gathered.files.sort();
        gathered
    });
    anyhow::ensure!(
        !gathered.files.is_empty(),
        "nothing could be gathered: {}",
        gathered.left_out.join("; ")
    );
    let root = format!("terway-sysdump-{now}");
    let (bytes, left_out) = pack(&gathered, &root, now);
    let path = arguments
        .output
        .clone()
        .unwrap_or_else(|| PathBuf::from(format!("{root}.tar")));
    write(&path, &bytes)?;
    let files = gathered.files.len();
    eprintln!(
        "{}: {files} files, {} KiB",
        path.display(),
        bytes.len() / 1024
    );
    for what in left_out {
        eprintln!("left out: {}", crate::text::foreign(&what));
    }
    eprintln!("secrets were taken out; look through it before you send it");
    Ok(ExitCode::SUCCESS)
}

/// The archive, and what is not in it.
fn pack(gathered: &Gathered, root: &str, now: u64) -> (Vec<u8>, Vec<String>) {
    let mut redactor = Redactor::default();
    let seen: Vec<(String, String)> = gathered
        .files
        .iter()
        .map(|(path, text)| {
            // What a recording names is the machine's, which knows no secret, and `token` in it is a
            // ClientToken: without it nothing could be run again.
            let text = match path.ends_with(RECORDING) {
                true => redactor.forms(text),
                false => redactor.text(text),
            };
            (path.clone(), text)
        })
        .collect();
    let notes: Vec<String> = gathered
        .left_out
        .iter()
        .map(|note| redactor.text(note))
        .collect();
    let mut archive = Archive::new(now);
    // Only now is every secret known, so only now may anything be written.
    for (path, text) in &seen {
        archive.add(&format!("{root}/{path}"), &redactor.everywhere(text));
    }
    for note in notes {
        archive.leave_out(redactor.everywhere(&note));
    }
    let left_out = archive.left_out().to_vec();
    let mut list = left_out.join("\n");
    list.push_str("\nSecret objects are never asked for. Values of keys, tokens and passwords are replaced.\n");
    archive.add(&format!("{root}/left-out.txt"), &list);
    (archive.finish(), left_out)
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    if path.as_os_str() == "-" {
        return std::io::stdout()
            .lock()
            .write_all(bytes)
            .context("writing to standard output");
    }
    // Nobody else needs to read the inside of a cluster, and no file of others is overwritten.
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("making {}", path.display()))?;
    file.write_all(bytes)
        .with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_of_any_file_is_in_the_archive() {
        let mut gathered = Gathered::default();
        // The log comes before the ConfigMap that tells which of its words is the secret.
        gathered.add("nodes/a/agent.log", "signing with plainlookingword123 now");
        let step =
            r#"{"token":"terway-i-1-7","text":"LTAI5tRealKeyIdentifier plainlookingword123"}"#;
        gathered.add("nodes/a/recording.jsonl", step);
        gathered.add(
            "eni-config.json",
            r#"{"data":{"eni_conf":"{\"access_secret\":\"plainlookingword123\"}"}}"#,
        );
        gathered.answer("nodes/b", Err("refused: plainlookingword123".into()));
        let (bytes, left_out) = pack(&gathered, "root", 7);
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains("plainlookingword123"), "{text}");
        assert!(!text.contains("LTAI5t") && text.contains("\"token\":\"terway-i-1-7\""));
        assert!(text.contains("nodes/a/agent.log") && text.contains("signing with"));
        assert_eq!(left_out, ["nodes/b: refused: [redacted]"]);
    }

    #[test]
    fn a_file_of_others_is_not_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.tar");
        write(&path, b"one").unwrap();
        assert!(write(&path, b"two").is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
    }
}
