//! Compiles the fabric's eBPF program, and the one its tests need.

use std::process::ExitCode;

#[path = "../../crates/datapath/build/clang.rs"]
mod clang;

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed=bpf/groups.bpf.h");
    clang::compile_all(&[
        ("bpf/fabric.bpf.c", "fabric.bpf.o"),
        ("tests/fabric/tagger.bpf.c", "tagger.bpf.o"),
    ])
}
