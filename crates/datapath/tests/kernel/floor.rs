//! How long the kernel takes for one pod: the floor under every ADD and DEL.
//!
//! `cargo test --release -p terway-datapath --test kernel floor -- --ignored --nocapture`

use std::time::{Duration, Instant};

use terway_datapath::remove_pod;

use crate::stage::{Node, Pod};

const ROUNDS: usize = 100;

#[test]
#[ignore = "a measurement, not a test: prints times and asserts none"]
fn floor() {
    for others in [0, 10, 100, 250] {
        let mut node = Node::new();
        let mut standing: Vec<_> = (1..=others)
            .map(|number| Pod::numbered(number, 42))
            .collect();
        for pod in &mut standing {
            node.apply(pod).unwrap();
        }
        let (mut adding, mut removing) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let mut pod = Pod::numbered(251, 42);
            let start = Instant::now();
            node.apply(&mut pod).unwrap();
            adding.push(start.elapsed());
            let start = Instant::now();
            remove_pod(&mut node.netlink, &node.trunk, &pod.plan).unwrap();
            removing.push(start.elapsed());
        }
        println!(
            "beside {others:3} pods, dual stack: apply {}, remove {}",
            spread(adding),
            spread(removing)
        );
    }
}

fn spread(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    format!("p50 {:?} p99 {:?} min {:?}", at(50), at(99), at(0))
}
