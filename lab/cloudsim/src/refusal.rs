//! The cloud's refusals: codes and HTTP statuses as the API pages of ECS and VPC list them.
//!
//! Sources: the section "Error codes" of each action's page (ECS 2014-05-26), and the list of
//! common error codes of the gateway. Codes marked *unconfirmed* are the closest documented one.

use std::fmt::Display;

use crate::group::Direction;

/// A call that was not carried out, as its caller sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

pub(crate) type Outcome<T> = Result<T, Refusal>;

impl Refusal {
    pub(crate) fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            status,
            code,
            message,
        }
    }

    // The gateway: who calls, with which signature, what.

    pub(crate) fn missing(parameter: &str) -> Self {
        Self::new(
            400,
            "MissingParameter",
            format!(
                "The input parameter \"{parameter}\" that is mandatory for processing this request is not supplied."
            ),
        )
    }

    pub(crate) fn invalid(parameter: &str, expected: impl Display) -> Self {
        Self::new(
            400,
            "InvalidParameter",
            format!("The specified parameter \"{parameter}\" is not valid: expected {expected}."),
        )
    }

    pub(crate) fn conflicting(one: &str, other: &str) -> Self {
        Self::new(
            400,
            "InvalidParameter.Conflict",
            format!("The parameters {one} and {other} cannot be specified at the same time."),
        )
    }

    pub(crate) fn unsupported(parameter: &str) -> Self {
        Self::new(
            400,
            "UnsupportedParameter",
            format!("The parameter {parameter} is not supported in this region."),
        )
    }

    pub(crate) fn throttled() -> Self {
        Self::new(
            400,
            "Throttling",
            "Request was denied due to request throttling.",
        )
    }

    pub(crate) fn internal() -> Self {
        Self::new(
            500,
            "InternalError",
            "The request processing has failed due to some unknown error, exception or failure.",
        )
    }

    pub(crate) fn not_granted() -> Self {
        Self::new(
            403,
            "Forbidden.RAM",
            "User not authorized to operate on the specified resource, or this API doesn't support RAM.",
        )
    }

    pub(crate) fn token_reused() -> Self {
        Self::new(
            400,
            "IdempotentParameterMismatch",
            "Request uses a client token in a previous request but is not identical to that request.",
        )
    }

    // Things that are not there.

    fn gone(code: &'static str, what: &str, id: impl Display) -> Self {
        Self::new(
            404,
            code,
            format!("The specified {what} does not exist: {id}"),
        )
    }

    pub(crate) fn no_region(id: impl Display) -> Self {
        Self::gone("InvalidRegionId.NotFound", "RegionId", id)
    }

    pub(crate) fn no_eni(id: impl Display) -> Self {
        Self::gone("InvalidEniId.NotFound", "NetworkInterfaceId", id)
    }

    pub(crate) fn no_instance(id: impl Display) -> Self {
        Self::gone("InvalidEcsId.NotFound", "InstanceId", id)
    }

    pub(crate) fn no_vswitch(id: impl Display) -> Self {
        Self::gone("InvalidVSwitchId.NotFound", "VSwitchId", id)
    }

    pub(crate) fn no_security_group(id: impl Display) -> Self {
        Self::gone("InvalidSecurityGroupId.NotFound", "SecurityGroupId", id)
    }

    pub(crate) fn no_vpc(id: impl Display) -> Self {
        Self::gone("InvalidVpcId.NotFound", "VpcId", id)
    }

    pub(crate) fn no_source_group(id: impl Display) -> Self {
        Self::gone("InvalidSourceGroupId.NotFound", "SourceGroupId", id)
    }

    /// The two pages name a code each.
    pub(crate) fn no_rule(direction: Direction, id: impl Display) -> Self {
        let code = match direction {
            Direction::Inbound => "InvalidParam.SecurityGroupRuleId",
            Direction::Outbound => "InvalidSecurityGroupRule.RuleNotExist",
        };
        Self::gone(code, "SecurityGroupRuleId", id)
    }

    // Security groups.

    pub(crate) fn bad_protocol() -> Self {
        let message = "The parameter IpProtocol must be specified with case insensitive TCP, UDP, ICMP, GRE or All.";
        Self::new(400, "InvalidIpProtocol.ValueNotSupported", message)
    }

    pub(crate) fn bad_ports() -> Self {
        let message =
            "The specified IpProtocol does not exist or IpProtocol and PortRange do not match.";
        Self::new(400, "OperationDenied", message)
    }

    pub(crate) fn bad_policy() -> Self {
        let message = "The specified parameter \"Policy\" is not valid.";
        Self::new(400, "InvalidPolicy.Malformed", message)
    }

    pub(crate) fn bad_priority() -> Self {
        let message = "The parameter Priority is invalid.";
        Self::new(400, "InvalidPriority.ValueNotSupported", message)
    }

    pub(crate) fn bad_network(source: bool, parameter: &str) -> Self {
        let code = match source {
            true => "InvalidSourceCidrIp.Malformed",
            false => "InvalidDestCidrIp.Malformed",
        };
        let message = format!("The specified parameter \"{parameter}\" is not valid.");
        Self::new(400, code, message)
    }

    pub(crate) fn no_remote(source: bool) -> Self {
        let code = match source {
            true => "MissingParameter.Source",
            false => "MissingParameter.Dest",
        };
        let message =
            "One of the parameters for a CIDR block or a security group must be specified.";
        Self::new(400, code, message)
    }

    pub(crate) fn group_of_itself(id: impl Display) -> Self {
        let message = format!(
            "The specified SecurityGroupId should be different from the SourceGroupId: {id}"
        );
        // So spelled by the cloud.
        Self::new(403, "InvalidParamter.Conflict", message)
    }

    pub(crate) fn too_many_rules(id: impl Display, limit: usize) -> Self {
        let message = format!(
            "The limit of authorization records in the security group reaches: {id} may have {limit}."
        );
        Self::new(403, "AuthorizationLimitExceed", message)
    }

    pub(crate) fn group_in_use(id: impl Display) -> Self {
        let message =
            format!("There is still instance(s) or rule(s) that use the security group {id}.");
        Self::new(403, "DependencyViolation", message)
    }

    // States and kinds.

    pub(crate) fn eni_state(id: impl Display, state: &str, wanted: &str) -> Self {
        Self::new(
            400,
            "InvalidOperation.InvalidEniState",
            format!(
                "The operation is not allowed in the current ENI state: {id} is {state}, expected {wanted}."
            ),
        )
    }

    pub(crate) fn eni_kind(id: impl Display, kind: &str) -> Self {
        Self::new(
            403,
            "InvalidOperation.InvalidEniType",
            format!("The operation is not allowed for the current ENI type: {id} is {kind}."),
        )
    }

    pub(crate) fn detach_primary(id: impl Display) -> Self {
        Self::new(
            400,
            "InvalidOperation.DetachPrimaryEniNotAllowed",
            format!("Detaching the primary ENI from an ECS instance is not allowed: {id}"),
        )
    }

    pub(crate) fn zone(eni: impl Display, instance: impl Display) -> Self {
        Self::new(
            403,
            "InvalidOperation.AvailabilityZoneMismatch",
            format!("The ENI is in zone {eni} and the instance in zone {instance}."),
        )
    }

    // Route entries.

    pub(crate) fn no_route_table(id: impl Display) -> Self {
        Self::gone("InvalidRouteTableId.NotFound", "RouteTableId", id)
    }

    pub(crate) fn no_route(id: impl Display) -> Self {
        Self::gone("InvalidRouteEntry.NotFound", "RouteEntryId", id)
    }

    pub(crate) fn no_next_hop(id: impl Display) -> Self {
        let message = format!("Specified next hop does not exist: {id}");
        Self::new(400, "InvalidNextHop.NotFound", message)
    }

    pub(crate) fn bad_destination(cidr: impl Display) -> Self {
        let message = format!("Specified CIDR block is not valid: {cidr}");
        Self::new(400, "InvalidCidrBlock", message)
    }

    pub(crate) fn route_taken(cidr: impl Display) -> Self {
        let message = format!("Specified CIDR block is already exists: {cidr}");
        Self::new(400, "InvalidCIDRBlock.Duplicate", message)
    }

    pub(crate) fn routes_unstable() -> Self {
        let message = "Some route entry status blocked this operation.";
        Self::new(400, "IncorrectRouteEntryStatus", message)
    }

    pub(crate) fn too_many_routes(limit: usize) -> Self {
        let message = format!("Route entry quota exceeded in this route table: {limit}");
        Self::new(400, "QuotaExceeded", message)
    }

    // Quotas and addresses.

    pub(crate) fn too_many_enis(limit: impl Display) -> Self {
        Self::new(
            403,
            "MaxEniCountExceeded",
            format!("The maximum number of ENIs of the account in this region is reached: {limit}"),
        )
    }

    pub(crate) fn too_many_on_instance(instance: impl Display, limit: u32) -> Self {
        Self::new(
            403,
            "EniPerInstanceLimitExceeded",
            format!(
                "The number of ENIs exceeds the limit of the instance type: {instance} may have {limit}."
            ),
        )
    }

    pub(crate) fn too_many_addresses(eni: impl Display, limit: u32) -> Self {
        Self::new(
            403,
            "InvalidOperation.Ipv4CountExceeded",
            format!(
                "The number of private IPv4 addresses exceeds the limit: {eni} may have {limit}."
            ),
        )
    }

    pub(crate) fn vswitch_full(vswitch: impl Display, wanted: usize, free: usize) -> Self {
        Self::new(
            403,
            "InvalidVSwitchId.IpNotEnough",
            format!(
                "The specified VSwitch {vswitch} has {free} free IP addresses, {wanted} were asked for."
            ),
        )
    }

    /// Unconfirmed: no page says which code it is when no reserved block has a prefix left.
    pub(crate) fn no_block(vswitch: impl Display, wanted: usize, free: usize) -> Self {
        Self::new(
            403,
            "InvalidVSwitchId.IpNotEnough",
            format!(
                "The reserved CIDR blocks of VSwitch {vswitch} have {free} free prefixes, {wanted} were asked for."
            ),
        )
    }

    pub(crate) fn address_outside(vswitch: impl Display, address: impl Display) -> Self {
        Self::new(
            403,
            "InvalidVSwitchId.IpInvalid",
            format!(
                "The specified private IP address {address} is not one that VSwitch {vswitch} gives out."
            ),
        )
    }

    pub(crate) fn address_taken(address: impl Display) -> Self {
        Self::new(
            403,
            "InvalidIp.IpAssigned",
            format!("The specified IP address is already assigned: {address}"),
        )
    }

    pub(crate) fn address_twice(address: impl Display) -> Self {
        Self::new(
            403,
            "InvalidIp.IpRepeated",
            format!("The specified IP address is repeated: {address}"),
        )
    }

    pub(crate) fn address_unassigned(address: impl Display) -> Self {
        Self::new(
            403,
            "InvalidIp.IpUnassigned",
            format!("The specified IP address is not assigned to the ENI: {address}"),
        )
    }
}
