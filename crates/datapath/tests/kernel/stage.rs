//! Namespaces, plans and the witness.

use std::{
    fs::File,
    net::IpAddr,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    process::Command,
    thread,
};

use model::{
    InterfaceName, Mac,
    net::{
        ENI_TABLE_BASE, LinkAddress, Neighbour, PodNet, RULE_PRIORITY_FROM_POD,
        RULE_PRIORITY_TO_POD, Route, Rule, TABLE_MAIN, VethPair,
    },
};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};
use serde_json::Value;
use terway_datapath::{Netlink, Result, Trunk, apply_pod};

/// A network namespace without a name; it ends with its last descriptor and link.
pub(crate) struct Namespace {
    fd: OwnedFd,
}

impl Namespace {
    pub(crate) fn new() -> Self {
        let fd = on_own_thread(|| {
            enter_new_namespace();
            File::open("/proc/thread-self/ns/net").expect("/proc must be mounted")
        });
        let namespace = Self { fd: fd.into() };
        namespace.ip("link set lo up");
        namespace
    }

    /// Runs `work` in this namespace.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        on_own_thread(|| {
            move_into_link_name_space(self.fd.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("entering the namespace");
            work()
        })
    }

    pub(crate) fn netlink(&self) -> Netlink {
        self.run(|| Netlink::open().expect("a netlink socket"))
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Runs `ip` with `arguments`; panics when it fails.
    pub(crate) fn ip(&self, arguments: &str) -> String {
        self.shell(&format!("ip {arguments}"))
    }

    /// Runs `line` in a shell; panics when it fails.
    pub(crate) fn shell(&self, line: &str) -> String {
        let shell = || Command::new("sh").args(["-c", line]).output();
        let output = self.run(shell).expect("these tests need a shell");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "these tests need iproute2 and nftables; {line}: {error}"
        );
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// What `ip -json` says.
    pub(crate) fn ip_json(&self, arguments: &str) -> Vec<Value> {
        let text = self.ip(&format!("-json -details {arguments}"));
        if text.trim().is_empty() {
            return Vec::new();
        }
        let list: Vec<Value> = serde_json::from_str(&text).expect("ip prints JSON");
        // iproute2 prints an empty object for what a filter left out.
        list.into_iter()
            .filter(|v| v.as_object().is_some_and(|o| !o.is_empty()))
            .collect()
    }

    /// Everything `ip` can list, without what changes by itself.
    pub(crate) fn snapshot(&self) -> String {
        let lists = [
            "link",
            "-4 addr",
            "-6 addr show scope global",
            "-4 route show table all",
            "-6 route show table all",
            "-4 rule",
            "-6 rule",
            // In the order of a hash, which is another in each kernel.
            "neigh show nud permanent | sort",
        ];
        let lines = lists.map(|list| format!("== {list}\n{}", self.ip(list)));
        lines
            .concat()
            .lines()
            // The kernel adds what follows from the addresses, and notes the carrier, in its own time.
            .filter(|line| {
                let by_itself = ["fe80::", "ff00::/8", "table local proto kernel"];
                !by_itself.iter().any(|mark| line.contains(mark))
            })
            .map(|line| line.replace("NO-CARRIER,", ""))
            .map(|line| match line.split_once(" state ") {
                Some((before, after)) => {
                    let rest = after.split_once(' ').map_or("", |(_, rest)| rest);
                    format!("{before} {rest}\n")
                }
                None => format!("{line}\n"),
            })
            .collect()
    }
}

/// A thread of its own for each piece of work, so that no other test ever sees its namespace.
fn on_own_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| match scope.spawn(work).join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

#[expect(unsafe_code, reason = "rustix has no safe unshare")]
fn enter_new_namespace() {
    // SAFETY: only UnshareFlags::FILES makes descriptors of one thread invalid on another; this
    // unshares the network namespace and nothing else.
    let outcome = unsafe { unshare_unsafe(UnshareFlags::NEWNET) };
    if let Err(errno) = outcome {
        panic!(
            "cannot make a network namespace ({errno}): run these tests as root (CAP_SYS_ADMIN and CAP_NET_ADMIN)"
        );
    }
}

/// A node, its trunk and its netlink socket.
pub(crate) struct Node {
    pub(crate) trunk: Trunk,
    pub(crate) namespace: Namespace,
    pub(crate) netlink: Netlink,
}

impl Node {
    pub(crate) fn new() -> Self {
        let namespace = Namespace::new();
        namespace.run(|| {
            for path in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
                std::fs::write(format!("/proc/sys/net/{path}"), "1")
                    .expect("switching forwarding on");
            }
        });
        let netlink = namespace.netlink();
        Self {
            trunk: Trunk::default(),
            namespace,
            netlink,
        }
    }

    /// A link that plays an ENI, with `far` end in `outside`. Returns its index.
    pub(crate) fn add_eni(&mut self, name: &str, outside: &Namespace, far: &str) -> u32 {
        self.namespace
            .ip(&format!("link add {name} type veth peer name {far}"));
        let link = self.namespace.ip_json(&format!("link show {name}"));
        // `ip` takes a path for a namespace, and a descriptor of this process has one.
        let (process, fd) = (std::process::id(), outside.as_fd().as_raw_fd());
        self.namespace
            .ip(&format!("link set {far} netns /proc/{process}/fd/{fd}"));
        outside.ip(&format!("link set {far} up"));
        u32::try_from(link[0]["ifindex"].as_u64().unwrap()).unwrap()
    }

    pub(crate) fn apply(&mut self, pod: &mut Pod) -> Result<()> {
        apply_pod(
            &mut self.netlink,
            &self.trunk,
            &mut pod.netlink,
            pod.namespace.as_fd(),
            &pod.plan,
        )
    }
}

/// A pod, its netlink socket and its plan.
pub(crate) struct Pod {
    pub(crate) namespace: Namespace,
    pub(crate) netlink: Netlink,
    pub(crate) plan: PodNet,
}

impl Pod {
    pub(crate) fn new(plan: PodNet) -> Self {
        let namespace = Namespace::new();
        let netlink = namespace.netlink();
        Self {
            namespace,
            netlink,
            plan,
        }
    }

    /// The pod with number `number`, dual stack, whose ENI's link has index `eni`.
    pub(crate) fn numbered(number: u8, eni: u32) -> Self {
        Self::new(plan(number, eni))
    }
}

pub(crate) fn name(text: &str) -> InterfaceName {
    InterfaceName::new(text).unwrap()
}

pub(crate) fn ip_address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The addresses of pod `number`.
pub(crate) fn addresses(number: u8) -> [IpAddr; 2] {
    [
        IpAddr::from([10, 0, 0, number]),
        ip_address(&format!("fd00::{number:x}")),
    ]
}

/// A dual-stack plan of the shape ENIs with secondary addresses use.
pub(crate) fn plan(number: u8, eni: u32) -> PodNet {
    let (host, pod) = (name(&format!("cali{number:011x}")), name("eth0"));
    let host_mac = Mac([0xee, 0, 0, 0, 1, number]);
    let gateways = [ip_address("169.254.1.1"), ip_address("fe80::1")];
    let pairs = || addresses(number).into_iter().zip(gateways);
    let table = ENI_TABLE_BASE + eni;
    PodNet {
        pod_addresses: pairs()
            .map(|(ip, _)| LinkAddress {
                address: ip.into(),
                link: pod.clone(),
            })
            .collect(),
        pod_neighbours: pairs()
            .map(|(_, gateway)| Neighbour {
                address: gateway,
                mac: host_mac,
                link: pod.clone(),
            })
            .collect(),
        pod_routes: pairs()
            .map(|(ip, gateway)| Route {
                table: TABLE_MAIN,
                destination: if ip.is_ipv4() { "0.0.0.0/0" } else { "::/0" }
                    .parse()
                    .unwrap(),
                gateway: Some(gateway),
                link: pod.clone(),
                onlink: true,
            })
            .collect(),
        host_routes: pairs()
            .map(|(ip, _)| Route {
                table: TABLE_MAIN,
                destination: ip.into(),
                gateway: None,
                link: host.clone(),
                onlink: false,
            })
            .collect(),
        host_rules: pairs()
            .flat_map(|(ip, _)| {
                [
                    Rule::new(RULE_PRIORITY_TO_POD, None, Some(ip.into()), TABLE_MAIN),
                    Rule::new(RULE_PRIORITY_FROM_POD, Some(ip.into()), None, table),
                ]
            })
            .collect(),
        tags: Vec::new(),
        further: Vec::new(),
        devices: Vec::new(),
        pod_rules: Vec::new(),
        veth: VethPair {
            host,
            host_mac,
            pod,
            pod_mac: Mac([0xee, 0, 0, 0, 2, number]),
            mtu: 1400,
            group: 0,
        },
    }
}

/// Asserts that some element of `list` has all of `fields`.
#[track_caller]
pub(crate) fn assert_some(list: &[Value], fields: &Value) {
    let fits = |value: &Value| {
        fields
            .as_object()
            .unwrap()
            .iter()
            .all(|(key, wanted)| match (wanted, &value[key]) {
                (Value::Array(wanted), Value::Array(found)) => {
                    wanted.iter().all(|w| found.contains(w))
                }
                (wanted, found) => wanted == found,
            })
    };
    assert!(list.iter().any(fits), "nothing like {fields} in {list:#?}");
}
