//! The veth pairs, by way of `ip`.
//!
//! Runs on the thread inside the VPC's namespace: a child process starts in the namespace of the
//! thread that starts it. It knows no owners and no maps.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
    process::Command,
};

use model::Mac;
use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};

use super::FabricError;

/// The MTU of an ENI: Ethernet's, which the cloud uses unless jumbo frames are asked for.
const MTU: u32 = 1500;
/// All near ends are in one group, so that one command removes them all.
const GROUP: u32 = 1;

/// A view of the namespace's links.
pub(super) struct Links {
    /// Any socket of the namespace answers for its links.
    socket: OwnedFd,
}

impl Links {
    /// Opens the view; the calling thread must be in the namespace.
    pub(super) fn open() -> io::Result<Self> {
        let socket = socket_with(
            AddressFamily::UNIX,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok(Self { socket })
    }

    /// Makes the pair: `near` here, `far` in `target` with `mac`, both down.
    pub(super) fn add(
        &self,
        near: &str,
        far: &str,
        mac: Mac,
        target: BorrowedFd<'_>,
    ) -> Result<u32, FabricError> {
        let (mtu, group, mac) = (MTU.to_string(), GROUP.to_string(), mac.to_string());
        // A path, because `ip` takes a namespace by path and the descriptor stays close-on-exec.
        let target = format!("/proc/{}/fd/{}", std::process::id(), target.as_raw_fd());
        let near_end = ["name", near, "mtu", &mtu, "group", &group, "type", "veth"];
        let far_end = ["name", far, "mtu", &mtu, "address", &mac, "netns", &target];
        ip(&[&["link", "add"], &near_end[..], &["peer"], &far_end[..]].concat())?;
        self.index(near).map_err(|source| FabricError::Index {
            link: near.to_owned(),
            source,
        })
    }

    /// Brings `near` up and notes on it whose it is, for people who look at the namespace.
    pub(super) fn up(&self, near: &str, eni: &str) -> Result<(), FabricError> {
        ip(&["link", "set", "dev", near, "alias", eni, "up"])
    }

    /// Removes `near`, and with it the far end. A pair that died with the node's namespace is gone
    /// already.
    pub(super) fn remove(&self, near: &str) -> Result<(), FabricError> {
        if !self.exists(near) {
            return Ok(());
        }
        match ip(&["link", "del", "dev", near]) {
            Err(FabricError::IpRefused { .. }) if !self.exists(near) => Ok(()),
            other => other,
        }
    }

    /// Removes every pair.
    pub(super) fn remove_all(&self) -> Result<(), FabricError> {
        ip(&["link", "del", "group", &GROUP.to_string()])
    }

    /// Whether `near` is there.
    pub(super) fn exists(&self, near: &str) -> bool {
        self.index(near).is_ok()
    }

    fn index(&self, link: &str) -> io::Result<u32> {
        Ok(netdevice::name_to_index(&self.socket, link)?)
    }
}

fn ip(arguments: &[&str]) -> Result<(), FabricError> {
    let command = || format!("ip {}", arguments.join(" "));
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .map_err(|source| FabricError::Ip {
            command: command(),
            source,
        })?;
    if output.status.success() {
        return Ok(());
    }
    Err(FabricError::IpRefused {
        command: command(),
        said: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}
