//! The HTTP/1.1 spoken here (RFC 9112), as text without sockets: GET without a body, one request
//! for each connection.

use std::net::SocketAddr;

use crate::{json::Quoted, pattern::BYTES_MAX};

/// A head longer than this is refused, on either side.
pub(crate) const HEAD_LENGTH_MAX: usize = 8 * 1024;
/// The header that carries the digest of what `/bytes` serves.
pub(crate) const DIGEST_HEADER: &str = "x-fnv1a64";

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// `/`: who serves, and who asks.
    Who,
    /// `/healthz`.
    Health,
    /// `/bytes?n=`: so many bytes of the pattern.
    Bytes(u64),
    /// Anything else, with the status it gets.
    Refused(&'static str),
}

/// Reads the first line of a request's head.
pub(crate) fn request(head: &str) -> Request {
    let line = head.lines().next().unwrap_or_default();
    let words: Vec<&str> = line.split(' ').collect();
    let ["GET", target, "HTTP/1.1" | "HTTP/1.0"] = words.as_slice() else {
        return Request::Refused("400 Bad Request");
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    match path {
        "/" => Request::Who,
        "/healthz" => Request::Health,
        "/bytes" => query
            .strip_prefix("n=")
            .and_then(|number| number.parse().ok())
            .filter(|number| *number <= BYTES_MAX)
            .map_or(Request::Refused("400 Bad Request"), Request::Bytes),
        _ => Request::Refused("404 Not Found"),
    }
}

/// The body of `/`.
pub(crate) fn who(name: &str, peer: SocketAddr, local: SocketAddr) -> String {
    let (peer, local) = (plain(peer).to_string(), plain(local).to_string());
    let (name, peer, local) = (Quoted(name), Quoted(&peer), Quoted(&local));
    format!("{{\"name\":{name},\"peer\":{peer},\"local\":{local}}}\n")
}

/// A dual-stack socket shows IPv4 peers as `::ffff:a.b.c.d`; people want `a.b.c.d`.
pub(crate) fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// The head of an answer; `extra` is whole header lines.
pub(crate) fn answer_head(status: &str, kind: &str, length: u64, extra: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{extra}Connection: close\r\n\r\n"
    )
}

/// The head of an answer, as far as this program's client needs it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct AnswerHead {
    pub(crate) status: u16,
    pub(crate) length: Option<u64>,
    pub(crate) digest: Option<String>,
}

/// Reads an answer's head; the sentence says what is wrong with it.
pub(crate) fn read_answer_head(head: &str) -> Result<AnswerHead, String> {
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let status = first
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split(' ').nth(1))
        .and_then(|status| status.parse().ok())
        .ok_or_else(|| format!("the answer begins with {first:?}, which is not HTTP/1.1"))?;
    let mut read = AnswerHead {
        status,
        ..AnswerHead::default()
    };
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            let length = value
                .parse()
                .map_err(|_| format!("Content-Length {value:?} is not a number"))?;
            read.length = Some(length);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(format!(
                "Transfer-Encoding {value:?} is not understood here"
            ));
        } else if name.eq_ignore_ascii_case(DIGEST_HEADER) {
            read.digest = Some(value.to_owned());
        }
    }
    Ok(read)
}

/// Where the head ends in `bytes`, the empty line included.
pub(crate) fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .map(|at| at + 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_apart() {
        for (line, wanted) in [
            ("GET / HTTP/1.1", Request::Who),
            ("GET /?x=1 HTTP/1.0", Request::Who),
            ("GET /healthz HTTP/1.1", Request::Health),
            ("GET /bytes?n=12 HTTP/1.1", Request::Bytes(12)),
            ("GET /bytes HTTP/1.1", Request::Refused("400 Bad Request")),
            (
                "GET /bytes?n=-1 HTTP/1.1",
                Request::Refused("400 Bad Request"),
            ),
            (
                "GET /bytes?n=1073741825 HTTP/1.1",
                Request::Refused("400 Bad Request"),
            ),
            ("GET /other HTTP/1.1", Request::Refused("404 Not Found")),
            ("GET /", Request::Refused("400 Bad Request")),
            ("POST / HTTP/1.1", Request::Refused("400 Bad Request")),
            ("", Request::Refused("400 Bad Request")),
        ] {
            assert_eq!(
                request(&format!("{line}\r\nHost: x\r\n\r\n")),
                wanted,
                "{line}"
            );
        }
    }

    #[test]
    fn the_client_reads_what_the_server_writes() {
        let extra = format!("{DIGEST_HEADER}: 00ff\r\n");
        let head = answer_head("200 OK", "text/plain", 3, &extra);
        assert_eq!(head_end(head.as_bytes()), Some(head.len()));
        let read = read_answer_head(&head).unwrap();
        assert_eq!((read.status, read.length), (200, Some(3)));
        assert_eq!(read.digest.as_deref(), Some("00ff"));
        for bad in [
            "",
            "SSH-2.0-x",
            "HTTP/1.1 abc",
            "HTTP/1.1 200 OK\r\nContent-Length: x",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked",
        ] {
            assert!(read_answer_head(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn addresses_are_shown_plainly() {
        let peer = "[::ffff:10.0.0.1]:5".parse().unwrap();
        let local = "[2408::1]:80".parse().unwrap();
        assert_eq!(
            who("a", peer, local),
            "{\"name\":\"a\",\"peer\":\"10.0.0.1:5\",\"local\":\"[2408::1]:80\"}\n"
        );
    }
}
