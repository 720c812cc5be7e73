//! What is inside the programs of an image, as a CycloneDX 1.5 document: every package cargo links into
//! them, with licence and checksum, and what is not cargo's.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::{arch::Arch, programs::Program};
use crate::build::{cargo, root};

/// A package that is inside.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) version: String,
    /// As its manifest says; nothing for what is not cargo's.
    pub(super) license: String,
    /// Where package URLs begin: `pkg:cargo/`, `pkg:deb/debian/`.
    pub(super) origin: &'static str,
}

/// Every package of cargo's that is linked into `programs` for `arch`, ours among them.
pub(super) fn linked(arch: Arch, programs: &[Program]) -> anyhow::Result<BTreeSet<Package>> {
    let mut tree = cargo(&["tree", "--locked", "--prefix", "none"]);
    // Not what only builds them: macros, build scripts, tests.
    tree.args(["--edges", "normal,no-proc-macro", "--format", "{p}|{l}"]);
    tree.args(["--target", &arch.triple()]);
    for (package, _) in programs {
        tree.args(["--package", package]);
    }
    let output = tree.output().context("asking cargo for the packages")?;
    ensure!(
        output.status.success(),
        "cargo tree failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let lines = String::from_utf8_lossy(&output.stdout);
    let lines = lines.lines().filter(|line| !line.is_empty());
    lines
        .map(|line| package(line).with_context(|| format!("cargo tree says {line:?}")))
        .collect()
}

/// A line of cargo's: `anyhow v1.0.1|MIT`, `terwayd v0.1.0 (/path)|Apache-2.0 (*)`.
fn package(line: &str) -> Option<Package> {
    let (id, license) = line.split_once('|')?;
    let mut words = id.split(' ');
    Some(Package {
        name: words.next()?.to_owned(),
        version: words.next()?.strip_prefix('v')?.to_owned(),
        // Older manifests separate alternatives by a slash.
        license: license
            .trim_end_matches("(*)")
            .trim()
            .replace(" / ", "/")
            .replace('/', " OR "),
        origin: "pkg:cargo/",
    })
}

/// Checksums of Cargo.lock, by name and version.
pub(super) fn checksums() -> anyhow::Result<BTreeMap<(String, String), String>> {
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).context("reading Cargo.lock")?;
    Ok(lock
        .split("[[package]]")
        .filter_map(|entry| {
            let field = |key: &str| {
                let start = format!("{key} = \"");
                let line = entry.lines().find_map(|line| line.strip_prefix(&start))?;
                Some(line.trim_end_matches('"').to_owned())
            };
            Some(((field("name")?, field("version")?), field("checksum")?))
        })
        .collect())
}

/// The document about the image `name`.
pub(super) fn document(
    name: &str,
    version: &str,
    packages: &BTreeSet<Package>,
    checksums: &BTreeMap<(String, String), String>,
) -> Value {
    let components: Vec<Value> = packages
        .iter()
        .map(|package| component(package, checksums))
        .collect();
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "component": {
            "type": "container", "bom-ref": name, "name": name, "version": version,
        } },
        "components": components,
    })
}

fn component(package: &Package, checksums: &BTreeMap<(String, String), String>) -> Value {
    let Package {
        name,
        version,
        license,
        origin,
    } = package;
    let url = format!("{origin}{name}@{}", version.replace('+', "%2B"));
    let mut component = json!({
        "type": "library", "bom-ref": url, "name": name, "version": version, "purl": url,
    });
    if !license.is_empty() {
        component["licenses"] = json!([{ "expression": license }]);
    }
    let checksum = (*origin == "pkg:cargo/")
        .then(|| checksums.get(&(name.clone(), version.clone())))
        .flatten();
    if let Some(checksum) = checksum {
        component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
    }
    component
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargos_lines_are_read() {
        let read = |line| package(line).map(|package| (package.name, package.license));
        let both = |name: &str, license: &str| Some((name.to_owned(), license.to_owned()));
        assert_eq!(
            read("a v1.0.0+x|MIT/Apache-2.0 (*)"),
            both("a", "MIT OR Apache-2.0")
        );
        assert_eq!(read("b v0.1.0 (/r/b)|Apache-2.0"), both("b", "Apache-2.0"));
        assert_eq!(read("nonsense"), None);
    }

    #[test]
    fn a_component_has_its_checksum_and_a_url_that_can_be_parsed() {
        let packages = BTreeSet::from([package("a v1.0.0+x|MIT").unwrap()]);
        let key = ("a".to_owned(), "1.0.0+x".to_owned());
        let checksums = BTreeMap::from([(key, "ab".to_owned())]);
        let document = document("terway", "1", &packages, &checksums);
        let component = &document["components"][0];
        assert_eq!(component["purl"], "pkg:cargo/a@1.0.0%2Bx");
        assert_eq!(component["hashes"][0]["content"], "ab");
        assert_eq!(component["licenses"][0]["expression"], "MIT");
    }

    #[test]
    fn what_is_linked_is_known_and_what_only_tests_need_is_not_among_it() {
        let linked = linked(Arch::here().unwrap(), &[("terway-cni", "terway")]).unwrap();
        let names: BTreeSet<_> = linked.iter().map(|package| package.name.as_str()).collect();
        assert!(names.contains("terway-cni") && names.contains("serde_json"));
        assert!(!names.contains("serde_derive"), "a macro is not linked");
        assert!(!names.contains("tempfile") && !names.contains("kube"));
        let checksums = checksums().unwrap();
        let unknown = linked.iter().find(|package| {
            let key = (package.name.clone(), package.version.clone());
            !package.name.starts_with("terway") && !checksums.contains_key(&key)
        });
        assert_eq!(unknown, None, "every foreign package has a checksum");
    }
}
