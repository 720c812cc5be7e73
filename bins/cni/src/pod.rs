//! The pod's network namespace: the descriptors the agent needs, and the sysctls only a process
//! inside can write.

use std::{
    fs,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    thread,
};

use model::net::{Sysctl, SysctlScope};
use rustix::{
    fs::{Mode, OFlags},
    net::{AddressFamily, SocketFlags, SocketType},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use wire::cni::{Code, Error};

/// A pod's network namespace.
pub(crate) struct Sandbox {
    path: String,
    namespace: OwnedFd,
    netlink: OwnedFd,
}

impl Sandbox {
    /// Opens the namespace at `path` and a netlink socket inside it.
    pub(crate) fn open(path: &str) -> Result<Self, Error> {
        let namespace = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| {
                Error::new(
                    Code::InvalidEnvironment,
                    format!("CNI_NETNS names {path}, which cannot be opened: {error}"),
                )
            })?;
        let netlink = inside(namespace.as_fd(), || {
            // Protocol 0 of this family is NETLINK_ROUTE (include/uapi/linux/netlink.h).
            rustix::net::socket_with(
                AddressFamily::NETLINK,
                SocketType::RAW,
                SocketFlags::CLOEXEC,
                None,
            )
        });
        let netlink = netlink
            .and_then(|socket| socket.map_err(|error| format!("opening a netlink socket: {error}")))
            .map_err(|error| {
                let message =
                    format!("CNI_NETNS names {path}, which is no namespace to enter: {error}");
                Error::new(Code::InvalidEnvironment, message)
            })?;
        Ok(Self {
            path: path.to_owned(),
            namespace,
            netlink,
        })
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    pub(crate) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.namespace.as_fd(), self.netlink.as_fd()]
    }

    /// Writes the values that differ, the node's here and the pod's from inside.
    pub(crate) fn write(&self, sysctls: &[Sysctl]) -> Result<(), Error> {
        let failed =
            |error: String| Error::new(Code::TryLater, "writing a sysctl").with_details(error);
        write(sysctls, SysctlScope::Node).map_err(failed)?;
        if sysctls
            .iter()
            .all(|sysctl| sysctl.scope == SysctlScope::Node)
        {
            return Ok(());
        }
        inside(self.namespace.as_fd(), || write(sysctls, SysctlScope::Pod))
            .and_then(|result| result)
            .map_err(failed)
    }
}

/// Runs `what` on a thread of its own inside `namespace`; the thread ends there, so nothing has to be
/// restored.
fn inside<T: Send>(
    namespace: BorrowedFd<'_>,
    what: impl FnOnce() -> T + Send,
) -> Result<T, String> {
    thread::scope(|scope| {
        let entered = scope.spawn(|| {
            move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))
                .map_err(|error| format!("setns: {error}"))?;
            Ok(what())
        });
        entered
            .join()
            .unwrap_or_else(|_| Err("the thread inside the namespace panicked".into()))
    })
}

/// `/proc/sys/net` shows the namespace of whoever looks.
fn write(sysctls: &[Sysctl], scope: SysctlScope) -> Result<(), String> {
    for sysctl in sysctls.iter().filter(|sysctl| sysctl.scope == scope) {
        // The agent is trusted with the kernel, and still a path must not leave this tree.
        if !sysctl.path.starts_with("net/") || sysctl.path.split('/').any(|part| part == "..") {
            return Err(format!("{} is not below /proc/sys/net", sysctl.path));
        }
        let path = Path::new("/proc/sys").join(&sysctl.path);
        let current = fs::read_to_string(&path).unwrap_or_default();
        if current.trim_end() != sysctl.value {
            fs::write(&path, &sysctl.value)
                .map_err(|error| format!("{} = {}: {error}", path.display(), sysctl.value))?;
        }
    }
    Ok(())
}
