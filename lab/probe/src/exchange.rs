//! Numbered messages, each sent and awaited in turn, over one TCP connection or as datagrams.
//!
//! An answer that comes after its time is lost, whatever it brings; a TCP connection that breaks
//! loses all that was still to be sent, because what is being asked is whether it survives.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use crate::{
    arguments::{Exchange, Transport},
    report::Report,
};

/// Marks our messages; not the beginning of an HTTP request.
const MAGIC: [u8; 8] = *b"twprobe1";
const MESSAGE: usize = MAGIC.len() + size_of::<u64>();

/// Runs the exchange, prints the report, and says whether few enough were lost.
pub(crate) fn run(options: &Exchange) -> Result<bool, String> {
    let mut report = Report {
        wanted: options.count,
        ..Report::default()
    };
    let outcome =
        match options.transport {
            Transport::Tcp => Stream::connect(options)
                .and_then(|mut link| rounds(options, &mut link, &mut report)),
            Transport::Udp => Datagrams::connect(options)
                .and_then(|mut link| rounds(options, &mut link, &mut report)),
        };
    if let Err(error) = outcome {
        report.error = Some(error.to_string());
    }
    println!("{}", report.line());
    Ok(report.lost() <= options.max_lost)
}

/// What carries messages.
trait Link {
    /// Whether an error is the end of the link, or only of one message.
    const ERRORS_END_IT: bool;
    fn send(&mut self, message: [u8; MESSAGE]) -> io::Result<()>;
    /// The number of the next answer, waiting no longer than `left`.
    fn receive(&mut self, left: Duration) -> io::Result<u64>;
}

fn rounds<L: Link>(options: &Exchange, link: &mut L, report: &mut Report) -> io::Result<()> {
    let start = Instant::now();
    for number in 0..options.count {
        // `number` is at most a million and the interval a minute: no overflow.
        let due = start + options.interval * u32::try_from(number).unwrap_or(u32::MAX);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        match round(options, link, number, report) {
            Ok(Some(rtt)) => report.answered(rtt),
            Ok(None) => {}
            Err(error) if L::ERRORS_END_IT => return Err(error),
            Err(error) => report.error = Some(error.to_string()),
        }
    }
    Ok(())
}

/// One message; `None` when its answer does not come in time.
fn round(
    options: &Exchange,
    link: &mut impl Link,
    number: u64,
    report: &mut Report,
) -> io::Result<Option<Duration>> {
    let sent = Instant::now();
    link.send(message(number))?;
    report.sent += 1;
    loop {
        let left = options.timeout.saturating_sub(sent.elapsed());
        if left.is_zero() {
            return Ok(None);
        }
        match link.receive(left) {
            Ok(answer) if answer == number => return Ok(Some(sent.elapsed())),
            // The late answer to an earlier message, which is lost already.
            Ok(_) => {}
            Err(error) if timed_out(&error) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}

fn timed_out(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn message(number: u64) -> [u8; MESSAGE] {
    let mut message = [0; MESSAGE];
    let (magic, rest) = message.split_at_mut(MAGIC.len());
    magic.copy_from_slice(&MAGIC);
    rest.copy_from_slice(&number.to_be_bytes());
    message
}

/// The number in a message, if it is one of ours.
fn number_in(message: &[u8]) -> Option<u64> {
    let number = message.strip_prefix(&MAGIC)?;
    Some(u64::from_be_bytes(number.try_into().ok()?))
}

struct Stream {
    stream: TcpStream,
    /// What has come of the message being received.
    partial: Vec<u8>,
}

impl Stream {
    fn connect(options: &Exchange) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&options.target, options.timeout)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(options.timeout))?;
        Ok(Self {
            stream,
            partial: Vec::with_capacity(MESSAGE),
        })
    }
}

impl Link for Stream {
    const ERRORS_END_IT: bool = true;

    fn send(&mut self, message: [u8; MESSAGE]) -> io::Result<()> {
        self.stream.write_all(&message)
    }

    fn receive(&mut self, left: Duration) -> io::Result<u64> {
        self.stream.set_read_timeout(Some(left))?;
        let mut block = [0; MESSAGE];
        let missing = MESSAGE - self.partial.len();
        let read = self
            .stream
            .read(block.get_mut(..missing).unwrap_or_default())?;
        if read == 0 {
            let sentence = "the peer closed the connection";
            return Err(io::Error::new(ErrorKind::UnexpectedEof, sentence));
        }
        self.partial
            .extend_from_slice(block.get(..read).unwrap_or_default());
        if self.partial.len() < MESSAGE {
            // Like a stray answer: the caller asks again for the rest, with less time left.
            return Ok(u64::MAX);
        }
        let number = number_in(&self.partial);
        self.partial.clear();
        number.ok_or_else(|| {
            io::Error::new(
                ErrorKind::InvalidData,
                "the peer is no echo: it sent something else",
            )
        })
    }
}

struct Datagrams {
    socket: UdpSocket,
}

impl Datagrams {
    fn connect(options: &Exchange) -> io::Result<Self> {
        let any = match options.target {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        let socket = UdpSocket::bind(any)?;
        socket.connect(options.target)?;
        Ok(Self { socket })
    }
}

impl Link for Datagrams {
    const ERRORS_END_IT: bool = false;

    fn send(&mut self, message: [u8; MESSAGE]) -> io::Result<()> {
        self.socket.send(&message).map(drop)
    }

    fn receive(&mut self, left: Duration) -> io::Result<u64> {
        self.socket.set_read_timeout(Some(left))?;
        // One byte more than a message, so that a longer datagram is not taken for one.
        let mut datagram = [0; MESSAGE + 1];
        let read = self.socket.recv(&mut datagram)?;
        Ok(number_in(datagram.get(..read).unwrap_or_default()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_messages_have_a_number() {
        assert_eq!(number_in(&message(7)), Some(7));
        assert_eq!(number_in(b"twprobe1"), None);
        assert_eq!(number_in(b"twprobe2\0\0\0\0\0\0\0\x07"), None);
        assert_eq!(number_in(&[&message(7)[..], b"x"].concat()), None);
    }

    /// Answers from a script, each taking no time.
    struct Script(Vec<io::Result<u64>>);

    impl Link for Script {
        const ERRORS_END_IT: bool = true;
        fn send(&mut self, _: [u8; MESSAGE]) -> io::Result<()> {
            Ok(())
        }
        fn receive(&mut self, _: Duration) -> io::Result<u64> {
            self.0.remove(0)
        }
    }

    fn play(count: u64, script: Vec<io::Result<u64>>) -> (Report, io::Result<()>) {
        let options = Exchange {
            transport: Transport::Tcp,
            target: "127.0.0.1:1".parse().unwrap(),
            count,
            interval: Duration::ZERO,
            timeout: Duration::from_secs(60),
            max_lost: 0,
        };
        let mut report = Report {
            wanted: count,
            ..Report::default()
        };
        let outcome = rounds(&options, &mut Script(script), &mut report);
        (report, outcome)
    }

    #[test]
    fn a_late_answer_is_lost_and_does_not_count_for_another() {
        let late = Err(ErrorKind::WouldBlock.into());
        let (report, outcome) = play(3, vec![Ok(0), late, Ok(1), Ok(2)]);
        assert!(outcome.is_ok());
        assert_eq!((report.sent, report.rtts.len(), report.lost()), (3, 2, 1));
    }

    #[test]
    fn a_broken_connection_loses_the_rest() {
        let broken = Err(ErrorKind::ConnectionReset.into());
        let (report, outcome) = play(10, vec![Ok(0), broken]);
        assert!(outcome.is_err());
        assert_eq!((report.sent, report.rtts.len(), report.lost()), (2, 1, 9));
    }
}
