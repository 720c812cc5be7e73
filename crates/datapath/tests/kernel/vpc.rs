//! A VPC at the far end of a trunk ENI: it notes every frame with its VLAN and carries those whose
//! destination it knows, under the destination's VLAN. It reads tags by a packet socket, which is
//! neither the code under test nor eBPF.

use std::{
    collections::BTreeMap,
    io,
    net::IpAddr,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use model::Mac;
use rustix::net::sockopt;

use crate::stage::{Namespace, Node};

/// How long it takes the thread at most to notice that nobody needs it any more.
const LOOK_UP: Duration = Duration::from_millis(50);
const ETHERNET: usize = 14;
const UDP: u8 = 17;
const GATEWAY_MAC: [u8; 6] = [0xee, 0xff, 0xff, 0xff, 0xff, 0xff];

/// A frame from the trunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Seen {
    pub(crate) vlan: Option<u16>,
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
}

/// The VPC; carries until it is dropped.
pub(crate) struct Vpc {
    socket: Arc<OwnedFd>,
    seen: Arc<Mutex<Vec<Seen>>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    trunk_mac: Mac,
    /// Index of the trunk's link.
    pub(crate) index: u32,
}

impl Vpc {
    /// Plugs `eth1` of `node` in. `owners` says under which VLAN each address is reached.
    pub(crate) fn plug(node: &mut Node, owners: &[(IpAddr, Option<u16>)]) -> Self {
        let outside = Namespace::new();
        let index = node.add_eni("eth1", &outside, "far");
        let mac = node.namespace.ip_json("link show eth1")[0]["address"].clone();
        let far = outside.ip_json("link show far")[0]["ifindex"].as_i64();
        let far = i32::try_from(far.unwrap()).unwrap();
        let socket = Arc::new(outside.run(|| packet_socket(far).unwrap()));
        let (seen, over) = (Arc::default(), Arc::default());
        let owners: BTreeMap<_, _> = owners.iter().copied().collect();
        let work = (Arc::clone(&socket), Arc::clone(&seen), Arc::clone(&over));
        let thread = std::thread::spawn(move || {
            let _alive = outside;
            carry(&work.0, &owners, &work.1, &work.2);
        });
        Self {
            socket,
            seen,
            over,
            thread: Some(thread),
            trunk_mac: mac.as_str().unwrap().parse().unwrap(),
            index,
        }
    }

    /// What came since the last question, each kind once.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        let mut seen = std::mem::take(&mut *self.seen.lock().unwrap());
        seen.sort();
        seen.dedup();
        seen
    }

    /// Sends a datagram to the trunk out of the blue.
    pub(crate) fn send(&self, vlan: Option<u16>, source: IpAddr, destination: (IpAddr, u16)) {
        let (IpAddr::V4(from), (IpAddr::V4(to), port)) = (source, destination) else {
            panic!("these datagrams are IPv4");
        };
        let mut packet = vec![0x45, 0, 0, 32, 0, 0, 0, 0, 64, UDP, 0, 0];
        packet.extend([from.octets(), to.octets()].concat());
        let sum = checksum(&packet, 0).to_be_bytes();
        packet[10..12].copy_from_slice(&sum);
        // The same port on both sides; 12 bytes long; no checksum, which IPv4 allows.
        packet.extend([port.to_be_bytes(), port.to_be_bytes(), [0, 12], [0, 0]].concat());
        packet.extend(b"blue");
        transmit(
            &self.socket,
            &frame(self.trunk_mac.0, vlan, [8, 0], &packet),
        );
    }
}

impl Drop for Vpc {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn carry(
    socket: &OwnedFd,
    owners: &BTreeMap<IpAddr, Option<u16>>,
    seen: &Mutex<Vec<Seen>>,
    over: &AtomicBool,
) {
    let mut buffer = vec![0; 1 << 16];
    while !over.load(Ordering::Relaxed) {
        let Some((length, vlan)) = receive(socket, &mut buffer) else {
            continue;
        };
        let frame_in = &mut buffer[..length];
        let Some((source, destination)) = addresses(&frame_in[ETHERNET..]) else {
            continue;
        };
        seen.lock().unwrap().push(Seen {
            vlan,
            source,
            destination,
        });
        let Some(vlan) = owners.get(&destination) else {
            continue;
        };
        let (header, packet) = frame_in.split_at_mut(ETHERNET);
        finish_checksum(packet);
        // A member's own MAC, which no link has; an untagged frame is for the trunk's.
        let trunk: [u8; 6] = header[6..12].try_into().unwrap();
        let member = |vlan: u16| {
            let [high, low] = vlan.to_be_bytes();
            [0, 0x16, 0x3e, 0, high, low]
        };
        let kind = [header[12], header[13]];
        let frame_out = frame(vlan.map_or(trunk, member), *vlan, kind, packet);
        transmit(socket, &frame_out);
    }
}

fn frame(mac: [u8; 6], vlan: Option<u16>, kind: [u8; 2], packet: &[u8]) -> Vec<u8> {
    let tag = vlan.map(|vlan| {
        let [high, low] = vlan.to_be_bytes();
        [0x81, 0, high, low]
    });
    let header = [&mac[..], &GATEWAY_MAC, tag.as_ref().map_or(&[], |t| &t[..])];
    [&header.concat()[..], &kind, packet].concat()
}

/// Source and destination of a datagram; other packets are not carried.
fn addresses(packet: &[u8]) -> Option<(IpAddr, IpAddr)> {
    let v4 = |at| <[u8; 4]>::try_from(packet.get(at..at + 4)?).ok();
    let v6 = |at| <[u8; 16]>::try_from(packet.get(at..at + 16)?).ok();
    match packet.first()? >> 4 {
        4 if packet.get(9) == Some(&UDP) => Some((v4(12)?.into(), v4(16)?.into())),
        6 if packet.get(6) == Some(&UDP) => Some((v6(8)?.into(), v6(24)?.into())),
        _ => None,
    }
}

/// What a network card does before a frame leaves: the kernel leaves the sum of a datagram to it.
fn finish_checksum(packet: &mut [u8]) {
    let (start, addresses) = match packet[0] >> 4 {
        4 => (20, 12..20),
        _ => (40, 8..40),
    };
    let length = u32::try_from(packet.len() - start).unwrap();
    packet[start + 6..start + 8].fill(0);
    let pseudo = sum(&packet[addresses], length + u32::from(UDP));
    let sum = checksum(&packet[start..], pseudo).to_be_bytes();
    packet[start + 6..start + 8].copy_from_slice(&sum);
}

/// RFC 1071, before it is folded.
fn sum(bytes: &[u8], start: u32) -> u32 {
    bytes.chunks(2).fold(start, |sum, pair| {
        let word = [pair[0], pair.get(1).copied().unwrap_or(0)];
        sum + u32::from(u16::from_be_bytes(word))
    })
}

fn checksum(bytes: &[u8], start: u32) -> u16 {
    let mut sum = sum(bytes, start);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}

/// ETH_P_ALL in network order.
const EVERYTHING: u16 = 3_u16.to_be();

#[expect(unsafe_code, reason = "rustix has no packet sockets")]
fn packet_socket(index: i32) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers are passed.
    let fd = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made the descriptor, and nobody else has it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    sockopt::set_socket_timeout(&fd, sockopt::Timeout::Recv, Some(LOOK_UP))?;
    let on: libc::c_int = 1;
    let length = size_of_val(&on) as libc::socklen_t;
    // SAFETY: all zeroes is a value of this plain structure.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    (address.sll_protocol, address.sll_ifindex) = (EVERYTHING, index);
    let address_length = size_of_val(&address) as libc::socklen_t;
    for option in [libc::PACKET_AUXDATA, libc::PACKET_IGNORE_OUTGOING] {
        // SAFETY: pointer and length describe `on`, a live local, which the kernel only reads.
        let done = unsafe {
            libc::setsockopt(
                fd.as_raw_fd(),
                libc::SOL_PACKET,
                option,
                (&raw const on).cast(),
                length,
            )
        };
        if done != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    // SAFETY: pointer and length describe `address`, a live local, which the kernel only reads.
    match unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), address_length) } {
        0 => Ok(fd),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A frame and the tag the kernel took from it; nothing when none comes.
#[expect(unsafe_code, reason = "rustix does not read the tag beside a frame")]
fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> Option<(usize, Option<u16>)> {
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // Aligned for `cmsghdr`, with room for one `tpacket_auxdata`.
    let mut control = [0_u64; 8];
    // SAFETY: all zeroes is a value of this plain structure.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    (message.msg_iov, message.msg_iovlen) = (&raw mut part, 1);
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control);
    // SAFETY: `message` describes `buffer` and `control`, both live and exclusively ours.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) };
    let length = usize::try_from(length).ok()?;
    // SAFETY: the kernel filled `message`, whose control buffer is alive.
    let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    if header.is_null() {
        return Some((length, None));
    }
    // SAFETY: the only control message of this socket is the `tpacket_auxdata` that was asked for.
    let beside: libc::tpacket_auxdata = unsafe {
        libc::CMSG_DATA(header)
            .cast::<libc::tpacket_auxdata>()
            .read_unaligned()
    };
    let tagged = beside.tp_status & libc::TP_STATUS_VLAN_VALID != 0;
    Some((length, tagged.then_some(beside.tp_vlan_tci & 0x0fff)))
}

fn transmit(socket: &OwnedFd, frame: &[u8]) {
    rustix::net::send(socket, frame, rustix::net::SendFlags::empty()).unwrap();
}
