//! The program against itself, over loopback.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails; clippy exempts test functions, not their helpers"
)]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

const PROBE: &str = env!("CARGO_BIN_EXE_terway-probe");
/// Far above anything loopback takes, far below anyone's patience.
const PATIENCE: Duration = Duration::from_secs(10);

struct Server {
    process: Child,
    address: SocketAddr,
}

impl Server {
    fn start() -> Self {
        let mut process = Command::new(PROBE)
            .args([
                "serve",
                "--listen",
                "127.0.0.1",
                "--port",
                "0",
                "--name",
                "a\"b",
            ])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let out = process.stdout.take().unwrap();
        BufReader::new(out).read_line(&mut line).unwrap();
        let start = line
            .find("127.0.0.1:")
            .expect("the server says where it serves");
        let address = line[start..].trim_end().trim_end_matches("\"}");
        let address = address.parse().unwrap();
        Self { process, address }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn probe(arguments: &[&str]) -> Output {
    Command::new(PROBE).args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

#[test]
fn http_says_who_is_who() {
    let server = Server::start();
    let output = probe(&["get", &format!("http://{}/", server.address)]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let body = stdout(&output);
    assert!(
        body.starts_with(r#"{"name":"a\"b","peer":"127.0.0.1:"#),
        "{body}"
    );
    let local = format!(r#""local":"{}"}}"#, server.address);
    assert!(body.trim_end().ends_with(&local), "{body}");

    let health = probe(&["get", &format!("http://{}/healthz", server.address)]);
    assert_eq!((health.status.code(), stdout(&health)), (Some(0), "ok\n"));
    let missing = probe(&["get", &format!("http://{}/x", server.address)]);
    assert_eq!(missing.status.code(), Some(1));
}

#[test]
fn bytes_arrive_whole() {
    let server = Server::start();
    for (count, digest) in [("0", Some("cbf29ce484222325")), ("1000003", None)] {
        let url = format!("http://{}/bytes?n={count}", server.address);
        let output = probe(&["get", &url, "--digest"]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let line = stdout(&output);
        let start = format!(r#"{{"status":200,"bytes":{count},"fnv1a64":""#);
        assert!(line.starts_with(&start), "{line}");
        assert!(digest.is_none_or(|digest| line.contains(digest)), "{line}");
    }
}

#[test]
fn both_transports_echo_and_report() {
    let server = Server::start();
    let target = server.address.to_string();
    for transport in ["tcp", "udp"] {
        let output = probe(&[transport, &target, "--count", "20", "--interval-ms", "0"]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let line = stdout(&output);
        let start = r#"{"sent":20,"received":20,"lost":0,"rtt_us":{"min":"#;
        assert!(line.starts_with(start), "{line}");
    }
}

#[test]
fn silence_is_counted_and_tolerated_only_up_to_the_limit() {
    // Bound and never read: nothing answers, nothing refuses.
    let mute = UdpSocket::bind("127.0.0.1:0").unwrap();
    let target = mute.local_addr().unwrap().to_string();
    let quick = ["--count", "3", "--interval-ms", "0", "--timeout-ms", "20"];
    for (limit, code) in [("2", 1), ("3", 0)] {
        let output = probe(&[&["udp", &target, "--max-lost", limit][..], &quick].concat());
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        let line = stdout(&output).trim_end();
        assert_eq!(line, r#"{"sent":3,"received":0,"lost":3,"rtt_us":null}"#);
    }
}

#[test]
fn a_connection_that_cannot_be_made_loses_everything() {
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let output = probe(&["tcp", &closed, "--count", "5"]);
    assert_eq!(output.status.code(), Some(1));
    let line = stdout(&output);
    let start = r#"{"sent":0,"received":0,"lost":5,"rtt_us":null,"error":""#;
    assert!(line.starts_with(start), "{line}");
}

#[test]
fn what_is_not_http_is_echoed_byte_by_byte() {
    let server = Server::start();
    let mut stream = server.connect();
    // Begins like a GET and is none.
    for word in [&b"GE"[..], b"LD or not"] {
        stream.write_all(word).unwrap();
    }
    let mut back = [0; 11];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"GELD or not");
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(
        stream.read(&mut back).unwrap(),
        0,
        "the echo ends when we do"
    );
}

#[test]
fn an_endless_head_is_cut_off() {
    let server = Server::start();
    let mut stream = server.connect();
    let head = [&b"GET / HTTP/1.1\r\nX: "[..], &[b'x'; 64 * 1024]].concat();
    // The server may hang up before it has read all of it.
    let _ = stream.write_all(&head);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431 "));
    let health = probe(&["get", &format!("http://{}/healthz", server.address)]);
    assert_eq!(health.status.code(), Some(0), "the server lives on");
}

#[test]
fn a_bad_command_line_is_explained() {
    let output = probe(&["tcp", "nowhere"]);
    assert_eq!(output.status.code(), Some(2));
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert!(
        complaint.contains("\"nowhere\"") && complaint.contains("usage:"),
        "{complaint}"
    );
    assert_eq!(probe(&["--help"]).status.code(), Some(0));
}
