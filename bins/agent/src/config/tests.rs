//! What `eni_conf` may say, what is refused, and the arithmetic of its numbers.

use engine::{netplan::LocalTraffic, node::Api};

use super::*;

const GOOD: &str = r#"{"version":"1","vswitches":{"cn-hangzhou-i":["vsw-1","vsw-2"]},
    "security_group":"sg-1","security_groups":["sg-1","sg-2"],"min_pool_size":2,"max_pool_size":5,
    "ip_cooldown":"1m30s","service_cidr":"10.96.0.0/16, fd96::/112","eni_tags":{"team":"x"},"enable_eni_trunking":true}"#;

#[test]
fn the_keys_of_today_are_read() {
    let settings = Settings::parse(GOOD.as_bytes(), None).unwrap();
    assert_eq!(settings.security_groups.len(), 2, "the union, once each");
    assert_eq!((settings.idle_min, settings.idle_max), (2, 5));
    assert_eq!(settings.cooldown, Duration::from_secs(90));
    assert_eq!(settings.policy.trunk, Some(LocalTraffic::Strict));
    let services = ["10.96.0.0/16", "fd96::/112"].map(|net| net.parse().unwrap());
    assert_eq!(settings.policy.services, services);
    assert_eq!(settings.ignored, []);
}

#[test]
fn a_wrong_value_is_named_with_its_key() {
    let cases = [
        ("nonsense", "eni_conf"),
        ("[]", "eni_conf"),
        (r#"{"security_group":5}"#, "security_group"),
        (r"{}", "security_groups"),
        (
            r#"{"security_group":"sg-1","vswitches":["vsw-1"]}"#,
            "vswitches",
        ),
        (
            r#"{"security_group":"sg-1","vswitches":{"z":"vsw-1"}}"#,
            "vswitches.z",
        ),
        (
            r#"{"security_group":"sg-1","vswitches":{"z":["a b"]}}"#,
            "vswitches.z",
        ),
        (
            r#"{"security_group":"sg-1","max_pool_size":"5"}"#,
            "max_pool_size",
        ),
        (
            r#"{"security_group":"sg-1","max_pool_size":-1}"#,
            "max_pool_size",
        ),
        (
            r#"{"security_group":"sg-1","max_pool_size":1,"min_pool_size":2}"#,
            "max_pool_size",
        ),
        (r#"{"security_group":"sg-1","ip_stack":"dual"}"#, "ip_stack"),
        (
            r#"{"security_group":"sg-1","service_cidr":"10.96.0.0"}"#,
            "service_cidr",
        ),
        (
            r#"{"security_group":"sg-1","trunk_local_traffic":"loose"}"#,
            "trunk_local_traffic",
        ),
        (
            r#"{"security_group":"sg-1","enable_ip_prefix":"yes"}"#,
            "enable_ip_prefix",
        ),
        (
            r#"{"security_group":"sg-1","ip_cooldown":"soon"}"#,
            "ip_cooldown",
        ),
        (
            r#"{"security_group":"sg-1","eni_tags":{"a":1}}"#,
            "eni_tags",
        ),
        (
            r#"{"security_group":"sg-1","eni_tag_filter":[]}"#,
            "eni_tag_filter",
        ),
        (
            r#"{"security_group":"sg-1","eni_tag_block_list":[{"key":"a"}]}"#,
            "eni_tag_block_list",
        ),
        (
            r#"{"security_group":"sg-1","rate_limit":{"DescribeVSwitches":0}}"#,
            "rate_limit.DescribeVSwitches",
        ),
        (
            r#"{"security_group":"sg-1","idle_ip_reclaim_after":"1h","idle_ip_reclaim_jitter_factor":"x"}"#,
            "idle_ip_reclaim_jitter_factor",
        ),
        (
            r#"{"security_group":"sg-1","custom_stateful_workload_kinds":"CloneSet"}"#,
            "custom_stateful_workload_kinds",
        ),
        (
            r#"{"security_group":"sg-1","access_key":"LTAI"}"#,
            "access_secret",
        ),
        (
            r#"{"security_group":"sg-1","access_secret":"s"}"#,
            "access_key",
        ),
    ];
    for (text, key) in cases {
        let message = Settings::parse(text.as_bytes(), None)
            .unwrap_err()
            .to_string();
        assert!(message.contains(key), "{text}: {message}");
    }
}

#[test]
fn the_cap_on_enis_is_the_documented_arithmetic() {
    let limits = InstanceLimits {
        enis: 8,
        ipv4_per_eni: 10,
        ipv6_per_eni: 10,
        enis_total: 8,
        trunk: false,
    };
    let cap = |text: &str| {
        Settings::parse(text.as_bytes(), None)
            .unwrap()
            .enis_max(limits)
    };
    assert_eq!(cap(r#"{"security_group":"sg-1"}"#), 7);
    assert_eq!(cap(r#"{"security_group":"sg-1","eni_cap_ratio":0.5}"#), 3);
    assert_eq!(cap(r#"{"security_group":"sg-1","eni_cap_shift":-2}"#), 5);
    assert_eq!(cap(r#"{"security_group":"sg-1","max_eni":2}"#), 2);
}

fn read(text: &str) -> Settings {
    Settings::parse(text.as_bytes(), None).unwrap()
}

#[test]
fn the_pools_policy_is_read() {
    let settings = read(
        r#"{"security_group":"sg-1","vswitch_selection_policy":"ordered","ip_warm_up_size":8,
        "idle_ip_reclaim_after":"1h","idle_ip_reclaim_batch_size":3,"idle_ip_reclaim_jitter_factor":"0.25",
        "eni_tag_filter":{"pool":"a"},"eni_tag_block_list":[{"key":"owner","value":"other"}],
        "rate_limit":{"":90,"CreateNetworkInterface":7,"DetachNetworkInterfaceOfTheControlPlane":5},
        "custom_stateful_workload_kinds":["CloneSet"],"eni_selection_policy":"least_ips",
        "enable_ip_prefix":true,"ipv4_prefix_count":3}"#,
    );
    let policy = settings.policy;
    assert_eq!(
        (policy.vswitches, policy.warm_up),
        (VSwitchPolicy::Ordered, 8)
    );
    let reclaim = policy.reclaim.unwrap();
    assert_eq!((reclaim.batch, reclaim.jitter_per_mille), (3, 250));
    assert_eq!(reclaim.after, Duration::from_secs(3600));
    assert_eq!(reclaim.interval, Duration::from_secs(600), "the default");
    assert_eq!(policy.tag_blocks.len(), 3, "the standard two, and one more");
    assert_eq!(policy.tag_filter.len(), 1);
    assert_eq!(policy.enis, EniPolicy::LeastIps);
    assert_eq!(policy.prefixes, Some(PrefixPolicy { least: 3 }));
    let calls = |api| policy.calls(api);
    assert_eq!(calls(Api::CreateNetworkInterface), 7);
    assert_eq!(calls(Api::AttachNetworkInterface), 90);
    assert!(settings.sticky_kinds.contains("cloneset"), "small letters");
    assert_eq!(settings.ignored, []);
}

#[test]
fn what_is_not_said_about_the_pool_is_the_default() {
    let settings = read(r#"{"security_group":"sg-1"}"#);
    let standard = Policy {
        vswitches: VSwitchPolicy::Random,
        ..Policy::default()
    };
    assert_eq!(settings.policy, standard);
    let odd = read(r#"{"security_group":"sg-1","vswitch_selection_policy":"least"}"#);
    assert_eq!(odd.policy.vswitches, VSwitchPolicy::Random);
    assert_eq!(odd.ignored.len(), 1, "and it is said");
    let odd = read(
        r#"{"security_group":"sg-1","eni_selection_policy":"first","enable_ip_prefix":false,"ipv4_prefix_count":2}"#,
    );
    assert_eq!(
        (odd.policy.enis, odd.policy.prefixes),
        (EniPolicy::MostIps, None)
    );
    assert_eq!(
        odd.ignored.len(),
        2,
        "a word nobody knows, and a count of what is off"
    );
}

/// A small instance type.
const LIMITS: InstanceLimits = InstanceLimits {
    enis: 3,
    ipv4_per_eni: 10,
    ipv6_per_eni: 10,
    enis_total: 3,
    trunk: false,
};

#[test]
fn idle_addresses_counted_in_enis_are_addresses() {
    let idle = |text| read(text).idle_min(LIMITS);
    assert_eq!(idle(r#"{"security_group":"sg-1","min_eni":1}"#), 10);
    assert_eq!(
        idle(r#"{"security_group":"sg-1","min_eni":1,"min_pool_size":12}"#),
        12
    );
    assert_eq!(
        idle(r#"{"security_group":"sg-1","min_eni":9}"#),
        20,
        "as many as the node may have"
    );
}

#[test]
fn a_nodes_own_config_map_goes_over_the_clusters() {
    let overlay = |text: &str| Overlay {
        config_map: "big-nodes".into(),
        patch: serde_json::from_str(text).unwrap(),
    };
    let patch = overlay(
        r#"{"max_pool_size":null,"min_pool_size":7,"vswitches":{"cn-hangzhou-i":["vsw-9"]},
        "eni_tags":{"size":"big"}}"#,
    );
    let settings = Settings::parse(GOOD.as_bytes(), Some(&patch)).unwrap();
    assert_eq!(
        (settings.idle_min, settings.idle_max),
        (7, 7),
        "null removes a key"
    );
    let zone = ZoneId::new("cn-hangzhou-i").unwrap();
    assert_eq!(settings.vswitches[&zone].len(), 1, "a list is replaced");
    assert_eq!(settings.tags.len(), 2, "an object is merged");
    let bad = overlay(r#"{"ip_stack":"dual"}"#);
    let error = Settings::parse(GOOD.as_bytes(), Some(&bad)).unwrap_err();
    let text = crate::cause::chain(&error);
    assert!(
        text.contains("big-nodes") && text.contains("ip_stack"),
        "{text}"
    );
}

#[test]
fn no_damaged_eni_conf_breaks_the_reader() {
    let all = r#"{"vswitches":{"z":["vsw-1"]},"security_group":"sg-1","eni_cap_ratio":0.5,"eni_cap_shift":-1,
        "idle_ip_reclaim_after":"5m","rate_limit":{"AttachNetworkInterface":10},"ip_cooldown":"1h"}"#;
    let seeds: Vec<Vec<u8>> = [GOOD, all].map(|text| text.as_bytes().to_vec()).into();
    let mut mutator = fuzz::Mutator::new(1);
    for _ in 0..20_000 {
        let bytes = mutator.damaged(&seeds);
        // What is taken has numbers to go on with.
        if let Ok(settings) = Settings::parse(&bytes, None) {
            let _ = (settings.idle_min(LIMITS), settings.enis_max(LIMITS));
        }
    }
}
