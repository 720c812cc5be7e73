//! Which of the cloud's error codes is which [`FaultClass`].
//!
//! The codes are those in the public error tables of the calls in [`ecs`](crate::ecs) and
//! [`vpc`](crate::vpc) and of the RPC gateway. The cloud keeps adding variants, so after the exact
//! codes come families of them, and then the HTTP status. Whatever could mean that the call was
//! carried out is Unknown: that costs a describe, while a wrong "no" costs an ENI nobody knows of.

use model::{Exhausted, FaultClass};

/// The class of a refusal with `code` and `http_status`.
pub fn classify(code: &str, http_status: u16) -> FaultClass {
    exact(code)
        .or_else(|| family(code))
        .unwrap_or_else(|| by_status(http_status))
}

/// Codes that are known by name.
fn exact(code: &str) -> Option<FaultClass> {
    use FaultClass as Class;
    Some(match code {
        // The flow control answers with 503 in places, so its codes come before any status.
        "Throttling" | "ServiceThrottling" | "TooManyRequests" => Class::Throttled,

        "InvalidVSwitchId.IpNotEnough" | "QuotaExceeded.PrivateIpAddress" => {
            Class::Exhausted(Exhausted::VSwitch)
        }
        "EniPerInstanceLimitExceeded" => Class::Exhausted(Exhausted::EniPerInstance),
        "InvalidOperation.Ipv4CountExceeded" | "InvalidOperation.Ipv6CountExceeded" => {
            Class::Exhausted(Exhausted::AddressPerEni)
        }
        "MaxEniCountExceeded" => Class::Exhausted(Exhausted::Account),
        "SecurityGroupInstanceLimitExceed" | "SecurityGroupInstanceLimitExceeded" => {
            Class::Exhausted(Exhausted::SecurityGroup)
        }
        // CreateRouteEntry's word for it, without saying of what; no other call of ours answers so.
        "QuotaExceeded" => Class::Exhausted(Exhausted::RouteTable),

        // The object, or the first call under the same token, is in the middle of something.
        "Operation.Conflict"
        | "OperationConflict"
        | "InvalidOperation.Conflict"
        | "InvalidOperation.InvalidEniState"
        | "InvalidOperation.InvalidEcsState"
        | "IncorrectInstanceStatus"
        | "IncorrectVSwitchStatus"
        | "IdempotentProcessing"
        // The route table, or its VPC, is changing; or the block has an entry, which a look will show.
        | "IncorrectRouteEntryStatus"
        | "IncorrectVpcStatus"
        | "TaskConflict"
        | "OperationFailed.DistibuteLock"
        | "InvalidCIDRBlock.Duplicate"
        | "InvalidRouteEntry.Duplicate"
        | "RouteConflict.AlreadyExist" => Class::Conflict,

        // What the call is about is not there. A missing vSwitch or security group is not among
        // these: it makes the request wrong.
        "InvalidEniId.NotFound"
        | "InvalidEcsId.NotFound"
        | "InvalidInstanceId.NotFound"
        | "InvalidIp.IpUnassigned"
        | "InvalidRouteEntry.NotFound"
        | "InvalidRouteEntryId.NotFound" => Class::Gone,

        // The token is spent: the cloud wants a new one.
        "IdempotentParameterMismatch" | "IdempotentFailed" => Class::TokenMismatch,

        // Who we are, or what we may.
        "SignatureDoesNotMatch"
        | "IncompleteSignature"
        | "SignatureNonceUsed"
        | "InvalidTimeStamp.Expired"
        | "InvalidTimeStamp.Format"
        | "MissingSecurityToken"
        | "Abs.InvalidAccount.NotFound"
        | "NoPermission"
        | "UnauthorizedOperation"
        | "OperationDenied.NoPermission"
        | "Account.Arrearage" => Class::Denied,

        // Temporary failures of the server say nothing about what it had done before.
        "InternalError" | "ServiceUnavailable" | "UnknownError" | "OperationTimeout" => {
            Class::Unknown
        }
        _ => return None,
    })
}

/// Codes that are known by how they begin.
fn family(code: &str) -> Option<FaultClass> {
    const FAMILIES: [(&str, FaultClass); 9] = [
        ("Throttling.", FaultClass::Throttled),
        ("Operation.Conflict", FaultClass::Conflict),
        ("IdempotentParameterMismatch", FaultClass::TokenMismatch),
        // Forbidden.RAM, Forbidden.SubUser, ForbiddenRAM; but Forbidden.RegionId below.
        ("Forbidden", FaultClass::Denied),
        ("InvalidAccessKeyId", FaultClass::Denied),
        ("InvalidSecurityToken", FaultClass::Denied),
        ("SecurityTokenExpired", FaultClass::Denied),
        ("InternalError", FaultClass::Unknown),
        ("ServiceUnavailable", FaultClass::Unknown),
    ];
    if code == "Forbidden.RegionId" {
        // The region does not offer the call: a wrong request, not a missing permission.
        return Some(FaultClass::Invalid);
    }
    let known = FAMILIES.iter().find(|(start, _)| code.starts_with(start));
    known.map(|&(_, class)| class)
}

/// What the HTTP status alone says.
fn by_status(http_status: u16) -> FaultClass {
    match http_status {
        429 => FaultClass::Throttled,
        // Not 403: the ECS API uses it for most refusals that have nothing to do with permission.
        401 | 407 => FaultClass::Denied,
        // The server gave up waiting, or says that it does not know yet.
        408 | 425 => FaultClass::Unknown,
        400..=499 => FaultClass::Invalid,
        // 5xx, and what no API answers a refusal with.
        _ => FaultClass::Unknown,
    }
}
