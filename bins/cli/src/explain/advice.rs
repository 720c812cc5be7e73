//! What a person can do about a reason, whoever gave it: the cloud's codes, the agent's sentences and the
//! container runtime's words are recognised by what is in them.

/// Words, in lower case, and what to do when one of them is in a reason. The first rows win.
const ADVICE: [(&[&str], &str); 19] = [
    (
        &["held back: degradation"],
        "take degradation out of ctrl-config.yaml (ConfigMap kube-system/terway-controlplane) when the bad day is over; no restart is needed",
    ),
    (
        &[
            "ipnotenough",
            "has a free address",
            "no free address",
            "vswitch is full",
        ],
        "add a vSwitch of the node's zone to eni_conf key vswitches, or free addresses in the ones named; no restart is needed",
    ),
    (
        &["invalidvswitchid", "vswitch does not exist"],
        "correct eni_conf key vswitches: a vSwitch named there does not exist or is of another zone",
    ),
    (
        &["invalidsecuritygroup"],
        "correct eni_conf key security_groups: a group named there does not exist or is of another VPC",
    ),
    (
        &[
            "eniperinstancelimit",
            "instance type allows no further",
            "enis allowed",
        ],
        "the node is full: use a larger instance type or more nodes, or raise max_eni if that is what caps it",
    ),
    (
        &["maxenicount", "account's eni quota"],
        "raise the account's ENI quota in the region (Quota Center), or delete ENIs nobody uses",
    ),
    (
        &["securitygroupinstancelimit", "security group is full"],
        "use another security group (eni_conf key security_groups), or an enterprise one, which holds more",
    ),
    (
        &[
            "invalidaccesskeyid",
            "signaturedoesnotmatch",
            "signature is wrong",
        ],
        "correct the AccessKey (eni_conf keys access_key and access_secret, or the mounted Secret), and check the node's clock",
    ),
    (
        &["no credentials", "no accesskey", "no ram role"],
        "give the agent an AccessKey, or the instance a RAM role",
    ),
    (
        &[
            "forbidden.ram",
            "nopermission",
            "not permitted",
            "unauthorized",
            "not authorized",
        ],
        "grant the RAM action that the message names to the agent's AccessKey or role",
    ),
    (
        &["no trunk eni"],
        "set enable_eni_trunking in eni_conf and give the agent capability BPF (docs/controlplane.md), on an instance type that has trunks; `kubectl describe node` says why there is none",
    ),
    (
        &["belongs to zone"],
        "delete the pod, so that it is scheduled to a node of that zone; or its PodENI, which gives the fixed address up",
    ),
    (&["arrearage"], "settle the account's bill"),
    (
        &["throttl", "toomanyrequests"],
        "nothing: throttling passes. If it stays for hours, something else in the account makes too many calls",
    ),
    (
        &[
            "outcome is unknown",
            "connection failed",
            "before its deadline",
        ],
        "check that the node reaches the cloud's API (ECS_ENDPOINT, security group, DNS)",
    ),
    (
        &["metadata"],
        "check that the node reaches the metadata service, http://100.100.100.200",
    ),
    (
        &["failed to find plugin", "no such file or directory"],
        "the plugin is not where the runtime looks: see the log of init container install of the agent's pod, and the runtime's bin_dir",
    ),
    (
        &[
            "cni plugin not initialized",
            "no networks found",
            "cni config uninitialized",
        ],
        "the runtime has no CNI configuration: the agent writes it when it is ready, so see why it is not (`terway-cli status` on the node)",
    ),
    (
        &[
            "kernel refused",
            "operation not permitted",
            "operation not supported",
        ],
        "the kernel refused: see the agent's log for what, and report it with `terway-cli sysdump`",
    ),
];

/// What can be done about `reasons`, each advice once; at least one.
pub(crate) fn about(reasons: &[String]) -> Vec<String> {
    let mut list: Vec<String> = Vec::new();
    for reason in reasons {
        let reason = reason.to_lowercase();
        let known = ADVICE
            .iter()
            .find(|(words, _)| words.iter().any(|word| reason.contains(word)));
        if let Some((_, advice)) = known
            && !list.iter().any(|given| given == advice)
        {
            list.push((*advice).to_owned());
        }
    }
    if list.is_empty() {
        list.push(
            "nothing yet: ask again in a minute, and see `terway-cli status` for the whole node"
                .into(),
        );
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clouds_codes_and_our_sentences_are_recognised() {
        for (reason, expected) in [
            (
                "CreateNetworkInterface was refused with InvalidVSwitchId.IpNotEnough (HTTP 403)",
                "add a vSwitch",
            ),
            (
                "none of the vSwitches vsw-1 has a free address in zone cn-hangzhou-i",
                "add a vSwitch",
            ),
            (
                "refused with InvalidVSwitchId.NotFound",
                "correct eni_conf key vswitches",
            ),
            ("Forbidden.RAM: User not authorized", "grant the RAM action"),
            (
                "exhausted: the account's ENI quota is used up",
                "Quota Center",
            ),
            (
                "failed to find plugin \"terway\" in path [/opt/cni/bin]",
                "bin_dir",
            ),
            ("something new", "ask again"),
        ] {
            let advice = about(&[reason.to_owned()]);
            assert_eq!(advice.len(), 1);
            assert!(advice[0].contains(expected), "{reason}: {advice:?}");
        }
    }

    #[test]
    fn the_same_advice_is_given_once() {
        let reasons = ["Throttling".to_owned(), "Throttling.User".to_owned()];
        assert_eq!(about(&reasons).len(), 1);
    }
}
