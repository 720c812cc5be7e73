//! Compiles the eBPF programs.

use std::process::ExitCode;

mod clang;

fn main() -> ExitCode {
    clang::compile_all(&[
        ("bpf/trunk.bpf.c", "trunk.bpf.o"),
        ("bpf/ipvlan.bpf.c", "ipvlan.bpf.o"),
    ])
}
