//! What instance types allow: a table of a few real ones, each row with its source.

use model::InstanceLimits;
use serde::Serialize;

/// One instance type, as DescribeInstanceTypes shows it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct InstanceType {
    /// `InstanceTypeId`.
    pub id: &'static str,
    /// `InstanceTypeFamily`.
    pub family: &'static str,
    /// `CpuCoreCount`.
    pub cores: u32,
    /// `MemorySize`, in GiB.
    pub memory_gib: u32,
    /// The ENI and address quotas.
    pub limits: InstanceLimits,
    /// `InstanceBandwidthRx` and `InstanceBandwidthTx`, in kbit/s.
    pub bandwidth_kbit: u32,
    /// `InstancePpsRx` and `InstancePpsTx`, packets a second.
    pub packets: u32,
    /// `PrimaryEniQueueNumber` and `SecondaryEniQueueNumber`.
    pub queues: u32,
    /// Where the row comes from.
    pub source: &'static str,
}

const ANSWER: &str = "an answer of DescribeInstanceTypes recorded in the tests of \
    kubernetes-sigs/alibaba-cloud-csi-driver";
const API_PAGE: &str = "the sample answer on the API page of DescribeInstanceTypes";
const FAMILIES: &str = "the page Instance families; unconfirmed: trunk support and \
    EniTotalQuantity, which that page does not name";

const fn limits(
    enis: u32,
    ipv4_per_eni: u32,
    ipv6_per_eni: u32,
    enis_total: u32,
    trunk: bool,
) -> InstanceLimits {
    InstanceLimits {
        enis,
        ipv4_per_eni,
        ipv6_per_eni,
        enis_total,
        trunk,
    }
}

const TYPES: [InstanceType; 7] = [
    InstanceType {
        id: "ecs.g6.16xlarge",
        family: "ecs.g6",
        cores: 64,
        memory_gib: 256,
        limits: limits(8, 20, 1, 60, true),
        bandwidth_kbit: 20_480_000,
        packets: 4_000_000,
        queues: 32,
        source: API_PAGE,
    },
    InstanceType {
        id: "ecs.g6.large",
        family: "ecs.g6",
        cores: 2,
        memory_gib: 8,
        limits: limits(2, 6, 1, 2, false),
        bandwidth_kbit: 1_024_000,
        packets: 300_000,
        queues: 2,
        source: API_PAGE,
    },
    InstanceType {
        id: "ecs.g7.2xlarge",
        family: "ecs.g7",
        cores: 8,
        memory_gib: 32,
        limits: limits(4, 15, 15, 4, false),
        bandwidth_kbit: 5_120_000,
        packets: 1_600_000,
        queues: 8,
        source: FAMILIES,
    },
    InstanceType {
        id: "ecs.g7.4xlarge",
        family: "ecs.g7",
        cores: 16,
        memory_gib: 64,
        limits: limits(8, 30, 30, 8, false),
        bandwidth_kbit: 10_240_000,
        packets: 3_000_000,
        queues: 8,
        source: FAMILIES,
    },
    InstanceType {
        id: "ecs.g7.large",
        family: "ecs.g7",
        cores: 2,
        memory_gib: 8,
        limits: limits(3, 6, 6, 3, false),
        bandwidth_kbit: 2_048_000,
        packets: 900_000,
        queues: 2,
        source: FAMILIES,
    },
    InstanceType {
        id: "ecs.g7.xlarge",
        family: "ecs.g7",
        cores: 4,
        memory_gib: 16,
        limits: limits(4, 15, 15, 20, true),
        bandwidth_kbit: 3_072_000,
        packets: 1_100_000,
        queues: 4,
        source: ANSWER,
    },
    InstanceType {
        id: "ecs.u1-c1m4.xlarge",
        family: "ecs.u1",
        cores: 4,
        memory_gib: 16,
        limits: limits(3, 10, 1, 6, true),
        bandwidth_kbit: 1_536_000,
        packets: 500_000,
        queues: 2,
        source: ANSWER,
    },
];

/// All types the region offers, by id.
pub fn instance_types() -> &'static [InstanceType] {
    &TYPES
}

/// The type called `id`.
pub fn instance_type(id: &str) -> Option<&'static InstanceType> {
    TYPES.iter().find(|row| row.id == id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_consistent() {
        assert!(
            TYPES.is_sorted_by(|a, b| a.id < b.id),
            "paging relies on the order"
        );
        for row in &TYPES {
            assert!(row.limits.enis_total >= row.limits.enis, "{}", row.id);
            assert!(row.id.starts_with(row.family), "{}", row.id);
        }
    }
}
