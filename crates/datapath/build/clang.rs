//! Compiles eBPF programs with the distribution's clang. Shared with the lab, whose fabric is one.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

const HEADER: &str = "/usr/include/bpf/bpf_helpers.h";
const INSTALL: &str = "run `apt-get install clang libbpf-dev` (as root) and build again";

/// Compiles every `(source, name of its object in OUT_DIR)`; cargo shows what went wrong.
pub(crate) fn compile_all(programs: &[(&str, &str)]) -> ExitCode {
    println!("cargo::rerun-if-env-changed=BPF_CLANG");
    for (source, object) in programs {
        println!("cargo::rerun-if-changed={source}");
        if let Err(sentence) = compile(source, object) {
            println!("cargo::error={sentence}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn compile(source: &str, object: &str) -> Result<(), String> {
    if !Path::new(HEADER).exists() {
        return Err(format!(
            "{source} needs {HEADER}, which is missing: {INSTALL}"
        ));
    }
    let clang = env::var("BPF_CLANG").unwrap_or_else(|_| "clang".into());
    let out = env::var_os("OUT_DIR").ok_or("OUT_DIR is not set: run this through cargo")?;
    let output = Command::new(&clang)
        .args(["-O2", "-g", "-target", "bpf", "-mcpu=v3"])
        .args(["-Wall", "-Wextra", "-Werror"])
        // Else the object, and the program that holds it, would differ with the directory of the build.
        .arg("-fdebug-compilation-dir=.")
        // linux/*.h include asm/*.h, which Debian keeps in a directory for each architecture.
        .arg(format!("-I/usr/include/{}-linux-gnu", host_architecture()))
        .args(["-c", source, "-o"])
        .arg(PathBuf::from(out).join(object))
        .output()
        .map_err(|error| format!("cannot run {clang} to compile {source} ({error}): {INSTALL}"))?;
    if output.status.success() {
        return Ok(());
    }
    for line in String::from_utf8_lossy(&output.stderr).lines() {
        println!("cargo::warning={line}");
    }
    Err(format!(
        "{clang} could not compile {source}, see the lines above; if a header is missing, {INSTALL}"
    ))
}

/// The headers are the build machine's, whatever machine the program is built for: eBPF is one target.
fn host_architecture() -> String {
    env::var("HOST")
        .ok()
        .and_then(|triple| Some(triple.split_once('-')?.0.to_owned()))
        .unwrap_or_else(|| env::consts::ARCH.to_owned())
}
