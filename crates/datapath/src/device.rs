//! A device of the node in a pod and back: the ENI that a pod has for itself.
//!
//! It is known by its MAC alone, because its name changes on the way and the kernel gives it another when
//! it comes home from a namespace that ended. It is the cloud's: it is moved, renamed, set up and down, and
//! never created or deleted. Knows no addresses, routes or rules.

use std::os::fd::{AsFd, BorrowedFd};

use model::{
    InterfaceName,
    net::{Device, Link, PodNet},
};

use crate::{
    encode,
    error::{Error, Result},
    exchange::Request,
    netlink::{Netlink, io_errno::EEXIST},
    object::Object,
};

/// What a device is called whose own name on the node went to another meanwhile: as the kernel would.
const ANY_NAME: &str = "eth%d";

/// Makes sure the device is in the pod under its name there, and returns its index in the pod. It is
/// down unless it was there already.
pub(crate) fn take(
    host: &mut Netlink,
    pod: &mut Netlink,
    pod_netns: BorrowedFd<'_>,
    device: &Device,
) -> Result<u32> {
    if let Some(there) = find(pod, device)? {
        if there.name != device.pod {
            rename(pod, (&there.name, there.index), &device.pod)?;
        }
        return Ok(there.index);
    }
    if let Some(other) = pod.link(&device.pod)? {
        return Err(Error::NameTaken {
            doing: "moving the ENI in as",
            link: other.name,
            place: "in the pod",
            holder: "a link that is not the ENI".into(),
        });
    }
    let mac = device.mac;
    let at_home = find(host, device)?.ok_or(Error::NoDevice { mac })?;
    let message = encode::rename(at_home.index, device.pod.as_str(), Some(pod_netns));
    let request = Request::new("moving into the pod", Object::Link(&at_home.name), &message);
    host.carry_out(&[request], &[])?;
    let there = find(pod, device)?.ok_or(Error::NoDevice { mac })?;
    Ok(there.index)
}

/// Brings the devices of a pod back to the node, each under its own name and up or down as it was. `pod` is
/// a socket in the pod's namespace, if whoever takes the pod down has one; safe to repeat. Comes before
/// [`crate::remove_pod`].
///
/// Without such a socket a device that is not on the node has gone from the instance, or its namespace
/// lives on: then so does the pair that joins it to the node, since the kernel sends devices home before
/// it deletes pairs (`default_device_exit_batch`, net/core/dev.c).
///
/// # Errors
/// [`Error::DeviceAway`] when the namespace lives on and was not handed over; else the first step that
/// failed.
pub fn bring_devices_home(
    host: &mut Netlink,
    mut pod: Option<&mut Netlink>,
    plan: &PodNet,
) -> Result<()> {
    for device in &plan.devices {
        if let Some(pod) = pod.as_deref_mut()
            && let Some(there) = find(pod, device)?
        {
            send_home(host, pod, &there, device)?;
        }
        // Asked first: a namespace that ends in between sends the device home before the pair goes.
        let joined = pod.is_none() && is_joined(host, plan)?;
        match find(host, device)? {
            Some(at_home) => put_right(host, &at_home, device)?,
            None if joined => {
                return Err(Error::DeviceAway { mac: device.mac });
            }
            None => {}
        }
    }
    Ok(())
}

/// The device, if this namespace has it. Links above it may share its MAC; none of them has its name.
fn find(netlink: &mut Netlink, device: &Device) -> Result<Option<Link>> {
    let links = netlink.links()?;
    let mut same: Vec<Link> = links
        .into_iter()
        .filter(|link| link.mac == device.mac)
        .collect();
    same.sort_by_key(|link| {
        (
            link.name != device.home && link.name != device.pod,
            link.index,
        )
    });
    Ok(same.into_iter().next())
}

fn is_joined(host: &mut Netlink, plan: &PodNet) -> Result<bool> {
    let there = host.link(&plan.veth.host)?;
    Ok(there.is_some_and(|link| link.veth && link.mac == Some(plan.veth.host_mac)))
}

fn send_home(host: &Netlink, pod: &mut Netlink, there: &Link, device: &Device) -> Result<()> {
    let home = host.namespace()?;
    for name in [device.home.as_str(), ANY_NAME] {
        let message = encode::rename(there.index, name, Some(home.as_fd()));
        let request = Request::new("moving to the node", Object::Link(&there.name), &message);
        let outcome = pod.exchange(std::slice::from_ref(&request))?.pop();
        let taken = outcome.as_ref().is_some_and(|it| it.is_refusal(EEXIST));
        if let Some(outcome) = outcome.filter(|_| !taken || name == ANY_NAME) {
            return outcome.accept(&request, &[]);
        }
        // The kernel moves first and renames then where only the new name is taken.
        if find(pod, device)?.is_none() {
            return Ok(());
        }
    }
    Ok(())
}

/// Gives a device on the node its own name and state. One whose name went to another keeps the one it
/// has.
fn put_right(host: &mut Netlink, at_home: &Link, device: &Device) -> Result<()> {
    if at_home.name == device.home && (at_home.up || !device.up) {
        return Ok(());
    }
    if at_home.name != device.home && host.link(&device.home)?.is_none() {
        rename(host, (&at_home.name, at_home.index), &device.home)?;
    }
    let message = match device.up {
        true => encode::set_up(at_home.index, device.mtu),
        false => encode::set_down(at_home.index),
    };
    let request = Request::new("putting back", Object::Link(&device.home), &message);
    host.carry_out(&[request], &[])
}

/// Renames a link, which is down afterwards.
pub(crate) fn rename(
    netlink: &mut Netlink,
    (link, index): (&InterfaceName, u32),
    name: &InterfaceName,
) -> Result<()> {
    let [down, rename] = [
        encode::set_down(index),
        encode::rename(index, name.as_str(), None),
    ];
    let requests = [
        Request::new("setting down", Object::Link(link), &down),
        Request::new("renaming", Object::Link(link), &rename),
    ];
    netlink.carry_out(&requests, &[])
}
