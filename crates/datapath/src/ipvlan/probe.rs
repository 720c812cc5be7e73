//! Whether pods can be on ipvlan here at all: tried on a pair of links made for it, with everything an ENI gets.

use std::os::fd::AsFd;

use model::{InterfaceName, KeyError, Mac, ipvlan::IpvlanEni, net::VethPair};

use super::{HostStack, apply_ipvlan_eni};
use crate::{
    encode,
    error::Result,
    exchange::{IfPresent, Request},
    netlink::{Netlink, io_errno::ENODEV},
    object::Object,
};

/// The links made for it, which nobody else's are called like: a pair, and the slave of its first end.
const NAMES: [&str; 3] = ["terway-probe0", "terway-probe1", "terway-probe2"];

/// Makes a slave of a link and hangs the program there, as at an ENI, and takes all of it away again.
///
/// # Errors
/// What this kernel lacks or does not let this process do, or that it could not be taken away.
pub fn probe_ipvlan(host: &mut Netlink) -> Result<()> {
    let Ok((pair, plan)) = plans() else {
        unreachable!("the names are short");
    };
    // A process that ended in the middle of it left it.
    clear(host, &pair.host)?;
    let namespace = host.namespace()?;
    let message = encode::create_veth(&pair, namespace.as_fd());
    let request = Request::create(Object::Veth(&pair), &message, IfPresent::Refuse);
    host.carry_out(&[request], &[])?;
    let tried = apply_ipvlan_eni(host, &HostStack::default(), &plan);
    // Slave and filter go with their link.
    let cleared = clear(host, &pair.host);
    tried.and(cleared)
}

fn plans() -> std::result::Result<(VethPair, IpvlanEni), KeyError> {
    let [host, pod, slave] = NAMES.map(InterfaceName::new);
    let pair = VethPair {
        host: host?,
        host_mac: Mac::locally_administered([0; 6]),
        pod: pod?,
        pod_mac: Mac::locally_administered([0, 0, 0, 0, 0, 1]),
        mtu: 1500,
        group: 0,
    };
    let plan = IpvlanEni {
        link: pair.host.clone(),
        mtu: pair.mtu,
        slave: slave?,
        to_host: Vec::new(),
    };
    Ok((pair, plan))
}

fn clear(host: &mut Netlink, link: &InterfaceName) -> Result<()> {
    let Some(found) = host.link(link)? else {
        return Ok(());
    };
    let message = encode::delete_link(found.index);
    let request = Request::new("deleting", Object::Link(link), &message);
    host.carry_out(&[request], &[ENODEV])
}
