//! The eBPF object in the kernel: one program, six maps that user space writes.
//!
//! It translates between what the VPC says (ports, places, networks) and bytes in maps; it decides
//! nothing and remembers nothing.

use std::net::IpAddr;

use aya::{
    Ebpf, EbpfLoader,
    maps::{
        Array, HashMap, LpmTrie, MapData, MapError, PerCpuHashMap, PerCpuValues, lpm_trie::Key,
    },
    programs::{
        ProgramError, SchedClassifier, TcAttachType,
        tc::{NlOptions, SchedClassifierLinkId, TcAttachOptions, qdisc_add_clsact},
    },
};
use ipnet::IpNet;

use super::{
    FabricError, PortCounters,
    groups::GroupBytes,
    layout::{
        self, AddressBytes, CounterWords, Place, PlaceBytes, PortBytes, PortId, SettingsBytes,
    },
};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/fabric.bpf.o"));
const PROGRAM: &str = "fabric";
const OWNERS: &str = "owners";
const ROUTES: &str = "routes";
const PORTS: &str = "ports";
const COUNTS: &str = "counts";
const GROUPS: &str = "groups";
const GENERATION: &str = "generation";

/// BPF_ANY (include/uapi/linux/bpf.h): make the entry or replace it.
const ANY: u64 = 0;

/// The loaded program. Must live on the thread that is inside the namespace: attaching looks links
/// up by name there.
pub(super) struct Program {
    object: Ebpf,
    owners: HashMap<MapData, AddressBytes, PlaceBytes>,
    routes: LpmTrie<MapData, AddressBytes, PlaceBytes>,
    ports: HashMap<MapData, PortBytes, SettingsBytes>,
    counts: PerCpuHashMap<MapData, PortBytes, CounterWords>,
    groups: HashMap<MapData, [u8; 2], GroupBytes>,
    generation: Array<MapData, u32>,
    cpus: usize,
}

impl Program {
    /// Loads program and maps. That sizes of keys and values agree with the object is checked by
    /// the typed maps here, and by assertions in the C source.
    pub(super) fn load() -> Result<Self, FabricError> {
        let mut object = EbpfLoader::new()
            .load(OBJECT)
            .map_err(|source| FabricError::Load(Box::new(source)))?;
        let owners = take(&mut object, OWNERS)?
            .try_into()
            .map_err(failed("open", OWNERS))?;
        let routes = take(&mut object, ROUTES)?
            .try_into()
            .map_err(failed("open", ROUTES))?;
        let ports = take(&mut object, PORTS)?
            .try_into()
            .map_err(failed("open", PORTS))?;
        let counts = take(&mut object, COUNTS)?
            .try_into()
            .map_err(failed("open", COUNTS))?;
        let groups = take(&mut object, GROUPS)?
            .try_into()
            .map_err(failed("open", GROUPS))?;
        let generation = take(&mut object, GENERATION)?
            .try_into()
            .map_err(failed("open", GENERATION))?;
        let cpus = aya::util::nr_cpus()
            .map_err(|(_, source)| MapError::from(source))
            .map_err(failed("count CPUs for entries", COUNTS))?;
        let mut program = Self {
            object,
            owners,
            routes,
            ports,
            counts,
            groups,
            generation,
            cpus,
        };
        program
            .classifier()?
            .load()
            .map_err(|source| FabricError::Program(Box::new(source)))?;
        Ok(program)
    }

    fn classifier(&mut self) -> Result<&mut SchedClassifier, FabricError> {
        self.object
            .program_mut(PROGRAM)
            .ok_or(FabricError::Missing(PROGRAM))?
            .try_into()
            .map_err(|source| FabricError::Program(Box::new(source)))
    }

    /// Puts the program on the ingress of `link`.
    ///
    /// A clsact filter, not a tcx link: it exists on every kernel the lab runs on and dies with its
    /// device.
    pub(super) fn attach(
        &mut self,
        eni: &str,
        link: &str,
    ) -> Result<SchedClassifierLinkId, FabricError> {
        let failed = |source: ProgramError| FabricError::Attach {
            eni: eni.to_owned(),
            link: link.to_owned(),
            source: Box::new(source),
        };
        qdisc_add_clsact(link).map_err(|source| failed(source.into()))?;
        let options = TcAttachOptions::Netlink(NlOptions::default());
        self.classifier()?
            .attach_with_options(link, TcAttachType::Ingress, options)
            .map_err(failed)
    }

    /// Takes the program off again. A filter whose device has died is off already, so whatever the
    /// kernel says about that is not an error.
    pub(super) fn detach(&mut self, link: SchedClassifierLinkId) {
        let Ok(classifier) = self.classifier() else {
            return;
        };
        if let Err(error) = classifier.detach(link) {
            tracing::debug!(%error, "the filter of an ENI went away before it was removed");
        }
    }

    /// Makes `port` known, with counters at zero.
    pub(super) fn add_port(
        &mut self,
        port: PortId,
        settings: SettingsBytes,
    ) -> Result<(), FabricError> {
        let zero = PerCpuValues::try_from(vec![CounterWords::default(); self.cpus])
            .map_err(MapError::from)
            .map_err(failed("make counters", COUNTS))?;
        self.set(port, settings)?;
        self.counts
            .insert(port.encode(), zero, ANY)
            .map_err(failed("add a port", COUNTS))
    }

    /// Forgets `port`.
    pub(super) fn remove_port(&mut self, port: PortId) -> Result<(), FabricError> {
        absent(self.counts.remove(&port.encode())).map_err(failed("remove a port", COUNTS))?;
        absent(self.ports.remove(&port.encode())).map_err(failed("remove a port", PORTS))
    }

    /// Changes what is asked of packets of `port`; flows that pass already are asked again.
    pub(super) fn set(&mut self, port: PortId, settings: SettingsBytes) -> Result<(), FabricError> {
        self.ports
            .insert(port.encode(), settings, ANY)
            .map_err(failed("set an ENI's settings", PORTS))?;
        self.ask_again()
    }

    /// Says what the security group `number` is; flows that pass already are asked again.
    pub(super) fn set_group(&mut self, number: u16, group: &GroupBytes) -> Result<(), FabricError> {
        self.groups
            .insert(number.to_be_bytes(), group, ANY)
            .map_err(failed("set a security group", GROUPS))?;
        self.ask_again()
    }

    /// Forgets the security group `number`.
    pub(super) fn clear_group(&mut self, number: u16) -> Result<(), FabricError> {
        absent(self.groups.remove(&number.to_be_bytes()))
            .map_err(failed("remove a security group", GROUPS))?;
        self.ask_again()
    }

    /// After a change, never before: a flow that was judged by what was there before must be judged again.
    fn ask_again(&mut self) -> Result<(), FabricError> {
        let now = self
            .generation
            .get(&0, ANY)
            .map_err(failed("read the generation", GENERATION))?;
        self.generation
            .set(0, now.wrapping_add(1), ANY)
            .map_err(failed("raise the generation", GENERATION))
    }

    /// Says where `address` is.
    pub(super) fn set_owner(&mut self, address: IpAddr, place: Place) -> Result<(), FabricError> {
        self.owners
            .insert(layout::address(address), place.encode(), ANY)
            .map_err(failed("set an owner", OWNERS))
    }

    /// Says that `address` is nowhere.
    pub(super) fn clear_owner(&mut self, address: IpAddr) -> Result<(), FabricError> {
        absent(self.owners.remove(&layout::address(address)))
            .map_err(failed("remove an owner", OWNERS))
    }

    /// Says that `net` is behind `place`.
    pub(super) fn set_route(&mut self, net: IpNet, place: Place) -> Result<(), FabricError> {
        self.routes
            .insert(&route_key(net), place.encode(), ANY)
            .map_err(failed("set a route", ROUTES))
    }

    /// Removes the route to `net`.
    pub(super) fn clear_route(&mut self, net: IpNet) -> Result<(), FabricError> {
        absent(self.routes.remove(&route_key(net))).map_err(failed("remove a route", ROUTES))
    }

    /// The counters of `port`, all CPUs together.
    pub(super) fn counters(&self, port: PortId) -> Result<PortCounters, FabricError> {
        let cpus = self
            .counts
            .get(&port.encode(), ANY)
            .map_err(failed("read counters", COUNTS))?;
        Ok(PortCounters::sum(cpus.iter()))
    }
}

fn route_key(net: IpNet) -> Key<AddressBytes> {
    let (bits, address) = layout::prefix(net);
    Key::new(bits, address)
}

fn take(object: &mut Ebpf, map: &'static str) -> Result<aya::maps::Map, FabricError> {
    object.take_map(map).ok_or(FabricError::Missing(map))
}

fn failed(what: &'static str, map: &'static str) -> impl FnOnce(MapError) -> FabricError {
    move |source| FabricError::Map {
        what,
        map,
        source: Box::new(source),
    }
}

/// Removing what is not there leaves the map as wanted.
fn absent(removed: Result<(), MapError>) -> Result<(), MapError> {
    match removed {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error))
            if error.io_error.kind() == std::io::ErrorKind::NotFound =>
        {
            Ok(())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests;
