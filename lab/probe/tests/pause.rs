//! `pause` and `serve` as the first process of a PID namespace, where signals have no default.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails; clippy exempts test functions, not their helpers"
)]

use std::{
    fs,
    io::{self, BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const PROBE: &str = env!("CARGO_BIN_EXE_terway-probe");
/// Far above what a signal takes, far below anyone's patience.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a level is looked at.
const POLL: Duration = Duration::from_millis(5);

/// Waits until `level` holds; fails with `what` if it never does.
fn until<T>(what: &str, mut level: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(value) = level() {
            return value;
        }
        assert!(begun.elapsed() < PATIENCE, "waited in vain for: {what}");
        std::thread::sleep(POLL);
    }
}

/// A user and PID namespace; dropped, it ends with all that is in it.
struct Namespace(Child);

impl Namespace {
    /// Runs `script`, which ends with `exec`, so that the probe is the first process.
    fn new(script: &str) -> Self {
        let child = Command::new("unshare")
            .args(["--user", "--map-root-user", "--pid", "--fork"])
            .args(["--kill-child", "--", "sh", "-c", script, PROBE])
            .stdout(Stdio::piped())
            .spawn();
        Self(child.unwrap())
    }

    /// The probe, as seen from here.
    fn probe(&self) -> i32 {
        let outer = i32::try_from(self.0.id()).unwrap();
        until("the probe runs", || {
            let child = *children(outer).first()?;
            name(child).starts_with("terway-probe").then_some(child)
        })
    }

    /// Sends `signal` to the probe and says with which status it ended. The signal is repeated, because
    /// the first process of a namespace loses one that comes before it has blocked it.
    fn end(&mut self, signal: Signal) -> Option<i32> {
        let probe = Pid::from_raw(self.probe());
        let status = until("the probe ends", || {
            let _ = kill(probe, signal);
            self.0.try_wait().unwrap()
        });
        status.code()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn children(parent: i32) -> Vec<i32> {
    let list = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
    let list = list.unwrap_or_default();
    list.split_whitespace()
        .map(|id| id.parse().unwrap())
        .collect()
}

fn name(process: i32) -> String {
    fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default()
}

#[test]
fn pause_ends_on_either_signal_and_prints_nothing() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut namespace = Namespace::new("exec \"$0\" pause");
        let out = namespace.0.stdout.take().unwrap();
        assert_eq!(namespace.end(signal), Some(0), "after {signal}");
        assert_eq!(io::read_to_string(out).unwrap(), "");
    }
}

#[test]
fn pause_leaves_no_zombie() {
    // Two orphans that are dead already and one that dies later, all of them children of the probe.
    let script = "(:) & (:) & sleep 1000 & exec \"$0\" pause";
    let mut namespace = Namespace::new(script);
    let probe = namespace.probe();
    let sleeper = until("only the sleeper is left", || {
        match children(probe).as_slice() {
            [only] if name(*only).trim() == "sleep" => Some(*only),
            _ => None,
        }
    });
    kill(Pid::from_raw(sleeper), Signal::SIGKILL).unwrap();
    until("the sleeper is reaped", || {
        children(probe).is_empty().then_some(())
    });
    assert_eq!(namespace.end(Signal::SIGTERM), Some(0));
}

#[test]
fn serve_ends_on_sigterm() {
    let mut namespace = Namespace::new("exec \"$0\" serve --listen 127.0.0.1 --port 0");
    let mut line = String::new();
    let out = namespace.0.stdout.take().unwrap();
    BufReader::new(out).read_line(&mut line).unwrap();
    assert!(line.contains("serving"), "{line}");
    assert_eq!(namespace.end(Signal::SIGTERM), Some(0));
}
