//! Nodes for the fabric's tests: namespaces, configured with `ip`, in which the probe runs.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};
use stage::fabric::{Fabric, Port};

/// The gateway of every vSwitch here. Nobody owns it: it exists only as an answer to ARP.
const GATEWAY: &str = "192.168.1.253";
/// Where the probe listens.
pub(crate) const PORT: u16 = 8080;

/// How long an answer may take that shall come: a busy machine must not fail a test.
const PATIENCE_MS: u32 = 5_000;
/// How long to wait for an answer that shall not come. It takes well below a millisecond when it
/// does; a longer wait could only find more, a shorter one never fails a good fabric.
const SILENCE_MS: u32 = 200;

/// The work queue waits for the lock that every change to links takes; this is a thousand of them.
const CARRIER_MAX: Duration = Duration::from_secs(10);

/// A namespace that plays a node or a pod. Vanishes when dropped.
pub(crate) struct Node {
    netns: OwnedFd,
}

impl Node {
    pub(crate) fn new() -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "these tests make network namespaces and load eBPF: run them as root"
        );
        let netns = thread::spawn(|| {
            unshare_network();
            let netns = File::open("/proc/thread-self/ns/net").unwrap();
            for scope in ["all", "default"] {
                let file = format!("/proc/sys/net/ipv6/conf/{scope}/disable_ipv6");
                fs::write(file, "1").unwrap();
            }
            netns.into()
        });
        let node = Self {
            netns: netns.join().unwrap(),
        };
        node.ip("link set lo up");
        node
    }

    /// A node with `eni` plugged as `eth1`, up, its address on it and the default route through it.
    pub(crate) fn with_eni(fabric: &Fabric, eni: &str, last_octet: u8, check: bool) -> Self {
        let node = Self::new();
        fabric
            .plug(port(eni, last_octet, check), node.netns())
            .unwrap();
        node.bring_up(fabric, eni, &format!("192.168.1.{last_octet}"));
        node
    }

    /// Configures `eth1`, and returns when the VPC can send to it.
    pub(crate) fn bring_up(&self, fabric: &Fabric, eni: &str, address: &str) {
        self.ip(&format!("addr add {address}/32 dev eth1"));
        self.ip("link set eth1 up");
        self.ip(&format!("route add default via {GATEWAY} dev eth1 onlink"));
        await_carrier(fabric, eni);
    }

    pub(crate) fn netns(&self) -> OwnedFd {
        self.netns.try_clone().unwrap()
    }

    /// Runs `work` inside this namespace.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        inside(self.netns.as_fd(), work)
    }

    /// Carries out one line of `ip`.
    pub(crate) fn ip(&self, line: &str) {
        let output = self.try_ip(line);
        assert!(output.status.success(), "ip {line}: {output:?}");
    }

    pub(crate) fn try_ip(&self, line: &str) -> Output {
        let words: Vec<&str> = line.split(' ').collect();
        self.inside(|| Command::new("ip").args(words).output().unwrap())
    }

    pub(crate) fn has_link(&self, link: &str) -> bool {
        self.try_ip(&format!("link show dev {link}"))
            .status
            .success()
    }

    pub(crate) fn sysctl(&self, path: &str, value: &str) {
        self.inside(|| fs::write(format!("/proc/sys/net/ipv4/{path}"), value).unwrap());
    }

    /// Starts the probe's server; it serves when this returns.
    pub(crate) fn serve(&self) -> Server {
        let mut process = self.inside(|| {
            Command::new(probe())
                .args(["serve", "--port", &PORT.to_string()])
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        });
        let mut line = String::new();
        let out = process.stdout.take().unwrap();
        BufReader::new(out).read_line(&mut line).unwrap();
        assert!(
            line.contains("serving"),
            "the probe does not serve: {line:?}"
        );
        Server(process)
    }

    /// Whether `count` datagrams of [`DATAGRAM`] bytes to the server at `address` all come back.
    pub(crate) fn reaches(&self, address: &str, count: u32) -> bool {
        self.exchange(address, count, PATIENCE_MS)
    }

    /// Whether a datagram to the server at `address` does not come back. Why it did not is for
    /// the counters to say.
    pub(crate) fn misses(&self, address: &str) -> bool {
        !self.exchange(address, 1, SILENCE_MS)
    }

    fn exchange(&self, address: &str, count: u32, timeout_ms: u32) -> bool {
        let (target, count) = (format!("{address}:{PORT}"), count.to_string());
        let timeout = timeout_ms.to_string();
        let rest = [
            "--count",
            &count,
            "--interval-ms",
            "0",
            "--timeout-ms",
            &timeout,
        ];
        self.inside(|| {
            let output = Command::new(probe())
                .args(["udp", &target])
                .args(rest)
                .output();
            output.unwrap().status.success()
        })
    }

    /// Fetches `bytes` by TCP; the probe compares the digests of both ends.
    pub(crate) fn fetches(&self, address: &str, bytes: u64) -> bool {
        let url = format!("http://{address}:{PORT}/bytes?n={bytes}");
        let output = self.inside(|| {
            Command::new(probe())
                .args(["get", &url, "--digest"])
                .output()
        });
        let output = output.unwrap();
        std::io::stderr().write_all(&output.stderr).unwrap();
        let sized = format!("\"bytes\":{bytes},");
        output.status.success() && String::from_utf8_lossy(&output.stdout).contains(&sized)
    }
}

/// Runs `work` on a thread inside `netns`; its child processes start there too.
pub(crate) fn inside<T: Send>(netns: BorrowedFd<'_>, work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let entered = scope.spawn(|| {
            move_into_link_name_space(netns, Some(LinkNameSpaceType::Network)).unwrap();
            work()
        });
        entered.join().unwrap()
    })
}

/// The near ends, one line of `ip` each.
pub(crate) fn near_ends(fabric: &Fabric) -> Vec<String> {
    let list = || {
        Command::new("ip")
            .args(["-o", "link", "show", "type", "veth"])
            .output()
    };
    let output = inside(fabric.netns(), list).unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().map(str::to_owned).collect()
}

/// When a far end comes up, the kernel starts the near end's transmitter a little later, from a
/// work queue, and drops what is sent until then.
fn await_carrier(fabric: &Fabric, eni: &str) {
    let alias = format!("alias {eni}");
    let start = Instant::now();
    let carries = |line: &String| {
        line.trim_end().ends_with(&alias)
            && line.contains("state UP")
            && line.contains("qdisc noqueue")
    };
    while !near_ends(fabric).iter().any(carries) {
        let waited = start.elapsed();
        assert!(
            waited < CARRIER_MAX,
            "{eni} has no carrier: {:?}",
            near_ends(fabric)
        );
    }
}

/// Length of the frame of one of the probe's datagrams: Ethernet, IPv4, UDP, message.
pub(crate) const DATAGRAM: u64 = 14 + 20 + 8 + 16;
/// Length of the frame of an ARP request that was not padded.
pub(crate) const ARP: u64 = 14 + 28;

/// A running server, ended when dropped.
pub(crate) struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An ENI that shall appear as `eth1`.
pub(crate) fn port(eni: &str, last_octet: u8, source_dest_check: bool) -> Port {
    Port {
        eni: eni.into(),
        mac: model::Mac([0x00, 0x16, 0x3e, 0, 0, last_octet]),
        link: "eth1".into(),
        source_dest_check,
        groups: Vec::new(),
    }
}

/// The probe, built from this workspace beside the test: cargo builds no other package's programs
/// for a test, and one left from an earlier build would prove nothing.
fn probe() -> &'static PathBuf {
    static PROBE: OnceLock<PathBuf> = OnceLock::new();
    PROBE.get_or_init(|| {
        let test = std::env::current_exe().unwrap();
        // <target>/<profile>/deps/<test>
        let target = test.ancestors().nth(3).unwrap();
        let status = Command::new(env!("CARGO"))
            .args([
                "build",
                "--quiet",
                "--package",
                "terway-probe",
                "--target-dir",
            ])
            .arg(target)
            .status()
            .unwrap();
        assert!(
            status.success(),
            "cargo build --package terway-probe failed"
        );
        target.join("debug/terway-probe")
    })
}

#[expect(
    deprecated,
    reason = "deprecated because CLONE_FILES is unsound through it; a network namespace is not"
)]
fn unshare_network() {
    rustix::thread::unshare(UnshareFlags::NEWNET).unwrap();
}
