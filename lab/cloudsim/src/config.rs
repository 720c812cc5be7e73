//! What a region is made of before the first call: its networks, its keys, its manners.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    time::Duration,
};

use ipnet::Ipv4Net;
use model::{Ipv4Prefix, RegionId, SecurityGroupId, VSwitchId, VpcId, ZoneId};
use serde::{Deserialize, Serialize};

/// Why a configuration describes no region.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A vSwitch of the VPC service has a mask of 16 to 29 bits (VPC API, CreateVSwitch).
    #[error("vSwitch {vswitch}: {cidr} is no block of a vSwitch: expected 16 to 29 bits of mask")]
    Mask {
        /// The vSwitch.
        vswitch: VSwitchId,
        /// Its block.
        cidr: Ipv4Net,
    },
    /// A vSwitch is a part of its VPC.
    #[error("vSwitch {vswitch}: {cidr} is not inside the VPC's {vpc_cidr}")]
    Outside {
        /// The vSwitch.
        vswitch: VSwitchId,
        /// Its block.
        cidr: Ipv4Net,
        /// The VPC's block.
        vpc_cidr: Ipv4Net,
    },
    /// A reserved block is a part of what its vSwitch gives out, holds whole prefixes, and no other.
    #[error(
        "vSwitch {vswitch}: {block} cannot be reserved: expected a part of it with at most 28 bits of \
         mask, without its first and last three addresses, apart from other reserved blocks"
    )]
    Reserved {
        /// The vSwitch.
        vswitch: VSwitchId,
        /// The block.
        block: Ipv4Net,
    },
    /// Two vSwitches of a VPC share no address and no id.
    #[error(
        "vSwitches {first} and {second} overlap or are the same: give each its own id and block"
    )]
    Overlap {
        /// One of them.
        first: VSwitchId,
        /// The other.
        second: VSwitchId,
    },
}

/// A vSwitch: one zone's part of the VPC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VSwitchSpec {
    /// Its id.
    pub id: VSwitchId,
    /// Its name, as people see it.
    pub name: String,
    /// Its zone.
    pub zone: ZoneId,
    /// Its block.
    pub cidr: Ipv4Net,
    /// Parts of it that are kept for prefixes (VPC API, CreateVSwitchCidrReservation).
    #[serde(default)]
    pub reserved: Vec<Ipv4Net>,
}

impl VSwitchSpec {
    /// The first of its reserved blocks that it cannot have.
    fn bad_reservation(&self) -> Option<Ipv4Net> {
        let kept = [self.cidr.network(), self.cidr.broadcast()];
        let fits = |block: &Ipv4Net| {
            block.addr() == block.network()
                && block.prefix_len() <= Ipv4Prefix::LENGTH
                && self.cidr.contains(block)
                && !kept.iter().any(|address| block.contains(address))
        };
        let mut blocks = self.reserved.iter().enumerate();
        blocks.find_map(|(at, block)| {
            let overlaps = |other: &Ipv4Net| other.contains(block) || block.contains(other);
            let clash = self.reserved.iter().take(at).any(overlaps);
            (clash || !fits(block)).then_some(*block)
        })
    }
}

/// Which calls a key or a role may make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Grant {
    /// Every one.
    Everything,
    /// Only these, as RAM policies write them, for example `ecs:CreateNetworkInterface`.
    Only(BTreeSet<String>),
}

impl Grant {
    /// Whether `action` (`ecs:...`, `vpc:...`) is granted.
    pub fn allows(&self, action: &str) -> bool {
        match self {
            Grant::Everything => true,
            Grant::Only(actions) => actions.contains(action),
        }
    }
}

/// A long-lived access key of the account.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessKey {
    /// AccessKeyId.
    pub id: String,
    /// AccessKeySecret.
    pub secret: String,
    /// What it may call.
    pub grant: Grant,
}

impl std::fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessKey")
            .field("id", &self.id)
            .field("grant", &self.grant)
            .finish_non_exhaustive()
    }
}

/// How long things take in this region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// From AttachNetworkInterface to `InUse`.
    pub attach: Duration,
    /// From DetachNetworkInterface to `Available`.
    pub detach: Duration,
    /// From DeleteNetworkInterface to gone.
    pub delete: Duration,
    /// From CreateRouteEntry to `Available`, and from DeleteRouteEntry to gone.
    #[serde(default)]
    pub route: Duration,
    /// From a call to its answer; the HTTP face waits for it.
    pub answer: Duration,
    /// How old the picture is that DescribeNetworkInterfaces paints.
    pub describe_lag: Duration,
    /// How old the picture is that instance metadata paints.
    pub metadata_lag: Duration,
}

impl Default for Timing {
    /// Attach and detach take long enough to be seen in their states; the rest is immediate.
    fn default() -> Self {
        Self {
            attach: Duration::from_secs(1),
            detach: Duration::from_secs(1),
            delete: Duration::ZERO,
            route: Duration::from_millis(500),
            answer: Duration::from_millis(20),
            describe_lag: Duration::ZERO,
            metadata_lag: Duration::ZERO,
        }
    }
}

/// What the account may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// ENIs in the region, primary ones not counted.
    pub enis: usize,
    /// Custom entries of a route table (VPC API, CreateRouteEntry: "up to 200 custom route entries").
    #[serde(default = "routes")]
    pub routes: usize,
    /// Security groups an ENI may be in (ECS limits page: 5 unless raised).
    pub security_groups_per_eni: usize,
    /// How long a role's credential from metadata lives (6 hours; unconfirmed).
    pub role_credential: Duration,
}

fn routes() -> usize {
    200
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // The API page names 100 an account and region, which can be raised; a lab of 50 nodes
            // with 8 ENIs each needs 400.
            enis: 500,
            routes: routes(),
            security_groups_per_eni: 5,
            role_credential: Duration::from_secs(6 * 3600),
        }
    }
}

/// Whether instance metadata asks for a session token (ECS API, `HttpTokens`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MetadataTokens {
    /// Answers with and without one.
    Optional,
    /// Answers only with one.
    Required,
}

/// Everything a region starts with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegionConfig {
    /// The region.
    pub region: RegionId,
    /// Its only VPC.
    pub vpc: VpcId,
    /// The VPC's block.
    pub vpc_cidr: Ipv4Net,
    /// The vSwitches of the VPC.
    pub vswitches: Vec<VSwitchSpec>,
    /// The security groups of the VPC.
    pub security_groups: Vec<SecurityGroupId>,
    /// The account's number.
    pub owner: u64,
    /// The account's keys.
    pub keys: Vec<AccessKey>,
    /// RAM roles that instances may have, by name.
    pub roles: BTreeMap<String, Grant>,
    /// How long things take.
    pub timing: Timing,
    /// What the account may have.
    pub limits: Limits,
    /// Whether new ENIs check source and destination when the call does not say (by account age in
    /// the real cloud; the documented default is `false`).
    pub source_dest_check: bool,
    /// Whether instance metadata insists on a session token.
    pub metadata_tokens: MetadataTokens,
    /// Where the generator of ids starts.
    pub seed: u64,
}

impl RegionConfig {
    /// A region for demos and tests: cn-hangzhou with two zones, a /24 vSwitch in each, one security
    /// group, one key (`LTAI5tLabKey` / `lab-secret`) and one role (`terway-node`).
    pub fn lab(seed: u64) -> Self {
        let zone = |letter: char, third: u8| VSwitchSpec {
            id: VSwitchId::new(format!("vsw-bp1lab{letter}")).expect("a literal id"),
            name: format!("lab-{letter}"),
            zone: ZoneId::new(format!("cn-hangzhou-{letter}")).expect("a literal id"),
            cidr: Ipv4Net::new_assert(Ipv4Addr::new(10, 0, third, 0), 24),
            reserved: Vec::new(),
        };
        Self {
            region: RegionId::new("cn-hangzhou").expect("a literal id"),
            vpc: VpcId::new("vpc-bp1lab").expect("a literal id"),
            vpc_cidr: Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 0, 0), 16),
            vswitches: vec![zone('h', 1), zone('i', 2)],
            security_groups: vec![SecurityGroupId::new("sg-bp1lab").expect("a literal id")],
            owner: 1_234_567_890_123_456,
            keys: vec![AccessKey {
                id: "LTAI5tLabKey".into(),
                secret: "lab-secret".into(),
                grant: Grant::Everything,
            }],
            roles: BTreeMap::from([("terway-node".to_owned(), Grant::Everything)]),
            timing: Timing::default(),
            limits: Limits::default(),
            source_dest_check: false,
            metadata_tokens: MetadataTokens::Optional,
            seed,
        }
    }

    /// Whether this describes a region.
    ///
    /// # Errors
    /// When a vSwitch has a mask the cloud does not give, lies outside the VPC, overlaps another or
    /// reserves what it cannot.
    pub fn check(&self) -> Result<(), ConfigError> {
        for (index, spec) in self.vswitches.iter().enumerate() {
            let (vswitch, cidr) = (spec.id.clone(), spec.cidr);
            if !(16..=29).contains(&cidr.prefix_len()) {
                return Err(ConfigError::Mask { vswitch, cidr });
            }
            if !self.vpc_cidr.contains(&cidr) {
                let vpc_cidr = self.vpc_cidr;
                return Err(ConfigError::Outside {
                    vswitch,
                    cidr,
                    vpc_cidr,
                });
            }
            if let Some(block) = spec.bad_reservation() {
                return Err(ConfigError::Reserved { vswitch, block });
            }
            let clash = self.vswitches.iter().skip(index + 1).find(|other| {
                other.id == spec.id || other.cidr.contains(&cidr) || cidr.contains(&other.cidr)
            });
            if let Some(other) = clash {
                let (first, second) = (vswitch, other.id.clone());
                return Err(ConfigError::Overlap { first, second });
            }
        }
        Ok(())
    }
}
