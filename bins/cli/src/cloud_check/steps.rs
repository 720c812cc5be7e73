//! The steps of a check, in order: looking, one ENI's life, and calls that must be refused.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use cloud::{
    ecs::{
        AssignPrivateIpAddresses, AttachNetworkInterface, CreateNetworkInterface,
        DeleteNetworkInterface, DescribeInstanceTypes, DescribeNetworkInterfaces, DescribedEni,
        DetachNetworkInterface, NewEniKind, UnassignPrivateIpAddresses,
    },
    vpc::DescribeVSwitches,
};
use model::{ClientToken, EniId, EniStatus, FaultClass, InstanceId, SecurityGroupId, VSwitchId};
use tokio::time::{Instant, sleep};

use super::{
    CREATOR, TAG,
    plan::Plan,
    session::{Refusal, Session},
};

/// The type asked about when this is no instance: of a family every region has.
const USUAL_TYPE: &str = "ecs.g7.xlarge";

/// Addresses an ENI is made with, and given afterwards.
const ADDRESSES: u32 = 2;

/// How long a change may take to show: attaching takes up to 10 s, lists lag by a few.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often it is looked for.
const LOOK: Duration = Duration::from_millis(500);

/// The shape of a description that says where an ENI is attached.
const ATTACHED: &str = "DescribeNetworkInterfaces attached";

const MISMATCH: Refusal = Refusal {
    code: "IdempotentParameterMismatch",
    class: FaultClass::TokenMismatch,
};
const NO_VSWITCH: Refusal = Refusal {
    code: "InvalidVSwitchId.NotFound",
    class: FaultClass::Invalid,
};
const NO_GROUP: Refusal = Refusal {
    code: "InvalidSecurityGroupId.NotFound",
    class: FaultClass::Invalid,
};
const NO_ENI: Refusal = Refusal {
    code: "InvalidEniId.NotFound",
    class: FaultClass::Gone,
};
const NOT_HELD: Refusal = Refusal {
    code: "InvalidIp.IpUnassigned",
    class: FaultClass::Gone,
};

/// All steps. What was made is in the session, whatever happens.
pub(super) async fn all(session: &mut Session, plan: &Plan, run: &str, attach: bool) -> Option<()> {
    look(session, plan).await?;
    let create = creation(plan, run)?;
    let eni = make(session, &create).await?;
    must_not_be_made(session, &create).await?;
    addresses(session, &eni, run).await?;
    if let (true, Some(instance)) = (attach, &plan.instance) {
        attachment(session, &eni, &instance.instance).await?;
    }
    end(session, &eni).await
}

async fn look(session: &mut Session, plan: &Plan) -> Option<()> {
    let named = plan
        .instance
        .as_ref()
        .map(|instance| instance.instance_type.clone());
    let types = vec![named.unwrap_or_else(|| USUAL_TYPE.into())];
    session
        .ok(
            "limits of the instance type",
            &DescribeInstanceTypes { types },
        )
        .await;
    let question = DescribeVSwitches {
        id: plan.vswitch.clone(),
    };
    let found = session.ok("the vSwitch", &question).await;
    if let Some(found) = found {
        session.fact(
            "it is listed",
            "DescribeVSwitches",
            found.is_some(),
            "the answer does not list it",
        );
    }
    let question = DescribeVSwitches {
        id: VSwitchId::new("vsw-0000000000terwaycheck").ok()?,
    };
    if let Some(found) = session.ok("a vSwitch that is not there", &question).await {
        session.fact(
            "it is not listed",
            "DescribeVSwitches",
            found.is_none(),
            "the answer lists it",
        );
    }
    Some(())
}

/// The call that makes the ENI. Equal runs make equal calls.
fn creation(plan: &Plan, run: &str) -> Option<CreateNetworkInterface> {
    let mut tags = BTreeMap::new();
    tags.insert(CREATOR.0.to_owned(), CREATOR.1.to_owned());
    tags.insert(TAG.to_owned(), run.to_owned());
    Some(CreateNetworkInterface {
        vswitch: plan.vswitch.clone(),
        security_groups: plan.security_groups.clone(),
        primary_address: None,
        secondary_address_count: ADDRESSES,
        ipv4_prefix_count: 0,
        description: "made by terway-cli cloud-check, which deletes it".into(),
        tags,
        resource_group: plan.resource_group.clone(),
        kind: NewEniKind::Secondary,
        delete_on_release: true,
        token: token(run, "create")?,
    })
}

fn token(run: &str, what: &str) -> Option<ClientToken> {
    ClientToken::new(format!("terway-check-{run}-{what}")).ok()
}

async fn make(session: &mut Session, create: &CreateNetworkInterface) -> Option<EniId> {
    const STEP: &str = "make an ENI with addresses";
    let mut made = session.ok(STEP, create).await;
    if made.is_none() {
        // Its outcome may be unknown: the same call under the same token is the same ENI.
        made = session.quiet(create).await.ok();
    }
    let eni = made?;
    session.made.push(eni.id.clone());
    let secondary = eni.secondary_addresses().count();
    let expected = ADDRESSES as usize;
    let text = format!("{secondary} secondary addresses came, {expected} were asked for");
    session.fact(
        "it brings its addresses",
        "CreateNetworkInterface",
        secondary == expected,
        text,
    );
    let available = eni.status == EniStatus::Available;
    session.fact(
        "it is Available in the answer",
        "CreateNetworkInterface",
        available,
        format!("it is {:?}; the agent attaches it at once", eni.status),
    );
    if let Some(again) = session.ok("the same call again", create).await {
        keep(session, &again.id);
        let same = again.id == eni.id;
        session.fact(
            "it is the same ENI",
            "CreateNetworkInterface",
            same,
            "a second ENI was made",
        );
    }
    Some(eni.id)
}

/// Remembers an ENI that must be gone in the end.
fn keep(session: &mut Session, eni: &EniId) {
    if !session.made.contains(eni) {
        session.made.push(eni.clone());
    }
}

async fn must_not_be_made(session: &mut Session, create: &CreateNetworkInterface) -> Option<()> {
    let other = CreateNetworkInterface {
        secondary_address_count: ADDRESSES + 1,
        ..create.clone()
    };
    let nowhere = CreateNetworkInterface {
        vswitch: VSwitchId::new("vsw-0000000000terwaycheck").ok()?,
        token: ClientToken::new(format!("{}-vsw", create.token)).ok()?,
        ..create.clone()
    };
    let open = CreateNetworkInterface {
        security_groups: vec![SecurityGroupId::new("sg-0000000000terwaycheck").ok()?],
        token: ClientToken::new(format!("{}-sg", create.token)).ok()?,
        ..create.clone()
    };
    for (step, call, expected) in [
        ("its token with other parameters", &other, MISMATCH),
        ("an ENI in an unknown vSwitch", &nowhere, NO_VSWITCH),
        ("an ENI in an unknown security group", &open, NO_GROUP),
    ] {
        if let Some(eni) = session.refused(step, call, expected).await {
            keep(session, &eni.id);
        }
    }
    Some(())
}

async fn addresses(session: &mut Session, eni: &EniId, run: &str) -> Option<()> {
    let assign = AssignPrivateIpAddresses {
        eni: eni.clone(),
        count: ADDRESSES,
        token: token(run, "assign")?,
    };
    let given = session.ok("give it more addresses", &assign).await;
    if let Some(given) = &given {
        if let Some(again) = session.ok("the same call again", &assign).await {
            let same = again.addresses == given.addresses;
            session.fact(
                "they are the same addresses",
                "AssignPrivateIpAddresses",
                same,
                "others were given",
            );
        }
        let other = AssignPrivateIpAddresses {
            count: ADDRESSES + 1,
            ..assign.clone()
        };
        session
            .refused("its token with another count", &other, MISMATCH)
            .await;
    }
    let question = by_id(eni);
    session.ok("describe it", &question).await;
    if let Some(given) = given {
        let shown = until(session, eni, |seen| holds(seen, &given.addresses)).await;
        session.fact(
            "its new addresses show",
            "DescribeNetworkInterfaces",
            shown,
            "they did not within a minute",
        );
        let unassign = UnassignPrivateIpAddresses {
            eni: eni.clone(),
            addresses: given.addresses.clone(),
        };
        session.ok("take them back", &unassign).await;
        let gone = until(session, eni, |seen| !holds(seen, &given.addresses)).await;
        session.fact(
            "they are gone",
            "DescribeNetworkInterfaces",
            gone,
            "they still showed after a minute",
        );
        session
            .refused("take them back again", &unassign, NOT_HELD)
            .await;
    }
    let unknown = EniId::new("eni-0000000000terwaycheck").ok()?;
    if let Some(page) = session
        .ok("describe an ENI that is not there", &by_id(&unknown))
        .await
    {
        let empty = page.interfaces.is_empty();
        session.fact(
            "the answer is empty",
            "DescribeNetworkInterfaces",
            empty,
            "it lists something",
        );
    }
    Some(())
}

async fn attachment(session: &mut Session, eni: &EniId, instance: &InstanceId) -> Option<()> {
    let attach = AttachNetworkInterface {
        eni: eni.clone(),
        instance: instance.clone(),
        trunk: None,
    };
    session.ok("attach it to this instance", &attach).await?;
    let in_use = until(session, eni, |seen| is(seen, EniStatus::InUse)).await;
    session.fact(
        "it becomes InUse",
        "DescribeNetworkInterfaces",
        in_use,
        "it did not within a minute",
    );
    session
        .ok_as("describe it attached", ATTACHED, &by_id(eni))
        .await;
    let busy = Refusal {
        code: "InvalidOperation.InvalidEniState",
        class: FaultClass::Conflict,
    };
    session
        .refused(
            "delete it while attached",
            &DeleteNetworkInterface { eni: eni.clone() },
            busy,
        )
        .await;
    let detach = DetachNetworkInterface {
        eni: eni.clone(),
        instance: instance.clone(),
        trunk: None,
    };
    session.ok("detach it", &detach).await?;
    let free = until(session, eni, |seen| is(seen, EniStatus::Available)).await;
    session.fact(
        "it becomes Available",
        "DescribeNetworkInterfaces",
        free,
        "it did not within a minute",
    );
    Some(())
}

async fn end(session: &mut Session, eni: &EniId) -> Option<()> {
    let delete = DeleteNetworkInterface { eni: eni.clone() };
    session.ok("delete it", &delete).await?;
    let gone = until(session, eni, |seen| seen.is_none()).await;
    session.fact(
        "it is gone",
        "DescribeNetworkInterfaces",
        gone,
        "it still showed after a minute",
    );
    session.refused("delete it again", &delete, NO_ENI).await;
    let assign = AssignPrivateIpAddresses {
        eni: eni.clone(),
        count: 1,
        token: ClientToken::new(format!("{eni}-late")).ok()?,
    };
    session
        .refused("give it addresses when it is gone", &assign, NO_ENI)
        .await;
    Some(())
}

/// The question for one ENI.
pub(super) fn by_id(eni: &EniId) -> DescribeNetworkInterfaces {
    DescribeNetworkInterfaces {
        ids: vec![eni.clone()],
        ..DescribeNetworkInterfaces::default()
    }
}

fn holds(seen: Option<&DescribedEni>, addresses: &[IpAddr]) -> bool {
    let held = |address: &IpAddr| {
        seen.is_some_and(|seen| seen.eni.addresses.iter().any(|ip| ip.address == *address))
    };
    addresses.iter().any(held)
}

fn is(seen: Option<&DescribedEni>, status: EniStatus) -> bool {
    seen.is_some_and(|seen| seen.eni.status == status)
}

/// Looks at the ENI until `level` holds, for a minute at most, or until somebody asks to end.
async fn until(
    session: &Session,
    eni: &EniId,
    level: impl Fn(Option<&DescribedEni>) -> bool,
) -> bool {
    look_until(session, eni, level, || session.stopped()).await
}

/// The same for removing things, which goes on when somebody has asked to end.
pub(super) async fn settled(
    session: &Session,
    eni: &EniId,
    level: impl Fn(Option<&DescribedEni>) -> bool,
) -> bool {
    look_until(session, eni, level, || false).await
}

/// A look that fails is no look.
async fn look_until(
    session: &Session,
    eni: &EniId,
    level: impl Fn(Option<&DescribedEni>) -> bool,
    stopped: impl Fn() -> bool,
) -> bool {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Ok(page) = session.quiet(&by_id(eni)).await
            && level(page.interfaces.first())
        {
            return true;
        }
        if Instant::now() + LOOK > deadline || stopped() {
            return false;
        }
        sleep(LOOK).await;
    }
}
