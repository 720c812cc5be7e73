//! Netlink framing: cutting a datagram into frames and reading acknowledgements.
//!
//! Pure byte work, the same for every netlink protocol (include/uapi/linux/netlink.h); a frame's
//! payload is for the caller. Nothing read here is trusted: every length is checked.

use std::io;

use crate::error::Error;

/// `struct nlmsghdr`: length, type, flags, sequence, port.
pub(crate) const HEADER_LEN: usize = 16;
/// Frames and attributes start on multiples of this (NLMSG_ALIGNTO, NLA_ALIGNTO).
const ALIGN: usize = 4;

/// `struct nlattr`: length, kind.
const ATTRIBUTE_HEADER_LEN: usize = 4;
/// NLA_F_NESTED: the value is a list of attributes.
pub(crate) const FLAG_NESTED: u16 = 1 << 15;

/// NLMSG_ERROR: an error or, with code 0, an acknowledgement.
pub(crate) const KIND_ERROR: u16 = 2;
/// NLMSG_DONE: the end of a list.
pub(crate) const KIND_DONE: u16 = 3;

/// NLM_F_DUMP_INTR: the list changed while it was read.
pub(crate) const FLAG_DUMP_INTERRUPTED: u16 = 0x10;
/// NLM_F_CAPPED: an error does not repeat the request's payload.
const FLAG_CAPPED: u16 = 0x100;
/// NLM_F_ACK_TLVS: attributes follow in an acknowledgement.
const FLAG_ACK_ATTRIBUTES: u16 = 0x200;
/// NLMSGERR_ATTR_MSG: the kernel's words, NUL-terminated.
const ATTRIBUTE_MESSAGE: u16 = 1;

/// One netlink message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    pub(crate) payload: &'a [u8],
}

/// What an NLMSG_ERROR (or NLMSG_DONE) says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ack {
    /// Zero or the negative error number.
    pub(crate) code: i32,
    /// The kernel's own words.
    pub(crate) detail: Option<String>,
}

impl Ack {
    /// Whether it is a refusal for the reason `errno`.
    pub(crate) fn refuses_with(&self, errno: i32) -> bool {
        self.code == -errno
    }

    /// The refusal as an error of the operation `doing`.
    pub(crate) fn into_error(self, doing: String) -> Error {
        Error::Refused {
            doing,
            source: io::Error::from_raw_os_error(self.code.saturating_neg()),
            detail: self.detail,
        }
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Appends one frame; `fill` writes its payload.
pub(crate) fn push(
    out: &mut Vec<u8>,
    (kind, flags, sequence): (u16, u16, u32),
    fill: impl FnOnce(&mut Vec<u8>),
) {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_LEN]);
    fill(out);
    let length = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    let header = &mut out[start..start + HEADER_LEN];
    header[0..4].copy_from_slice(&length.to_ne_bytes());
    header[4..6].copy_from_slice(&kind.to_ne_bytes());
    header[6..8].copy_from_slice(&flags.to_ne_bytes());
    header[8..12].copy_from_slice(&sequence.to_ne_bytes());
    out.resize(out.len().next_multiple_of(ALIGN), 0);
}

/// The frames of one datagram.
///
/// # Errors
/// A frame whose length is shorter than its header or longer than what is there.
pub(crate) fn frames(mut datagram: &[u8]) -> Result<Vec<Frame<'_>>, String> {
    let mut list = Vec::new();
    while !datagram.is_empty() {
        let short = || format!("a frame of {} bytes has no whole header", datagram.len());
        let length = u32_at(datagram, 0).ok_or_else(short)? as usize;
        let frame = datagram
            .get(..length)
            .filter(|frame| frame.len() >= HEADER_LEN)
            .ok_or_else(|| format!("a frame says {length} bytes, {} are there", datagram.len()))?;
        list.push(Frame {
            kind: u16_at(frame, 4).ok_or_else(short)?,
            flags: u16_at(frame, 6).ok_or_else(short)?,
            sequence: u32_at(frame, 8).ok_or_else(short)?,
            payload: &frame[HEADER_LEN..],
        });
        let next = length.next_multiple_of(ALIGN).min(datagram.len());
        datagram = &datagram[next..];
    }
    Ok(list)
}

/// Reads an NLMSG_ERROR, or the NLMSG_DONE at the end of a list.
///
/// # Errors
/// A payload without an error code. Attributes that make no sense are ignored: the code decides.
pub(crate) fn ack(frame: &Frame<'_>) -> Result<Ack, String> {
    let code = match u32_at(frame.payload, 0) {
        Some(code) => code.cast_signed(),
        // The end of a list may come without a code.
        None if frame.kind == KIND_DONE && frame.payload.is_empty() => 0,
        None => {
            return Err(format!(
                "an acknowledgement of {} bytes",
                frame.payload.len()
            ));
        }
    };
    let attributes = (frame.flags & FLAG_ACK_ATTRIBUTES != 0)
        .then(|| attributes_of(frame))
        .flatten();
    Ok(Ack {
        code,
        detail: attributes.and_then(message_in),
    })
}

/// Where the attributes of an acknowledgement start: behind the code and, in an NLMSG_ERROR, behind
/// the request's header and, unless it is capped, its payload.
fn attributes_of<'a>(frame: &Frame<'a>) -> Option<&'a [u8]> {
    let mut at = 4;
    if frame.kind == KIND_ERROR {
        at += if frame.flags & FLAG_CAPPED != 0 {
            HEADER_LEN
        } else {
            (u32_at(frame.payload, 4)? as usize).next_multiple_of(ALIGN)
        };
    }
    frame.payload.get(at..)
}

fn message_in(attributes: &[u8]) -> Option<String> {
    let (_, text) = self::attributes(attributes).find(|(kind, _)| *kind == ATTRIBUTE_MESSAGE)?;
    let text = text.split(|byte| *byte == 0).next()?;
    Some(String::from_utf8_lossy(text).into_owned())
}

/// The attributes of `bytes` as (kind, value), up to the first that does not fit.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & !FLAG_NESTED;
        let value = bytes.get(ATTRIBUTE_HEADER_LEN..length)?;
        let next = length.next_multiple_of(ALIGN).min(bytes.len());
        bytes = &bytes[next..];
        Some((kind, value))
    })
}

/// Appends one attribute; `fill` writes its value.
pub(crate) fn push_attribute(out: &mut Vec<u8>, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; ATTRIBUTE_HEADER_LEN]);
    fill(out);
    let length = u16::try_from(out.len() - start).unwrap_or(u16::MAX);
    out[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    out[start + 2..start + 4].copy_from_slice(&kind.to_ne_bytes());
    out.resize(out.len().next_multiple_of(ALIGN), 0);
}

/// Appends one attribute with `value`.
pub(crate) fn push_bytes(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    push_attribute(out, kind, |out| out.extend_from_slice(value));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        push(&mut out, (kind, flags, 7), |out| {
            out.extend_from_slice(payload)
        });
        out
    }

    #[test]
    fn what_is_pushed_is_cut_again() {
        let mut bytes = datagram(30, 5, &[1, 2, 3]);
        bytes.extend(datagram(31, 0, &[]));
        let list = frames(&bytes).unwrap();
        assert_eq!(
            list[0],
            Frame {
                kind: 30,
                flags: 5,
                sequence: 7,
                payload: &[1, 2, 3]
            }
        );
        assert_eq!(
            (list[1].kind, list[1].payload.len(), list.len()),
            (31, 0, 2)
        );
    }

    #[test]
    fn a_datagram_with_false_lengths_is_refused() {
        let good = datagram(30, 0, &[0; 8]);
        for cut in 1..good.len() {
            assert!(frames(&good[..cut]).is_err(), "cut at {cut}");
        }
        let mut short = good.clone();
        short[0] = 15;
        assert!(
            frames(&short).is_err(),
            "a length below the header's would never end"
        );
        let mut long = good;
        long[0..4].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert!(frames(&long).is_err());
    }

    #[test]
    fn the_kernels_words_are_found_behind_capped_and_whole_requests() {
        let mut attribute = vec![16, 0, 1, 0];
        attribute.extend_from_slice(b"No such dev\0");
        for (flags, echoed) in [(FLAG_CAPPED, 0), (0, 12)] {
            let mut payload = (-19_i32).to_ne_bytes().to_vec();
            payload.extend_from_slice(&(16_u32 + echoed).to_ne_bytes());
            payload.extend(vec![0; 12 + echoed as usize]);
            payload.extend_from_slice(&attribute);
            let bytes = datagram(KIND_ERROR, flags | FLAG_ACK_ATTRIBUTES, &payload);
            let found = ack(&frames(&bytes).unwrap()[0]).unwrap();
            assert_eq!(
                found,
                Ack {
                    code: -19,
                    detail: Some("No such dev".into())
                }
            );
        }
    }

    #[test]
    fn broken_attributes_leave_the_code_readable() {
        let mut payload = (-22_i32).to_ne_bytes().to_vec();
        payload.extend_from_slice(&[0; 16]);
        for tail in [&[0_u8, 0, 1, 0][..], &[255, 255, 1, 0], &[3]] {
            let mut payload = payload.clone();
            payload.extend_from_slice(tail);
            let bytes = datagram(KIND_ERROR, FLAG_CAPPED | FLAG_ACK_ATTRIBUTES, &payload);
            let found = ack(&frames(&bytes).unwrap()[0]).unwrap();
            assert_eq!((found.code, found.detail), (-22, None));
        }
        let bytes = datagram(KIND_ERROR, 0, &[1, 2]);
        assert!(ack(&frames(&bytes).unwrap()[0]).is_err());
    }

    #[test]
    fn the_smallest_error_code_does_not_overflow() {
        let lowest = Ack {
            code: i32::MIN,
            detail: None,
        };
        assert_eq!(lowest.into_error(String::new()).os_error(), Some(i32::MAX));
    }
}
