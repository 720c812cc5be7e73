//! The definitions people install by hand are those of the types.
//!
//! Set `UPDATE_GOLDEN=1` to write the files anew, then read the difference.

#![allow(clippy::unwrap_used, reason = "what does not hold fails the test")]

use std::{fs, path::Path};

use serde_json::Value;

const HEAD: &str = "# Written by `UPDATE_GOLDEN=1 cargo test -p terway-crd --test definitions`; terway-controlplane installs the same.\n";

/// The versions of the Go program's definitions: ours must take their place, or our fields are pruned.
const REPLACED: [(&str, [u64; 3]); 2] = [("podenis", [0, 4, 2]), ("podnetworkings", [0, 1, 0])];

#[test]
fn manifests_are_those_of_the_types() {
    for definition in crd::definition::definitions() {
        let plural = &definition.spec.names.plural;
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../deploy/controlplane/crds")
            .join(format!("{plural}.yaml"));
        let text = format!("{HEAD}{}", serde_saphyr::to_string(&definition).unwrap());
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &text).unwrap();
        }
        let found = fs::read_to_string(&path).unwrap_or_else(|error| {
            panic!(
                "{}: {error}; set UPDATE_GOLDEN=1 to write it",
                path.display()
            )
        });
        assert!(
            found == text,
            "{} is not what the types say; set UPDATE_GOLDEN=1 to write it anew",
            path.display()
        );
        let read: Value = serde_saphyr::from_str(&found).unwrap();
        assert_eq!(read, serde_json::to_value(&definition).unwrap());
    }
}

#[test]
fn definitions_take_the_place_of_the_go_programs() {
    for (plural, version) in REPLACED {
        let all = crd::definition::definitions();
        let ours = all.into_iter().find(|one| one.spec.names.plural == plural);
        let mut theirs = ours.clone().unwrap();
        let [major, minor, patch] = version;
        let annotations = theirs.metadata.annotations.as_mut().unwrap();
        annotations.insert(
            crd::keys::DEFINITION_VERSION.into(),
            format!("v{major}.{minor}.{patch}"),
        );
        let installation = crd::definition::installation(&ours.unwrap(), Some(&theirs));
        assert!(matches!(
            installation,
            crd::definition::Installation::Replace(_)
        ));
    }
}
