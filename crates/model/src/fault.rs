//! The closed set of ways in which a cloud call fails.
//!
//! The cloud has hundreds of error codes and keeps adding variants; decisions look at the class
//! only, and the match over it is exhaustive. Which code is which class is `cloud`'s knowledge.

use core::fmt;

use serde::{Deserialize, Serialize};

/// What ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Exhausted {
    /// The vSwitch has no free address (`InvalidVSwitchId.IpNotEnough`).
    VSwitch,
    /// The instance holds as many ENIs as its type allows (`EniPerInstanceLimitExceeded`).
    EniPerInstance,
    /// The ENI holds as many addresses as the instance type allows.
    AddressPerEni,
    /// The account's ENI quota in the region.
    Account,
    /// The security group holds as many addresses as it may.
    SecurityGroup,
    /// The route table holds as many custom entries as it may.
    RouteTable,
}

/// Why a cloud call has no answer that can be acted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum FaultClass {
    /// Too many calls; the same call may succeed later.
    Throttled,
    /// Something ran out; the same call may succeed when somebody frees or adds some.
    Exhausted(Exhausted),
    /// The object is busy with another operation; try again soon.
    Conflict,
    /// The object is not there.
    Gone,
    /// We may not do this: permission, credential, signature.
    Denied,
    /// Nobody knows whether the call was carried out: lost answer, 5xx, answer cut short.
    Unknown,
    /// The same token was used with other parameters; a new generation of the intent is needed.
    TokenMismatch,
    /// The request itself is wrong: a vSwitch that does not exist, a zone that does not match.
    Invalid,
}

impl FaultClass {
    /// Whether the cloud said no for certain, so that the call had no effect. `Unknown` alone leaves
    /// that open.
    pub fn is_definite(self) -> bool {
        !matches!(self, FaultClass::Unknown)
    }
}

impl fmt::Display for Exhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Exhausted::VSwitch => "the vSwitch has no free address",
            Exhausted::EniPerInstance => "the instance type allows no further ENI",
            Exhausted::AddressPerEni => "the instance type allows no further address on the ENI",
            Exhausted::Account => "the account's ENI quota is used up",
            Exhausted::SecurityGroup => "the security group is full",
            Exhausted::RouteTable => "the route table is full",
        })
    }
}

impl fmt::Display for FaultClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FaultClass::Throttled => f.write_str("throttled"),
            FaultClass::Exhausted(what) => write!(f, "exhausted: {what}"),
            FaultClass::Conflict => f.write_str("busy with another operation"),
            FaultClass::Gone => f.write_str("not found"),
            FaultClass::Denied => f.write_str("not permitted"),
            FaultClass::Unknown => f.write_str("outcome unknown"),
            FaultClass::TokenMismatch => f.write_str("token used with other parameters"),
            FaultClass::Invalid => f.write_str("invalid request"),
        }
    }
}
