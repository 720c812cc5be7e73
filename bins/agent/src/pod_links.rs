//! How new pods are joined to the node, found out once, when the agent starts: what the CNI configuration asks
//! for, what the node can, and what stands on it. What comes of that is the engine's to say.

use std::path::Path;

use datapath::Netlink;
use engine::{
    ledger::Ledger,
    node::{Config, IpvlanCase, ipvlan_policy},
};
use ipnet::IpNet;
use model::{Mac, family::host_net};

use crate::{
    cause::chain,
    cniconf::{self, Asked},
    mode::Mode,
    notices::Notices,
    privileges::may_load_programs,
};

/// What was found out.
#[derive(Debug, Clone, Default)]
pub(crate) struct PodLinks {
    /// What was asked for.
    pub(crate) asked: Asked,
    /// Why pods get veth links though ipvlan is asked for.
    pub(crate) lack: Option<String>,
}

/// Finds out what the node does and writes it into `config`; what is asked for and cannot be is said. `try_it` is
/// asked what pods on ipvlan reach by the node, or what it lacks.
pub(crate) fn choose(
    (source, mode): (&Path, Mode),
    ledger: &Ledger,
    config: &mut Config,
    notices: &Notices,
    try_it: impl FnOnce(Mac, &[IpNet]) -> Result<Vec<IpNet>, String>,
) -> PodLinks {
    // What cannot be read is complained of elsewhere, and says nothing against what was so far.
    let earlier = config.policy.ipvlan.take();
    let earlier = earlier.map(|it| Asked {
        ipvlan: it.new_pods,
        by_host: it.by_host,
    });
    let asked = cniconf::asked(source).or(earlier).unwrap_or_default();
    if mode != Mode::EniMultiIp {
        return PodLinks { asked, lack: None };
    }
    let case = IpvlanCase {
        asked: asked.ipvlan,
        stands: ledger.attachments().any(|it| !it.joint.is_veth()),
        services: !config.policy.services.is_empty(),
    };
    let (policy, lack) = ipvlan_policy(&case, || try_it(config.primary_mac, &asked.by_host));
    config.policy.ipvlan = policy;
    let lack = lack.map(|why| {
        format!("the CNI configuration asks for ipvlan, and new pods get veth links: {why}")
    });
    lack.iter().for_each(|text| notices.veth_instead(text));
    PodLinks { asked, lack }
}

/// Whether this process can have pods on ipvlan in this kernel, and what they reach by the node.
pub(crate) fn try_it(primary: Mac, by_host: &[IpNet]) -> Result<Vec<IpNet>, String> {
    if !may_load_programs() {
        return Err(
            "the agent may load no eBPF program; apply deploy/overlays/trunk, which gives it capability BPF"
                .into(),
        );
    }
    let tried = Netlink::open().and_then(|mut netlink| {
        datapath::probe_ipvlan(&mut netlink)?;
        let own = netlink.link_by_mac(primary)?;
        let observed = datapath::observe(&mut netlink)?;
        let of_own = observed.addresses.into_iter();
        let of_own = of_own.filter(|it| own.as_ref().is_some_and(|own| own.name == it.link));
        Ok(Vec::from_iter(of_own.map(|it| it.address.addr())))
    });
    let own = tried.map_err(|error| chain(&error))?;
    if own.is_empty() {
        return Err(format!(
            "no link with the MAC {primary} of the node's own ENI has an address"
        ));
    }
    let mut all: Vec<IpNet> = own.into_iter().map(host_net).collect();
    all.extend(
        by_host
            .iter()
            .filter(|net| !all.contains(net))
            .copied()
            .collect::<Vec<_>>(),
    );
    Ok(all)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use model::InstanceLimits;

    use super::*;
    use crate::{
        config::Settings,
        facts::{self, Known},
    };

    fn config(eni_conf: &str) -> Config {
        let settings = Settings::parse(eni_conf.as_bytes(), None).unwrap();
        let known = Known {
            instance: "i-1".to_owned().try_into().unwrap(),
            region: "cn-hangzhou".to_owned().try_into().unwrap(),
            zone: "cn-hangzhou-i".to_owned().try_into().unwrap(),
            instance_type: "ecs.g7.xlarge".into(),
            primary_mac: Mac([2; 6]),
            limits: InstanceLimits {
                enis: 4,
                ipv4_per_eni: 10,
                ipv6_per_eni: 0,
                enis_total: 4,
                trunk: false,
            },
            block: None,
        };
        facts::config(&settings, &known)
    }

    const CONF: &str = r#"{"security_group":"sg-1","service_cidr":"10.96.0.0/16"}"#;
    const CHAIN: &str = r#"{"plugins":[{"type":"terway","eniip_virtual_type":"IPVlan",
        "host_stack_cidrs":["169.254.20.10/32"]}]}"#;

    #[tokio::test]
    async fn a_node_that_cannot_have_ipvlan_has_veth_links_and_says_why() {
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path();
        // Another test may have installed it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let nowhere = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        let client = kube::Client::try_from(nowhere).unwrap();
        let notices = Notices::new(client, "n1".into());
        let ledger = Ledger::default();
        let start = |config: &mut Config, mode, can: bool| {
            let place = (source, mode);
            choose(place, &ledger, config, &notices, |mac, by_host| {
                assert_eq!(mac, Mac([2; 6]));
                can.then(|| by_host.to_vec()).ok_or("no ipvlan here".into())
            })
        };
        let new_pods = |config: &Config| config.policy.ipvlan.as_ref().map(|it| it.new_pods);
        let told = || notices.counts().get("VirtualModeChanged").copied();
        let mut config = config(CONF);
        let eni_ip = Mode::EniMultiIp;
        assert_eq!(start(&mut config, eni_ip, true).lack, None);
        assert_eq!(new_pods(&config), None, "nobody asks for it");

        fs::write(source.join("10-terway.conflist"), CHAIN).unwrap();
        let links = start(&mut config, eni_ip, true);
        assert!(links.asked.ipvlan);
        assert_eq!((new_pods(&config), told()), (Some(true), None));
        let by_host = &config.policy.ipvlan.as_ref().unwrap().by_host;
        assert_eq!(by_host[..], ["169.254.20.10/32".parse().unwrap()]);

        fs::remove_file(source.join("10-terway.conflist")).unwrap();
        start(&mut config, eni_ip, true);
        assert_eq!(new_pods(&config), Some(true), "as the last agent had it");

        let why = start(&mut config, eni_ip, false).lack.unwrap();
        assert!(
            why.ends_with("new pods get veth links: no ipvlan here"),
            "{why}"
        );
        assert_eq!((new_pods(&config), told()), (None, Some(1)));

        fs::write(source.join("10-terway.conflist"), CHAIN).unwrap();
        let mut bare = super::tests::config(r#"{"security_group":"sg-1"}"#);
        let why = start(&mut bare, eni_ip, true).lack.unwrap();
        assert!(
            why.contains("eni_conf key service_cidr is missing"),
            "{why}"
        );
        assert_eq!((new_pods(&bare), told()), (None, Some(2)));

        assert_eq!(start(&mut config, Mode::Vpc, true).lack, None);
        assert_eq!(new_pods(&config), None, "it is of the other mode");
    }
}
