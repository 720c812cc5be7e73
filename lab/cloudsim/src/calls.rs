//! The calls of the region: which there are, who serves them, what they have in common.

mod addresses;
mod attach;
mod create;
mod describe;
mod groups;
mod modify;
mod routes;
mod rules;
mod types;
mod vswitches;

use model::Timestamp;
use serde_json::{Map, Value};

use crate::{
    params::Params,
    refusal::{Outcome, Refusal},
    world::World,
};

/// The members of an answer, before the RequestId is added.
pub(crate) type Body = Map<String, Value>;

/// What serves a call.
pub(crate) type Serve = fn(&mut World, Timestamp, &Params) -> Outcome<Body>;

/// A call the region knows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    pub(crate) product: Product,
    pub(crate) action: &'static str,
    /// Whether it only looks, so that "nothing there" is an answer it can give.
    pub(crate) lists: Option<Empty>,
    pub(crate) serve: Serve,
}

/// The answer of a Describe that finds nothing.
pub(crate) type Empty = fn() -> Body;

/// A product of the cloud, by the version of its API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Product {
    Ecs,
    Vpc,
}

impl Product {
    pub(crate) const ALL: [Product; 2] = [Product::Ecs, Product::Vpc];

    pub(crate) fn version(self) -> &'static str {
        match self {
            Product::Ecs => "2014-05-26",
            Product::Vpc => "2016-04-28",
        }
    }

    /// As RAM policies and host names write it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Product::Ecs => "ecs",
            Product::Vpc => "vpc",
        }
    }

    /// As the error centre writes it.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Product::Ecs => "Ecs",
            Product::Vpc => "Vpc",
        }
    }
}

const fn act(action: &'static str, serve: Serve) -> Call {
    act_of(Product::Ecs, action, serve)
}

const fn act_of(product: Product, action: &'static str, serve: Serve) -> Call {
    Call {
        product,
        action,
        lists: None,
        serve,
    }
}

const fn list(product: Product, action: &'static str, empty: Empty, serve: Serve) -> Call {
    Call {
        product,
        action,
        lists: Some(empty),
        serve,
    }
}

const CALLS: [Call; 23] = [
    act("CreateNetworkInterface", create::create),
    act("AttachNetworkInterface", attach::attach),
    act("DetachNetworkInterface", attach::detach),
    act("DeleteNetworkInterface", attach::delete),
    act("AssignPrivateIpAddresses", addresses::assign),
    act("UnassignPrivateIpAddresses", addresses::unassign),
    act("ModifyNetworkInterfaceAttribute", modify::modify),
    act("CreateSecurityGroup", groups::create),
    act("DeleteSecurityGroup", groups::delete),
    act("ModifySecurityGroupPolicy", groups::policy),
    act("AuthorizeSecurityGroup", rules::authorize_in),
    act("AuthorizeSecurityGroupEgress", rules::authorize_out),
    act("RevokeSecurityGroup", rules::revoke_in),
    act("RevokeSecurityGroupEgress", rules::revoke_out),
    act("DescribeSecurityGroupAttribute", rules::describe),
    list(
        Product::Ecs,
        "DescribeSecurityGroups",
        groups::empty,
        groups::describe,
    ),
    list(
        Product::Ecs,
        "DescribeNetworkInterfaces",
        describe::empty,
        describe::describe,
    ),
    list(
        Product::Ecs,
        "DescribeInstanceTypes",
        types::empty,
        types::describe,
    ),
    list(
        Product::Vpc,
        "DescribeVSwitches",
        vswitches::empty,
        vswitches::describe,
    ),
    act_of(Product::Vpc, "CreateRouteEntry", routes::create),
    act_of(Product::Vpc, "DeleteRouteEntry", routes::delete),
    list(
        Product::Vpc,
        "DescribeRouteEntryList",
        routes::no_entries,
        routes::describe,
    ),
    list(
        Product::Vpc,
        "DescribeRouteTableList",
        routes::no_tables,
        routes::tables,
    ),
];

/// The call that `version` and `action` name.
pub(crate) fn find(version: &str, action: &str) -> Outcome<&'static Call> {
    let product = Product::ALL
        .into_iter()
        .find(|product| product.version() == version);
    let Some(product) = product else {
        let message = "Specified parameter Version is not valid.";
        return Err(Refusal::new(400, "InvalidVersion", message));
    };
    let known = |call: &&Call| call.product == product && call.action == action;
    CALLS.iter().find(known).ok_or_else(|| {
        let message = "Specified api is not found, please check your url and method.";
        Refusal::new(404, "InvalidAction.NotFound", message)
    })
}

/// Every call but DescribeVSwitches must name the region it is for, and it must be this one.
fn check_region(world: &World, params: &Params) -> Outcome<()> {
    let named = params.required("RegionId")?;
    if named == world.config.region.as_str() {
        Ok(())
    } else {
        Err(Refusal::no_region(named))
    }
}
