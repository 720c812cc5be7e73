//! The roots the programs trust: those the distribution's package brings, and none that this machine's
//! owner added to its own bundle.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, ensure};

/// The package, and where it puts Mozilla's roots, one file each.
pub(super) const PACKAGE: &str = "ca-certificates";
pub(super) const DIRECTORY: &str = "/usr/share/ca-certificates/mozilla";

/// Where the programs look for them in the image.
pub(super) const IN_IMAGE: &str = "etc/ssl/certs/ca-certificates.crt";

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";

/// The roots in `directory` as one file, sorted by name.
pub(super) fn bundle(directory: &Path) -> anyhow::Result<Vec<u8>> {
    let advice = || {
        format!(
            "the image needs the roots of {}; apt-get install {PACKAGE}",
            directory.display()
        )
    };
    let entries = fs::read_dir(directory).with_context(advice)?;
    let mut paths = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .with_context(advice)?;
    paths.retain(|path| path.extension().is_some_and(|end| end == "crt"));
    paths.sort();
    ensure!(!paths.is_empty(), "no *.crt is there: {}", advice());
    let mut bundle = String::new();
    for path in paths {
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        ensure!(
            text.contains(BEGIN),
            "{} is no certificate in PEM",
            path.display()
        );
        bundle.push_str(text.trim_end());
        bundle.push('\n');
    }
    Ok(bundle.into_bytes())
}

/// The version of a package of the distribution.
pub(super) fn version(package: &str) -> anyhow::Result<String> {
    let output = Command::new("dpkg-query")
        .args(["--show", "--showformat", "${Version}", package])
        .output()
        .context("dpkg-query cannot be run; images are built on Debian and its relatives")?;
    ensure!(
        output.status.success(),
        "package {package} is not installed; apt-get install {package}"
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_joined_by_name_and_nothing_else_is_taken() {
        let place = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(place.path().join(name), text).unwrap();
        write("b.crt", &format!("{BEGIN}\nB\n\n"));
        write("a.crt", &format!("{BEGIN}\nA"));
        write("README", "not one");
        let joined = String::from_utf8(bundle(place.path()).unwrap()).unwrap();
        assert_eq!(joined, format!("{BEGIN}\nA\n{BEGIN}\nB\n"));
        write("c.crt", "<html>");
        let refused = bundle(place.path()).unwrap_err().to_string();
        assert!(refused.contains("c.crt is no certificate"), "{refused}");
    }

    #[test]
    fn without_roots_there_is_no_image() {
        let place = tempfile::tempdir().unwrap();
        for directory in [place.path().join("nowhere"), place.path().to_owned()] {
            let refused = format!("{:#}", bundle(&directory).unwrap_err());
            assert!(
                refused.contains("apt-get install ca-certificates"),
                "{refused}"
            );
        }
    }
}
