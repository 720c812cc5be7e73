//! The HTTP client: one GET, the body or its digest on standard output.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
};

use crate::{
    arguments::Get,
    http::{self, AnswerHead, HEAD_LENGTH_MAX},
    json::Quoted,
    pattern::{BYTES_MAX, Digest},
};

const BLOCK: usize = 64 * 1024;

/// Asks, prints, and says whether the status was 2xx and the body whole.
pub(crate) fn run(options: &Get) -> Result<bool, String> {
    let url = format!("http://{}{}", options.target, options.path);
    let failed = |what: &str, error: io::Error| format!("{url}: cannot {what}: {error}");
    let mut stream = TcpStream::connect_timeout(&options.target, options.timeout)
        .map_err(|error| failed("connect", error))?;
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
        options.path, options.target
    );
    stream
        .set_read_timeout(Some(options.timeout))
        .and_then(|()| stream.set_write_timeout(Some(options.timeout)))
        .and_then(|()| stream.write_all(request.as_bytes()))
        .map_err(|error| failed("send the request", error))?;
    let (head, start) = read_head(&mut stream).map_err(|why| format!("{url}: {why}"))?;
    let body = read_body(&mut stream, &start, head.length, !options.digest)
        .map_err(|error| failed("read the body", error))?;
    if let Some(wrong) = body.fault(&head) {
        return Err(format!("{url}: {wrong}"));
    }
    if options.digest {
        let (status, length, digest) = (head.status, body.length, body.digest.text());
        let digest = Quoted(&digest);
        println!("{{\"status\":{status},\"bytes\":{length},\"fnv1a64\":{digest}}}");
    }
    Ok((200..300).contains(&head.status))
}

/// The answer's head, and what of the body came with it.
fn read_head(stream: &mut TcpStream) -> Result<(AnswerHead, Vec<u8>), String> {
    let mut bytes = Vec::new();
    let mut block = [0; 4096];
    loop {
        if let Some(end) = http::head_end(&bytes) {
            let body = bytes.split_off(end);
            let head = http::read_answer_head(&String::from_utf8_lossy(&bytes))?;
            return Ok((head, body));
        }
        if bytes.len() > HEAD_LENGTH_MAX {
            return Err(format!(
                "the answer's head is longer than {HEAD_LENGTH_MAX} bytes"
            ));
        }
        let read = stream
            .read(&mut block)
            .map_err(|error| format!("cannot read the answer: {error}"))?;
        if read == 0 {
            return Err("the connection ended before the answer's head did".into());
        }
        bytes.extend_from_slice(block.get(..read).unwrap_or_default());
    }
}

struct Body {
    length: u64,
    digest: Digest,
}

impl Body {
    /// How the body differs from what the head promised.
    fn fault(&self, head: &AnswerHead) -> Option<String> {
        if let Some(promised) = head.length.filter(|length| *length != self.length) {
            let came = self.length;
            return Some(format!("{promised} bytes were promised and {came} came"));
        }
        let digest = self.digest.text();
        let promised = head.digest.as_ref().filter(|text| **text != digest)?;
        Some(format!(
            "the body's FNV-1a is {digest}, but {promised} was sent"
        ))
    }
}

fn read_body(
    stream: &mut TcpStream,
    start: &[u8],
    length: Option<u64>,
    print: bool,
) -> io::Result<Body> {
    let mut out = io::stdout().lock();
    let mut body = Body {
        length: 0,
        digest: Digest::new(),
    };
    let mut rest = stream.take(length.unwrap_or(BYTES_MAX).min(BYTES_MAX));
    rest.set_limit(rest.limit().saturating_sub(start.len() as u64));
    let mut buffer = vec![0; BLOCK];
    let mut block = start;
    loop {
        body.length += block.len() as u64;
        body.digest.update(block);
        if print {
            out.write_all(block)?;
        }
        let read = rest.read(&mut buffer)?;
        if read == 0 {
            out.flush()?;
            return Ok(body);
        }
        block = buffer.get(..read).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_must_be_as_promised() {
        let mut digest = Digest::new();
        digest.update(b"foobar");
        let body = Body { length: 6, digest };
        let head = |length, digest: Option<&str>| AnswerHead {
            status: 200,
            length,
            digest: digest.map(str::to_owned),
        };
        assert_eq!(body.fault(&head(None, None)), None);
        assert_eq!(body.fault(&head(Some(6), Some("85944171f73967e8"))), None);
        assert!(body.fault(&head(Some(7), None)).is_some());
        assert!(
            body.fault(&head(Some(6), Some("85944171f73967e9")))
                .is_some()
        );
    }
}
