//! ModifyNetworkInterfaceAttribute.

use model::{EniKind, Timestamp};

use super::{Body, check_region};
use crate::{
    effect::Effect,
    params::Params,
    refusal::{Outcome, Refusal},
    state::kind_word,
    world::World,
};

const NOT_OFFERED: [&str; 6] = [
    "ConnectionTrackingConfiguration",
    "EnhancedNetwork",
    "NetworkInterfaceTrafficConfig",
    "QueueNumber",
    "RxQueueSize",
    "TxQueueSize",
];

pub(super) fn modify(world: &mut World, now: Timestamp, params: &Params) -> Outcome<Body> {
    check_region(world, params)?;
    params.refuse(&NOT_OFFERED)?;
    let eni = world.eni(params.required("NetworkInterfaceId")?)?;
    let (id, kind, checked) = (eni.id.clone(), eni.kind, eni.source_dest_check);
    let check = params.flag("SourceDestCheck")?;
    let delete_on_release = params.flag("DeleteOnRelease")?;
    let groups = params.list(
        "SecurityGroupId",
        world.config.limits.security_groups_per_eni,
    )?;
    let groups = world.security_groups(&groups)?;
    // The API page: the groups of a primary ENI are the instance's and change with it.
    if kind == EniKind::Primary && !groups.is_empty() {
        return Err(Refusal::eni_kind(&id, kind_word(kind)));
    }
    let name = params.text("NetworkInterfaceName");
    let description = params.text("Description");
    world.change(now, &id, |eni| {
        eni.source_dest_check = check.unwrap_or(eni.source_dest_check);
        eni.delete_on_release = delete_on_release.unwrap_or(eni.delete_on_release);
        if !groups.is_empty() {
            eni.security_groups.clone_from(&groups);
        }
        if let Some(name) = name {
            eni.name = name.into();
        }
        if let Some(description) = description {
            eni.description = description.into();
        }
    });
    if !groups.is_empty() {
        let eni = id.clone();
        world.effects.push_back(Effect::Join { eni, groups });
    }
    if let Some(enabled) = check.filter(|wanted| *wanted != checked) {
        world
            .effects
            .push_back(Effect::SourceDestCheck { eni: id, enabled });
    }
    Ok(Body::new())
}
