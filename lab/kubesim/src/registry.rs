//! The table of resources this API serves.
//!
//! One row per resource says everything that differs between them in how they are named, stored
//! and changed; what their fields mean is in `defaults`, `validate` and `table`. Rows that clients
//! define are in `custom`.

use crate::custom::Custom;

/// One served resource.
#[derive(Debug, PartialEq, Eq)]
pub struct Resource {
    /// API group; empty for core.
    pub group: &'static str,
    /// Version within the group.
    pub version: &'static str,
    /// Kind of one object.
    pub kind: &'static str,
    /// Name in paths.
    pub plural: &'static str,
    /// Name of one.
    pub singular: &'static str,
    /// Abbreviations `kubectl` offers.
    pub short_names: &'static [&'static str],
    /// Groupings such as `all`.
    pub categories: &'static [&'static str],
    /// Lives in a namespace.
    pub namespaced: bool,
    /// Has a `/status` of its own, which plain writes leave alone.
    pub status: bool,
    /// Field selectors beyond `metadata.name` and `metadata.namespace`.
    pub fields: &'static [&'static str],
    /// Counts the changes of its spec in `metadata.generation`.
    pub generation: bool,
    /// A PUT without a resourceVersion overwrites.
    pub unconditional_update: bool,
    /// A PUT to a free name creates.
    pub create_on_update: bool,
    /// A DELETE answers with the object instead of a `Status`.
    pub returns_deleted: bool,
    /// Defined by a client.
    pub custom: Option<&'static Custom>,
}

/// A namespaced resource with nothing special about it.
pub(crate) const fn plain(
    group: &'static str,
    kind: &'static str,
    plural: &'static str,
    singular: &'static str,
    short_names: &'static [&'static str],
) -> Resource {
    Resource {
        group,
        version: "v1",
        kind,
        plural,
        singular,
        short_names,
        categories: &[],
        namespaced: true,
        status: false,
        fields: &[],
        generation: false,
        unconditional_update: true,
        create_on_update: false,
        returns_deleted: false,
        custom: None,
    }
}

const INVOLVED: &[&str] = &[
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
];

const REGARDING: &[&str] = &[
    "regarding.kind",
    "regarding.namespace",
    "regarding.name",
    "regarding.uid",
    "regarding.apiVersion",
    "regarding.resourceVersion",
    "regarding.fieldPath",
    "reason",
    "reportingController",
    "type",
];

/// Pods.
pub static PODS: Resource = Resource {
    categories: &["all"],
    status: true,
    fields: &[
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.nominatedNodeName",
    ],
    generation: true,
    returns_deleted: true,
    ..plain("", "Pod", "pods", "pod", &["po"])
};

/// Nodes.
pub static NODES: Resource = Resource {
    namespaced: false,
    status: true,
    fields: &["spec.unschedulable"],
    ..plain("", "Node", "nodes", "node", &["no"])
};

/// Namespaces.
pub static NAMESPACES: Resource = Resource {
    namespaced: false,
    status: true,
    fields: &["status.phase"],
    ..plain("", "Namespace", "namespaces", "namespace", &["ns"])
};

/// Events in their core shape, which is also how they are stored.
pub static EVENTS: Resource = Resource {
    fields: INVOLVED,
    create_on_update: true,
    ..plain("", "Event", "events", "event", &["ev"])
};

/// The same events in their newer shape.
pub static EVENTS_V1: Resource = Resource {
    fields: REGARDING,
    create_on_update: true,
    ..plain("events.k8s.io", "Event", "events", "event", &["ev"])
};

/// Leases.
pub static LEASES: Resource = Resource {
    unconditional_update: false,
    create_on_update: true,
    ..plain("coordination.k8s.io", "Lease", "leases", "lease", &[])
};

/// Config maps.
pub static CONFIG_MAPS: Resource = plain("", "ConfigMap", "configmaps", "configmap", &["cm"]);

/// What is kept and served as it is, because manifests have it and clients ask for it: nothing here
/// acts on it, nothing fills it in.
static SECRETS: Resource = plain("", "Secret", "secrets", "secret", &[]);

/// Services: nothing here balances them; webhooks are found by them.
pub(crate) static SERVICES: Resource = Resource {
    status: true,
    create_on_update: true,
    returns_deleted: true,
    ..plain("", "Service", "services", "service", &["svc"])
};

/// Endpoints, which whoever runs the programs writes.
pub(crate) static ENDPOINTS: Resource = Resource {
    create_on_update: true,
    ..plain("", "Endpoints", "endpoints", "endpoints", &["ep"])
};

static SERVICE_ACCOUNTS: Resource = Resource {
    returns_deleted: true,
    ..plain(
        "",
        "ServiceAccount",
        "serviceaccounts",
        "serviceaccount",
        &["sa"],
    )
};

/// Definitions of custom resources.
pub static CRDS: Resource = Resource {
    namespaced: false,
    status: true,
    generation: true,
    unconditional_update: false,
    ..plain(
        "apiextensions.k8s.io",
        "CustomResourceDefinition",
        "customresourcedefinitions",
        "customresourcedefinition",
        &["crd", "crds"],
    )
};

/// A workload, which no controller carries out.
const fn workload(
    kind: &'static str,
    plural: &'static str,
    singular: &'static str,
    short_names: &'static [&'static str],
) -> Resource {
    Resource {
        categories: &["all"],
        status: true,
        generation: true,
        ..plain("apps", kind, plural, singular, short_names)
    }
}

static DAEMON_SETS: Resource = workload("DaemonSet", "daemonsets", "daemonset", &["ds"]);
static DEPLOYMENTS: Resource = workload("Deployment", "deployments", "deployment", &["deploy"]);

/// The group of webhook configurations.
pub(crate) const ADMISSION: &str = "admissionregistration.k8s.io";

const fn webhooks(kind: &'static str, plural: &'static str, singular: &'static str) -> Resource {
    Resource {
        namespaced: false,
        categories: &["api-extensions"],
        generation: true,
        ..plain(ADMISSION, kind, plural, singular, &[])
    }
}

/// Webhooks that may change what is written.
pub(crate) static MUTATING: Resource = webhooks(
    "MutatingWebhookConfiguration",
    "mutatingwebhookconfigurations",
    "mutatingwebhookconfiguration",
);

/// Webhooks that may refuse it.
pub(crate) static VALIDATING: Resource = webhooks(
    "ValidatingWebhookConfiguration",
    "validatingwebhookconfigurations",
    "validatingwebhookconfiguration",
);

/// A resource of RBAC; nobody is refused anything by it here.
const fn rbac(
    kind: &'static str,
    plural: &'static str,
    singular: &'static str,
    namespaced: bool,
) -> Resource {
    Resource {
        namespaced,
        create_on_update: true,
        ..plain("rbac.authorization.k8s.io", kind, plural, singular, &[])
    }
}

static CLUSTER_ROLES: Resource = rbac("ClusterRole", "clusterroles", "clusterrole", false);
static CLUSTER_ROLE_BINDINGS: Resource = rbac(
    "ClusterRoleBinding",
    "clusterrolebindings",
    "clusterrolebinding",
    false,
);
static ROLES: Resource = rbac("Role", "roles", "role", true);
static ROLE_BINDINGS: Resource = rbac("RoleBinding", "rolebindings", "rolebinding", true);

static PRIORITY_CLASSES: Resource = Resource {
    namespaced: false,
    ..plain(
        "scheduling.k8s.io",
        "PriorityClass",
        "priorityclasses",
        "priorityclass",
        &["pc"],
    )
};

/// Every row, in the order discovery shows them: by group, then by name.
pub static RESOURCES: [&Resource; 21] = [
    &CONFIG_MAPS,
    &ENDPOINTS,
    &EVENTS,
    &NAMESPACES,
    &NODES,
    &PODS,
    &SECRETS,
    &SERVICE_ACCOUNTS,
    &SERVICES,
    &MUTATING,
    &VALIDATING,
    &CRDS,
    &DAEMON_SETS,
    &DEPLOYMENTS,
    &LEASES,
    &EVENTS_V1,
    &CLUSTER_ROLE_BINDINGS,
    &CLUSTER_ROLES,
    &ROLE_BINDINGS,
    &ROLES,
    &PRIORITY_CLASSES,
];

impl Resource {
    /// `apiVersion` of its objects.
    pub fn api_version(&self) -> String {
        match self.group {
            "" => self.version.to_owned(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// Plural with the group, as error messages name it.
    pub fn qualified(&self) -> String {
        dotted(self.plural, self.group)
    }

    /// Kind with the group, as validation messages name it.
    pub fn qualified_kind(&self) -> String {
        dotted(self.kind, self.group)
    }

    /// What the store files it under: both shapes of an event are one object.
    pub(crate) fn store(&self) -> &'static str {
        self.custom.map_or(self.plural, |custom| custom.store)
    }
}

pub(crate) fn dotted(name: &str, group: &str) -> String {
    if group.is_empty() {
        name.to_owned()
    } else {
        format!("{name}.{group}")
    }
}
