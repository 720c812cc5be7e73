//! The classification of the cloud's refusals, code by code.

use model::{
    Exhausted::{Account, AddressPerEni, EniPerInstance, RouteTable, SecurityGroup, VSwitch},
    FaultClass::{
        self, Conflict, Denied, Exhausted, Gone, Invalid, Throttled, TokenMismatch, Unknown,
    },
};
use terway_cloud::classify;

/// Code, HTTP status it is documented with, class.
const TABLE: &[(&str, u16, FaultClass)] = &[
    ("Throttling", 400, Throttled),
    ("Throttling.User", 400, Throttled),
    ("Throttling.Api", 400, Throttled),
    ("Throttling.User", 503, Throttled),
    ("ServiceThrottling", 429, Throttled),
    ("InvalidVSwitchId.IpNotEnough", 403, Exhausted(VSwitch)),
    ("QuotaExceeded.PrivateIpAddress", 400, Exhausted(VSwitch)),
    (
        "EniPerInstanceLimitExceeded",
        403,
        Exhausted(EniPerInstance),
    ),
    (
        "InvalidOperation.Ipv4CountExceeded",
        403,
        Exhausted(AddressPerEni),
    ),
    (
        "InvalidOperation.Ipv6CountExceeded",
        403,
        Exhausted(AddressPerEni),
    ),
    ("MaxEniCountExceeded", 403, Exhausted(Account)),
    (
        "SecurityGroupInstanceLimitExceed",
        403,
        Exhausted(SecurityGroup),
    ),
    (
        "SecurityGroupInstanceLimitExceeded",
        403,
        Exhausted(SecurityGroup),
    ),
    ("QuotaExceeded", 400, Exhausted(RouteTable)),
    ("IncorrectRouteEntryStatus", 400, Conflict),
    ("InvalidCIDRBlock.Duplicate", 400, Conflict),
    ("TaskConflict", 400, Conflict),
    ("InvalidRouteEntry.NotFound", 404, Gone),
    ("InvalidNextHop.NotFound", 400, Invalid),
    ("Operation.Conflict", 403, Conflict),
    ("OperationConflict", 409, Conflict),
    ("InvalidOperation.InvalidEniState", 400, Conflict),
    ("InvalidOperation.InvalidEcsState", 400, Conflict),
    ("IncorrectInstanceStatus", 403, Conflict),
    ("IdempotentProcessing", 403, Conflict),
    ("InvalidEniId.NotFound", 404, Gone),
    ("InvalidEcsId.NotFound", 404, Gone),
    ("InvalidInstanceId.NotFound", 404, Gone),
    ("InvalidIp.IpUnassigned", 403, Gone),
    ("IdempotentFailed", 400, TokenMismatch),
    ("IdempotentParameterMismatch", 400, TokenMismatch),
    ("Forbidden", 403, Denied),
    ("Forbidden.RAM", 403, Denied),
    ("Forbidden.SubUser", 403, Denied),
    ("Forbidden.NotSupportRAM", 403, Denied),
    ("InvalidAccessKeyId.NotFound", 404, Denied),
    ("InvalidAccessKeyId.Inactive", 400, Denied),
    ("InvalidSecurityToken.Expired", 400, Denied),
    ("InvalidSecurityToken.Malformed", 400, Denied),
    ("SignatureDoesNotMatch", 400, Denied),
    ("SignatureNonceUsed", 400, Denied),
    ("InvalidTimeStamp.Expired", 400, Denied),
    ("Abs.InvalidAccount.NotFound", 403, Denied),
    ("Forbidden.RegionId", 400, Invalid),
    ("InvalidVSwitchId.NotFound", 404, Invalid),
    ("InvalidSecurityGroupId.NotFound", 404, Invalid),
    ("InvalidSecurityGroupId.NotVpc", 403, Invalid),
    ("InvalidOperation.AvailabilityZoneMismatch", 403, Invalid),
    ("InvalidOperation.VpcMismatch", 403, Invalid),
    ("InvalidParameter", 400, Invalid),
    ("MissingParameter", 400, Invalid),
    ("InternalError", 500, Unknown),
    ("InternalError.Dispatch", 500, Unknown),
    ("ServiceUnavailable", 503, Unknown),
    ("NeverHeardOf", 500, Unknown),
    ("NeverHeardOf", 502, Unknown),
    ("NeverHeardOf", 408, Unknown),
    ("NeverHeardOf", 200, Unknown),
    ("NeverHeardOf", 302, Unknown),
    ("NeverHeardOf", 429, Throttled),
    ("NeverHeardOf", 401, Denied),
    ("NeverHeardOf", 400, Invalid),
    ("NeverHeardOf", 403, Invalid),
    ("", 400, Invalid),
    ("", 500, Unknown),
];

#[test]
fn every_code_has_its_class() {
    for &(code, status, class) in TABLE {
        assert_eq!(classify(code, status), class, "{code:?} with HTTP {status}");
    }
}

/// A code we do not know must not become a certain "no" when the server itself broke.
#[test]
fn an_unknown_code_with_a_server_error_is_never_definite() {
    for status in 500..=599 {
        assert_eq!(classify("SomethingNew", status), Unknown, "HTTP {status}");
    }
}
