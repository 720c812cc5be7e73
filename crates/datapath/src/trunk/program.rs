//! The eBPF object in the kernel: two programs, three maps. It translates between tags and bytes in
//! maps, and decides nothing.

use std::{net::IpAddr, os::fd::BorrowedFd};

use aya::maps::{HashMap, MapData, MapError, PerCpuArray};
use model::net::Tag;

use super::{
    HOOKS, TrunkCounters,
    layout::{self, AddressBytes, CounterWords, LinkBytes, Member, MemberBytes},
};
use crate::{
    ebpf::{ANY, Loaded, absent, map_failed},
    error::Result,
    filter::Hook,
    object::Object,
};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/trunk.bpf.o"));
const MEMBERS: &str = "members";
const LINKS: &str = "links";
const COUNTS: &str = "counts";

/// The loaded object. The kernel keeps programs and maps as long as this or a filter holds them.
pub(super) struct Program {
    object: Loaded,
    members: HashMap<MapData, AddressBytes, MemberBytes>,
    links: HashMap<MapData, LinkBytes, u8>,
    counts: PerCpuArray<MapData, CounterWords>,
}

impl Program {
    /// Loads it, with empty maps. The typed maps check that the sizes agree with the object's.
    pub(super) fn load() -> Result<Self> {
        let mut object = Loaded::load(OBJECT, &HOOKS)?;
        Ok(Self {
            members: object.take(MEMBERS)?,
            links: object.take(LINKS)?,
            counts: object.take(COUNTS)?,
            object,
        })
    }

    /// Descriptor and id of the program for `hook`.
    pub(super) fn of(&mut self, hook: Hook) -> Result<(BorrowedFd<'_>, u32)> {
        self.object.program(hook)
    }

    /// Who uses `address`.
    pub(super) fn member(&self, address: IpAddr) -> Result<Option<Member>> {
        match self.members.get(&layout::address(address), 0) {
            Ok(bytes) => Ok(Some(Member::decode(bytes))),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(map_failed(format!("reading {address}"), MEMBERS)(error)),
        }
    }

    /// Gives `tag` to the link with index `ifindex`, whoever had its address before.
    pub(super) fn admit(&mut self, tag: &Tag, ifindex: u32) -> Result<()> {
        let before = self.member(tag.address)?;
        let adding = || format!("adding {}", Object::Tag(tag));
        // The link first: from then on it can send nothing but what its members say.
        self.links
            .insert(layout::link(ifindex), 1, ANY)
            .map_err(map_failed(adding(), LINKS))?;
        let member = Member {
            ifindex,
            vlan: tag.vlan,
            link_mac: tag.link_mac,
        };
        self.members
            .insert(layout::address(tag.address), member.encode(), ANY)
            .map_err(map_failed(adding(), MEMBERS))?;
        match before {
            Some(before) => self.release(before.ifindex),
            None => Ok(()),
        }
    }

    /// Takes `tag` away, unless its address is a newer sandbox's.
    pub(super) fn forget(&mut self, tag: &Tag) -> Result<()> {
        let member = self.member(tag.address)?;
        let Some(member) = member.filter(|member| member.link_mac == tag.link_mac) else {
            return Ok(());
        };
        absent(self.members.remove(&layout::address(tag.address))).map_err(map_failed(
            format!("removing {}", Object::Tag(tag)),
            MEMBERS,
        ))?;
        self.release(member.ifindex)
    }

    /// Forgets a link that no member uses any more.
    fn release(&mut self, ifindex: u32) -> Result<()> {
        let doing = || format!("releasing the link with index {ifindex}");
        for entry in self.members.iter() {
            let (_, member) = entry.map_err(map_failed(doing(), MEMBERS))?;
            if Member::decode(member).ifindex == ifindex {
                return Ok(());
            }
        }
        absent(self.links.remove(&layout::link(ifindex))).map_err(map_failed(doing(), LINKS))
    }

    /// What was counted since the object was loaded.
    pub(super) fn counters(&self) -> Result<TrunkCounters> {
        let cpus = self
            .counts
            .get(&0, 0)
            .map_err(map_failed("reading counters".into(), COUNTS))?;
        Ok(TrunkCounters::sum(cpus.iter()))
    }
}
