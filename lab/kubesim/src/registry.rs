//! The table of resources this API serves.
//!
//! One row per resource says everything that differs between them in how they are named, stored
//! and changed; what their fields mean is in `defaults`, `validate` and `table`.

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
    /// A PUT without a resourceVersion overwrites.
    pub unconditional_update: bool,
    /// A PUT to a free name creates.
    pub create_on_update: bool,
    /// A DELETE answers with the object instead of a `Status`.
    pub returns_deleted: bool,
}

/// A namespaced resource of the core group with nothing special about it.
const fn core(
    kind: &'static str,
    plural: &'static str,
    singular: &'static str,
    short_names: &'static [&'static str],
) -> Resource {
    Resource {
        group: "",
        version: "v1",
        kind,
        plural,
        singular,
        short_names,
        categories: &[],
        namespaced: true,
        status: false,
        fields: &[],
        unconditional_update: true,
        create_on_update: false,
        returns_deleted: false,
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
    returns_deleted: true,
    ..core("Pod", "pods", "pod", &["po"])
};

/// Nodes.
pub static NODES: Resource = Resource {
    namespaced: false,
    status: true,
    fields: &["spec.unschedulable"],
    ..core("Node", "nodes", "node", &["no"])
};

/// Namespaces.
pub static NAMESPACES: Resource = Resource {
    namespaced: false,
    status: true,
    fields: &["status.phase"],
    ..core("Namespace", "namespaces", "namespace", &["ns"])
};

/// Events in their core shape, which is also how they are stored.
pub static EVENTS: Resource = Resource {
    fields: INVOLVED,
    create_on_update: true,
    ..core("Event", "events", "event", &["ev"])
};

/// The same events in their newer shape.
pub static EVENTS_V1: Resource = Resource {
    group: "events.k8s.io",
    fields: REGARDING,
    create_on_update: true,
    ..core("Event", "events", "event", &["ev"])
};

/// Leases.
pub static LEASES: Resource = Resource {
    group: "coordination.k8s.io",
    unconditional_update: false,
    create_on_update: true,
    ..core("Lease", "leases", "lease", &[])
};

/// Config maps.
pub static CONFIG_MAPS: Resource = core("ConfigMap", "configmaps", "configmap", &["cm"]);

/// Services.
pub static SERVICES: Resource = Resource {
    categories: &["all"],
    status: true,
    fields: &["spec.clusterIP", "spec.type"],
    create_on_update: true,
    returns_deleted: true,
    ..core("Service", "services", "service", &["svc"])
};

/// Endpoints.
pub static ENDPOINTS: Resource = Resource {
    create_on_update: true,
    ..core("Endpoints", "endpoints", "endpoints", &["ep"])
};

/// Service accounts.
pub static SERVICE_ACCOUNTS: Resource = Resource {
    returns_deleted: true,
    ..core(
        "ServiceAccount",
        "serviceaccounts",
        "serviceaccount",
        &["sa"],
    )
};

/// Secrets.
pub static SECRETS: Resource = Resource {
    fields: &["type"],
    ..core("Secret", "secrets", "secret", &[])
};

/// Every row, in the order discovery shows them: by group, then by name.
pub static RESOURCES: [&Resource; 11] = [
    &CONFIG_MAPS,
    &ENDPOINTS,
    &EVENTS,
    &NAMESPACES,
    &NODES,
    &PODS,
    &SECRETS,
    &SERVICE_ACCOUNTS,
    &SERVICES,
    &EVENTS_V1,
    &LEASES,
];

impl Resource {
    /// The row for a path's group, version and plural.
    pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Self> {
        let named = |r: &&Self| r.group == group && r.version == version && r.plural == plural;
        RESOURCES.iter().copied().find(|r| named(r))
    }

    /// The row an object says it belongs to.
    pub fn of_kind(api_version: &str, kind: &str) -> Option<&'static Self> {
        RESOURCES
            .iter()
            .copied()
            .find(|r| r.kind == kind && r.api_version() == api_version)
    }

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
        self.plural
    }
}

fn dotted(name: &str, group: &str) -> String {
    if group.is_empty() {
        name.to_owned()
    } else {
        format!("{name}.{group}")
    }
}
