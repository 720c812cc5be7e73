//! What a node machine was told and what it decided, kept so that an incident can be run again: the
//! machine as it was at some moment, every input since, and a digest of every action it handed out.
//!
//! Lines of JSON: a head with the machine, then a step each. It holds what the machine holds and nothing
//! else; the machine knows no key and no password. Never changes what the machine decides.

use std::{io, ops::Deref};

use model::Timestamp;
use serde::{Deserialize, Serialize};

use crate::node::{Action, Input, Node};

/// The form of the lines. A machine of another release has other decisions, so the head names that too.
const FORMAT: u32 = 1;

/// The release of this machine and a digest of its sources: a machine that decides otherwise is another
/// one, whatever its release.
const BUILD: &str = concat!(env!("CARGO_PKG_VERSION"), "+", env!("TERWAY_ENGINE_BUILD"));

/// A node machine that is recorded.
#[derive(Debug)]
pub struct Recorded {
    machine: Node,
    recorder: Recorder,
}

impl Recorded {
    /// Records `machine` from here on, in about `bytes` and the machine itself, twice: when the newer half
    /// is full, the older is forgotten.
    pub fn new(machine: Node, bytes: usize) -> Self {
        let recorder = Recorder {
            half: bytes / 2,
            older: Vec::new(),
            newer: Vec::new(),
        };
        Self { machine, recorder }
    }

    /// [`Node::handle`], recorded.
    pub fn handle(&mut self, now: Timestamp, input: Input) {
        self.recorder.took(now, &input, &self.machine);
        self.machine.handle(now, input);
    }

    /// [`Node::poll_action`], recorded.
    pub fn poll_action(&mut self, now: Timestamp) -> Option<Action> {
        let action = self.machine.poll_action(now)?;
        self.recorder.did(now, &action);
        Some(action)
    }

    /// The recording so far, as text.
    pub fn recording(&self) -> Vec<u8> {
        let Recorder { older, newer, .. } = &self.recorder;
        // The newer half begins where the older ends, so its head says nothing new.
        let head = newer.iter().position(|byte| *byte == b'\n');
        let steps = head.and_then(|end| newer.get(end + 1..));
        match steps {
            Some(steps) if !older.is_empty() => [older, steps].concat(),
            _ => newer.clone(),
        }
    }
}

impl Deref for Recorded {
    type Target = Node;

    fn deref(&self) -> &Node {
        &self.machine
    }
}

#[derive(Debug)]
struct Recorder {
    half: usize,
    older: Vec<u8>,
    newer: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct Head<M> {
    recording: u32,
    release: String,
    machine: M,
}

#[derive(Serialize, Deserialize)]
enum Step<I> {
    Took(Timestamp, I),
    Did(Timestamp, u64),
}

impl Recorder {
    fn took(&mut self, now: Timestamp, input: &Input, machine: &Node) {
        if self.newer.is_empty() || self.newer.len() >= self.half {
            self.older = core::mem::take(&mut self.newer);
            self.write(&Head {
                recording: FORMAT,
                release: BUILD.to_owned(),
                machine,
            });
        }
        self.write(&Step::Took(now, input));
    }

    fn did(&mut self, now: Timestamp, action: &Action) {
        if !self.newer.is_empty() {
            self.write(&Step::<&Input>::Did(now, digest(action)));
        }
    }

    fn write(&mut self, line: &impl Serialize) {
        match serde_json::to_writer(&mut self.newer, line) {
            Ok(()) => self.newer.push(b'\n'),
            // A recording with a gap would run to other decisions: it begins anew with the next input.
            Err(_) => {
                self.older.clear();
                self.newer.clear();
            }
        }
    }
}

/// FNV-1a of what an action looks like in JSON (Fowler, Noll, Vo; 64 bits): a tenth of its room, and enough
/// to see that a replay decides otherwise.
fn digest(action: &Action) -> u64 {
    struct Fnv(u64);
    impl io::Write for Fnv {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            for byte in bytes {
                self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
    match serde_json::to_writer(&mut hash, action) {
        Ok(()) => hash.0,
        Err(_) => 0,
    }
}

/// Why a recording cannot be run again, or did not run as it was recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// There is no head.
    #[error("the first line is not the head of a recording")]
    Head(#[source] serde_json::Error),
    /// Another form, or another build's machine.
    #[error(
        "the recording is of build {release} in form {form}; this is build {BUILD} and form {FORMAT}: run the one that recorded it"
    )]
    Release {
        /// The release and sources that recorded it.
        release: String,
        /// The form of its lines.
        form: u32,
    },
    /// A line is no step.
    #[error("line {line} is no step of a recording")]
    Line {
        /// Its number.
        line: usize,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
    /// The machine decides otherwise than the recorded one did.
    #[error("line {line}: another action was recorded than what is decided now: {decided:?}")]
    Differs {
        /// Its number.
        line: usize,
        /// What is decided now, if anything.
        decided: Option<Box<Action>>,
    },
}

/// A step of a replay.
#[derive(Debug)]
pub enum Seen<'a> {
    /// The machine was told this.
    Took(&'a Input),
    /// It decided this, as recorded.
    Did(&'a Action),
}

/// What the head of a recording says beside the machine.
#[derive(Deserialize)]
struct Label {
    recording: u32,
    #[serde(default)]
    release: String,
}

/// Whether `text` claims to be a recording.
pub fn is_recording(text: &str) -> bool {
    let first = text.lines().next().unwrap_or_default();
    serde_json::from_str::<Label>(first).is_ok()
}

/// Runs a recording through the real machine and returns it as it is in the end. `seen` is told each step.
///
/// # Errors
/// When `text` is no recording of this build, or the machine decides otherwise than recorded.
pub fn replay(
    text: &str,
    mut seen: impl FnMut(Timestamp, Seen<'_>),
) -> Result<Node, RecordingError> {
    let mut lines = text.lines().zip(1..);
    let (head, _) = lines.next().unwrap_or_default();
    let label: Label = serde_json::from_str(head).map_err(RecordingError::Head)?;
    if label.recording != FORMAT || label.release != BUILD {
        return Err(RecordingError::Release {
            release: label.release,
            form: label.recording,
        });
    }
    let head: Head<Node> = serde_json::from_str(head).map_err(RecordingError::Head)?;
    let mut machine = head.machine;
    for (text, line) in lines {
        let step = serde_json::from_str(text);
        match step.map_err(|source| RecordingError::Line { line, source })? {
            Step::Took(now, input) => {
                seen(now, Seen::Took(&input));
                machine.handle(now, input);
            }
            Step::Did(now, recorded) => {
                let decided = machine.poll_action(now);
                match &decided {
                    Some(action) if digest(action) == recorded => seen(now, Seen::Did(action)),
                    _ => {
                        let decided = decided.map(Box::new);
                        return Err(RecordingError::Differs { line, decided });
                    }
                }
            }
        }
    }
    Ok(machine)
}
