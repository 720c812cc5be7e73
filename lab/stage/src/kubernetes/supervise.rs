//! Programs that are started again whenever they end, as an init system does.
//!
//! It runs in the first process of a PID namespace, so whoever loses its parent in there is its child.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use serde_json::{Value, json};
use tokio::{process::Command, time::sleep};

/// First and longest pause before a program is started again, and how long it must have run to begin
/// with the first once more.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(5);
const STEADY: Duration = Duration::from_secs(10);
/// How often is looked for dead processes without a parent. One is reaped when it was seen twice: a
/// child that somebody here waits for is gone by then.
const REAP: Duration = Duration::from_secs(2);

/// A program and how it is run.
#[derive(Debug, Clone)]
pub(super) struct Program {
    pub(super) name: &'static str,
    pub(super) arguments: Vec<String>,
    /// Search path, for itself and what it runs.
    pub(super) path: String,
    pub(super) log: PathBuf,
}

/// What runs here.
#[derive(Debug, Default)]
pub(super) struct Supervisor(Mutex<BTreeMap<&'static str, State>>);

#[derive(Debug, Default, Clone, Copy)]
struct State {
    pid: Option<u32>,
    starts: u32,
}

impl Supervisor {
    /// One that also looks after processes whose parents have ended.
    pub(super) fn new() -> Arc<Self> {
        tokio::spawn(reap_orphans());
        Arc::default()
    }

    /// Keeps `program` running from now on.
    pub(super) fn keep(self: &Arc<Self>, program: Program) {
        tokio::spawn(keep(Arc::clone(self), program));
    }

    /// Every program's process and how often it was started again.
    pub(super) fn describe(&self) -> Value {
        let states = self.lock();
        let describe = |(name, state): (&&str, &State)| {
            let restarts = state.starts.saturating_sub(1);
            (
                (*name).to_owned(),
                json!({ "pid": state.pid, "restarts": restarts }),
            )
        };
        Value::Object(states.iter().map(describe).collect())
    }

    /// Kills a program without warning.
    pub(super) fn kill(&self, name: &str) -> Result<Value> {
        let state = self.lock().get(name).copied();
        let state = state.ok_or_else(|| {
            let names: Vec<_> = self.lock().keys().copied().collect();
            anyhow!("no {name} runs here, but {}", names.join(", "))
        })?;
        let pid = state
            .pid
            .with_context(|| format!("{name} does not run at this moment"))?;
        kill(pid).with_context(|| format!("cannot kill {name}"))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, State>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Kills the process `pid`.
pub(super) fn kill(pid: u32) -> Result<Value> {
    let target = Pid::from_raw(pid.try_into()?).context("no process")?;
    kill_process(target, Signal::KILL)?;
    Ok(json!({ "killed": pid }))
}

async fn keep(supervisor: Arc<Supervisor>, program: Program) {
    let mut pause = PAUSE_MIN;
    loop {
        let began = Instant::now();
        let outcome = run(&supervisor, &program).await;
        supervisor.lock().entry(program.name).or_default().pid = None;
        let (program, outcome) = (program.name, format!("{outcome:?}"));
        tracing::warn!(program, outcome, ?pause, "a program has ended");
        if began.elapsed() >= STEADY {
            pause = PAUSE_MIN;
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

async fn run(supervisor: &Supervisor, program: &Program) -> Result<ExitStatus> {
    let log = File::options().create(true).append(true).open(&program.log);
    let log = log.with_context(|| format!("cannot open {}", program.log.display()))?;
    let mut child = Command::new(program.name)
        .args(&program.arguments)
        .env_clear()
        .env("PATH", &program.path)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("cannot run {}", program.name))?;
    {
        let mut states = supervisor.lock();
        let state = states.entry(program.name).or_default();
        state.pid = child.id();
        state.starts += 1;
    }
    child
        .wait()
        .await
        .with_context(|| format!("cannot wait for {}", program.name))
}

async fn reap_orphans() {
    let mut seen = Vec::new();
    loop {
        sleep(REAP).await;
        let dead = dead_children();
        for pid in dead.iter().filter(|pid| seen.contains(*pid)) {
            // Somebody may have waited for it after all.
            let _ = waitpid(Some(*pid), WaitOptions::NOHANG);
        }
        seen = dead;
    }
}

/// Ended processes whose parent is this one.
fn dead_children() -> Vec<Pid> {
    let me = std::process::id();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let dead = |pid: i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // Field 2 may hold anything, so count from its closing parenthesis (proc(5)).
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let (state, parent) = (fields.next()?, fields.next()?);
        (state == "Z" && parent.parse() == Ok(me)).then(|| Pid::from_raw(pid))?
    };
    entries
        .filter_map(|entry| dead(entry.file_name().to_str()?.parse().ok()?))
        .collect()
}
