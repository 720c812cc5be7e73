//! What the server says about itself: version, health, groups and resources, and a bare OpenAPI
//! document.
//!
//! The document has no schemas: `kubectl` then leaves checking to the server, as it does for any
//! type it finds no schema of.

use axum::{
    http::{Method, header::CONTENT_TYPE, request::Parts},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::{Api, accept, verbs::json_response};
use crate::{ApiError, Resource, registry::PODS};

/// The release whose behaviour is served; the suffix says by whom.
const VERSION: (&str, &str, &str) = ("1", "33", "v1.33.0+kubesim");

const VERBS: [&str; 8] = [
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];
const STATUS_VERBS: [&str; 3] = ["get", "patch", "update"];

/// The media types in which clients ask for the OpenAPI document. `@` is not allowed in one, so the
/// answer always carries the second.
const OPENAPI_PROTOBUF: [&str; 2] = [
    "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
    "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
];

/// Answers paths that are about the server; `None` for those of objects.
pub(super) fn answer(api: &Api, parts: &Parts) -> Option<Result<Response, ApiError>> {
    let segments: Vec<&str> = parts.uri.path().trim_matches('/').split('/').collect();
    let body = match segments.as_slice() {
        ["version"] => version(),
        ["healthz" | "readyz" | "livez", ..] => return Some(Ok("ok".into_response())),
        ["openapi", "v2"] => return Some(Ok(openapi(parts))),
        ["api"] => core_versions(),
        ["apis"] => group_list(&served(api)),
        ["api", "v1"] => resource_list(&served(api), "", "v1"),
        ["apis", group] => api_group(&served(api), group)?,
        ["apis", group, version] => {
            let served = served(api);
            let known = |r: &&Resource| (r.group, r.version) == (*group, *version);
            served.iter().copied().find(known)?;
            resource_list(&served, group, version)
        }
        _ => return None,
    };
    if parts.method != Method::GET {
        return Some(Err(ApiError::method_not_allowed()));
    }
    Some(Ok(json_response(200, &body)))
}

fn version() -> Value {
    let (major, minor, git) = VERSION;
    json!({
        "major": major, "minor": minor, "gitVersion": git, "gitCommit": "", "gitTreeState": "",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "rustc",
        "platform": "linux/amd64",
    })
}

fn served(api: &Api) -> Vec<&'static Resource> {
    api.read(|cluster| cluster.resources().collect())
}

fn core_versions() -> Value {
    json!({ "kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [] })
}

fn group_list(served: &[&Resource]) -> Value {
    let mut groups: Vec<_> = served.iter().map(|r| r.group).collect();
    groups.dedup();
    let groups: Vec<_> = groups
        .iter()
        .filter_map(|group| group_entry(served, group))
        .collect();
    json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups })
}

/// A named group with its versions, the first of them preferred.
fn group_entry(served: &[&Resource], group: &str) -> Option<Value> {
    let of_group = served
        .iter()
        .filter(|r| !group.is_empty() && r.group == group);
    let mut versions: Vec<_> = of_group.map(|r| r.version).collect();
    versions.dedup();
    let version = |v: &&str| json!({ "groupVersion": format!("{group}/{v}"), "version": v });
    let versions: Vec<_> = versions.iter().map(version).collect();
    let preferred = versions.first()?.clone();
    Some(json!({ "name": group, "versions": versions, "preferredVersion": preferred }))
}

fn api_group(served: &[&Resource], group: &str) -> Option<Value> {
    let mut entry = group_entry(served, group)?;
    entry["kind"] = "APIGroup".into();
    entry["apiVersion"] = "v1".into();
    Some(entry)
}

/// Subresources: name, verbs, kind.
fn subresources(
    resource: &'static Resource,
) -> Vec<(&'static str, &'static [&'static str], &'static str)> {
    let mut all: Vec<(_, &'static [_], _)> = Vec::new();
    if resource == &PODS {
        all.push(("binding", &["create"], "Binding"));
    }
    if resource.status {
        all.push(("status", &STATUS_VERBS, resource.kind));
    }
    all
}

fn verbs(resource: &Resource) -> Vec<&'static str> {
    // Namespaces are deleted one at a time, and each with everything in it.
    let whole = |verb: &&str| *verb != "deletecollection" || resource.kind != "Namespace";
    VERBS.into_iter().filter(whole).collect()
}

fn resource_list(served: &[&'static Resource], group: &str, version: &str) -> Value {
    let mut resources = Vec::new();
    let wanted = |r: &&Resource| r.group == group && r.version == version;
    for r in served.iter().copied().filter(wanted) {
        let mut entry = json!({
            "name": r.plural, "singularName": r.singular, "namespaced": r.namespaced,
            "kind": r.kind, "verbs": verbs(r),
        });
        for (key, list) in [("shortNames", r.short_names), ("categories", r.categories)] {
            if !list.is_empty() {
                entry[key] = list.into();
            }
        }
        resources.push(entry);
        for (name, verbs, kind) in subresources(r) {
            resources.push(json!({
                "name": format!("{}/{name}", r.plural), "singularName": "",
                "namespaced": r.namespaced, "kind": kind, "verbs": verbs,
            }));
        }
    }
    let group_version = if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    };
    json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version,
        "resources": resources,
    })
}

fn openapi(parts: &Parts) -> Response {
    let wanted = accept::accepted(&parts.headers);
    let protobuf = wanted
        .iter()
        .any(|media| OPENAPI_PROTOBUF.contains(&media.kind));
    let (title, version) = ("Kubernetes", VERSION.2);
    if protobuf {
        // Document { swagger = 1, info = 2 { title = 1, version = 2 } }
        let info = [field(1, title.as_bytes()), field(2, version.as_bytes())].concat();
        let document = [field(1, b"2.0"), field(2, &info)].concat();
        return ([(CONTENT_TYPE, OPENAPI_PROTOBUF[1])], document).into_response();
    }
    let info = json!({ "title": title, "version": version });
    json_response(
        200,
        &json!({ "swagger": "2.0", "info": info, "paths": {}, "definitions": {} }),
    )
}

/// A length-delimited protobuf field of fewer than 128 bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    debug_assert!(bytes.len() < 128, "longer needs a multi-byte length");
    let length = u8::try_from(bytes.len()).unwrap_or_default();
    [&[number << 3 | 2, length], bytes].concat()
}
