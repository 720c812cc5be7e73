//! Server-side apply: each manager owns the fields it applied, and drops them by leaving them out.
//!
//! Ownership is kept where the API keeps it, in `metadata.managedFields`. Only applied fields are
//! tracked: plain writes own nothing here, so an apply never conflicts with them.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::{
    cluster::{Cluster, Target, served},
    error::{ApiError, Cause},
    object,
    registry::Resource,
    strategic::{self, ListKind, list_kind},
    time::{UnixTime, rfc3339},
    validate,
    write::{Part, Written},
};

/// Who applies, and how.
pub(crate) struct Intent<'a> {
    pub(crate) manager: &'a str,
    pub(crate) force: bool,
    pub(crate) part: Part,
}

/// A step as `fieldsV1` writes it: `f:name`, `k:{"type":"Ready"}` or `v:"value"`.
type Path = Vec<String>;

impl Cluster {
    pub(crate) fn apply(
        &mut self,
        now: UnixTime,
        target: Target<'_>,
        intent: &Intent<'_>,
        mut wanted: Value,
    ) -> Result<Written, ApiError> {
        let Target {
            resource,
            namespace,
            name,
        } = target;
        if intent.manager.is_empty() {
            let cause = Cause::required("fieldManager", "is required for apply patch");
            return Err(ApiError::invalid_options("PatchOptions", &[cause]));
        }
        validate::shape(resource, namespace, &mut wanted)?;
        if wanted.pointer("/metadata/managedFields").is_some() {
            return Err(ApiError::bad_request("metadata.managedFields must be nil"));
        }
        object::normalise(&mut wanted);
        if object::text(&wanted, "/metadata/name") != name {
            let found = object::text(&wanted, "/metadata/name");
            return Err(ApiError::bad_request(format!(
                "the name of the object ({found}) does not match the name on the URL ({name})"
            )));
        }
        let fields = owned_fields(resource, intent.part, &wanted);
        let Ok(stored) = self.stored(target) else {
            if intent.part == Part::Status {
                return Err(target.not_found());
            }
            let mine = entry(now, resource, intent, &fields);
            object::metadata(&mut wanted).insert("managedFields".into(), json!([mine]));
            return self
                .create(now, resource, namespace, wanted)
                .map(Written::Created);
        };
        let old = served(resource, stored);
        let mut new = Value::clone(&old);
        let mut owners = Owners::read(&new, intent);
        owners.settle_conflicts(&old, &wanted, &fields, intent.force)?;
        for dropped in owners.mine.difference(&fields) {
            if !owners
                .others
                .iter()
                .any(|(_, theirs)| theirs.contains(dropped))
            {
                remove(&mut new, dropped);
            }
        }
        if let (Value::Object(base), Value::Object(changes)) = (&mut new, &wanted) {
            strategic::merge(resource, base, changes)?;
        }
        let unchanged = owners.mine == fields && new == *old;
        if !unchanged {
            let mine = entry(now, resource, intent, &fields);
            object::metadata(&mut new).insert("managedFields".into(), owners.with(mine));
        }
        self.replace(target, intent.part, new).map(Written::Updated)
    }
}

/// The entries of `managedFields`, ours apart from the others'.
struct Owners {
    mine: BTreeSet<Path>,
    others: Vec<(Value, BTreeSet<Path>)>,
}

impl Owners {
    fn read(object: &Value, intent: &Intent<'_>) -> Self {
        let mut owners = Self {
            mine: BTreeSet::new(),
            others: Vec::new(),
        };
        for entry in object::items(object, "/metadata/managedFields") {
            let mut fields = BTreeSet::new();
            decode(&entry["fieldsV1"], &mut Vec::new(), &mut fields);
            let ours = object::text(entry, "/manager") == intent.manager
                && object::text(entry, "/operation") == "Apply"
                && object::text(entry, "/subresource") == subresource(intent.part);
            if ours {
                owners.mine = fields;
            } else {
                owners.others.push((entry.clone(), fields));
            }
        }
        owners
    }

    /// A field of another manager may be shared while the values agree, and taken only by force.
    fn settle_conflicts(
        &mut self,
        old: &Value,
        wanted: &Value,
        fields: &BTreeSet<Path>,
        force: bool,
    ) -> Result<(), ApiError> {
        let mut held = Vec::new();
        for (entry, theirs) in &mut self.others {
            let differs = |path: &&Path| find(old, path) != find(wanted, path);
            let fought: Vec<_> = theirs
                .intersection(fields)
                .filter(differs)
                .cloned()
                .collect();
            for path in fought {
                theirs.remove(&path);
                held.push((object::text(entry, "/manager").to_owned(), dotted(&path)));
            }
        }
        held.sort();
        if held.is_empty() || force {
            Ok(())
        } else {
            Err(ApiError::apply_conflict(&held))
        }
    }

    fn with(self, mine: Value) -> Value {
        let others = self
            .others
            .into_iter()
            .filter(|(_, fields)| !fields.is_empty());
        let rewritten = others.map(|(mut entry, fields)| {
            entry["fieldsV1"] = encode(&fields);
            entry
        });
        rewritten.chain([mine]).collect()
    }
}

fn subresource(part: Part) -> &'static str {
    match part {
        Part::Whole => "",
        Part::Status => "status",
    }
}

fn entry(
    now: UnixTime,
    resource: &Resource,
    intent: &Intent<'_>,
    fields: &BTreeSet<Path>,
) -> Value {
    let mut entry = json!({
        "manager": intent.manager, "operation": "Apply", "apiVersion": resource.api_version(),
        "time": rfc3339(now), "fieldsType": "FieldsV1", "fieldsV1": encode(fields),
    });
    if intent.part == Part::Status {
        entry["subresource"] = subresource(intent.part).into();
    }
    entry
}

/// Every leaf of what was applied, less what identifies the object and what this half of it cannot
/// set.
fn owned_fields(resource: &Resource, part: Part, wanted: &Value) -> BTreeSet<Path> {
    let mut all = BTreeSet::new();
    collect(resource, "", wanted, &mut Vec::new(), &mut all);
    let identity = [
        "name",
        "namespace",
        "generateName",
        "uid",
        "resourceVersion",
    ];
    all.retain(|path| {
        let step = |at: usize| path.get(at).map(|s| &s[2..]).unwrap_or_default();
        match step(0) {
            "apiVersion" | "kind" => false,
            "metadata" => path.len() > 1 && !identity.contains(&step(1)),
            "status" => part == Part::Status || !resource.status,
            _ => part == Part::Whole,
        }
    });
    all
}

fn collect(
    resource: &Resource,
    field: &str,
    value: &Value,
    path: &mut Path,
    all: &mut BTreeSet<Path>,
) {
    match (value, list_kind(resource, field)) {
        (Value::Object(map), _) if !map.is_empty() => {
            for (name, inner) in map {
                path.push(format!("f:{name}"));
                collect(resource, name, inner, path, all);
                path.pop();
            }
        }
        (Value::Array(list), ListKind::Keyed(key)) => {
            for element in list {
                path.push(format!("k:{}", json!({ key: element[key] })));
                all.insert(path.clone());
                collect(resource, "", element, path, all);
                path.pop();
            }
        }
        (Value::Array(list), ListKind::Values) => {
            for element in list {
                path.push(format!("v:{element}"));
                all.insert(path.clone());
                path.pop();
            }
        }
        _ => {
            all.insert(path.clone());
        }
    }
}

/// Leaves end in `{}`; an element that is owned itself and has owned fields says so by `.`.
fn encode(fields: &BTreeSet<Path>) -> Value {
    let mut root = Map::new();
    for path in fields {
        let mut at = &mut root;
        for step in path {
            at = match at.entry(step.as_str()).or_insert_with(|| json!({})) {
                Value::Object(inner) => inner,
                _ => unreachable!("only maps are put in"),
            };
        }
        if path.last().is_some_and(|step| step.starts_with("k:")) {
            at.insert(".".into(), json!({}));
        }
    }
    root.into()
}

fn decode(tree: &Value, path: &mut Path, fields: &mut BTreeSet<Path>) {
    for (step, inner) in object::entries(tree, "") {
        if step == "." {
            fields.insert(path.clone());
            continue;
        }
        path.push(step.clone());
        if inner.as_object().is_none_or(Map::is_empty) {
            fields.insert(path.clone());
        } else {
            decode(inner, path, fields);
        }
        path.pop();
    }
}

fn is_step(element: &Value, step: &str) -> bool {
    let wanted = serde_json::from_str::<Value>(step.get(2..).unwrap_or_default());
    match (wanted, step.starts_with("k:")) {
        (Ok(Value::Object(keys)), true) => keys.iter().all(|(k, v)| element.get(k) == Some(v)),
        (Ok(value), false) => *element == value,
        _ => false,
    }
}

fn find<'a>(object: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter()
        .try_fold(object, |at, step| match step.strip_prefix("f:") {
            Some(field) => at.get(field),
            None => at.as_array()?.iter().find(|element| is_step(element, step)),
        })
}

fn remove(object: &mut Value, path: &[String]) {
    let Some((step, rest)) = path.split_first() else {
        return;
    };
    if rest.is_empty() {
        match (object, step.strip_prefix("f:")) {
            (Value::Object(map), Some(field)) => {
                map.remove(field);
            }
            (Value::Array(list), None) => list.retain(|element| !is_step(element, step)),
            _ => {}
        }
        return;
    }
    let inner = match step.strip_prefix("f:") {
        Some(field) => object.get_mut(field),
        None => object
            .as_array_mut()
            .and_then(|list| list.iter_mut().find(|element| is_step(element, step))),
    };
    if let Some(inner) = inner {
        remove(inner, rest);
    }
}

fn dotted(path: &[String]) -> String {
    path.iter()
        .map(|step| match step.strip_prefix("f:") {
            Some(field) => format!(".{field}"),
            None => format!("[{}]", &step[2..]),
        })
        .collect()
}
