//! Security groups as data: what the region keeps and the fabric enforces.
//!
//! Nothing here judges a packet. How rules add up is for whoever enforces them: the rules of all groups of an
//! ENI together, the lowest priority number first, of equal ones Drop first; then what the kind of group says.

use std::{net::Ipv4Addr, ops::RangeInclusive};

use ipnet::{IpNet, Ipv4Net};
use model::{SecurityGroupId, Timestamp};
use serde::{Deserialize, Serialize};

/// Rules of one group, both directions (ECS API, AuthorizeSecurityGroup: at most 200).
pub const RULES_MAX: usize = 200;

/// Where the cloud's own services are (RFC 6598, which the cloud uses for them).
const CLOUD: IpNet = IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(100, 64, 0, 0), 10));

/// The kinds, which no ENI mixes (ECS, "Basic and advanced security groups").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupKind {
    /// `normal`: what no rule speaks of may leave, and comes in from members only.
    Basic,
    /// `enterprise`: what no rule speaks of neither leaves nor comes in; rules name no groups.
    Advanced,
}

/// Which way a rule looks, as seen from the ENI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direction {
    /// `egress`.
    Outbound,
    /// `ingress`.
    Inbound,
}

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Policy {
    /// Let it pass.
    Accept,
    /// Drop it without a word.
    Drop,
}

/// Who is at the other end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Remote {
    /// An address of this network.
    Net(IpNet),
    /// An ENI of this group.
    Group(SecurityGroupId),
}

/// What makes two rules the same (ECS API: to add one that is there changes nothing).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Which way it looks.
    pub direction: Direction,
    /// What it does.
    pub policy: Policy,
    /// 1 to 100; the lowest goes first.
    pub priority: u8,
    /// The IP protocol's number; none for all of them.
    pub protocol: Option<u8>,
    /// Ports of the packet's destination; all of them where the protocol has none.
    pub ports: RangeInclusive<u16>,
    /// The other end.
    pub remote: Remote,
}

/// A rule that is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownRule {
    /// Its id (`sgr-...`).
    pub id: String,
    /// What it says.
    pub rule: Rule,
    /// What people say of it.
    pub description: String,
    /// When it was added.
    pub created: Timestamp,
}

/// A security group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityGroup {
    /// Its id.
    pub id: SecurityGroupId,
    /// Its name, as people see it.
    pub name: String,
    /// What people say of it.
    pub description: String,
    /// Basic or advanced.
    pub kind: GroupKind,
    /// Whether its members reach each other whatever the rules say (ECS API, `InnerAccessPolicy`).
    pub inner_access: bool,
    /// Its rules, in the order they were added.
    pub rules: Vec<KnownRule>,
    /// When it was made.
    pub created: Timestamp,
}

impl SecurityGroup {
    /// A group as the cloud makes it.
    pub(crate) fn new(id: SecurityGroupId, kind: GroupKind, created: Timestamp) -> Self {
        Self {
            id,
            name: String::new(),
            description: String::new(),
            kind,
            inner_access: kind == GroupKind::Basic,
            rules: Vec::new(),
            created,
        }
    }

    /// A group that is there before the first call, as somebody made it who prepared the account: the cloud's
    /// own services reach its members, too.
    pub(crate) fn of_the_account(id: SecurityGroupId) -> Self {
        let rule = Rule {
            direction: Direction::Inbound,
            policy: Policy::Accept,
            priority: 1,
            protocol: None,
            ports: 0..=u16::MAX,
            remote: Remote::Net(CLOUD),
        };
        let mut group = Self::new(id, GroupKind::Basic, Timestamp::EPOCH);
        group.rules.push(KnownRule {
            id: format!("sgr-{}", group.id),
            rule,
            description: "the cloud's own services".into(),
            created: group.created,
        });
        group
    }

    /// Whether a rule of this group names `other`.
    pub(crate) fn names(&self, other: &SecurityGroupId) -> bool {
        let named =
            |known: &KnownRule| matches!(&known.rule.remote, Remote::Group(id) if id == other);
        self.rules.iter().any(named)
    }
}
