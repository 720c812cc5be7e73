//! Forgetting the flows of an address.

use std::time::Duration;

use terway_datapath::Conntrack;

use crate::{
    stage::{Node, Pod, addresses, ip_address},
    traffic::asks,
};

const ANSWER_WITHIN: Duration = Duration::from_secs(20);

#[test]
fn the_flows_of_an_address_are_forgotten_and_no_others() {
    let mut node = Node::new();
    // Services on the node's side: translated to pod 2, and everything tracked.
    node.namespace.shell(
        "nft -f - <<'E'
table inet services {
  chain prerouting {
    type nat hook prerouting priority dstnat;
    ip daddr 172.16.0.1 dnat ip to 10.0.0.2
    ip6 daddr fd01::1 dnat ip6 to fd00::2
  }
}
E",
    );
    let mut pods: Vec<_> = (1..=3).map(|number| Pod::numbered(number, 42)).collect();
    for pod in &mut pods {
        node.apply(pod).unwrap();
    }
    let mut conntrack = node.namespace.run(|| Conntrack::open().unwrap());
    let services = ["172.16.0.1", "fd01::1"].map(ip_address);
    for (family, service) in services.into_iter().enumerate() {
        let [client, server, other] = [1, 2, 3].map(|number| addresses(number)[family]);
        for address in [client, server, other] {
            conntrack.flush(address).unwrap();
        }
        let talk = |from: usize, to| {
            let seen = asks(&pods[from].namespace, &pods[1].namespace, to, ANSWER_WITHIN);
            assert!(seen.is_some(), "no answer from {to}");
        };
        talk(0, service);
        talk(2, server);
        let mut flushed = |address| conntrack.flush(address).unwrap();
        assert_eq!(flushed(client), 1, "the translated flow, by its source");
        assert_eq!(flushed(client), 0);
        talk(0, service);
        assert_eq!(flushed(service), 1, "by the address that was asked for");
        talk(0, service);
        assert_eq!(flushed(server), 2, "the translated and the direct one");
        assert_eq!(flushed(other), 0, "it was deleted with its other end");
    }
}
