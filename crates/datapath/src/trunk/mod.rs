//! The trunk ENI: frames of trunk pods leave it with the VLAN of their member ENI and come with it.
//!
//! A VLAN is an identity in the VPC, so nobody but its pod may send or receive under it. Two eBPF
//! programs (`bpf/trunk.bpf.c`) see to that; this loads them, hangs them at the trunk's link and keeps
//! their maps. Never knows what a security group is, nor why a pod has a member ENI.

mod layout;
mod program;

use std::sync::{Mutex, MutexGuard, PoisonError};

use model::{InterfaceName, net::Tag};

use self::{
    layout::{CounterWords, Member},
    program::Program,
};
use crate::{
    error::{Error, Result},
    filter::{Hook, Place, Way},
    netlink::{Netlink, io_errno::ENODEV},
    object::Object,
    observe,
};

/// What comes from the VPC. Before the Go Terway's filter (20000), which takes off any tag, and Cilium's
/// (25000), so that both see the frames of pods as they see all others.
const ARRIVE: Hook = Hook {
    program: "arrive",
    priority: 19_999,
    way: Way::In,
};
/// What goes to the VPC. Before the Go Terway's filters (50001 and 50002), after everybody else.
const LEAVE: Hook = Hook {
    program: "leave",
    priority: 50_000,
    way: Way::Out,
};
const HOOKS: [Hook; 2] = [ARRIVE, LEAVE];

/// VLANs that name a member (IEEE 802.1Q-2018, table 9-2: 0 is no VLAN, 4095 is reserved).
const VLANS: std::ops::RangeInclusive<u16> = 1..=4094;

/// Frames at the trunk ENI since the programs were loaded. One frame may be up to 64 KiB long where
/// segmentation is left to the hardware.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TrunkCounters {
    /// Left with the VLAN of their pod.
    pub tagged: u64,
    /// Came with the VLAN of their pod, and went on without.
    pub untagged: u64,
    /// Dropped: a trunk pod sent from an address that is not its own, or somebody else from a trunk
    /// pod's.
    pub foreign_source: u64,
    /// Dropped: came with a VLAN that is not the destination's.
    pub wrong_vlan: u64,
    /// Dropped: came to a trunk pod without a VLAN.
    pub bare: u64,
    /// Dropped: the kernel had no memory to change the frame.
    pub refused: u64,
}

impl TrunkCounters {
    /// Adds up the copies of all CPUs.
    fn sum<'a>(cpus: impl IntoIterator<Item = &'a CounterWords>) -> Self {
        cpus.into_iter().fold(Self::default(), |sum, words| {
            let [tagged, untagged, foreign_source, wrong_vlan, bare, refused] = *words;
            Self {
                tagged: sum.tagged + tagged,
                untagged: sum.untagged + untagged,
                foreign_source: sum.foreign_source + foreign_source,
                wrong_vlan: sum.wrong_vlan + wrong_vlan,
                bare: sum.bare + bare,
                refused: sum.refused + refused,
            }
        })
    }
}

/// The node's trunk ENI, shared by all threads. Costs nothing until a plan names the trunk.
///
/// Dropping it leaves filters and maps in the kernel: pods keep their network while no agent runs, and
/// the next one takes over with maps of its own.
#[derive(Default)]
pub struct Trunk {
    loaded: Mutex<Option<Loaded>>,
}

struct Loaded {
    program: Program,
    /// Where the filters are.
    place: Option<Place>,
}

impl std::fmt::Debug for Trunk {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Trunk").finish_non_exhaustive()
    }
}

impl Trunk {
    fn lock(&self) -> MutexGuard<'_, Option<Loaded>> {
        // What a thread that panicked left is whole: each change of a map is one system call.
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hangs the programs at the link with index `index`, after `tags` are known: whatever process was
    /// there before, no frame of a pod that stands is lost.
    pub(crate) fn set_up(
        &self,
        host: &mut Netlink,
        link: &InterfaceName,
        index: u32,
        tags: &[Tag],
    ) -> Result<()> {
        let links = observe::links(host)?;
        let mut guard = self.lock();
        let loaded = match &mut *guard {
            Some(loaded) => loaded,
            none => none.insert(Loaded {
                program: Program::load()?,
                place: None,
            }),
        };
        for tag in tags {
            possible(tag)?;
            // A link of the name with another MAC is another sandbox's: its own plan names it.
            let ours = links.iter().map(|seen| &seen.link);
            let mut ours = ours.filter(|l| l.name == tag.link && l.mac == tag.link_mac);
            if let Some(link) = ours.next() {
                loaded.program.admit(tag, link.index)?;
            }
        }
        let place = Place {
            link: link.clone(),
            index,
        };
        let before = loaded.place.replace(place.clone());
        if let Some(before) = before.filter(|before| before.index != index) {
            for hook in HOOKS {
                before.clear(host, hook)?;
            }
        }
        for hook in HOOKS {
            place.put(host, hook, loaded.program.of(hook)?.0)?;
        }
        Ok(())
    }

    /// Takes the programs off their link and unloads them.
    pub(crate) fn take_down(&self, host: &mut Netlink) -> Result<()> {
        let Some(place) = self.lock().take().and_then(|loaded| loaded.place) else {
            return Ok(());
        };
        HOOKS
            .into_iter()
            .try_for_each(|hook| place.clear(host, hook))
    }

    /// Refuses tags that cannot be admitted.
    pub(crate) fn accepts(&self, tags: &[Tag]) -> Result<()> {
        tags.iter().try_for_each(possible)?;
        match tags.first() {
            Some(tag) if self.lock().is_none() => Err(no_trunk(tag)),
            _ => Ok(()),
        }
    }

    /// Gives `tags` to the pod whose link has index `index`.
    pub(crate) fn admit<'a>(
        &self,
        tags: impl IntoIterator<Item = &'a Tag>,
        index: u32,
    ) -> Result<()> {
        let mut guard = self.lock();
        tags.into_iter().try_for_each(|tag| {
            possible(tag)?;
            let loaded = guard.as_mut().ok_or_else(|| no_trunk(tag))?;
            loaded.program.admit(tag, index)
        })
    }

    /// Takes `tag` away. What is not there, or is a newer sandbox's, is fine.
    pub(crate) fn forget(&self, tag: &Tag) -> Result<()> {
        match &mut *self.lock() {
            Some(loaded) => loaded.program.forget(tag),
            None => Ok(()),
        }
    }

    /// Whether the pod whose link has index `index` has `tag`.
    pub(crate) fn has(&self, tag: &Tag, index: u32) -> Result<bool> {
        let wanted = Member {
            ifindex: index,
            vlan: tag.vlan,
            link_mac: tag.link_mac,
        };
        match &*self.lock() {
            Some(loaded) => Ok(loaded.program.member(tag.address)? == Some(wanted)),
            None => Ok(false),
        }
    }

    /// What was counted; `None` as long as there is no trunk.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn counters(&self) -> Result<Option<TrunkCounters>> {
        let guard = self.lock();
        let loaded = guard.as_ref();
        loaded.map(|loaded| loaded.program.counters()).transpose()
    }

    /// Puts back a filter that somebody took from the trunk's link; safe to repeat. Returns what was
    /// missing.
    ///
    /// # Errors
    /// The first step that failed. A link that is gone is none: it comes back with a plan.
    pub fn keep(&self, host: &mut Netlink) -> Result<Vec<String>> {
        let mut lacked = Vec::new();
        let mut guard = self.lock();
        let Some(Loaded {
            program,
            place: Some(place),
        }) = &mut *guard
        else {
            return Ok(lacked);
        };
        for hook in HOOKS {
            let (fd, id) = program.of(hook)?;
            if place.has(host, hook, id)? {
                continue;
            }
            match place.put(host, hook, fd) {
                Err(error) if error.os_error() == Some(ENODEV) => return Ok(Vec::new()),
                put => put?,
            }
            lacked.push(Object::Filter(&place.link, hook.program).to_string());
        }
        Ok(lacked)
    }
}

fn no_trunk(tag: &Tag) -> Error {
    Error::NoTrunk {
        tag: Object::Tag(tag).to_string(),
    }
}

fn possible(tag: &Tag) -> Result<()> {
    if VLANS.contains(&tag.vlan) {
        return Ok(());
    }
    Err(Error::Plan {
        object: Object::Tag(tag).to_string(),
        why: "a VLAN is 1 to 4094",
    })
}
