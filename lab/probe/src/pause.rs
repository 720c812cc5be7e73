//! Waiting for signals: `pause`, the process that holds a sandbox, and the end of `serve`.
//!
//! The signals are blocked and taken from the queue. A blocked signal is kept even for the first process
//! of a PID namespace, to which the kernel delivers no default disposition.

use std::{process, thread};

use nix::{
    errno::Errno,
    sys::{
        signal::{SigSet, Signal},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
};

/// What a runtime, or a person at a terminal, ends a process with.
const ENDS: [Signal; 2] = [Signal::SIGTERM, Signal::SIGINT];

/// Reaps what is orphaned in this PID namespace until a signal ends the wait.
pub(crate) fn run() -> Result<(), String> {
    let signals = block(&[Signal::SIGCHLD, ENDS[0], ENDS[1]])?;
    // Children that ended before SIGCHLD was blocked raise none any more.
    reap()?;
    while next(&signals)? == Signal::SIGCHLD {
        reap()?;
    }
    Ok(())
}

/// From now on SIGTERM and SIGINT end the process with success, even as the first of its PID namespace.
/// Threads started later inherit the blocked signals, so this comes before them.
pub(crate) fn end_by_signal() -> Result<(), String> {
    let signals = block(&ENDS)?;
    let wait = move || match next(&signals) {
        Ok(_) => process::exit(0),
        Err(sentence) => eprintln!("terway-probe: {sentence}"),
    };
    let started = thread::Builder::new().name("signals".into()).spawn(wait);
    started
        .map(|_| ())
        .map_err(|error| format!("cannot start the thread for signals: {error}"))
}

fn block(signals: &[Signal]) -> Result<SigSet, String> {
    let set: SigSet = signals.iter().copied().collect();
    set.thread_block()
        .map_err(|error| format!("cannot block signals: {error}"))?;
    Ok(set)
}

fn next(signals: &SigSet) -> Result<Signal, String> {
    loop {
        match signals.wait() {
            Err(Errno::EINTR) => {}
            other => return other.map_err(|error| format!("cannot wait for a signal: {error}")),
        }
    }
}

/// Takes the status of every child that has ended. One SIGCHLD may stand for many of them.
fn reap() -> Result<(), String> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(()),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(format!("cannot wait for an ended process: {error}")),
        }
    }
}
