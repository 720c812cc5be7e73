//! Values under `/proc/sys/net` of this thread's namespace: read there, and written by netlink where it
//! concerns one link, because `/proc/sys` is read-only in a container that is not privileged.
//!
//! Never decides what a value should be.

use std::{fs, io, path::Path};

use model::{InterfaceName, net::Sysctl};
use netlink_packet_core::DefaultNla;
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{LinkAttribute, LinkMessage},
};

use crate::{
    error::{Error, Result},
    exchange::Request,
    frame::{FLAG_NESTED, push_attribute, push_bytes},
    netlink::Netlink,
    object::Object,
};

/// IFLA_AF_SPEC, AF_INET and IFLA_INET_CONF: settings of a link, those of IPv4, a list of them.
const SETTINGS: [u16; 3] = [26, 2, 1];

/// Settings of a link by their names under `net/ipv4/conf/LINK`, and their numbers (`IPV4_DEVCONF_*`,
/// include/uapi/linux/ip.h).
const OF_A_LINK: [(&str, u16); 4] = [
    ("forwarding", 1),
    ("proxy_arp", 3),
    ("rp_filter", 8),
    ("src_valid_mark", 24),
];

/// Those of `plan` that have another value in the namespace of this thread, in words beside each. A value
/// that is not there belongs to a link that is not there.
pub fn wrong_sysctls(plan: &[Sysctl]) -> Vec<(Sysctl, String)> {
    let wrong = |sysctl: &Sysctl| {
        let found = fs::read_to_string(file(sysctl)).ok()?;
        let (found, planned) = (found.trim_end(), &sysctl.value);
        let text = || format!("sysctl {} is {found} instead of {planned}", sysctl.path);
        (found != planned).then(|| (sysctl.clone(), text()))
    };
    plan.iter().filter_map(wrong).collect()
}

fn file(sysctl: &Sysctl) -> std::path::PathBuf {
    Path::new("/proc/sys").join(&sysctl.path)
}

/// Writes one value in the namespace of `host`, which must be this thread's.
///
/// # Errors
/// [`Error::Sysctl`] when it is one of the whole node and `/proc/sys` is read-only; else the kernel's
/// refusal.
pub fn write_sysctl(host: &mut Netlink, sysctl: &Sysctl) -> Result<()> {
    if let Some((link, number)) = of_a_link(sysctl) {
        return set(host, &link, number, sysctl);
    }
    let failed = |source: io::Error| Error::Sysctl {
        path: sysctl.path.clone(),
        value: sysctl.value.clone(),
        source,
    };
    fs::write(file(sysctl), &sysctl.value).map_err(failed)
}

/// The link and number of a setting that netlink can make.
fn of_a_link(sysctl: &Sysctl) -> Option<(InterfaceName, u16)> {
    let (link, name) = sysctl
        .path
        .strip_prefix("net/ipv4/conf/")?
        .split_once('/')?;
    let (_, number) = OF_A_LINK.iter().find(|(known, _)| *known == name)?;
    let link = InterfaceName::new(link).ok()?;
    let one = !matches!(link.as_str(), "all" | "default");
    one.then_some((link, *number))
}

fn set(host: &mut Netlink, link: &InterfaceName, number: u16, sysctl: &Sysctl) -> Result<()> {
    let object = Object::Sysctl(sysctl);
    let Ok(value) = sysctl.value.parse::<u32>() else {
        return Err(Error::Plan {
            object: object.to_string(),
            why: "its value is no number",
        });
    };
    let index = host.index_of(link, object)?;
    let [settings, family, list] = SETTINGS;
    let mut bytes = Vec::new();
    push_attribute(&mut bytes, family | FLAG_NESTED, |out| {
        push_attribute(out, list | FLAG_NESTED, |out| {
            push_bytes(out, number, &value.to_ne_bytes());
        });
    });
    let mut message = LinkMessage::default();
    message.header.index = index;
    let settings = DefaultNla::new(settings | FLAG_NESTED, bytes);
    message.attributes = vec![LinkAttribute::Other(settings)];
    let message = RouteNetlinkMessage::SetLink(message);
    host.carry_out(&[Request::new("writing", object, &message)], &[])
}
