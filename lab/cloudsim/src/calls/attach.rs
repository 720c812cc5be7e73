//! AttachNetworkInterface, DetachNetworkInterface, DeleteNetworkInterface.

use model::{EniId, InstanceId, Timestamp};

use super::{Body, check_region};
use crate::{params::Params, refusal::Outcome, world::World};

/// Which ENI, which instance, and for a member which trunk.
type Named = (EniId, InstanceId, Option<EniId>);

pub(super) fn attach(world: &mut World, now: Timestamp, params: &Params) -> Outcome<Body> {
    check_region(world, params)?;
    // No type of the region has more than one network card.
    params.number("NetworkCardIndex", 0..=0)?;
    let (eni, instance, trunk) = named(world, params)?;
    world.attach(now, &eni, &instance, trunk.as_ref())?;
    Ok(Body::new())
}

pub(super) fn detach(world: &mut World, now: Timestamp, params: &Params) -> Outcome<Body> {
    check_region(world, params)?;
    let (eni, instance, trunk) = named(world, params)?;
    world.detach(now, &eni, &instance, trunk.as_ref())?;
    Ok(Body::new())
}

fn named(world: &World, params: &Params) -> Outcome<Named> {
    let (eni, instance) = (
        params.required("NetworkInterfaceId")?,
        params.required("InstanceId")?,
    );
    let trunk = params.text("TrunkNetworkInstanceId");
    let trunk = trunk.map(|trunk| world.eni(trunk).map(|eni| eni.id.clone()));
    Ok((
        world.eni(eni)?.id.clone(),
        world.instance(instance)?.id.clone(),
        trunk.transpose()?,
    ))
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
