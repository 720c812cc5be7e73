//! The command line, turned into one of the commands or a sentence about what is wrong with it.
//!
//! Every number has a range here, so that nothing behind this border can be asked to run away.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    time::Duration,
};

/// What is printed below a complaint, and for `--help`.
pub(crate) const USAGE: &str = "\
usage: terway-probe pause
       terway-probe serve [--port N] [--listen IP] [--name NAME]
       terway-probe get URL [--timeout-ms T] [--digest]
       terway-probe tcp IP:PORT [--count N] [--interval-ms M] [--timeout-ms T] [--max-lost N]
       terway-probe udp IP:PORT [--count N] [--interval-ms M] [--timeout-ms T] [--max-lost N]

pause  holds a sandbox: waits for orphans and prints nothing, until SIGTERM or SIGINT
serve  answers TCP echo, UDP echo and HTTP GET (/, /healthz, /bytes?n=N) on one port (8080)
get    prints the body, or with --digest its size and FNV-1a; URL is http://IP:PORT/PATH
tcp    sends N numbered messages over one connection and waits for each echo
udp    the same with datagrams
The last line on standard output is JSON. Exit: 0 as wanted, 1 not so, 2 bad command line.
";

/// A million rounds keep 4 MB of round-trip times and last 28 hours at the default interval.
const COUNTS: RangeInclusive<u64> = 1..=1_000_000;
/// Nothing a lab waits for takes a minute.
const MILLISECONDS: RangeInclusive<u64> = 1..=60_000;
/// No pause at all is a fair interval.
const INTERVALS: RangeInclusive<u64> = 0..=60_000;
/// Port 0 lets the kernel choose; the server prints which.
const PORTS: RangeInclusive<u64> = 0..=65_535;
/// The longest name Kubernetes gives a pod (RFC 1123 subdomain).
const NAME_LENGTH_MAX: usize = 253;
/// Longer paths fit in no request head a server takes.
const PATH_LENGTH_MAX: usize = 2048;

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Help,
    Pause,
    Serve(Serve),
    Get(Get),
    Exchange(Exchange),
}

/// `serve`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Serve {
    /// Where to listen; without it, everywhere.
    pub(crate) listen: Option<IpAddr>,
    pub(crate) port: u16,
    pub(crate) name: String,
}

/// `get`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Get {
    pub(crate) target: SocketAddr,
    /// Path and query, starting with `/`.
    pub(crate) path: String,
    /// Bound of the connect and of each read.
    pub(crate) timeout: Duration,
    /// Whether to print size and digest instead of the body.
    pub(crate) digest: bool,
}

/// `tcp` and `udp`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Exchange {
    pub(crate) transport: Transport,
    pub(crate) target: SocketAddr,
    pub(crate) count: u64,
    pub(crate) interval: Duration,
    /// How long an answer may take before it counts as lost.
    pub(crate) timeout: Duration,
    pub(crate) max_lost: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp,
    Udp,
}

/// Understands a command line, without the program's name.
pub(crate) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Command, String> {
    let mut words = Vec::new();
    for word in arguments {
        words.push(
            word.into_string()
                .map_err(|word| format!("{} is not UTF-8", word.display()))?,
        );
    }
    if words.iter().any(|word| word == "--help" || word == "-h") {
        return Ok(Command::Help);
    }
    let Some((verb, rest)) = words.split_first() else {
        return Err("no command given".into());
    };
    match verb.as_str() {
        "pause" => Words::split(rest, &[], &[])?
            .no_target()
            .map(|()| Command::Pause),
        "serve" => serve(Words::split(rest, &["--port", "--listen", "--name"], &[])?),
        "get" => get(Words::split(rest, &["--timeout-ms"], &["--digest"])?),
        "tcp" => exchange(Transport::Tcp, rest),
        "udp" => exchange(Transport::Udp, rest),
        other => Err(format!("there is no command {other:?}")),
    }
}

fn serve(words: Words<'_>) -> Result<Command, String> {
    words.no_target()?;
    let listen = words.value("--listen").map(|text| {
        text.parse()
            .map_err(|_| format!("--listen {text:?} is not an IP address"))
    });
    let port = words.number("--port", PORTS, 8080)?;
    let name = words.value("--name").unwrap_or_default();
    if name.len() > NAME_LENGTH_MAX {
        return Err(format!(
            "--name is longer than {NAME_LENGTH_MAX} characters"
        ));
    }
    Ok(Command::Serve(Serve {
        listen: listen.transpose()?,
        port: u16::try_from(port).map_err(|_| "--port is out of range".to_owned())?,
        name: name.to_owned(),
    }))
}

fn get(words: Words<'_>) -> Result<Command, String> {
    let url = words.target("URL")?;
    let wrong = || format!("{url:?} is not a URL of the form http://IP:PORT/PATH");
    let rest = url.strip_prefix("http://").ok_or_else(wrong)?;
    let (target, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    if path.len() > PATH_LENGTH_MAX || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(wrong());
    }
    Ok(Command::Get(Get {
        target: target.parse().map_err(|_| wrong())?,
        path: path.to_owned(),
        timeout: words.duration("--timeout-ms", MILLISECONDS, 5_000)?,
        digest: words.switches.contains(&"--digest"),
    }))
}

fn exchange(transport: Transport, rest: &[String]) -> Result<Command, String> {
    let flags = ["--count", "--interval-ms", "--timeout-ms", "--max-lost"];
    let words = Words::split(rest, &flags, &[])?;
    let target = words.target("IP:PORT")?;
    Ok(Command::Exchange(Exchange {
        transport,
        target: target
            .parse()
            .map_err(|_| format!("{target:?} is not of the form IP:PORT"))?,
        count: words.number("--count", COUNTS, 10)?,
        interval: words.duration("--interval-ms", INTERVALS, 100)?,
        timeout: words.duration("--timeout-ms", MILLISECONDS, 1_000)?,
        max_lost: words.number("--max-lost", 0..=*COUNTS.end(), 0)?,
    }))
}

/// A command's words, sorted into what they are.
#[derive(Debug, Default)]
struct Words<'a> {
    targets: Vec<&'a str>,
    values: BTreeMap<&'a str, &'a str>,
    switches: Vec<&'a str>,
}

impl<'a> Words<'a> {
    fn split(words: &'a [String], with_value: &[&str], switches: &[&str]) -> Result<Self, String> {
        let mut sorted = Self::default();
        let mut words = words.iter().map(String::as_str);
        while let Some(word) = words.next() {
            if with_value.contains(&word) {
                let value = words.next().ok_or(format!("{word} needs a value"))?;
                if sorted.values.insert(word, value).is_some() {
                    return Err(format!("{word} is given twice"));
                }
            } else if switches.contains(&word) {
                sorted.switches.push(word);
            } else if word.starts_with('-') {
                return Err(format!("there is no option {word:?} here"));
            } else {
                sorted.targets.push(word);
            }
        }
        Ok(sorted)
    }

    fn value(&self, flag: &str) -> Option<&'a str> {
        self.values.get(flag).copied()
    }

    fn target(&self, what: &str) -> Result<&'a str, String> {
        match self.targets.as_slice() {
            [target] => Ok(target),
            [] => Err(format!("{what} is missing")),
            [_, extra, ..] => Err(format!("one {what} is enough, {extra:?} is too much")),
        }
    }

    fn no_target(&self) -> Result<(), String> {
        match self.targets.first() {
            Some(extra) => Err(format!("{extra:?} is too much here")),
            None => Ok(()),
        }
    }

    fn number(&self, flag: &str, range: RangeInclusive<u64>, default: u64) -> Result<u64, String> {
        let Some(text) = self.value(flag) else {
            return Ok(default);
        };
        text.parse()
            .ok()
            .filter(|number| range.contains(number))
            .ok_or_else(|| {
                let (from, to) = (range.start(), range.end());
                format!("{flag} {text:?} is not a number from {from} to {to}")
            })
    }

    fn duration(
        &self,
        flag: &str,
        range: RangeInclusive<u64>,
        default: u64,
    ) -> Result<Duration, String> {
        self.number(flag, range, default).map(Duration::from_millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_line(line: &str) -> Result<Command, String> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn every_command_has_its_defaults() {
        let serve = Serve {
            listen: None,
            port: 8080,
            name: String::new(),
        };
        assert_eq!(parse_line("serve"), Ok(Command::Serve(serve)));
        assert_eq!(parse_line("pause"), Ok(Command::Pause));
        let get = Get {
            target: "10.0.0.1:80".parse().unwrap(),
            path: "/".into(),
            timeout: Duration::from_secs(5),
            digest: false,
        };
        assert_eq!(parse_line("get http://10.0.0.1:80"), Ok(Command::Get(get)));
        let exchange = Exchange {
            transport: Transport::Udp,
            target: "[fe80::1]:53".parse().unwrap(),
            count: 10,
            interval: Duration::from_millis(100),
            timeout: Duration::from_secs(1),
            max_lost: 0,
        };
        assert_eq!(
            parse_line("udp [fe80::1]:53"),
            Ok(Command::Exchange(exchange))
        );
    }

    #[test]
    fn options_are_read() {
        let Ok(Command::Exchange(options)) =
            parse_line("tcp 1.2.3.4:5 --count 3 --interval-ms 0 --timeout-ms 7 --max-lost 2")
        else {
            panic!("a good command line is refused");
        };
        assert_eq!((options.count, options.max_lost), (3, 2));
        assert_eq!(options.timeout, Duration::from_millis(7));
        let Ok(Command::Get(get)) = parse_line("get http://[::1]:80/bytes?n=1 --digest") else {
            panic!("a good command line is refused");
        };
        assert_eq!((get.path.as_str(), get.digest), ("/bytes?n=1", true));
    }

    #[test]
    fn a_bad_command_line_is_refused_with_a_sentence_that_names_it() {
        for (line, named) in [
            ("", "no command"),
            ("ping", "ping"),
            ("pause now", "now"),
            ("pause --forever", "--forever"),
            ("serve --port 65536", "65536"),
            ("serve --port", "--port"),
            ("serve 80", "80"),
            ("serve --listen localhost", "localhost"),
            ("serve --port 1 --port 2", "twice"),
            ("get", "URL"),
            ("get ftp://1.2.3.4:5/", "ftp"),
            ("get http://example.org:80/", "example.org"),
            ("get http://1.2.3.4:80/é", "é"),
            ("tcp 1.2.3.4", "1.2.3.4"),
            ("tcp 1.2.3.4:5 6.7.8.9:1", "6.7.8.9"),
            ("tcp 1.2.3.4:5 --count 0", "--count"),
            ("udp 1.2.3.4:5 --count -1", "--count"),
            ("udp 1.2.3.4:5 --timeout-ms 0", "--timeout-ms"),
            ("udp 1.2.3.4:5 --digest", "--digest"),
        ] {
            let sentence = parse_line(line).expect_err(line);
            assert!(sentence.contains(named), "{line:?} gives {sentence:?}");
        }
    }
}
