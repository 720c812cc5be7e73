//! What an object must look like: its shape as JSON, then the rules of its kind.
//!
//! Only the rules somebody can break by hand in the lab; a schema for every field is not kept.

use serde_json::{Value, json};

use crate::{
    admission, custom,
    error::{ApiError, Cause},
    object,
    registry::{ADMISSION, CONFIG_MAPS, CRDS, EVENTS, EVENTS_V1, NAMESPACES, PODS, Resource},
};

/// Longest DNS label (RFC 1123) and longest DNS subdomain.
const LABEL_LIMIT: usize = 63;
const SUBDOMAIN_LIMIT: usize = 253;

const RBAC: &str = "rbac.authorization.k8s.io";

const SUBDOMAIN_RULE: &str = "a lowercase RFC 1123 subdomain must consist of lower case \
    alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character \
    (e.g. 'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_RULE: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric \
    characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or \
    '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const LABEL_VALUE_RULE: &str = "a valid label must be an empty string or consist of alphanumeric \
    characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. \
    'MyValue',  or 'my_value',  or '12345', regex used for validation is \
    '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const QUALIFIED_RULE: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', \
    and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or \
    '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

/// Checks that `body` is an object of this resource and namespace, filling in what the path says.
///
/// # Errors
/// `BadRequest`.
pub(crate) fn shape(
    resource: &'static Resource,
    namespace: &str,
    body: &mut Value,
) -> Result<(), ApiError> {
    let bad = |why: String| Err(ApiError::bad_request(why));
    let (kind, version) = (resource.kind, resource.api_version());
    let Some(fields) = body.as_object_mut() else {
        return bad(format!(
            "the object provided is unrecognized (must be of type {kind})"
        ));
    };
    object::default(fields, "kind", kind);
    object::default(fields, "apiVersion", version.as_str());
    if fields["apiVersion"] != json!(version) {
        return bad(format!(
            "the API version in the data ({}) does not match the expected API version ({version})",
            object::text(body, "/apiVersion")
        ));
    }
    if fields["kind"] != json!(kind) {
        let found = object::text(body, "/kind");
        return bad(format!(
            "{found} in version \"{version}\" cannot be handled as a {kind}"
        ));
    }
    if let Some(field) = wrong_type(body) {
        return bad(format!(
            "{kind} in version \"{version}\" cannot be handled as a {kind}: json: cannot \
             unmarshal field {}",
            field.trim_start_matches('/').replace('/', ".")
        ));
    }
    let found = object::text(body, "/metadata/namespace");
    if !resource.namespaced {
        object::metadata(body).remove("namespace");
    } else if found.is_empty() {
        object::metadata(body).insert("namespace".into(), namespace.into());
    } else if found != namespace {
        let why = "the namespace of the provided object does not match the namespace sent on the \
                   request";
        return bad(why.into());
    }
    Ok(())
}

/// The first field that is not of the type every object has there.
fn wrong_type(body: &Value) -> Option<&'static str> {
    type Test = fn(&Value) -> bool;
    let text_map: Test = |value| {
        value
            .as_object()
            .is_some_and(|map| map.values().all(|v| v.is_string() || v.is_null()))
    };
    let texts: Test = |value| {
        value
            .as_array()
            .is_some_and(|l| l.iter().all(Value::is_string))
    };
    let maps: Test = |value| {
        value
            .as_array()
            .is_some_and(|l| l.iter().all(Value::is_object))
    };
    let checks: [(&[&str], Test); 5] = [
        (&["/metadata", "/spec", "/status"], Value::is_object),
        (
            &[
                "/metadata/name",
                "/metadata/generateName",
                "/metadata/namespace",
                "/metadata/uid",
                "/metadata/resourceVersion",
                "/spec/nodeName",
            ],
            Value::is_string,
        ),
        (
            &["/metadata/labels", "/metadata/annotations", "/data"],
            text_map,
        ),
        (&["/metadata/finalizers"], texts),
        (
            &[
                "/metadata/ownerReferences",
                "/spec/containers",
                "/spec/ports",
                "/status/conditions",
            ],
            maps,
        ),
    ];
    let wrong = |pointer: &str, test: Test| {
        body.pointer(pointer)
            .is_some_and(|value| !value.is_null() && !test(value))
    };
    checks.into_iter().find_map(|(pointers, test)| {
        pointers
            .iter()
            .copied()
            .find(|pointer| wrong(pointer, test))
    })
}

/// Checks a stored object that has its defaults.
///
/// # Errors
/// `Invalid` with every rule it breaks.
pub(crate) fn content(resource: &'static Resource, object: &Value) -> Result<(), ApiError> {
    let mut causes = Vec::new();
    let name = object::text(object, "/metadata/name");
    if name.is_empty() {
        causes.push(Cause::required(
            "metadata.name",
            "name or generateName is required",
        ));
    } else if let Err(why) = check_name(resource, name) {
        causes.push(Cause::invalid("metadata.name", &json!(name), &why));
    }
    for (key, value) in object::entries(object, "/metadata/labels") {
        causes.extend(qualified("metadata.labels", key));
        if !is_label_value(value.as_str().unwrap_or_default()) {
            causes.push(Cause::invalid("metadata.labels", value, LABEL_VALUE_RULE));
        }
    }
    for (key, _) in object::entries(object, "/metadata/annotations") {
        causes.extend(qualified("metadata.annotations", &key.to_lowercase()));
    }
    if resource == &PODS {
        pod(object, &mut causes);
    } else if resource == &CRDS {
        custom::check(object, &mut causes);
    } else if resource.group == ADMISSION {
        admission::check(object, &mut causes);
    } else if resource == &CONFIG_MAPS {
        config_map(object, &mut causes);
    } else if resource == &EVENTS || resource == &EVENTS_V1 {
        event(object, &mut causes);
    }
    if causes.is_empty() {
        Ok(())
    } else {
        Err(ApiError::invalid(resource, name, &causes))
    }
}

fn pod(pod: &Value, causes: &mut Vec<Cause>) {
    let containers = object::items(pod, "/spec/containers");
    if containers.is_empty() {
        causes.push(Cause::required("spec.containers", ""));
    }
    let mut seen = Vec::new();
    for (index, container) in containers.iter().enumerate() {
        let at = format!("spec.containers[{index}]");
        let name = object::text(container, "/name");
        if name.is_empty() {
            causes.push(Cause::required(format!("{at}.name"), ""));
        } else if !is_label(name) {
            causes.push(Cause::invalid(
                format!("{at}.name"),
                &json!(name),
                LABEL_RULE,
            ));
        } else if seen.contains(&name) {
            let message = format!("Duplicate value: {name:?}");
            let field = format!("{at}.name");
            causes.push(Cause {
                reason: "FieldValueDuplicate",
                message,
                field,
            });
        }
        seen.push(name);
        if object::text(container, "/image").is_empty() {
            causes.push(Cause::required(format!("{at}.image"), ""));
        }
    }
    let node = object::text(pod, "/spec/nodeName");
    if !node.is_empty() && !is_subdomain(node) {
        causes.push(Cause::invalid(
            "spec.nodeName",
            &json!(node),
            SUBDOMAIN_RULE,
        ));
    }
}

fn config_map(map: &Value, causes: &mut Vec<Cause>) {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    for (key, _) in object::entries(map, "/data") {
        if key.is_empty() || key.len() > SUBDOMAIN_LIMIT || !key.chars().all(legal) {
            let why = "a valid config key must consist of alphanumeric characters, '-', '_' or \
                       '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for \
                       validation is '[-._a-zA-Z0-9]+')";
            causes.push(Cause::invalid(format!("data[{key}]"), &json!(key), why));
        }
    }
}

fn event(event: &Value, causes: &mut Vec<Cause>) {
    let about = object::text(event, "/involvedObject/namespace");
    let own = object::text(event, "/metadata/namespace");
    if about != own && !(about.is_empty() && own == "default") {
        let field = "involvedObject.namespace";
        causes.push(Cause::invalid(
            field,
            &json!(about),
            "does not match event.namespace",
        ));
    }
}

fn check_name(resource: &Resource, name: &str) -> Result<(), String> {
    let (fits, limit, rule) = if resource == &NAMESPACES {
        (is_label(name), LABEL_LIMIT, LABEL_RULE)
    } else if resource.group == RBAC {
        // "system:node" and the like: whatever can stand in a path.
        (
            !name.contains(['/', '%']),
            SUBDOMAIN_LIMIT,
            "may not contain '/' or '%'",
        )
    } else {
        (is_subdomain(name), SUBDOMAIN_LIMIT, SUBDOMAIN_RULE)
    };
    match fits {
        true => Ok(()),
        false if name.len() > limit => Err(format!("must be no more than {limit} characters")),
        false => Err(rule.to_owned()),
    }
}

fn is_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    text.len() <= LABEL_LIMIT
        && text.bytes().all(|b| inner(b) || b == b'-')
        && text.bytes().next().is_some_and(inner)
        && text.bytes().last().is_some_and(inner)
}

fn is_subdomain(text: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    text.len() <= SUBDOMAIN_LIMIT && text.split('.').all(part)
}

fn is_label_value(text: &str) -> bool {
    text.is_empty() || is_name_part(text)
}

fn is_name_part(text: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    text.len() <= LABEL_LIMIT
        && text.bytes().all(legal)
        && text
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_alphanumeric())
        && text
            .bytes()
            .last()
            .is_some_and(|b| b.is_ascii_alphanumeric())
}

/// A label or annotation key: an optional DNS subdomain, a slash, a name.
fn qualified(field: &str, key: &str) -> Option<Cause> {
    let (prefix, name) = key
        .split_once('/')
        .map_or((None, key), |(p, n)| (Some(p), n));
    if prefix.is_none_or(is_subdomain) && is_name_part(name) {
        return None;
    }
    Some(Cause::invalid(field, &json!(key), QUALIFIED_RULE))
}
