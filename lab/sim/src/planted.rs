//! Planted bugs: each patch of `lab/sim/planted` goes into a copy of the workspace of its own turn,
//! and seeds are run until the simulator notices. A simulator that misses one is not finished.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail};

/// What is copied: all of the workspace that cargo needs to know it, and no build of it.
const PARTS: [&str; 8] = [
    "Cargo.toml",
    "Cargo.lock",
    "clippy.toml",
    "rust-toolchain.toml",
    "crates",
    "bins",
    "lab",
    "xtask",
];

/// Plants every bug whose patch starts with one of `only`, or all of them; true when all were caught.
pub(crate) fn all(
    workspace: &Path,
    scratch: &Path,
    seeds: u64,
    only: &[String],
) -> anyhow::Result<bool> {
    let mut patches: Vec<PathBuf> = fs::read_dir(workspace.join("lab/sim/planted"))
        .context("listing the planted bugs")?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "patch")
        })
        .collect();
    patches.sort();
    fs::create_dir_all(scratch).with_context(|| format!("making {}", scratch.display()))?;
    let scratch = scratch.canonicalize().context("the scratch directory")?;
    let copy = scratch.join("workspace");
    fs::create_dir_all(&copy).with_context(|| format!("making {}", copy.display()))?;
    for part in PARTS {
        sync(&workspace.join(part), &copy.join(part))?;
    }
    let known = known(workspace, &scratch, &copy, seeds)?;
    println!(
        "seeds that fail without a planted bug, and are left out: {}",
        known.join(",")
    );
    println!("| planted bug | seeds | caught by |\n|---|---|---|");
    let (mut planted, mut missed) = (0, 0);
    for patch in &patches {
        let name = patch
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if !only.is_empty() && !only.iter().any(|start| name.starts_with(start)) {
            continue;
        }
        planted += 1;
        let caught = plant(&scratch, &copy, patch, seeds, &known);
        match caught {
            Ok(Some((number, oracle))) => println!("| {name} | {number} | {oracle} |"),
            Ok(None) => {
                missed += 1;
                println!("| {name} | not in {seeds} | - |");
            }
            Err(error) => {
                missed += 1;
                println!("| {name} | - | not planted: {error:#} |");
            }
        }
    }
    println!("{planted} planted, {missed} missed");
    Ok(missed == 0)
}

/// Seeds that fail as it is, for defects that are known and not mended.
fn known(workspace: &Path, scratch: &Path, copy: &Path, seeds: u64) -> anyhow::Result<Vec<String>> {
    for part in ["crates", "lab"] {
        sync(&workspace.join(part), &copy.join(part))?;
    }
    let text = build_and_run(scratch, copy, seeds, &["--no-shrink"])?;
    let failing = text
        .lines()
        .filter_map(|line| line.strip_prefix("seed ")?.split_once(' '));
    Ok(failing.map(|(seed, _)| seed.to_owned()).collect())
}

/// Seeds needed and the oracle that noticed, if any did.
fn plant(
    scratch: &Path,
    copy: &Path,
    patch: &Path,
    seeds: u64,
    known: &[String],
) -> anyhow::Result<Option<(u64, String)>> {
    let patch = patch
        .canonicalize()
        .with_context(|| format!("{}", patch.display()))?;
    let apply = |direction: &str| {
        let mut apply = Command::new("patch");
        apply.args([
            "-p1",
            direction,
            "--batch",
            "--quiet",
            "--no-backup-if-mismatch",
            "-r",
            "-",
            "-i",
        ]);
        run(
            apply.arg(&patch).current_dir(copy),
            "the patch does not apply",
        )
    };
    apply("--forward")?;
    let except = known.join(",");
    let kind = kind(&patch)?;
    let mut arguments = vec!["--first", "--no-shrink", "--kind", kind];
    if !known.is_empty() {
        arguments.extend(["--except", &except]);
    }
    let text = build_and_run(scratch, copy, seeds, &arguments);
    apply("--reverse")?;
    let text = text?;
    // `seed 17 (number 17): an address has one owner: ...`
    let found = text.lines().find_map(|line| {
        let (number, rest) = line
            .strip_prefix("seed ")?
            .split_once("(number ")?
            .1
            .split_once("): ")?;
        Some((number.parse().ok()?, rest.split(": ").next()?.to_owned()))
    });
    Ok(found)
}

/// Which lives a bug shows in: those of a region if it is nowhere but in the control plane's decisions.
fn kind(patch: &Path) -> anyhow::Result<&'static str> {
    const OF_A_REGION: [&str; 2] = [
        "+++ b/crates/engine/src/cluster/",
        "+++ b/crates/engine/src/podeni/",
    ];
    let text = fs::read_to_string(patch).with_context(|| format!("reading {}", patch.display()))?;
    let mut files = text.lines().filter(|line| line.starts_with("+++ "));
    let theirs = |line: &str| OF_A_REGION.iter().any(|start| line.starts_with(start));
    Ok(if files.all(theirs) { "region" } else { "nodes" })
}

fn build_and_run(
    scratch: &Path,
    copy: &Path,
    seeds: u64,
    arguments: &[&str],
) -> anyhow::Result<String> {
    let target = scratch.join("target");
    let mut build = Command::new("cargo");
    build.args([
        "build",
        "--quiet",
        "-p",
        "terway-sim",
        "--bin",
        "terway-sim",
    ]);
    build.env("CARGO_TARGET_DIR", &target).current_dir(copy);
    run(&mut build, "it does not compile")?;
    let mut seeded = Command::new(target.join("debug/terway-sim"));
    seeded
        .args(["run", "--seed-base", "1", "--seeds", &seeds.to_string()])
        .args(arguments);
    let output = seeded
        .current_dir(copy)
        .output()
        .context("running the seeds")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if text.is_empty() {
        bail!(
            "the simulator ended: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(text)
}

fn run(command: &mut Command, what: &str) -> anyhow::Result<()> {
    let output = command
        .output()
        .with_context(|| format!("starting {command:?}"))?;
    if !output.status.success() {
        let words = [output.stdout, output.stderr].concat();
        bail!("{what}: {}", String::from_utf8_lossy(&words).trim());
    }
    Ok(())
}

/// Makes `to` like `from`; what is alike is left alone, so that cargo builds only what changed.
fn sync(from: &Path, to: &Path) -> anyhow::Result<()> {
    if !from.is_dir() {
        let new = fs::read(from).with_context(|| format!("reading {}", from.display()))?;
        if fs::read(to).ok().as_ref() != Some(&new) {
            fs::write(to, new).with_context(|| format!("writing {}", to.display()))?;
        }
        return Ok(());
    }
    fs::create_dir_all(to).with_context(|| format!("making {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("listing {}", from.display()))? {
        let name = entry?.file_name();
        if name != "target" {
            sync(&from.join(&name), &to.join(&name))?;
        }
    }
    Ok(())
}
