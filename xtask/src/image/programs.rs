//! The programs of an image: built as static ones, from the same sources to the same bytes wherever the
//! repository and cargo's home are, and looked at before anybody relies on it.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail, ensure};

use super::arch::Arch;
use crate::build::{cargo, must, root, target};

/// A program: the package it is built from and the name it has.
pub(super) type Program = (&'static str, &'static str);

/// Where rustc keeps the standard libraries of its targets.
pub(super) fn sysroot() -> anyhow::Result<PathBuf> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .args(["--print", "sysroot"])
        .current_dir(root())
        .output()
        .context("asking rustc for its sysroot")?;
    ensure!(output.status.success(), "rustc does not say its sysroot");
    Ok(String::from_utf8_lossy(&output.stdout).trim().into())
}

/// Names the release to a program that tells people which it is.
const VERSION: &str = "TERWAY_VERSION";

/// Builds `programs` for `arch` as release `version` and returns where they are, in the same order.
pub(super) fn build(
    arch: Arch,
    programs: &[Program],
    version: &str,
) -> anyhow::Result<Vec<PathBuf>> {
    let triple = arch.triple();
    // A directory of its own: other flags in the shared one would build everything anew each time.
    let directory = target().join("image");
    let mut build = cargo(&["build", "--release", "--locked", "--bins", "--quiet"]);
    build.args(["--target", &triple]);
    build.arg("--target-dir").arg(&directory);
    for (package, _) in programs {
        build.args(["--package", package]);
    }
    build.env("CARGO_ENCODED_RUSTFLAGS", flags()?.join("\u{1f}"));
    // Names of functions are not for those who run it, and a third of its size.
    build.env("CARGO_PROFILE_RELEASE_STRIP", "symbols");
    build.env_remove("RUSTFLAGS").env(VERSION, version);
    if let Some(compiler) = arch.cross_compiler() {
        let upper = triple.to_uppercase().replace('-', "_");
        build.env(format!("CARGO_TARGET_{upper}_LINKER"), &compiler);
        build.env(format!("CC_{}", triple.replace('-', "_")), compiler);
    }
    must(build, &format!("building the programs for {}", arch.oci()))?;
    let built = directory.join(&triple).join("release");
    let paths = programs.iter().map(|(_, program)| built.join(program));
    Ok(paths.collect())
}

/// Flags of the compiler: the C library inside, and no directory of this machine in what is built.
fn flags() -> anyhow::Result<Vec<String>> {
    let home = std::env::var_os("CARGO_HOME").map_or_else(
        || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")),
        |home| Some(home.into()),
    );
    let home = home.context("neither CARGO_HOME nor HOME is set")?;
    let remap = |from: &Path, to: &str| format!("--remap-path-prefix={}={to}", from.display());
    Ok(vec![
        "-Ctarget-feature=+crt-static".into(),
        remap(&root(), "/terway"),
        remap(&home, "/cargo"),
    ])
}

/// Reads a program that is to run where nothing else is.
pub(super) fn read(path: &Path, arch: Arch) -> anyhow::Result<Vec<u8>> {
    let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    check(&bytes, arch).with_context(|| format!("{} cannot be shipped", path.display()))?;
    check_places(&bytes).with_context(|| format!("{} cannot be shipped", path.display()))?;
    Ok(bytes)
}

/// Fails unless `bytes` are an ELF program for `arch` that asks for no interpreter (System V ABI, ELF-64).
fn check(bytes: &[u8], arch: Arch) -> anyhow::Result<()> {
    /// Program header type PT_INTERP.
    const INTERPRETER: u32 = 3;
    let half = |at: usize| Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let long = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    ensure!(
        bytes.starts_with(b"\x7fELF\x02\x01"),
        "it is no 64-bit little-endian ELF file"
    );
    let machine = half(18);
    ensure!(
        machine == Some(arch.elf_machine()),
        "it is for machine {machine:?}, not for {}",
        arch.oci()
    );
    let (Some(first), Some(size), Some(count)) = (long(32), half(54), half(56)) else {
        bail!("its ELF header is cut off");
    };
    let first = usize::try_from(first).context("its program headers are out of reach")?;
    for number in 0..usize::from(count) {
        let kind = word(first.saturating_add(number * usize::from(size)));
        let kind = kind.context("its program headers are cut off")?;
        ensure!(
            kind != INTERPRETER,
            "it asks for a dynamic linker, and the image has none"
        );
    }
    Ok(())
}

/// Fails if a directory of this machine is in `bytes`: then another machine builds other bytes.
fn check_places(bytes: &[u8]) -> anyhow::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let root = root();
    let needle = root.as_os_str().as_bytes();
    let found = bytes
        .windows(needle.len())
        .any(|window| OsStr::from_bytes(window) == root.as_os_str());
    ensure!(
        !found,
        "it holds the path {}, which is this machine's",
        root.display()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF file of one program header of this type.
    fn elf(machine: u16, kind: u32) -> Vec<u8> {
        let mut bytes = vec![0; 64];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[18..20].copy_from_slice(&machine.to_le_bytes());
        bytes[32..40].copy_from_slice(&64u64.to_le_bytes());
        bytes[54..56].copy_from_slice(&56u16.to_le_bytes());
        bytes[56..58].copy_from_slice(&1u16.to_le_bytes());
        bytes.extend(kind.to_le_bytes());
        bytes.extend([0; 52]);
        bytes
    }

    #[test]
    fn only_static_programs_of_the_right_machine_are_taken() {
        let load = 1;
        check(&elf(62, load), Arch::Amd64).unwrap();
        check(&elf(183, load), Arch::Arm64).unwrap();
        let refusals = [
            (elf(62, 3), "dynamic linker"),
            (elf(183, load), "machine"),
            (b"#!/bin/sh".to_vec(), "no 64-bit"),
            (elf(62, load)[..60].to_vec(), "cut off"),
            (elf(62, load)[..66].to_vec(), "cut off"),
        ];
        for (bytes, named) in refusals {
            let refused = check(&bytes, Arch::Amd64).unwrap_err().to_string();
            assert!(refused.contains(named), "{refused}");
        }
    }

    #[test]
    fn a_program_that_names_a_directory_of_this_machine_is_refused() {
        check_places(b"/terway/bins/agent/src/main.rs").unwrap();
        let path = format!("x{}/bins", root().display());
        assert!(check_places(path.as_bytes()).is_err());
    }
}
