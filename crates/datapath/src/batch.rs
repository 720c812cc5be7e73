//! Batches and lists over a netlink socket, the same for every netlink protocol.
//!
//! A batch puts several requests into one datagram. The kernel works through it in order and goes on
//! after a refusal, so a batch costs one system call and still says of each request how it went.

use crate::{
    error::{Error, Result},
    frame::{self, Ack, FLAG_DUMP_INTERRUPTED, Frame, KIND_DONE, KIND_ERROR},
    netlink::{io_errno::EBUSY, malformed, transport},
    socket::Socket,
};

const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_DUMP: u16 = 0x300;

/// Answers wait in the socket's receive buffer until the batch is done. The default buffer
/// (net.core.rmem_default, 208 KiB) is charged at most 1 KiB for an acknowledgement and 5 KiB for a
/// link, so this many requests never overflow it.
const BATCH_PACKETS: usize = 32;
/// A list that changes while it is read is read again. With ten changes a second and a millisecond of
/// reading one reading in a hundred is spoilt; eight in a row never are.
const LIST_ATTEMPTS: u32 = 8;

/// A request without its header.
#[derive(Debug)]
pub(crate) struct Packet {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) payload: Vec<u8>,
}

/// How one request of a batch went.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) ack: Ack,
    /// The object it asked for, as kind and payload.
    pub(crate) object: Option<(u16, Vec<u8>)>,
}

/// Carries out `packets` in order. The answers are in the same order; `doing` names a packet.
pub(crate) fn carry_out<'a>(
    socket: &mut Socket,
    packets: impl ExactSizeIterator<Item = &'a Packet>,
    doing: &dyn Fn(usize) -> String,
) -> Result<Vec<Answer>> {
    let mut answers = Vec::with_capacity(packets.len());
    let mut packets = packets.peekable();
    while packets.peek().is_some() {
        let (mut datagram, mut first, mut count) = (Vec::new(), None, 0);
        for packet in packets.by_ref().take(BATCH_PACKETS) {
            let sequence = socket.next_sequence();
            first.get_or_insert(sequence);
            count += 1;
            let flags = packet.flags | NLM_F_REQUEST | NLM_F_ACK;
            frame::push(&mut datagram, (packet.kind, flags, sequence), |out| {
                out.extend_from_slice(&packet.payload);
            });
        }
        let done = answers.len();
        let doing = |at: usize| doing(done + at);
        socket
            .send(&datagram)
            .map_err(|source| transport(doing(0), "sending")(source))?;
        let first = first.unwrap_or_default();
        collect(socket, first, count, &doing, &mut answers)?;
    }
    Ok(answers)
}

/// Reads the answers to `count` requests whose sequence numbers start at `first`.
fn collect(
    socket: &mut Socket,
    first: u32,
    count: usize,
    doing: &dyn Fn(usize) -> String,
    answers: &mut Vec<Answer>,
) -> Result<()> {
    let mut objects: Vec<Option<(u16, Vec<u8>)>> = vec![None; count];
    let mut next = 0;
    while next < count {
        let datagram = socket
            .receive()
            .map_err(|source| transport(doing(next), "waiting for the answer")(source))?;
        for frame in frame::frames(datagram).map_err(|what| malformed(doing(next), what))? {
            // Answers to an earlier request whose caller gave up are nobody's any more.
            let at = frame.sequence.wrapping_sub(first) as usize;
            let Some(object) = objects.get_mut(at) else {
                continue;
            };
            if frame.kind != KIND_ERROR {
                *object = Some((frame.kind, frame.payload.to_vec()));
                continue;
            }
            if at != next {
                return Err(malformed(doing(at), "acknowledgements are out of order"));
            }
            let ack = frame::ack(&frame).map_err(|what| malformed(doing(at), what))?;
            answers.push(Answer {
                ack,
                object: object.take(),
            });
            next += 1;
        }
    }
    Ok(())
}

/// Carries out `packets` all or none, as netfilter does it: between `opening` and `closing`, in one
/// datagram. `doing` names a packet.
pub(crate) fn transact(
    socket: &mut Socket,
    (opening, packets, closing): (&Packet, &[Packet], &Packet),
    doing: &dyn Fn(usize) -> String,
) -> Result<()> {
    let (mut datagram, mut first) = (Vec::new(), 0);
    let all = [opening].into_iter().chain(packets).chain([closing]);
    for (at, packet) in all.enumerate() {
        let sequence = socket.next_sequence();
        // Kernels before 6.10 never acknowledge the brackets.
        let bracket = at == 0 || at > packets.len();
        let ack = if bracket { 0 } else { NLM_F_ACK };
        if at == 0 {
            first = sequence;
        }
        let flags = packet.flags | NLM_F_REQUEST | ack;
        frame::push(&mut datagram, (packet.kind, flags, sequence), |out| {
            out.extend_from_slice(&packet.payload);
        });
    }
    socket
        .send(&datagram)
        .map_err(|source| transport(doing(0), "sending")(source))?;
    let mut done = 0;
    while done < packets.len() {
        let datagram = socket
            .receive()
            .map_err(|source| transport(doing(done), "waiting for the answer")(source))?;
        let mut refusal = None;
        for frame in frame::frames(datagram).map_err(|what| malformed(doing(done), what))? {
            // What refuses the opening refuses all: a commit that failed, or a kernel without the subsystem.
            let at = (frame.sequence.wrapping_sub(first) as usize).saturating_sub(1);
            if frame.kind != KIND_ERROR || at > packets.len() {
                continue;
            }
            let ack = frame::ack(&frame).map_err(|what| malformed(doing(at), what))?;
            done += 1;
            if ack.code != 0 {
                refusal.get_or_insert(ack.into_error(doing(at)));
            }
        }
        if let Some(refusal) = refusal {
            let drained = socket.drain();
            drained.map_err(|source| transport(doing(done), "draining")(source))?;
            return Err(refusal);
        }
    }
    Ok(())
}

/// Reads the whole list that `packet` asks for, unchanged from its first to its last element. `read`
/// makes an element of a frame; what it makes `None` of is left out.
pub(crate) fn list<T>(
    socket: &mut Socket,
    packet: &Packet,
    doing: &dyn Fn() -> String,
    read: impl Fn(&Frame<'_>) -> Result<Option<T>>,
) -> Result<Vec<T>> {
    for _ in 0..LIST_ATTEMPTS {
        if let Some(list) = list_once(socket, packet, doing, &read)? {
            return Ok(list);
        }
    }
    Err(Error::Unstable {
        doing: doing(),
        attempts: LIST_ATTEMPTS,
    })
}

/// One reading of a list; `None` when it must be read again.
fn list_once<T>(
    socket: &mut Socket,
    packet: &Packet,
    doing: &dyn Fn() -> String,
    read: impl Fn(&Frame<'_>) -> Result<Option<T>>,
) -> Result<Option<Vec<T>>> {
    let sequence = socket.next_sequence();
    let mut datagram = Vec::new();
    let flags = packet.flags | NLM_F_REQUEST | NLM_F_DUMP;
    frame::push(&mut datagram, (packet.kind, flags, sequence), |out| {
        out.extend_from_slice(&packet.payload);
    });
    socket
        .send(&datagram)
        .map_err(|source| transport(doing(), "sending")(source))?;
    let (mut list, mut interrupted) = (Vec::new(), false);
    loop {
        let datagram = socket
            .receive()
            .map_err(|source| transport(doing(), "waiting for the answer")(source))?;
        for frame in frame::frames(datagram).map_err(|what| malformed(doing(), what))? {
            if frame.sequence != sequence {
                continue;
            }
            interrupted |= frame.flags & FLAG_DUMP_INTERRUPTED != 0;
            if !matches!(frame.kind, KIND_DONE | KIND_ERROR) {
                list.extend(read(&frame)?);
                continue;
            }
            let ack = frame::ack(&frame).map_err(|what| malformed(doing(), what))?;
            return match ack.code {
                0 => Ok((!interrupted).then_some(list)),
                // Somebody stopped reading a list in its middle; until its end the kernel starts no
                // other on this socket.
                code if code == -EBUSY => {
                    let drained = socket.drain();
                    drained.map_err(|source| transport(doing(), "draining")(source))?;
                    Ok(None)
                }
                _ => Err(ack.into_error(doing())),
            };
        }
    }
}
