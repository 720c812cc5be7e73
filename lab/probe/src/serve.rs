//! The server: one TCP and one UDP socket on the same port, a bounded number of connections.

use std::{
    convert::Infallible,
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use crate::{arguments::Serve, http, json::Quoted, session};

/// A connection is a thread of 256 KiB of stack: 64 MiB at the most.
const CONNECTIONS_MAX: usize = 256;
const STACK: usize = 256 * 1024;
/// No UDP payload is longer (RFC 768: a 16-bit length).
const DATAGRAM_MAX: usize = 65_535;
/// The kernel chooses a TCP port without asking whether UDP has it free as well.
const PORT_CHOICES: usize = 8;
/// Pause after an error of accept or receive (out of descriptors, usually), lest the loop spin.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// Serves until the process ends.
pub(crate) fn run(options: &Serve) -> Result<Infallible, String> {
    let (listener, socket, local) = bind(options)?;
    announce(&options.name, local).map_err(|error| format!("cannot say where I serve: {error}"))?;
    thread::Builder::new()
        .name("udp".into())
        .stack_size(STACK)
        .spawn(move || echo_datagrams(&socket))
        .map_err(|error| format!("cannot start the thread for UDP: {error}"))?;
    accept(&listener, options.name.as_str().into())
}

/// One line of JSON, so that whoever asked for port 0 learns the port.
fn announce(name: &str, local: SocketAddr) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let serving = local.to_string();
    let (name, serving) = (Quoted(name), Quoted(&serving));
    writeln!(out, "{{\"name\":{name},\"serving\":{serving}}}")?;
    out.flush()
}

fn bind(options: &Serve) -> Result<(TcpListener, UdpSocket, SocketAddr), String> {
    // `::` takes both families; a kernel without IPv6 has only `0.0.0.0`.
    let everywhere = [Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()];
    let hosts: Vec<IpAddr> = options.listen.map_or(everywhere.into(), |host| vec![host]);
    let mut complaint = String::new();
    for host in hosts {
        for _ in 0..PORT_CHOICES {
            match bind_both(SocketAddr::new(host, options.port)) {
                Ok(bound) => return Ok(bound),
                Err(error) => {
                    complaint = format!("cannot listen on {host} port {}: {error}", options.port);
                }
            }
            if options.port != 0 {
                break;
            }
        }
    }
    Err(complaint)
}

fn bind_both(address: SocketAddr) -> io::Result<(TcpListener, UdpSocket, SocketAddr)> {
    let listener = TcpListener::bind(address)?;
    let local = listener.local_addr()?;
    Ok((listener, UdpSocket::bind(local)?, local))
}

fn echo_datagrams(socket: &UdpSocket) {
    let mut buffer = vec![0; DATAGRAM_MAX];
    loop {
        match socket.recv_from(&mut buffer) {
            Ok((length, peer)) => {
                let datagram = buffer.get(..length).unwrap_or_default();
                // A peer that cannot be reached has lost a datagram, as datagrams are.
                let _ = socket.send_to(datagram, peer);
            }
            Err(_) => thread::sleep(ERROR_PAUSE),
        }
    }
}

fn accept(listener: &TcpListener, name: Arc<str>) -> Result<Infallible, String> {
    let open = Arc::new(AtomicUsize::new(0));
    loop {
        let Ok((stream, peer)) = listener.accept() else {
            thread::sleep(ERROR_PAUSE);
            continue;
        };
        let place = Place::take(&open);
        let Some(place) = place else {
            // Closing tells the client at once; waiting would look like a lost packet.
            drop(stream);
            continue;
        };
        let name = Arc::clone(&name);
        // Without a thread the connection is closed, like one too many.
        let _ = thread::Builder::new()
            .name("connection".into())
            .stack_size(STACK)
            .spawn(move || serve_one(&stream, peer, &name, place));
    }
}

/// Errors are the peer's to notice: the connection ends.
fn serve_one(stream: &TcpStream, peer: SocketAddr, name: &str, _place: Place) {
    let _ = session::run(stream, http::plain(peer), name);
}

/// One of the connections that may be open at a time, given back when dropped.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(open: &Arc<AtomicUsize>) -> Option<Self> {
        open.try_update(Ordering::Relaxed, Ordering::Relaxed, |open| {
            (open < CONNECTIONS_MAX).then_some(open + 1)
        })
        .ok()
        .map(|_| Self(Arc::clone(open)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_given_back() {
        let open = Arc::new(AtomicUsize::new(0));
        let mut taken: Vec<_> = (0..CONNECTIONS_MAX).map(|_| Place::take(&open)).collect();
        assert!(taken.iter().all(Option::is_some));
        assert!(Place::take(&open).is_none());
        taken.pop();
        assert!(Place::take(&open).is_some());
    }
}
