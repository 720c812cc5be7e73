//! Which PodNetworkings may be written.

use model::{
    PodKey,
    podnetworking::{EniAttachment, PodNetworking, Release, SECURITY_GROUPS_MAX, Tenure},
};

use super::Standing;

/// A PodNetworking that may be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// It, with what it left open filled in.
    pub networking: PodNetworking,
    /// What its author should know.
    pub warnings: Vec<String>,
}

/// Whether `new` may be written over `old`, and what is filled in.
///
/// # Errors
/// One sentence for its author.
pub fn admit_networking(
    old: Option<&PodNetworking>,
    mut new: PodNetworking,
    standing: &Standing<'_>,
) -> Result<Admitted, String> {
    let defaults = standing.defaults;
    let mut warnings = Vec::new();
    let selects = |one: &PodNetworking| one.pods.is_some() || one.namespaces.is_some();
    if !standing.inject_resource && !selects(&new) && new.attachment != EniAttachment::Default {
        return Err(
            "without a selector, only eniType Default is possible while enableWebhookInjectResource is off: \
             pods that ask for it by name would request no ENI, and the scheduler would not count them"
                .into(),
        );
    }
    if new.vswitches.is_empty() {
        new.vswitches = defaults.vswitches.values().flatten().cloned().collect();
    }
    if new.security_groups.is_empty() {
        new.security_groups.clone_from(&defaults.security_groups);
    }
    if new.vswitches.is_empty() {
        return Err("vSwitchOptions is empty, and eni_conf names no vSwitch either".into());
    }
    let groups = new.security_groups.len();
    if groups == 0 || groups > SECURITY_GROUPS_MAX {
        return Err(format!(
            "securityGroupIDs has {groups} entries: 1 to {SECURITY_GROUPS_MAX} are possible"
        ));
    }
    if let Tenure::Fixed(Release::After(delay)) = new.tenure
        && delay < standing.release_after_min
    {
        let sentence = format!(
            "releaseAfter is {}s, but at least {}s are needed: a shorter promise does not outlive a node's restart",
            delay.as_secs(),
            standing.release_after_min.as_secs()
        );
        // An object from before this rule goes on as it is.
        if old.is_none_or(|old| old.tenure != new.tenure) {
            return Err(sentence);
        }
        warnings.push(sentence);
    }
    let kept = [new.warm.members_per_node, new.warm.enis_per_zone];
    if kept.iter().flatten().any(|number| *number > 0) {
        if new.tenure.is_fixed() {
            return Err("ENIs can be kept ready for pods with elastic addresses only: a fixed one has an owner".into());
        }
        if new.attachment == EniAttachment::Own {
            return Err(
                "ENIs are kept ready as members of a trunk only: eniOptions.eniType is ENI".into(),
            );
        }
    }
    let same = |one: &&PodNetworking| {
        one.name != new.name
            && selects(one)
            && (&one.pods, &one.namespaces) == (&new.pods, &new.namespaces)
    };
    if let Some(twin) = standing.networkings.values().find(same) {
        warnings.push(format!(
            "PodNetworking {} selects the same pods; the first by name that is Ready is used",
            twin.name
        ));
    }
    Ok(Admitted {
        networking: new,
        warnings,
    })
}

/// What whoever deletes a PodNetworking should know while `pods` pods use it, `one` of them. It may be
/// deleted: what runs keeps what it has.
pub fn deletion_warning(
    name: &str,
    networking: Option<&PodNetworking>,
    pods: usize,
    one: &PodKey,
) -> String {
    let by_name = networking.is_some_and(|one| one.pods.is_none() && one.namespaces.is_none());
    let then = match by_name {
        true => "new ones that ask for it are refused",
        false => {
            "new ones get what the next PodNetworking that selects them says, or an address of the node's shared ENIs"
        }
    };
    format!(
        "pods that use PodNetworking {name}: {pods}, one is {one}. They keep their ENIs; {then}"
    )
}
