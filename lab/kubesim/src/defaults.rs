//! Defaults: what the API server and its default admission plugins write into objects.

use serde_json::{Map, Value, json};

use crate::{
    custom,
    object::{self, child, default},
    registry::{CRDS, EVENTS, EVENTS_V1, NAMESPACES, PODS, Resource},
};

/// Seconds a pod stays on a node that went away (admission plugin `DefaultTolerationSeconds`).
const AWAY_TOLERATION_SECONDS: u32 = 300;

/// Seconds between SIGTERM and SIGKILL when the pod does not say.
const GRACE_SECONDS: u32 = 30;

/// What every write of the kind gets.
pub(crate) fn fill(resource: &Resource, object: &mut Value) {
    if resource == &PODS {
        pod_spec(child(object, "spec"));
    } else if resource == &CRDS {
        custom::fill(object);
    } else if (resource == &EVENTS || resource == &EVENTS_V1)
        && let Some(event) = object.as_object_mut()
    {
        for key in ["involvedObject", "source"] {
            default(event, key, json!({}));
        }
        for key in ["reportingComponent", "reportingInstance"] {
            default(event, key, "");
        }
    }
}

/// What a new object gets besides.
pub(crate) fn fill_new(resource: &Resource, object: &mut Value) {
    fill(resource, object);
    if resource == &PODS {
        let qos = qos_class(object);
        let spec = child(object, "spec");
        default(spec, "priority", 0);
        default(spec, "preemptionPolicy", "PreemptLowerPriority");
        tolerate_lost_nodes(spec);
        object["status"] = json!({ "phase": "Pending", "qosClass": qos });
    } else if resource == &NAMESPACES {
        let name = object::text(object, "/metadata/name").to_owned();
        let meta = object::metadata(object);
        let labels = meta.entry("labels").or_insert_with(|| json!({}));
        labels["kubernetes.io/metadata.name"] = name.into();
        object["spec"] = json!({ "finalizers": ["kubernetes"] });
        object["status"] = json!({ "phase": "Active" });
    } else if resource == &CRDS {
        object["status"] = custom::established(object);
    } else if let (Some(_), true, Some(fields)) =
        (resource.custom, resource.status, object.as_object_mut())
    {
        fields.remove("status");
    }
}

fn pod_spec(spec: &mut Map<String, Value>) {
    default(spec, "restartPolicy", "Always");
    default(spec, "dnsPolicy", "ClusterFirst");
    default(spec, "terminationGracePeriodSeconds", GRACE_SECONDS);
    default(spec, "securityContext", json!({}));
    default(spec, "schedulerName", "default-scheduler");
    default(spec, "enableServiceLinks", true);
    let account = spec
        .get("serviceAccountName")
        .or_else(|| spec.get("serviceAccount"))
        .cloned()
        .unwrap_or_else(|| "default".into());
    default(spec, "serviceAccountName", account.clone());
    default(spec, "serviceAccount", account);
    let host_network = spec.get("hostNetwork") == Some(&Value::Bool(true));
    for list in ["containers", "initContainers"] {
        for each in maps_in(spec, list) {
            container(each);
            for port in maps_in(each, "ports") {
                default(port, "protocol", "TCP");
                if host_network && let Some(number) = port.get("containerPort").cloned() {
                    default(port, "hostPort", number);
                }
            }
        }
    }
}

/// The maps in the list `key`.
fn maps_in<'a>(
    map: &'a mut Map<String, Value>,
    key: &str,
) -> impl Iterator<Item = &'a mut Map<String, Value>> + use<'a> {
    let list = map.get_mut(key).and_then(Value::as_array_mut);
    list.into_iter().flatten().filter_map(Value::as_object_mut)
}

fn container(container: &mut Map<String, Value>) {
    let image = container
        .get("image")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let tag = image
        .rsplit('/')
        .next()
        .and_then(|last| last.split_once(':'))
        .map(|(_, tag)| tag);
    let floating = !image.contains('@') && matches!(tag, None | Some("latest"));
    default(
        container,
        "imagePullPolicy",
        if floating { "Always" } else { "IfNotPresent" },
    );
    default(container, "resources", json!({}));
    default(container, "terminationMessagePath", "/dev/termination-log");
    default(container, "terminationMessagePolicy", "File");
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(probe) = container.get_mut(probe).and_then(Value::as_object_mut) else {
            continue;
        };
        if let Some(get) = probe.get_mut("httpGet").and_then(Value::as_object_mut) {
            default(get, "scheme", "HTTP");
        }
        for (key, value) in [
            ("timeoutSeconds", 1),
            ("periodSeconds", 10),
            ("successThreshold", 1),
            ("failureThreshold", 3),
        ] {
            default(probe, key, value);
        }
    }
    let limits = container["resources"]["limits"].clone();
    if let (Some(limits), Some(resources)) =
        (limits.as_object(), container["resources"].as_object_mut())
    {
        let requests = resources.entry("requests").or_insert_with(|| json!({}));
        for (name, limit) in limits {
            if let Some(requests) = requests.as_object_mut() {
                default(requests, name, limit.clone());
            }
        }
    }
}

fn tolerate_lost_nodes(spec: &mut Map<String, Value>) {
    let list = spec.entry("tolerations").or_insert_with(|| json!([]));
    let Some(list) = list.as_array_mut() else {
        return;
    };
    for key in [
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
    ] {
        let covered = |t: &Value| {
            let (own, effect) = (object::text(t, "/key"), object::text(t, "/effect"));
            (own.is_empty() || own == key) && (effect.is_empty() || effect == "NoExecute")
        };
        if !list.iter().any(covered) {
            list.push(json!({
                "key": key, "operator": "Exists", "effect": "NoExecute",
                "tolerationSeconds": AWAY_TOLERATION_SECONDS,
            }));
        }
    }
}

/// Guaranteed when every container's CPU and memory are limited to what they request, `BestEffort`
/// when none says anything.
fn qos_class(pod: &Value) -> &'static str {
    let lists = ["/spec/containers", "/spec/initContainers"];
    let containers = || lists.iter().flat_map(|list| object::items(pod, list));
    let amount = |container: &Value, kind: &str, resource: &str| {
        container
            .pointer(&format!("/resources/{kind}/{resource}"))
            .cloned()
    };
    let both = ["cpu", "memory"];
    let says = |c: &Value| {
        both.iter()
            .any(|r| amount(c, "limits", r).is_some() || amount(c, "requests", r).is_some())
    };
    let exact = |c: &Value| {
        both.iter().all(|r| {
            let limit = amount(c, "limits", r);
            limit.is_some() && limit == amount(c, "requests", r)
        })
    };
    if !containers().any(says) {
        "BestEffort"
    } else if containers().all(exact) {
        "Guaranteed"
    } else {
        "Burstable"
    }
}
