//! What programs tell people is explained: each reason in their code has its place in the catalogue.

use std::path::Path;

use super::{Breach, read};

const CATALOGUE: &str = "docs/events.md";

/// Where reasons are given.
const TELLERS: [&str; 3] = [
    "bins/agent/src/notices.rs",
    "bins/controlplane/src/notices.rs",
    "bins/controlplane/src/routes/mod.rs",
];

/// Words there that are no reasons: kinds of objects, and actions of events.
const OTHERS: [&str; 13] = [
    "Allocate",
    "AttachENI",
    "CreateENI",
    "CreatePod",
    "DeleteENI",
    "DetachENI",
    "Node",
    "Pod",
    "PodENI",
    "PodNetworking",
    "SyncPodNetworking",
    "SyncRoute",
    "UpdatePodENI",
];

pub(super) fn check() -> anyhow::Result<Vec<Breach>> {
    let catalogue = read(Path::new(CATALOGUE))?;
    let mut breaches = Vec::new();
    for file in TELLERS {
        breaches.extend(missing(file, &read(Path::new(file))?, &catalogue));
    }
    Ok(breaches)
}

/// The reasons in the text of `file` that the catalogue lacks.
fn missing(file: &str, text: &str, catalogue: &str) -> Vec<Breach> {
    let is_word = |one: &str| {
        let letters = one.chars().all(|letter| letter.is_ascii_alphabetic());
        // "ENI" alone is part of a sentence of the log.
        letters && one.starts_with(char::is_uppercase) && one.contains(char::is_lowercase)
    };
    let code = text.lines().filter(|line| !line.trim().starts_with("//"));
    let literals = code.flat_map(|line| line.split('"').skip(1).step_by(2));
    let reasons = literals.filter(|one| is_word(one) && !OTHERS.contains(one));
    reasons
        .filter(|reason| !catalogue.contains(&format!("`{reason}`")))
        .map(|reason| format!("{file} tells {reason:?}, which {CATALOGUE} does not explain"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_nobody_explains_is_found() {
        let code = r#"tell("AttachENIFailed", "AttachENI"); log("a pod", "New"); // "Not""#;
        let found = missing("x.rs", code, "| `AttachENIFailed` |");
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("\"New\""), "{found:?}");
    }
}
