//! Just enough HTTP to talk to an API server on loopback: one request a connection.
//!
//! HTTP/1.0 on purpose: no server answers it in chunks, so a body, a watch's too, is what comes until
//! the connection ends. No Kubernetes client stands between the script and the answer.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// Longest a server may be silent; the longest watch of a script lasts 5 s.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// A request on its way.
pub(crate) struct Exchange(TcpStream);

/// What came back.
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) body: String,
}

/// Sends a request; the answer may be read later.
pub(crate) fn send(
    server: SocketAddr,
    request: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Exchange {
    let mut stream = TcpStream::connect(server).expect("the server takes connections");
    stream
        .set_read_timeout(Some(SILENCE_MAX))
        .expect("a timeout is set");
    let mut text = format!("{request} HTTP/1.0\r\nHost: 127.0.0.1\r\n");
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    text += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(text.as_bytes()).expect("sent");
    Exchange(stream)
}

impl Exchange {
    /// Waits for the end of the answer.
    pub(crate) fn finish(mut self) -> Answer {
        let mut bytes = Vec::new();
        self.0.read_to_end(&mut bytes).expect("an answer in time");
        let text = String::from_utf8(bytes).expect("an answer in UTF-8");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        Answer {
            code: code.unwrap_or_else(|| panic!("no status line: {head}")),
            body: body.to_owned(),
        }
    }
}
