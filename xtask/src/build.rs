//! Building the programs, the two that run inside pods and on foreign nodes as static binaries.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail};

/// Programs that run beside others' libraries: how cargo calls them, where it puts them, their name.
const STATIC: [(&[&str], &str, &str); 3] = [
    (&["-p", "terway-cni"], "terway", "terway"),
    (&["-p", "terway-probe"], "terway-probe", "terway-probe"),
    (
        &["-p", "terway-datapath", "--example", "floor"],
        "examples/floor",
        "terway-floor",
    ),
];

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Where cargo puts what it builds.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The finished programs.
pub(crate) fn programs_dir() -> PathBuf {
    target().join("release")
}

/// A cargo command at the repository's root.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    command
}

/// Runs `command` and fails with its name unless it succeeds.
pub(crate) fn must(mut command: Command, what: &str) -> anyhow::Result<()> {
    let status = command
        .status()
        .with_context(|| format!("starting {what}"))?;
    if !status.success() {
        bail!("{what} failed with {status}");
    }
    Ok(())
}

/// Builds all programs.
pub(crate) fn programs() -> anyhow::Result<()> {
    must(
        // The whole workspace, because every choice of packages is a choice of features to build anew.
        cargo(&["build", "--release", "--locked", "--workspace", "--bins"]),
        "building the agent and the lab",
    )?;
    let triple = static_target()?;
    for (package, built, name) in STATIC {
        let mut build = cargo(&["build", "--release", "--locked", "--target", &triple]);
        build.args(package);
        if triple.ends_with("-gnu") {
            // Without a musl target the C library is linked in; these programs look up no names.
            build.env("RUSTFLAGS", "-C target-feature=+crt-static");
        }
        must(build, &format!("building {name} as a static program"))?;
        let (from, to) = (
            target().join(&triple).join("release").join(built),
            programs_dir().join(name),
        );
        // A running copy must not be written into, so the new one takes its place.
        let draft = to.with_extension("new");
        fs::copy(&from, &draft).with_context(|| format!("copying {}", from.display()))?;
        fs::rename(&draft, &to).with_context(|| format!("replacing {}", to.display()))?;
    }
    Ok(())
}

/// The musl target of this machine if its standard library is installed, else the GNU one.
fn static_target() -> anyhow::Result<String> {
    let arch = std::env::consts::ARCH;
    let (musl, gnu) = (
        format!("{arch}-unknown-linux-musl"),
        format!("{arch}-unknown-linux-gnu"),
    );
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let sysroot = Command::new(rustc)
        .args(["--print", "sysroot"])
        .current_dir(root())
        .output();
    let sysroot = sysroot.context("asking rustc for its sysroot")?;
    let sysroot = PathBuf::from(String::from_utf8_lossy(&sysroot.stdout).trim());
    if sysroot.join("lib/rustlib").join(&musl).join("lib").exists() {
        return Ok(musl);
    }
    eprintln!("xtask: target {musl} is not installed; linking glibc statically instead");
    Ok(gnu)
}
