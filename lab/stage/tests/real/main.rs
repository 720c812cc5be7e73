//! The product in a real Kubernetes: one lab, brought up without it, and checks that build on each other.
//!
//! Runs where `TERWAY_KUBERNETES` names a directory with the programs of a Kubernetes (`cargo xtask test
//! --tier real-k8s` does), with the images of `cargo xtask image`. Without the variable it says so.

#![expect(
    clippy::unwrap_used,
    reason = "a check that cannot go on fails; clippy exempts test functions, not their helpers"
)]

mod checks;
mod permissions;
mod rig;
#[path = "../support/mod.rs"]
mod support;
mod trunk;
mod upgrade;
mod way_back;

use std::{
    env,
    panic::{self, AssertUnwindSafe},
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, OnceLock},
    time::Instant,
};

use rig::Lab;

/// Names the directory of programs.
const KUBERNETES: &str = "TERWAY_KUBERNETES";

fn main() -> ExitCode {
    let Some(kubernetes) = env::var_os(KUBERNETES) else {
        println!("not run: {KUBERNETES} is not set; `cargo xtask test --tier real-k8s` sets it");
        return ExitCode::SUCCESS;
    };
    if env::args().any(|argument| argument == "--list") {
        for (name, _) in checks::ALL {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    let why = first_panic();
    let begun = Instant::now();
    let lab = Lab::up(&PathBuf::from(kubernetes));
    println!(
        "two nodes without the product: {:.1} s",
        begun.elapsed().as_secs_f32()
    );
    for (name, check) in checks::ALL {
        let begun = Instant::now();
        println!("{name} ...");
        if panic::catch_unwind(AssertUnwindSafe(|| check(&lab))).is_err() {
            lab.show();
            // Last, where somebody looks first.
            let why = why.get().map_or("it panicked", String::as_str);
            println!("{name} ... FAILED\n{why}");
            return ExitCode::FAILURE;
        }
        println!("{name} ... ok, {:.1} s", begun.elapsed().as_secs_f32());
    }
    let begun = Instant::now();
    lab.down_leaves_nothing();
    println!("nothing is left: {:.1} s", begun.elapsed().as_secs_f32());
    ExitCode::SUCCESS
}

/// What panics first, on whichever thread: the panics that follow only say that another has.
fn first_panic() -> Arc<OnceLock<String>> {
    let first = Arc::new(OnceLock::new());
    let (report, kept) = (panic::take_hook(), Arc::clone(&first));
    panic::set_hook(Box::new(move |panic| {
        let _ = kept.set(panic.to_string());
        report(panic);
    }));
    first
}
