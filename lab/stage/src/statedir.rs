//! The directory of one lab: where everything lies, whether the lab is up, what a dead one left.
//!
//! A lab is up exactly as long as its region process holds the lock; what could outlive that process
//! is written into the record before it exists.

use std::{
    fs::{self, File, TryLockError},
    io::{self, ErrorKind},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::cgroups;

/// Where a lab is when nobody says otherwise.
pub(crate) const DIR: &str = "/run/terway-lab";
/// How long somebody who only looks whether a lab is up may hold the lock: microseconds.
const LOCK_MAX: Duration = Duration::from_millis(200);
/// How long the kernel may take to end killed processes. It takes milliseconds; a machine that swaps takes seconds.
const SWEEP_MAX: Duration = Duration::from_secs(10);
/// How often something is looked at that is waited for.
const POLL: Duration = Duration::from_millis(20);

/// What may be left of a lab whose region process was killed.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The region and the nodes.
    pub(crate) processes: Vec<Process>,
    /// The lab's control groups, one in each hierarchy it uses; every node has one below each.
    pub(crate) cgroups: Vec<PathBuf>,
}

/// A process, told apart from a later one with the same id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    pid: i32,
    /// When it started, in clock ticks since boot (proc(5), `/proc/PID/stat` field 22).
    started: u64,
}

impl Process {
    /// The running process `pid`.
    pub(crate) fn of(pid: u32) -> io::Result<Self> {
        let pid = i32::try_from(pid).map_err(io::Error::other)?;
        let started = started(pid).ok_or_else(|| io::Error::other(format!("no process {pid}")))?;
        Ok(Self { pid, started })
    }

    fn runs(&self) -> bool {
        started(self.pid) == Some(self.started)
    }

    fn kill(&self) {
        if let Some(pid) = Pid::from_raw(self.pid).filter(|_| self.runs()) {
            // It may end by itself meanwhile.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

fn started(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name, field 2, may hold anything, so count from its closing parenthesis.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let zombie = fields.next()? == "Z";
    fields.nth(18)?.parse().ok().filter(|_| !zombie)
}

/// The directory of a lab.
#[derive(Debug, Clone)]
pub(crate) struct StateDir(PathBuf);

impl StateDir {
    /// The lab at `path`, up or not.
    pub(crate) fn at(path: &Path) -> Result<Self> {
        let path = std::path::absolute(path)
            .with_context(|| format!("{} is no path for a lab", path.display()))?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.0.join("control.sock")
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.0.join("kubeconfig")
    }

    /// Keys of a real cluster.
    pub(crate) fn pki(&self) -> PathBuf {
        self.0.join("pki")
    }

    /// What `install` applies to a real cluster.
    pub(crate) fn installation(&self) -> PathBuf {
        self.0.join("install")
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.0.join("logs")
    }

    pub(crate) fn log(&self, component: &str) -> PathBuf {
        self.logs().join(format!("{component}.log"))
    }

    pub(crate) fn node(&self, name: &str) -> PathBuf {
        self.0.join("nodes").join(name)
    }

    fn lock_file(&self) -> PathBuf {
        self.0.join("lab.lock")
    }

    /// Whether a lab is up here.
    pub(crate) fn is_up(&self) -> bool {
        File::open(self.lock_file())
            .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    /// Takes the directory for a new lab, after clearing what a dead one left. The lab is up as long
    /// as the returned file, or a process that inherited it, lives.
    ///
    /// # Errors
    /// When a lab is up here, or the directory is not a lab's.
    pub(crate) fn claim(&self) -> Result<File> {
        let here = self.0.display();
        let entries = match fs::read_dir(&self.0) {
            Ok(entries) => entries.count(),
            Err(error) if error.kind() == ErrorKind::NotFound => 0,
            Err(error) => return Err(error).with_context(|| format!("cannot read {here}")),
        };
        if entries > 0 && !self.lock_file().exists() {
            bail!("{here} holds files but no lab.lock, so it is no lab's: name another --dir");
        }
        fs::create_dir_all(&self.0).with_context(|| format!("cannot create {here}"))?;
        let lock = self.lock()?;
        self.sweep()?;
        for directory in [self.logs(), self.0.join("nodes")] {
            fs::create_dir_all(&directory)
                .with_context(|| format!("cannot create {}", directory.display()))?;
        }
        Ok(lock)
    }

    /// Removes a lab that is not up, whatever is left of it.
    ///
    /// # Errors
    /// When it is up, or something cannot be removed.
    pub(crate) fn remove(&self) -> Result<()> {
        if !self.lock_file().exists() {
            return Ok(());
        }
        let _lock = self.lock()?;
        self.sweep()?;
        fs::remove_dir_all(&self.0).with_context(|| format!("cannot remove {}", self.0.display()))
    }

    fn lock(&self) -> Result<File> {
        let path = self.lock_file();
        let open = || File::options().create(true).append(true).open(&path);
        let lock = open().with_context(|| format!("cannot open {}", path.display()))?;
        let here = self.0.display();
        let problem = format!(
            "a lab is up in {here}: run `terway-lab down --dir {here}` first, or name another --dir"
        );
        until(&problem, LOCK_MAX, || lock.try_lock().is_ok())?;
        // Somebody may have removed the lab between the opening and the locking.
        let same = fs::metadata(&path).is_ok_and(|now| {
            lock.metadata()
                .is_ok_and(|ours| (ours.dev(), ours.ino()) == (now.dev(), now.ino()))
        });
        if !same {
            bail!("{} was being removed: try again", self.0.display());
        }
        Ok(lock)
    }

    /// Writes the record, whole or not at all.
    pub(crate) fn write(&self, record: &Record) -> Result<()> {
        let (draft, path) = (self.0.join("lab.json.draft"), self.0.join("lab.json"));
        let text = serde_json::to_vec_pretty(record)?;
        fs::write(&draft, text)
            .and_then(|()| fs::rename(&draft, &path))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Kills every process of the lab that is on record.
    pub(crate) fn kill(&self) -> Record {
        let record = fs::read(self.0.join("lab.json")).unwrap_or_default();
        let record: Record = serde_json::from_slice(&record).unwrap_or_default();
        record.processes.iter().for_each(Process::kill);
        record
    }

    /// Ends what the last lab left and empties the directory but for the lock.
    fn sweep(&self) -> Result<()> {
        let record = self.kill();
        let problem = "the processes that the last lab left do not end";
        until(problem, SWEEP_MAX, || {
            !record.processes.iter().any(Process::runs)
        })?;
        for group in &record.cgroups {
            cgroups::remove(group)?;
        }
        let entries = fs::read_dir(&self.0)?.collect::<io::Result<Vec<_>>>()?;
        for entry in entries
            .iter()
            .filter(|entry| entry.path() != self.lock_file())
        {
            let path = entry.path();
            let removed = match entry.file_type()?.is_dir() {
                true => fs::remove_dir_all(&path),
                false => fs::remove_file(&path),
            };
            removed.with_context(|| format!("cannot remove {}", path.display()))?;
        }
        Ok(())
    }
}

/// Waits until `done`, a bounded time; `problem` is what is said when that is over.
///
/// # Errors
/// When it takes longer than `bound`.
pub(crate) fn until(problem: &str, bound: Duration, mut done: impl FnMut() -> bool) -> Result<()> {
    let began = Instant::now();
    while !done() {
        if began.elapsed() > bound {
            bail!("{problem} (waited {bound:?})");
        }
        thread::sleep(POLL);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> StateDir {
        let path = std::env::temp_dir().join(format!("lab-{name}-{}", std::process::id()));
        StateDir::at(&path).unwrap()
    }

    #[test]
    fn a_lab_is_up_while_its_lock_is_held_and_gone_after_removal() {
        let dir = scratch("lock");
        assert!(!dir.is_up());
        let lock = dir.claim().unwrap();
        assert!(dir.is_up());
        let refusal = dir.claim().unwrap_err().to_string();
        assert!(refusal.contains("is up"), "{refusal}");
        assert!(dir.remove().is_err());
        drop(lock);
        fs::write(dir.log("region"), "old").unwrap();
        drop(dir.claim().unwrap());
        assert!(!dir.log("region").exists(), "a new lab starts empty");
        dir.remove().unwrap();
        assert!(!dir.path().exists());
    }

    #[test]
    fn a_directory_that_is_no_labs_is_left_alone() {
        let dir = scratch("foreign");
        fs::create_dir_all(dir.path().join("photos")).unwrap();
        let refusal = dir.claim().unwrap_err().to_string();
        assert!(refusal.contains("no lab's"), "{refusal}");
        dir.remove().unwrap();
        assert!(dir.path().join("photos").exists());
        fs::remove_dir_all(dir.path()).unwrap();
    }

    #[test]
    fn a_recorded_process_is_ended_unless_its_id_is_anothers_now() {
        let dir = scratch("record");
        let lock = dir.claim().unwrap();
        let mut left = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let process = Process::of(left.id()).unwrap();
        let other = Process {
            started: process.started + 1,
            ..process.clone()
        };
        other.kill();
        assert!(process.runs());
        let record = Record {
            processes: vec![process, other],
            cgroups: Vec::new(),
        };
        dir.write(&record).unwrap();
        drop(lock);
        drop(dir.claim().unwrap());
        assert!(!left.wait().unwrap().success());
        dir.remove().unwrap();
    }
}
