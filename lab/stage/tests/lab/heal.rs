//! What somebody else takes from a node under traffic is back within a second of its announcement, whatever
//! it is, and what is not ours stays.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{
    rig::{Lab, until},
    trunk::{STATELESS, get, network, pod, trunks},
};

const NODE: &str = "node-1";

/// A second from the announcement, of which this sees nothing; twice more for a machine that builds beside.
/// The looks that need no announcement are 5 and 60 s apart.
const WITHIN: Duration = Duration::from_secs(3);

/// Everything of ours on the node, and of its links, in an order that stays.
const STATE: &str = "{ ip rule; ip -o route show table all proto 157; ip neigh show nud permanent; \
    ip -o link | sed 's/ state [A-Z]* / /; s/NO-CARRIER,//'; nft list tables; nft list table inet terway; \
    for way in ingress egress; do tc filter show dev \"$TRUNK\" $way; done; \
    grep . /proc/sys/net/ipv4/conf/cali*/rp_filter /proc/sys/net/ipv4/conf/eth*/rp_filter; \
    for link in $A $B $C $D $ENI $TRUNK eth0; do grep . /proc/sys/net/ipv4/conf/$link/forwarding; done; } 2>&1 | sort";

/// What somebody does. No pod and no ENI meets more than three of them, beyond which repairs are put off.
/// `$A` to `$D` are links of pods and `$a` to `$d` their addresses, the last a trunk pod's.
const DAMAGES: [&str; 16] = [
    "ip rule del from $a; ip rule del to $a",
    "ip route del $a; ip neigh del $a dev $A",
    "ip link set $B down; ip link set $B mtu 1300",
    "ip link set $B address 02:00:00:00:00:09",
    "ip link set $C down; ip link set $C name other",
    "ip route flush proto 157; ip neigh del $c dev $C",
    "echo 2 > /proc/sys/net/ipv4/conf/$C/rp_filter",
    "echo 0 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv4/conf/eth0/rp_filter",
    "ip route flush table $TABLE",
    "ip link set $ENI down",
    "ip link set $ENI mtu 1400",
    "nft delete table inet terway",
    "ip rule del priority 600",
    "tc qdisc del dev $TRUNK clsact",
    "ip rule del priority 511 from $d; ip rule del priority 2048 from $d",
    "ip link set $D mtu 1300; ip route del $d",
];

fn on(lab: &Lab, names: &str, line: &str) -> String {
    lab.on_node(NODE, &["sh", "-c", &format!("{names} {line}")])
}

/// What the damages call links, tables and addresses by.
fn names(lab: &Lab, addresses: &[String]) -> String {
    let mut names = String::new();
    for (letter, address) in ('a'..).zip(addresses) {
        let link = on(
            lab,
            "",
            &format!("ip -o route show {address} | grep -o 'cali[^ ]*'"),
        );
        let upper = letter.to_ascii_uppercase();
        names += &format!("{letter}={address}; {upper}={}; ", link.trim());
    }
    let mut enis = Vec::new();
    for address in [&addresses[0], &addresses[3]] {
        let rule = on(
            lab,
            "",
            &format!("ip rule show priority 2048 from {address}"),
        );
        let table = rule.split_whitespace().skip_while(|word| *word != "lookup");
        let table: String = table.skip(1).take(1).collect();
        let eni = on(
            lab,
            "",
            &format!("ip -o route show table {table} | grep -o 'dev [^ ]*'"),
        );
        enis.push((table, eni.trim().trim_start_matches("dev ").to_owned()));
    }
    let [(table, eni), (_, trunk)] = &enis[..] else {
        panic!("two ENIs: {enis:?}")
    };
    format!("{names} TABLE={table}; ENI={eni}; TRUNK={trunk};")
}

/// How many things the agent put back.
fn repairs(lab: &Lab) -> u64 {
    let notices = lab.pool(NODE)["notices"].clone();
    let all = [
        "Repaired",
        "NodeRepaired",
        "ReturnPathRepaired",
        "TrunkRepaired",
    ];
    all.iter()
        .filter_map(|reason| notices[*reason].as_u64())
        .sum()
}

#[test]
fn what_somebody_takes_under_traffic_is_back_within_a_second() {
    let lab = trunks("heal", 2);
    network(&lab, STATELESS);
    let mut addresses = Vec::new();
    for name in ["a", "b", "c"] {
        lab.create_pod(name, NODE);
        addresses.push(lab.address_when_ready(name));
    }
    lab.apply(&pod("d", ["front", "nginx"], Some(NODE)));
    addresses.push(lab.address_when_ready("d"));
    lab.create_pod("far", "node-2");
    let far = lab.address_when_ready("far");
    let names = names(&lab, &addresses);
    let foreign = "ip rule add priority 300 from 192.0.2.7 table 77; ip route add 198.51.100.0/24 dev $ENI table 77";
    on(&lab, &names, foreign);
    // Sysctls are judged ten seconds after the youngest pod came.
    thread::sleep(Duration::from_secs(11));
    let state = || on(&lab, &names, STATE);
    let whole = state();
    thread::scope(|scope| {
        let (lab, target) = (&lab, format!("{far}:8080"));
        let mut traffic = Vec::new();
        for name in ["a", "b", "c", "d"] {
            let options = "--count 4500 --interval-ms 10 --timeout-ms 20000".split(' ');
            let words = ["terway-probe", "tcp", &target].map(str::to_owned);
            let words: Vec<String> = words
                .into_iter()
                .chain(options.map(str::to_owned))
                .collect();
            traffic.push(scope.spawn(move || {
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                lab.exec_ok(name, &words);
            }));
        }
        for damage in DAMAGES {
            let (before, began) = (repairs(lab), Instant::now());
            on(lab, &names, damage);
            let mut now = state();
            while now != whole && began.elapsed() < WITHIN * 4 {
                now = state();
            }
            let took = began.elapsed();
            println!("{damage}: {took:?}");
            assert_eq!(now, whole, "{damage}");
            until("it is counted", || repairs(lab) > before);
            assert!(took < WITHIN, "{damage}: {took:?}");
        }
        // Every connection has come through all of it, and none was idle.
        for each in traffic {
            each.join().unwrap();
        }
    });
    let contested = |lab: &Lab| {
        let events = get(lab, &["events", "-A"]);
        let about = |reason: &str| events.iter().filter(|it| it["reason"] == reason).count();
        about("NetworkContested")
    };
    assert_eq!(contested(&lab), 0);
    on(&lab, &names, "ip rule del from $a");
    until("somebody who goes on is told of", || contested(&lab) == 1);
    until("and what he took comes back too", || state() == whole);
    for name in ["a", "b", "c", "d"] {
        lab.delete_pod(name);
    }
    until("nothing of a pod is left", || {
        lab.leftovers(NODE).is_empty()
    });
    lab.down_leaves_nothing();
}
