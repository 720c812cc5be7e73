//! Resources that clients define: the row of the table that a `CustomResourceDefinition` stands for.
//!
//! Its schema is not carried out: nothing is pruned, filled in or refused by it. One version is
//! served, which is the stored one; a definition that asks for more is refused.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use serde_json::{Value, json};

use crate::{
    error::Cause,
    object,
    registry::{Resource, plain},
};

/// What a row has besides when a client defined it.
#[derive(Debug, PartialEq, Eq)]
pub struct Custom {
    /// What its objects are filed under.
    pub(crate) store: &'static str,
    /// `additionalPrinterColumns`.
    pub(crate) columns: &'static [PrinterColumn],
}

/// A column of `kubectl get`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PrinterColumn {
    pub(crate) name: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) priority: u8,
    /// Where the object has the value, as a JSON pointer.
    pub(crate) pointer: String,
}

/// Rows live as long as the process, as those of the table do; equal definitions share one, so the
/// number of different definitions bounds what is never freed.
static ROWS: Mutex<BTreeMap<String, &'static Resource>> = Mutex::new(BTreeMap::new());

/// The row of a definition that has passed [`check`].
pub(crate) fn row(definition: &Value) -> &'static Resource {
    let spec = &definition["spec"];
    let mut rows = ROWS.lock().unwrap_or_else(PoisonError::into_inner);
    rows.entry(spec.to_string())
        .or_insert_with(|| Box::leak(Box::new(read(spec))))
}

fn read(spec: &Value) -> Resource {
    let names = &spec["names"];
    let name = |key: &str| kept(object::text(names, &format!("/{key}")));
    let (group, plural) = (kept(object::text(spec, "/group")), name("plural"));
    let version = &spec["versions"][0];
    let columns = object::items(version, "/additionalPrinterColumns").iter();
    let custom = Custom {
        store: kept(&format!("{plural}.{group}")),
        columns: columns.map(column).collect::<Vec<_>>().leak(),
    };
    Resource {
        version: kept(object::text(version, "/name")),
        categories: words(names, "/categories"),
        namespaced: spec["scope"] == "Namespaced",
        status: version.pointer("/subresources/status").is_some(),
        generation: true,
        unconditional_update: false,
        custom: Some(Box::leak(Box::new(custom))),
        ..plain(
            group,
            name("kind"),
            plural,
            name("singular"),
            words(names, "/shortNames"),
        )
    }
}

fn kept(text: &str) -> &'static str {
    text.to_owned().leak()
}

fn words(of: &Value, pointer: &str) -> &'static [&'static str] {
    let texts = object::items(of, pointer).iter().filter_map(Value::as_str);
    texts.map(kept).collect::<Vec<_>>().leak()
}

fn column(column: &Value) -> PrinterColumn {
    let text = |pointer| kept(object::text(column, pointer));
    let priority = column["priority"].as_u64().unwrap_or_default();
    PrinterColumn {
        name: text("/name"),
        kind: text("/type"),
        priority: u8::try_from(priority).unwrap_or(u8::MAX),
        pointer: pointer(object::text(column, "/jsonPath")),
    }
}

/// A path of plain steps, `.spec.list[0].field` and `\.` for a dot in a name, as a JSON pointer.
/// Anything else of JSONPath points at nothing.
fn pointer(path: &str) -> String {
    const DOT: &str = "\u{0}";
    let path = path
        .replace("\\.", DOT)
        .replace('~', "~0")
        .replace('/', "~1");
    path.replace(['.', '['], "/")
        .replace(']', "")
        .replace(DOT, ".")
}

/// What the API server fills in.
pub(crate) fn fill(definition: &mut Value) {
    let kind = object::text(definition, "/spec/names/kind").to_owned();
    let spec = object::child(definition, "spec");
    object::default(spec, "conversion", json!({ "strategy": "None" }));
    if let Some(Value::Object(names)) = spec.get_mut("names") {
        object::default(names, "listKind", format!("{kind}List"));
        object::default(names, "singular", kind.to_lowercase());
    }
}

/// The status of a new definition, which is served from the next request on.
pub(crate) fn established(definition: &Value) -> Value {
    let condition = |kind, reason, message| {
        json!({
            "type": kind, "status": "True", "reason": reason, "message": message,
            "lastTransitionTime": definition["metadata"]["creationTimestamp"],
        })
    };
    let accepted = "the initial names have been accepted";
    json!({
        "acceptedNames": definition["spec"]["names"],
        "conditions": [
            condition("NamesAccepted", "NoConflicts", "no conflicts found"),
            condition("Established", "InitialNamesAccepted", accepted),
        ],
        "storedVersions": [definition["spec"]["versions"][0]["name"]],
    })
}

/// Whether a definition can be served.
pub(crate) fn check(definition: &Value, causes: &mut Vec<Cause>) {
    for field in ["group", "names/kind", "names/plural"] {
        if object::text(definition, &format!("/spec/{field}")).is_empty() {
            let field = format!("spec.{}", field.replace('/', "."));
            causes.push(Cause::required(field, ""));
        }
    }
    let [group, plural, name] = ["/spec/group", "/spec/names/plural", "/metadata/name"]
        .map(|pointer| object::text(definition, pointer));
    if name != format!("{plural}.{group}") {
        let why = "must be spec.names.plural+\".\"+spec.group";
        causes.push(Cause::invalid("metadata.name", &json!(name), why));
    }
    if !matches!(
        object::text(definition, "/spec/scope"),
        "Namespaced" | "Cluster"
    ) {
        let scope = &definition["spec"]["scope"];
        causes.push(Cause::invalid(
            "spec.scope",
            scope,
            "must be Namespaced or Cluster",
        ));
    }
    match object::items(definition, "/spec/versions") {
        [only] if !object::text(only, "/name").is_empty() => {}
        versions => {
            let why = "this server serves definitions of exactly one version";
            causes.push(Cause::invalid("spec.versions", &json!(versions), why));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_json_paths_are_pointers() {
        for (path, expected) in [
            (".status.phase", "/status/phase"),
            (".spec.allocations[0].ipv4", "/spec/allocations/0/ipv4"),
            (
                ".metadata.labels.k8s\\.aliyun\\.com/node",
                "/metadata/labels/k8s.aliyun.com~1node",
            ),
        ] {
            assert_eq!(pointer(path), expected);
        }
    }
}
