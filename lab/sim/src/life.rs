//! A run of either kind of world: what is saved, replayed and cut down without asking which it is.

use serde::{Deserialize, Serialize};

use crate::{
    region,
    report::Kind,
    schedule::{AddQuirk, DelQuirk, Planned, Schedule, Step},
    world::{Outcome, World},
};

/// A run. In a file the setup tells which kind it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Life {
    /// Of nodes.
    Nodes(Schedule),
    /// Of a region and its control plane.
    Region(region::Schedule),
}

/// The same for either kind.
macro_rules! either {
    ($life:expr, $schedule:ident => $what:expr) => {
        match $life {
            Life::Nodes($schedule) => $what,
            Life::Region($schedule) => $what,
        }
    };
}

impl Life {
    /// The run of a seed over that many simulated minutes of trouble.
    pub fn random(kind: Kind, seed: u64, minutes: u64) -> Self {
        match kind {
            Kind::Nodes => Life::Nodes(crate::random(seed, minutes)),
            Kind::Region => Life::Region(region::random(seed, minutes)),
        }
    }

    /// What kind it is.
    pub fn kind(&self) -> Kind {
        match self {
            Life::Nodes(_) => Kind::Nodes,
            Life::Region(_) => Kind::Region,
        }
    }

    /// What it is about.
    pub fn title(&self) -> &str {
        either!(self, schedule => &schedule.title)
    }

    /// The oracle it trips today, for a defect that is known and not mended.
    pub fn known(&self) -> Option<&str> {
        either!(self, schedule => schedule.known.as_deref())
    }

    /// How many steps it has.
    pub fn steps(&self) -> usize {
        either!(self, schedule => schedule.steps.len())
    }

    /// The same run under a title, known to trip an oracle.
    pub fn kept(mut self, title: String, oracle: &str) -> Self {
        either!(&mut self, schedule => {
            schedule.title = title;
            schedule.known = Some(oracle.to_owned());
        });
        self
    }

    /// Runs it to its end or to the first oracle it trips.
    ///
    /// # Errors
    /// When the setup describes no world.
    pub fn run(&self, log: bool) -> anyhow::Result<Outcome> {
        Ok(match self {
            Life::Nodes(schedule) => World::new(schedule.clone(), log)?.run(),
            Life::Region(schedule) => region::run(schedule, log),
        })
    }

    /// The same run with only the steps whose index `keep` says.
    pub(crate) fn keeping(&self, keep: impl Fn(usize) -> bool) -> Self {
        let mut life = self.clone();
        either!(&mut life, schedule => {
            let mut index = 0;
            schedule.steps.retain(|_| {
                index += 1;
                keep(index - 1)
            });
        });
        life
    }

    /// The same steps in smaller worlds.
    pub(crate) fn simpler(&self) -> Vec<Self> {
        match self {
            Life::Nodes(schedule) => simpler(schedule).into_iter().map(Life::Nodes).collect(),
            Life::Region(schedule) => {
                let simpler = region::simpler(schedule).into_iter();
                simpler.map(Life::Region).collect()
            }
        }
    }

    /// The same run with one step made less than it is, if it can be.
    pub(crate) fn plainer(&self, index: usize) -> Option<Self> {
        let mut life = self.clone();
        let changed = match &mut life {
            Life::Nodes(schedule) => plain(&mut schedule.steps.get_mut(index)?.step),
            Life::Region(schedule) => region::plain(&mut schedule.steps.get_mut(index)?.step),
        };
        changed.then_some(life)
    }
}

fn simpler(schedule: &Schedule) -> Vec<Schedule> {
    let with = |change: fn(&mut Schedule)| {
        let mut candidate = schedule.clone();
        change(&mut candidate);
        candidate
    };
    vec![
        with(|schedule| schedule.setup.nodes = 1),
        with(|schedule| schedule.setup.foreign = 0),
        with(|schedule| {
            let last = |steps: &[Planned]| steps.last().map_or(0, |step| step.at / 1000);
            schedule.setup.length = schedule.setup.length.min(last(&schedule.steps) + 60);
        }),
    ]
}

fn plain(step: &mut Step) -> bool {
    match step {
        Step::Create(_, _, quirk) if *quirk != AddQuirk::Plain => *quirk = AddQuirk::Plain,
        Step::Delete(_, _, quirk) if *quirk != DelQuirk::Plain => *quirk = DelQuirk::Plain,
        _ => return false,
    }
    true
}
