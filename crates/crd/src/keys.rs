//! Names that other programs and people know: annotations, labels, finalizers, resources.

/// On a pod: `true` when it has ENIs of its own.
pub const POD_ENI: &str = "k8s.aliyun.com/pod-eni";
/// On a pod: the PodNetworking it uses.
pub const POD_NETWORKING: &str = "k8s.aliyun.com/pod-networking";
/// On a pod: its interfaces, each in full (JSON).
pub const POD_NETWORKS: &str = "k8s.aliyun.com/pod-networks";
/// On a pod: its interfaces, each by the name of a PodNetworking (JSON).
pub const POD_NETWORKS_REQUEST: &str = "k8s.aliyun.com/pod-networks-request";
/// On a PodENI: UID of the pod it was last bound for.
pub const POD_UID: &str = "k8s.aliyun.com/pod-uid";
/// On a PodENI, ours: how often the ENI of an interface was begun anew (JSON, interface to number). An
/// annotation, because a definition installed by another program would prune a field it does not know, and
/// because it is written together with the allocations it belongs to.
pub const ENI_ATTEMPTS: &str = "network.alibabacloud.com/eni-attempts";
/// On a PodENI, ours: the edition of the PodNetworking whose spare ENIs the ENI of an interface is one of (JSON,
/// interface to edition). An annotation for the reasons above.
pub const ENI_EDITIONS: &str = "network.alibabacloud.com/eni-editions";
/// On a PodNetworking: members kept ready on each node where its pods run.
pub const WARM_MEMBERS_PER_NODE: &str = "k8s.aliyun.com/warm-members-per-node";
/// On a PodNetworking: ENIs on no node kept ready in each zone where its pods run.
pub const WARM_ENIS_PER_ZONE: &str = "k8s.aliyun.com/warm-enis-per-zone";
/// Annotation on a node: the id of its trunk ENI.
pub const TRUNK_ON: &str = "k8s.aliyun.com/trunk-on";
/// Label on a PodENI: the node it was last bound to, as [`node_label`] has it. Where that is not the whole
/// name, an annotation of this key is.
pub const NODE: &str = "k8s.aliyun.com/node";
/// Label on a pod or node, `true` to be left alone.
pub const IGNORE: &str = "k8s.aliyun.com/ignore-by-terway";
/// Label on a node, and what pods with ENIs of their own are scheduled by.
pub const ZONE: &str = "topology.kubernetes.io/zone";

/// What keeps a PodENI until its ENIs are out of the cloud.
pub const FINALIZER: &str = "network.alibabacloud.com/pod-eni";
/// The same, as the first releases of the Go program wrote it.
pub const FINALIZER_OLD: &str = "pod-eni";

/// Extended resource of a node: ENIs its trunk can still take.
pub const MEMBER_ENI: &str = "aliyun/member-eni";
/// Extended resource of a node: ENIs of their own it can still take.
pub const ENI: &str = "aliyun/eni";

/// On a CustomResourceDefinition: its version. A lower one is replaced, a higher one is left.
pub const DEFINITION_VERSION: &str = "crd.network.alibabacloud.com/version";

/// What a label's value may have (Kubernetes, "Labels and Selectors"); a node's name may have 253.
const LABEL_MAX: usize = 63;
/// What is kept of a longer name: there follow a hyphen and sixteen digits.
const LABEL_KEPT: usize = LABEL_MAX - 17;

/// The value of label [`NODE`] for a node: its name, or of one that is too long the beginning and a hash of
/// the whole (FNV-1a, 64 bits: the same in every release).
pub fn node_label(node: &str) -> String {
    if node.len() <= LABEL_MAX {
        return node.into();
    }
    let hash = node.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let kept: String = node.chars().take(LABEL_KEPT).collect();
    format!("{kept}-{hash:016x}")
}
