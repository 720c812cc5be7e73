//! Who may depend on whom. The table is the one of ARCHITECTURE.md.

use anyhow::Context;
use serde_json::Value;

use super::Breach;
use crate::build::{cargo, root};

/// Package, and those of ours it may depend on.
const ARROWS: [(&str, &[&str]); 18] = [
    ("terway-model", &[]),
    ("terway-engine", &["terway-model"]),
    ("terway-wire", &["terway-model"]),
    ("terway-cloud", &["terway-model"]),
    ("terway-crd", &["terway-model"]),
    ("terway-datapath", &["terway-model"]),
    ("terway-herald", &[]),
    ("terway-cni", &["terway-model", "terway-wire"]),
    (
        "terwayd",
        &[
            "terway-model",
            "terway-engine",
            "terway-wire",
            "terway-cloud",
            "terway-crd",
            "terway-datapath",
            "terway-herald",
        ],
    ),
    (
        "terway-controlplane",
        &[
            "terway-model",
            "terway-engine",
            "terway-cloud",
            "terway-crd",
            "terway-herald",
        ],
    ),
    (
        "terway-cli",
        &[
            "terway-model",
            "terway-engine",
            "terway-wire",
            "terway-cloud",
            "terway-crd",
        ],
    ),
    ("terway-cloudsim", &["terway-model"]),
    ("terway-kubesim", &[]),
    ("terway-probe", &[]),
    (
        "terway-lab",
        &["terway-model", "terway-cloudsim", "terway-kubesim"],
    ),
    (
        "terway-sim",
        &[
            "terway-model",
            "terway-engine",
            "terway-cloud",
            "terway-cloudsim",
        ],
    ),
    (
        "terway-fuzz",
        &[
            "terway-model",
            "terway-engine",
            "terway-wire",
            "terway-cloud",
            "terway-crd",
            "terway-cloudsim",
        ],
    ),
    ("xtask", &[]),
];

/// Foreign packages that only these of ours may see, directly.
const FENCES: [(&str, &[&str]); 9] = [
    ("aya", &["terway-lab", "terway-datapath"]),
    (
        "kube",
        &[
            "terway-crd",
            "terway-herald",
            "terwayd",
            "terway-controlplane",
            "terway-cli",
            "terway-lab",
            "terway-kubesim",
        ],
    ),
    (
        "k8s-openapi",
        &[
            "terway-crd",
            "terway-herald",
            "terwayd",
            "terway-controlplane",
            "terway-cli",
            "terway-lab",
            "terway-kubesim",
        ],
    ),
    ("hyper", &["terway-cloud"]),
    ("hyper-util", &["terway-cloud"]),
    ("netlink-packet-route", &["terway-datapath"]),
    ("netlink-packet-core", &["terway-datapath"]),
    ("redb", &["terwayd"]),
    (
        "tokio",
        &[
            "terway-cloud",
            "terwayd",
            "terway-controlplane",
            "terway-cli",
            "terway-lab",
            "terway-cloudsim",
            "terway-kubesim",
        ],
    ),
];

pub(super) fn check() -> anyhow::Result<Vec<Breach>> {
    let output = cargo(&["metadata", "--format-version", "1", "--no-deps", "--locked"])
        .output()
        .context("asking cargo for the packages")?;
    anyhow::ensure!(
        output.status.success(),
        "cargo metadata failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value =
        serde_json::from_slice(&output.stdout).context("reading cargo's answer")?;
    let reasons = std::fs::read_to_string(root().join("docs/dependencies.md")).unwrap_or_default();
    let mut breaches = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        breaches.extend(check_package(package, &reasons));
    }
    Ok(breaches)
}

fn check_package(package: &Value, reasons: &str) -> Vec<Breach> {
    let name = package["name"].as_str().unwrap_or_default();
    let mut breaches = Vec::new();
    let Some((_, allowed)) = ARROWS.iter().find(|(package, _)| *package == name) else {
        return vec![format!(
            "package {name} is not in the table of arrows (xtask/src/tidy/arrows.rs)"
        )];
    };
    for dependency in package["dependencies"].as_array().into_iter().flatten() {
        let other = dependency["name"].as_str().unwrap_or_default();
        let shipped = dependency["kind"].is_null();
        let ours = ARROWS.iter().any(|(package, _)| *package == other);
        if ours && !allowed.contains(&other) && shipped {
            breaches.push(format!("{name} may not depend on {other}"));
        }
        let fence = FENCES.iter().find(|(package, _)| *package == other);
        if shipped && fence.is_some_and(|(_, inside)| !inside.contains(&name)) {
            breaches.push(format!("{name} may not depend on {other}: it is fenced"));
        }
        if !ours && !reasons.contains(&format!("`{other}`")) {
            breaches.push(format!(
                "{name} depends on {other}, which docs/dependencies.md does not explain"
            ));
        }
    }
    breaches
}
