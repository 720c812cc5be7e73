//! AttachNetworkInterface, DetachNetworkInterface, DeleteNetworkInterface.

use model::Timestamp;

use super::{Body, check_region};
use crate::{params::Params, refusal::Outcome, world::World};

/// Trunk members ride on these; the API page calls them not yet available.
const NOT_OFFERED: [&str; 1] = ["TrunkNetworkInstanceId"];

pub(super) fn attach(world: &mut World, now: Timestamp, params: &Params) -> Outcome<Body> {
    check_region(world, params)?;
    params.refuse(&NOT_OFFERED)?;
    // No type of the region has more than one network card.
    params.number("NetworkCardIndex", 0..=0)?;
    let (eni, instance) = (
        params.required("NetworkInterfaceId")?,
        params.required("InstanceId")?,
    );
    let (eni, instance) = (
        world.eni(eni)?.id.clone(),
        world.instance(instance)?.id.clone(),
    );
    world.attach(now, &eni, &instance)?;
    Ok(Body::new())
}

pub(super) fn detach(world: &mut World, now: Timestamp, params: &Params) -> Outcome<Body> {
    check_region(world, params)?;
    params.refuse(&NOT_OFFERED)?;
    let (eni, instance) = (
        params.required("NetworkInterfaceId")?,
        params.required("InstanceId")?,
    );
    let (eni, instance) = (
        world.eni(eni)?.id.clone(),
        world.instance(instance)?.id.clone(),
    );
    world.detach(now, &eni, &instance)?;
    Ok(Body::new())
}

pub(super) fn delete(world: &mut World, now: Timestamp, params: &Params) -> Outcome<Body> {
    check_region(world, params)?;
    let eni = world
        .eni(params.required("NetworkInterfaceId")?)?
        .id
        .clone();
    world.delete(now, &eni)?;
    Ok(Body::new())
}
