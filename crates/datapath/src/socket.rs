//! A netlink socket connected to the kernel: options, sequence numbers, datagrams.
//!
//! Knows no message of any netlink protocol.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    time::Duration,
};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, connect,
    netlink::SocketAddrNetlink, recv, send, socket_with, sockopt,
};

use crate::error::{Error, Result};

/// The kernel never makes an answer larger than this: lists come in datagrams of at most 32 KiB
/// (NLMSG_GOODSIZE and the clamp in `netlink_recvmsg`, net/netlink/af_netlink.c), one link with all
/// its attributes in less.
const RECEIVE_BYTES: usize = 32 << 10;
/// The kernel answers while it takes the request, so an answer that is not there at once will not
/// come. The margin is for a kernel that gets slower, and far inside the caller's own deadline.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// An open socket to the kernel in one network namespace.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

/// What a socket that listens has.
#[derive(Debug)]
pub(crate) enum Heard<'a> {
    Nothing,
    Datagram(&'a [u8]),
    /// The kernel had more than fit: what came is lost.
    TooMuch,
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Socket {
    /// Opens one in this thread's namespace. `None` is NETLINK_ROUTE, protocol 0.
    pub(crate) fn open(protocol: Option<Protocol>) -> io::Result<Self> {
        let fd = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            protocol,
        )?;
        Self::prepare(fd)
    }

    /// Takes a NETLINK_ROUTE socket that somebody else opened.
    pub(crate) fn adopt_route(fd: OwnedFd) -> Result<Self> {
        let not_route = |found: String| Error::NotRouteSocket { found };
        let domain = sockopt::socket_domain(&fd)
            .map_err(|errno| not_route(format!("no socket ({})", io::Error::from(errno))))?;
        if domain != AddressFamily::NETLINK {
            return Err(not_route(format!("a socket of family {}", domain.as_raw())));
        }
        let option = |step| move |source: io::Error| Error::Socket { step, source };
        let protocol = sockopt::socket_protocol(&fd)
            .map_err(|errno| option("reading SO_PROTOCOL")(errno.into()))?;
        if let Some(protocol) = protocol {
            let number = protocol.as_raw();
            return Err(not_route(format!("a netlink socket of protocol {number}")));
        }
        Self::prepare(fd).map_err(option("preparing the pod's socket"))
    }

    fn prepare(fd: OwnedFd) -> io::Result<Self> {
        // A connected netlink socket takes messages from its peer only: nobody else in the pod's
        // namespace can forge an answer.
        connect(&fd, &SocketAddrNetlink::new(0, 0))?;
        sockopt::set_socket_timeout(&fd, sockopt::Timeout::Recv, Some(ANSWER_WITHIN))?;
        switch_on(&fd, libc::NETLINK_EXT_ACK)?;
        switch_on(&fd, libc::NETLINK_CAP_ACK)?;
        switch_on(&fd, libc::NETLINK_GET_STRICT_CHK)?;
        Ok(Self {
            fd,
            sequence: 0,
            buffer: vec![0; RECEIVE_BYTES],
        })
    }

    /// The network namespace the socket acts in.
    pub(crate) fn namespace(&self) -> io::Result<OwnedFd> {
        namespace_of(&self.fd)
    }

    /// A number no earlier request of this socket carried.
    pub(crate) fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    /// Sends one datagram, which may hold several requests.
    pub(crate) fn send(&self, datagram: &[u8]) -> io::Result<()> {
        let sent = rustix::io::retry_on_intr(|| send(&self.fd, datagram, SendFlags::empty()))?;
        if sent == datagram.len() {
            Ok(())
        } else {
            Err(io::ErrorKind::WriteZero.into())
        }
    }

    /// Listens to what the kernel announces to `groups`, with room for `bytes` that wait.
    pub(crate) fn hear(&self, groups: &[u32], bytes: usize) -> io::Result<()> {
        // CAP_NET_ADMIN goes beyond net.core.rmem_max; whoever lacks it has less room.
        if sockopt::set_socket_recv_buffer_size_force(&self.fd, bytes).is_err() {
            sockopt::set_socket_recv_buffer_size(&self.fd, bytes)?;
        }
        groups.iter().try_for_each(|group| {
            set_option(&self.fd, libc::NETLINK_ADD_MEMBERSHIP, group.cast_signed())
        })
    }

    /// The next datagram, if one is there.
    pub(crate) fn try_receive(&mut self) -> io::Result<Heard<'_>> {
        let (fd, buffer) = (&self.fd, &mut self.buffer);
        let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
        match rustix::io::retry_on_intr(|| recv(fd, &mut buffer[..], flags)) {
            Ok((_, length)) => Ok(match buffer.get(..length) {
                Some(datagram) => Heard::Datagram(datagram),
                None => Heard::TooMuch,
            }),
            Err(Errno::AGAIN) => Ok(Heard::Nothing),
            Err(Errno::NOBUFS) => Ok(Heard::TooMuch),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Throws away what nobody waits for.
    pub(crate) fn drain(&mut self) -> io::Result<()> {
        let (fd, buffer) = (&self.fd, &mut self.buffer);
        loop {
            match rustix::io::retry_on_intr(|| recv(fd, &mut buffer[..], RecvFlags::DONTWAIT)) {
                Ok(_) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// The next datagram.
    pub(crate) fn receive(&mut self) -> io::Result<&[u8]> {
        let (fd, buffer) = (&self.fd, &mut self.buffer);
        let (_, length) =
            rustix::io::retry_on_intr(|| recv(fd, &mut buffer[..], RecvFlags::TRUNC))?;
        buffer.get(..length).ok_or_else(|| {
            io::Error::other(format!(
                "a datagram of {length} bytes, more than {RECEIVE_BYTES}"
            ))
        })
    }
}

/// Switches on an option of level SOL_NETLINK.
fn switch_on(fd: impl AsFd, option: libc::c_int) -> io::Result<()> {
    set_option(fd, option, 1)
}

/// Sets an option of level SOL_NETLINK.
#[expect(
    unsafe_code,
    reason = "rustix has no setsockopt for SOL_NETLINK, and without it refusals have no words"
)]
fn set_option(fd: impl AsFd, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is borrowed and so open during the call; the pointer and the length
    // describe `value`, a live local of the type these options take, which the kernel only reads.
    let outcome = unsafe {
        libc::setsockopt(
            fd.as_fd().as_raw_fd(),
            libc::SOL_NETLINK,
            option,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    if outcome == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// SIOCGSKNS (include/uapi/linux/sockios.h): a descriptor of a socket's network namespace.
const SIOCGSKNS: u32 = 0x894C;

#[expect(
    unsafe_code,
    reason = "no crate wraps this ioctl, and a socket knows its namespace better than any path does"
)]
fn namespace_of(socket: &OwnedFd) -> io::Result<OwnedFd> {
    // SAFETY: this ioctl takes no pointer; the descriptor is borrowed and so open during the call.
    let fd = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCGSKNS as _) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us (`open_related_ns`), and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
