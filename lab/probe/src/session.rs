//! One TCP connection: HTTP if it begins with a GET, otherwise every byte goes back.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use crate::{
    http::{self, DIGEST_HEADER, HEAD_LENGTH_MAX, Request},
    pattern::{Digest, Pattern},
};

const GET: &[u8] = b"GET ";
/// A connection that says nothing for so long is forgotten; tests that keep one open across an
/// upgrade pause for less.
const IDLE_MAX: Duration = Duration::from_secs(600);
/// A request's head comes in one packet or two; this is five retransmissions of the first.
const HEAD_TIME_MAX: Duration = Duration::from_secs(5);
/// One read, one write. A multiple of 8, as the pattern wants.
const BLOCK: usize = 64 * 1024;

/// Serves one connection to its end.
pub(crate) fn run(stream: &TcpStream, peer: SocketAddr, name: &str) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(IDLE_MAX))?;
    stream.set_write_timeout(Some(IDLE_MAX))?;
    let mut start = vec![0; BLOCK];
    let length = read_start(stream, &mut start)?;
    let start = start.get(..length).unwrap_or_default();
    if start.starts_with(GET) {
        answer(stream, start, peer, name)
    } else {
        echo(stream, start)
    }
}

/// Reads until it is clear whether this is a GET; a peer that stops in the middle of that word
/// wants an echo.
fn read_start(mut stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    loop {
        let read = match stream.read(buffer.get_mut(filled..).unwrap_or_default()) {
            Err(error) if filled > 0 && timed_out(&error) => 0,
            other => other?,
        };
        filled += read;
        let so_far = buffer.get(..filled).unwrap_or_default();
        if read == 0 || so_far.len() >= GET.len() || !GET.starts_with(so_far) {
            stream.set_read_timeout(Some(IDLE_MAX))?;
            return Ok(filled);
        }
        stream.set_read_timeout(Some(HEAD_TIME_MAX))?;
    }
}

fn timed_out(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn echo(mut stream: &TcpStream, start: &[u8]) -> io::Result<()> {
    stream.write_all(start)?;
    let mut buffer = vec![0; BLOCK];
    loop {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return stream.shutdown(Shutdown::Write);
        }
        stream.write_all(buffer.get(..read).unwrap_or_default())?;
    }
}

fn answer(mut stream: &TcpStream, start: &[u8], peer: SocketAddr, name: &str) -> io::Result<()> {
    let json = "application/json";
    let request = match read_head(stream, start)? {
        Some(head) => http::request(&head),
        None => Request::Refused("431 Request Header Fields Too Large"),
    };
    let (status, kind, body) = match request {
        Request::Bytes(count) => {
            write_bytes(stream, count)?;
            return stream.shutdown(Shutdown::Write);
        }
        Request::Who => ("200 OK", json, http::who(name, peer, stream.local_addr()?)),
        Request::Health => ("200 OK", "text/plain", "ok\n".to_owned()),
        Request::Refused(status) => (status, "text/plain", format!("{status}\n")),
    };
    let head = http::answer_head(status, kind, body.len() as u64, "");
    stream.write_all((head + &body).as_bytes())?;
    stream.shutdown(Shutdown::Write)
}

/// The rest of a request's head; `None` when it has no end within the bounds.
fn read_head(mut stream: &TcpStream, start: &[u8]) -> io::Result<Option<String>> {
    let mut head = start.to_vec();
    let deadline = Instant::now() + HEAD_TIME_MAX;
    let mut block = [0; 1024];
    while http::head_end(&head).is_none() {
        let left = deadline.saturating_duration_since(Instant::now());
        if head.len() > HEAD_LENGTH_MAX || left.is_zero() {
            return Ok(None);
        }
        stream.set_read_timeout(Some(left))?;
        let read = stream.read(&mut block)?;
        if read == 0 {
            return Ok(None);
        }
        head.extend_from_slice(block.get(..read).unwrap_or_default());
    }
    Ok(Some(String::from_utf8_lossy(&head).into_owned()))
}

fn write_bytes(mut stream: &TcpStream, count: u64) -> io::Result<()> {
    let mut digest = Digest::new();
    each_block(count, |block| {
        digest.update(block);
        Ok(())
    })?;
    let extra = format!("{DIGEST_HEADER}: {}\r\n", digest.text());
    let head = http::answer_head("200 OK", "application/octet-stream", count, &extra);
    stream.write_all(head.as_bytes())?;
    each_block(count, |block| stream.write_all(block))
}

/// Walks the first `count` bytes of the pattern.
fn each_block(count: u64, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut pattern = Pattern::default();
    let mut buffer = vec![0; BLOCK];
    let mut left = count;
    while left > 0 {
        let length = usize::try_from(left).unwrap_or(BLOCK).min(BLOCK);
        let block = buffer.get_mut(..length).unwrap_or_default();
        pattern.fill(block);
        take(block)?;
        left -= length as u64;
    }
    Ok(())
}
