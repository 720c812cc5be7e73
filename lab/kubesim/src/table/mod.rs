//! What `kubectl get` prints: the columns of each resource and how an object fills them.

mod events;
mod nodes;
mod pods;

use serde_json::{Map, Value, json};

use crate::{
    custom::PrinterColumn,
    object,
    registry::{CONFIG_MAPS, EVENTS, EVENTS_V1, LEASES, NAMESPACES, NODES, PODS, Resource},
    time::{UnixTime, human, parse_rfc3339},
};

/// Which representation of an object goes into a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowObject {
    None,
    Metadata,
    Object,
}

/// Name, type and priority of a column; priority 1 is shown by `-o wide` only.
type Column = (&'static str, &'static str, u8);

const NAME: Column = ("Name", "string", 0);
const AGE: Column = ("Age", "string", 0);

/// What a cell shows for what is not set.
const NONE: &str = "<none>";
const UNKNOWN: &str = "<unknown>";

fn columns(resource: &Resource) -> Vec<Column> {
    let middle: &[Column] = if let Some(columns) = printed(resource) {
        let columns = columns.iter().map(|c| (c.name, c.kind, c.priority));
        return std::iter::once(NAME).chain(columns).collect();
    } else if resource == &PODS {
        return pods::COLUMNS.to_vec();
    } else if resource == &NODES {
        return nodes::COLUMNS.to_vec();
    } else if resource == &EVENTS || resource == &EVENTS_V1 {
        return events::COLUMNS.to_vec();
    } else if resource == &NAMESPACES {
        &[("Status", "string", 0)]
    } else if resource == &CONFIG_MAPS {
        &[("Data", "string", 0)]
    } else if resource == &LEASES {
        &[("Holder", "string", 0)]
    } else {
        &[]
    };
    [&[NAME], middle, &[AGE]].concat()
}

fn cells(now: UnixTime, resource: &Resource, object: &Value) -> Vec<Value> {
    let count = |pointer| object::entries(object, pointer).count();
    let mut middle: Vec<Value> = if let Some(columns) = printed(resource) {
        let values = columns
            .iter()
            .map(|column| printed_cell(now, column, object));
        let name = object::text(object, "/metadata/name").into();
        return std::iter::once(name).chain(values).collect();
    } else if resource == &PODS {
        return pods::cells(now, object);
    } else if resource == &NODES {
        return nodes::cells(now, object);
    } else if resource == &EVENTS || resource == &EVENTS_V1 {
        return events::cells(now, object);
    } else if resource == &NAMESPACES {
        vec![object::text(object, "/status/phase").into()]
    } else if resource == &CONFIG_MAPS {
        vec![(count("/data") + count("/binaryData")).into()]
    } else if resource == &LEASES {
        vec![object::text(object, "/spec/holderIdentity").into()]
    } else {
        Vec::new()
    };
    middle.insert(0, object::text(object, "/metadata/name").into());
    middle.push(age(now, object).into());
    middle
}

/// The columns that a definition gives besides the name.
fn printed(resource: &Resource) -> Option<&'static [PrinterColumn]> {
    let columns = resource.custom?.columns;
    (!columns.is_empty()).then_some(columns)
}

fn printed_cell(now: UnixTime, column: &PrinterColumn, object: &Value) -> Value {
    let value = object.pointer(&column.pointer).cloned().unwrap_or_default();
    match (column.kind, &value) {
        ("date", Value::String(at)) => since(now, at).into(),
        _ => value,
    }
}

/// A `Table` of `objects` (in stored shape) with the list's `metadata`. `version` is that of
/// meta.k8s.io the client asked for; a watch sends the column definitions only once.
pub(crate) fn table<'a>(
    now: UnixTime,
    resource: &Resource,
    version: &str,
    metadata: Value,
    headers: bool,
    row_object: RowObject,
    objects: impl Iterator<Item = &'a Value>,
) -> Value {
    let rows: Vec<Value> = objects
        .map(|object| {
            let mut row = Map::new();
            row.insert("cells".into(), cells(now, resource, object).into());
            if let Some(conditions) = pods::row_conditions(object).filter(|_| resource == &PODS) {
                row.insert("conditions".into(), conditions);
            }
            let shown = match row_object {
                RowObject::None => Value::Null,
                RowObject::Metadata => partial(version, object),
                RowObject::Object => object.clone(),
            };
            row.insert("object".into(), shown);
            Value::Object(row)
        })
        .collect();
    let definitions = columns(resource).into_iter().filter(|_| headers);
    let definitions: Vec<_> = definitions.map(definition).collect();
    json!({
        "kind": "Table", "apiVersion": format!("meta.k8s.io/{version}"), "metadata": metadata,
        "columnDefinitions": definitions, "rows": rows,
    })
}

/// `PartialObjectMetadata` of an object.
pub(crate) fn partial(version: &str, object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata", "apiVersion": format!("meta.k8s.io/{version}"),
        "metadata": object["metadata"],
    })
}

fn definition((name, kind, priority): Column) -> Value {
    let format = if name == "Name" { "name" } else { "" };
    json!({ "name": name, "type": kind, "format": format, "description": "", "priority": priority })
}

fn since(now: UnixTime, at: &str) -> String {
    parse_rfc3339(at).map_or_else(|| UNKNOWN.to_owned(), |at| human(now.saturating_sub(at)))
}

fn age(now: UnixTime, object: &Value) -> String {
    since(now, object::text(object, "/metadata/creationTimestamp"))
}

fn or<'a>(text: &'a str, instead: &'a str) -> &'a str {
    if text.is_empty() { instead } else { text }
}
