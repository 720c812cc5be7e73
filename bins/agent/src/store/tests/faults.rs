//! A disk as the worst kernel and the worst disk may be: what was not synced is kept, lost or torn at
//! sectors in any order; a name that was not synced may be gone; a failed sync drops what it could not
//! write and calls it written; space runs out, and the whole may turn read-only.

use std::{
    collections::BTreeMap,
    io::{self, ErrorKind},
    ops::Range,
    sync::{Arc, Mutex, MutexGuard},
};

use redb::StorageBackend;

use crate::store::Disk;

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// Chance from a seed (splitmix64).
#[derive(Debug, Clone)]
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % n
    }
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Nothing can be written that takes room.
    Full,
    /// Nothing can be changed.
    ReadOnly,
    /// A sync fails, and what it should have written is forgotten.
    SyncFails,
}

#[derive(Debug, Default, Clone)]
struct Contents {
    /// What programs see.
    seen: Vec<u8>,
    /// What is on the disk.
    durable: Vec<u8>,
    /// What was written since the last sync.
    pending: Vec<(usize, Vec<u8>)>,
}

impl Contents {
    /// Brings any part of what is pending to the disk.
    fn settle(&mut self, dice: &mut Dice) {
        let (short, long) = (self.durable.len(), self.seen.len());
        let length = [short, long][dice.below(2) as usize];
        self.durable.resize(length, 0);
        for (at, bytes) in std::mem::take(&mut self.pending) {
            let fate = dice.below(3);
            let mut from = at;
            while from < at + bytes.len() {
                let to = ((from / SECTOR + 1) * SECTOR).min(at + bytes.len());
                if (fate == 0 || fate == 1 && dice.below(2) == 0) && to <= length {
                    self.durable[from..to].copy_from_slice(&bytes[from - at..to - at]);
                }
                from = to;
            }
        }
    }
}

type Names = BTreeMap<String, usize>;

#[derive(Debug)]
struct State {
    dice: Dice,
    files: Vec<Contents>,
    names: Names,
    /// The names after each change since they were last synced, the synced ones first.
    history: Vec<Names>,
    steps: u64,
    crash_at: u64,
    trouble: Option<(Range<u64>, Trouble)>,
}

/// The disk; a clone is the same disk.
#[derive(Debug, Clone)]
pub(super) struct FaultyDisk(Arc<Mutex<State>>);

impl FaultyDisk {
    /// An empty disk without faults.
    pub(super) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            dice: Dice(seed),
            files: Vec::new(),
            names: Names::new(),
            history: vec![Names::new()],
            steps: 0,
            crash_at: u64::MAX,
            trouble: None,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Lets the power fail so many steps from now.
    pub(super) fn crash_after(&self, steps: u64) {
        let mut state = self.lock();
        state.crash_at = state.steps + steps;
    }

    /// Lets something go wrong for some steps from now.
    pub(super) fn trouble(&self, trouble: Trouble, after: u64, steps: u64) {
        let mut state = self.lock();
        let from = state.steps + after;
        state.trouble = Some((from..from + steps, trouble));
    }

    pub(super) fn steps(&self) -> u64 {
        self.lock().steps
    }

    pub(super) fn crashed(&self) -> bool {
        let state = self.lock();
        state.steps >= state.crash_at
    }

    /// What is on the disk when the power returns.
    pub(super) fn after_crash(&self, seed: u64) -> Self {
        let mut state = self.lock();
        let mut dice = Dice(seed);
        let kept = dice.below(state.history.len() as u64) as usize;
        let fresh = Self::new(seed);
        let mut next = fresh.lock();
        next.names = state.history[kept].clone();
        next.history = vec![next.names.clone()];
        next.files = state.files.clone();
        for file in &mut next.files {
            file.settle(&mut dice);
            file.seen = file.durable.clone();
        }
        // Whoever still has a file of the old disk writes to nothing.
        state.crash_at = 0;
        drop(next);
        fresh
    }

    /// Changes one byte of a file behind everybody's back.
    pub(super) fn flip(&self, name: &str, at: u64, with: u8) {
        let mut state = self.lock();
        let id = state.names[name];
        let file = &mut state.files[id];
        let at = at as usize % file.seen.len();
        file.seen[at] ^= with;
        file.durable = file.seen.clone();
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.lock().names.contains_key(name)
    }
}

impl State {
    fn step(&mut self, takes_room: bool) -> io::Result<()> {
        let at = self.steps;
        self.steps += 1;
        if at >= self.crash_at {
            return Err(io::Error::other("the power is gone"));
        }
        let current = self.trouble.as_ref().filter(|(when, _)| when.contains(&at));
        match current {
            Some((_, Trouble::ReadOnly)) => Err(ErrorKind::ReadOnlyFilesystem.into()),
            Some((_, Trouble::Full)) if takes_room => Err(ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }

    fn sync_fails(&self) -> bool {
        let at = self.steps - 1;
        let fails = |(when, what): &(Range<u64>, Trouble)| {
            *what == Trouble::SyncFails && when.contains(&at)
        };
        self.trouble.as_ref().is_some_and(fails)
    }

    fn renamed(&mut self) {
        self.history.push(self.names.clone());
    }
}

/// An open file of a [`FaultyDisk`].
#[derive(Debug)]
pub(super) struct FaultyFile(FaultyDisk, usize);

impl StorageBackend for FaultyFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().files[self.1].seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.0.lock();
        let at = offset as usize;
        let bytes = state.files[self.1].seen.get(at..at + out.len());
        out.copy_from_slice(bytes.ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.0.lock();
        state.step(true)?;
        state.files[self.1].seen.resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.0.lock();
        state.step(false)?;
        if state.sync_fails() {
            let mut dice = state.dice.clone();
            state.files[self.1].settle(&mut dice);
            state.dice = dice;
            return Err(io::Error::other("I/O error while writing back"));
        }
        let file = &mut state.files[self.1];
        file.pending.clear();
        file.durable.clone_from(&file.seen);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.0.lock();
        state.step(true)?;
        let file = &mut state.files[self.1];
        let at = offset as usize;
        file.seen[at..at + data.len()].copy_from_slice(data);
        file.pending.push((at, data.to_owned()));
        Ok(())
    }
}

impl Disk for FaultyDisk {
    type File = FaultyFile;

    fn open(&self, name: &str) -> io::Result<FaultyFile> {
        let state = self.lock();
        let id = state.names.get(name).copied().ok_or(ErrorKind::NotFound)?;
        Ok(FaultyFile(self.clone(), id))
    }

    fn create(&self, name: &str) -> io::Result<FaultyFile> {
        let mut state = self.lock();
        state.step(true)?;
        let id = state.files.len();
        state.files.push(Contents::default());
        state.names.insert(name.into(), id);
        state.renamed();
        Ok(FaultyFile(self.clone(), id))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.lock();
        state.step(false)?;
        let id = state.names.remove(from).ok_or(ErrorKind::NotFound)?;
        state.names.insert(to.into(), id);
        state.renamed();
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.lock();
        state.step(false)?;
        state.names.remove(name);
        state.renamed();
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut state = self.lock();
        state.step(false)?;
        if state.sync_fails() {
            return Err(io::Error::other("I/O error while writing back"));
        }
        state.history = vec![state.names.clone()];
        Ok(())
    }

    fn place(&self, name: &str) -> String {
        name.to_owned()
    }
}
