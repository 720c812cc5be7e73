//! Running test programs. All are built in one go: what is built package by package is built again for
//! every set of features that the packages named happen to need.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
    time::Duration,
};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::{build::cargo, guest};

/// A test program.
#[derive(Debug, Clone)]
struct Program {
    package: String,
    name: String,
    directory: PathBuf,
    executable: PathBuf,
}

/// Names the directory of a real Kubernetes to the test program that wants one; without it that program
/// says so and tests nothing.
pub(crate) const KUBERNETES: &str = "TERWAY_KUBERNETES";

/// Runs every test of `packages`.
pub(crate) fn tests_of(packages: &[&str]) -> anyhow::Result<()> {
    tests_without(packages, &[])
}

/// Runs the tests of `packages`, but for those that are left out.
pub(crate) fn tests_without(packages: &[&str], left_out: &[LeftOut]) -> anyhow::Result<()> {
    let (mut failed, skips) = (Vec::new(), skips(left_out));
    for package in packages {
        let programs = all()?.iter().filter(|program| program.package == *package);
        for program in programs {
            if !run(program, &skips, &[])? {
                failed.push(format!("{package} ({})", program.name));
            }
        }
    }
    if !failed.is_empty() {
        bail!("tests failed in {}", failed.join(", "));
    }
    Ok(())
}

/// Where a test program of `package` is.
pub(crate) fn test_program(package: &str, name: &str) -> anyhow::Result<PathBuf> {
    find(package, name).map(|program| program.executable.clone())
}

fn find(package: &str, name: &str) -> anyhow::Result<&'static Program> {
    let mut programs = all()?.iter();
    let program = programs.find(|program| program.package == package && program.name == name);
    program.with_context(|| format!("{package} has no test program {name}"))
}

/// Runs one test program of `package` with variables in its environment.
pub(crate) fn test_with(
    package: &str,
    name: &str,
    variables: &[(&str, &Path)],
) -> anyhow::Result<()> {
    if !run(find(package, name)?, &[], variables)? {
        bail!("tests failed in {package} ({name})");
    }
    Ok(())
}

/// A test that one kernel cannot run: how its name begins, and why.
pub(crate) type LeftOut = (&'static str, &'static str);

/// Runs one test program of `package` under the guest's kernel, but for the tests that are left out.
pub(crate) fn test_in_guest(
    package: &str,
    name: &str,
    left_out: &[LeftOut],
    within: Duration,
) -> anyhow::Result<()> {
    let program = find(package, name)?;
    println!("{package}: {name}, in the guest");
    // What the guest prints on is a terminal to it, whatever it is to us.
    let mut arguments = vec!["--color=never".to_owned()];
    arguments.extend(skips(left_out));
    let work = guest::Work {
        program: &program.executable,
        arguments: &arguments,
        directory: &program.directory,
        within,
    };
    if !guest::run(&work)? {
        bail!("tests failed in {package} ({name}) in the guest");
    }
    Ok(())
}

/// How a test program is told to leave tests out; says which and why.
fn skips(left_out: &[LeftOut]) -> Vec<String> {
    for (name, why) in left_out {
        println!("left out: {name}* ({why})");
    }
    let skip = |(name, _): &LeftOut| [String::from("--skip"), String::from(*name)];
    left_out.iter().flat_map(skip).collect()
}

/// Whether the program's tests pass.
fn run(
    program: &Program,
    arguments: &[String],
    variables: &[(&str, &Path)],
) -> anyhow::Result<bool> {
    println!("{}: {}", program.package, program.name);
    let mut test = Command::new(&program.executable);
    // As cargo does: the package's directory is where its tests run.
    test.arg("--quiet").args(arguments);
    test.current_dir(&program.directory);
    test.stdin(Stdio::null()).env_remove(KUBERNETES);
    test.envs(variables.iter().copied());
    let status = test
        .status()
        .with_context(|| format!("starting {}", program.executable.display()))?;
    Ok(status.success())
}

/// Every test program of the workspace, built once.
fn all() -> anyhow::Result<&'static [Program]> {
    static ALL: OnceLock<Vec<Program>> = OnceLock::new();
    if let Some(all) = ALL.get() {
        return Ok(all);
    }
    let built = build()?;
    Ok(ALL.get_or_init(|| built))
}

fn build() -> anyhow::Result<Vec<Program>> {
    let mut build = cargo(&[
        "test",
        "--release",
        "--locked",
        "--workspace",
        "--no-run",
        "--quiet",
    ]);
    build
        .args(["--message-format", "json-render-diagnostics"])
        .stderr(Stdio::inherit());
    let output = build.output().context("building the tests")?;
    if !output.status.success() {
        bail!("building the tests failed with {}", output.status);
    }
    let lines = String::from_utf8_lossy(&output.stdout);
    let programs: Vec<Program> = lines.lines().filter_map(program).collect();
    if programs.is_empty() {
        bail!("cargo built no test program");
    }
    Ok(programs)
}

fn program(line: &str) -> Option<Program> {
    let message: Value = serde_json::from_str(line).ok()?;
    if message["reason"] != "compiler-artifact" || message["profile"]["test"] != true {
        return None;
    }
    let manifest = Path::new(message["manifest_path"].as_str()?);
    let package = message["package_id"].as_str()?;
    // `path+file:///.../lab/stage#terway-lab@0.1.0`; the name is left out where it is the directory's.
    let name = package.rsplit_once('#')?.1.split('@').next()?;
    let directory = manifest.parent()?.to_owned();
    let own = directory.file_name()?.to_str()?;
    let package = if name.starts_with(|c: char| c.is_ascii_digit()) {
        own
    } else {
        name
    };
    Some(Program {
        package: package.to_owned(),
        name: message["target"]["name"].as_str()?.to_owned(),
        directory,
        executable: message["executable"].as_str()?.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargos_messages_are_read() {
        let line = r#"{"reason":"compiler-artifact","profile":{"test":true},"target":{"name":"lab"},"executable":"/t/lab-1",
            "manifest_path":"/r/lab/stage/Cargo.toml","package_id":"path+file:///r/lab/stage#terway-lab@0.1.0"}"#;
        let found = program(&line.replace('\n', "")).unwrap();
        assert_eq!(
            (
                found.package.as_str(),
                found.name.as_str(),
                found.directory.to_str()
            ),
            ("terway-lab", "lab", Some("/r/lab/stage"))
        );
        let short = line
            .replace("/r/lab/stage#terway-lab@", "/r/xtask#")
            .replace("lab/stage/Cargo", "xtask/Cargo");
        assert_eq!(program(&short).unwrap().package, "xtask");
        assert!(program("{}").is_none());
    }
}
