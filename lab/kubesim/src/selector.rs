//! Label and field selectors: parsed once at the border, then asked about objects.

use serde_json::Value;

use crate::{error::ApiError, object, registry::Resource};

#[derive(Debug, Clone, PartialEq)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Absent,
}

/// What a list or watch is limited to. The default selects everything.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Selector {
    labels: Vec<(String, Test)>,
    /// Pointer into the stored object, whether it must be equal, the value.
    fields: Vec<(String, bool, String)>,
}

impl Selector {
    /// Reads the query parameters `labelSelector` and `fieldSelector` (either may be empty).
    ///
    /// # Errors
    /// `BadRequest` when one does not parse or names a field this resource cannot be selected by.
    pub fn parse(resource: &Resource, labels: &str, fields: &str) -> Result<Self, ApiError> {
        let mut selector = Self::default();
        for part in split_outside_parentheses(labels) {
            selector.labels.push(label_requirement(part)?);
        }
        for part in fields.split(',').filter(|part| !part.is_empty()) {
            let (name, equal, value) = if let Some((name, value)) = part.split_once("!=") {
                (name, false, value)
            } else if let Some((name, value)) = part.split_once("==") {
                (name, true, value)
            } else if let Some((name, value)) = part.split_once('=') {
                (name, true, value)
            } else {
                return Err(ApiError::bad_request(format!(
                    "invalid selector: '{fields}'; can't understand '{part}'"
                )));
            };
            let pointer = field_pointer(resource, name).ok_or_else(|| {
                ApiError::bad_request(format!(
                    "Unable to find {:?} that match label selector {labels:?}, field selector \
                     {fields:?}: field label not supported: {name}",
                    format!(
                        "{}/{}, Resource={}",
                        resource.group, resource.version, resource.plural
                    ),
                ))
            })?;
            selector.fields.push((pointer, equal, value.to_owned()));
        }
        Ok(selector)
    }

    /// Reads a `LabelSelector`; none selects everything. An operator that does not exist selects
    /// nothing.
    pub(crate) fn of_labels(selector: &Value) -> Self {
        let equal = object::entries(selector, "/matchLabels").map(|(key, value)| {
            let value = value.as_str().unwrap_or_default().to_owned();
            (key.clone(), Test::In(vec![value]))
        });
        let expressions = object::items(selector, "/matchExpressions")
            .iter()
            .map(|each| {
                let values = object::items(each, "/values")
                    .iter()
                    .filter_map(Value::as_str);
                let values = values.map(str::to_owned).collect();
                let test = match object::text(each, "/operator") {
                    "NotIn" => Test::NotIn(values),
                    "Exists" => Test::Exists,
                    "DoesNotExist" => Test::Absent,
                    "In" => Test::In(values),
                    _ => Test::In(Vec::new()),
                };
                (object::text(each, "/key").to_owned(), test)
            });
        Self {
            labels: equal.chain(expressions).collect(),
            fields: Vec::new(),
        }
    }

    /// Selects everything: lists may then say how many items remain.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether the stored `object` is selected.
    pub fn matches(&self, object: &Value) -> bool {
        let labels = object.pointer("/metadata/labels");
        let label_holds = |(key, test): &(String, Test)| {
            let value = labels.and_then(|l| l.get(key)).and_then(Value::as_str);
            match test {
                Test::In(set) => value.is_some_and(|v| set.iter().any(|s| s == v)),
                Test::NotIn(set) => value.is_none_or(|v| set.iter().all(|s| s != v)),
                Test::Exists => value.is_some(),
                Test::Absent => value.is_none(),
            }
        };
        let field_holds = |(pointer, equal, value): &(String, bool, String)| {
            (field_text(object, pointer) == *value) == *equal
        };
        self.labels.iter().all(label_holds) && self.fields.iter().all(field_holds)
    }
}

/// Booleans are selectable too and are `false` when absent.
fn field_text(object: &Value, pointer: &str) -> String {
    match object.pointer(pointer) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Bool(flag)) => flag.to_string(),
        _ if matches!(pointer, "/spec/unschedulable" | "/spec/hostNetwork") => "false".into(),
        _ if pointer == "/source/component" => {
            object::text(object, "/reportingComponent").to_owned()
        }
        _ => String::new(),
    }
}

/// Where the stored object has what a field selector names: mostly where it says.
fn field_pointer(resource: &Resource, name: &str) -> Option<String> {
    let common = name == "metadata.name" || name == "metadata.namespace" && resource.namespaced;
    if !common && !resource.fields.contains(&name) {
        return None;
    }
    Some(match name {
        "source" => "/source/component".to_owned(),
        "reportingController" => "/reportingComponent".to_owned(),
        _ => format!(
            "/{}",
            name.replace("regarding", "involvedObject")
                .replace('.', "/")
        ),
    })
}

fn split_outside_parentheses(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_i32;
    text.split(move |c| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == ',' && depth == 0
    })
    .map(str::trim)
    .filter(|part| !part.is_empty())
}

fn label_requirement(part: &str) -> Result<(String, Test), ApiError> {
    let bad = || ApiError::bad_request(format!("unable to parse requirement: {part:?}"));
    let one = |text: &str| vec![text.trim().to_owned()];
    let (key, test) = if let Some(open) = part.find('(') {
        let (head, set) = part.split_at(open);
        let set = set
            .strip_prefix('(')
            .and_then(|s| s.strip_suffix(')'))
            .ok_or_else(bad)?;
        let set = set.split(',').map(|v| v.trim().to_owned()).collect();
        match head.split_whitespace().collect::<Vec<_>>().as_slice() {
            [key, "in"] => (*key, Test::In(set)),
            [key, "notin"] => (*key, Test::NotIn(set)),
            _ => return Err(bad()),
        }
    } else if let Some(key) = part.strip_prefix('!') {
        (key, Test::Absent)
    } else if let Some((key, value)) = part.split_once("!=") {
        (key, Test::NotIn(one(value)))
    } else if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        (key, Test::In(one(value)))
    } else {
        (part, Test::Exists)
    };
    let key = key.trim();
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    if key.is_empty() || !key.chars().all(legal) {
        return Err(bad());
    }
    Ok((key.to_owned(), test))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::registry::{EVENTS, NODES, PODS};

    #[test]
    fn labels_are_tested_as_the_grammar_says() {
        let pod = json!({ "metadata": { "labels": { "app": "web", "tier": "3" } } });
        let cases = [
            ("app=web", true),
            ("app==web", true),
            ("app!=web", false),
            ("other!=web", true),
            ("app in (api, web),tier", true),
            ("app notin (web)", false),
            ("!app", false),
            ("!other", true),
            ("app=web,tier=4", false),
            ("", true),
        ];
        for (text, expected) in cases {
            let selector = Selector::parse(&PODS, text, "").expect(text);
            assert_eq!(selector.matches(&pod), expected, "{text}");
        }
        for bad in ["a b", "app in web", "app in (web", "=x", "a within (b)"] {
            assert_eq!(
                Selector::parse(&PODS, bad, "").map_err(|e| e.code()),
                Err(400),
                "{bad}"
            );
        }
    }

    #[test]
    fn only_the_fields_a_resource_declares_select() {
        let pod = json!({ "metadata": { "name": "a" }, "spec": { "nodeName": "n1" } });
        let select = |text| Selector::parse(&PODS, "", text).map(|s| s.matches(&pod));
        assert_eq!(select("spec.nodeName=n1,metadata.name==a"), Ok(true));
        assert_eq!(select("spec.nodeName!=n1"), Ok(false));
        assert_eq!(select("status.phase="), Ok(true));
        assert!(select("spec.dnsPolicy=x").is_err_and(|e| {
            e.to_string()
                .ends_with("field label not supported: spec.dnsPolicy")
        }));
        assert!(select("spec.nodeName").is_err());
        let node = json!({ "metadata": { "name": "n" } });
        let schedulable = Selector::parse(&NODES, "", "spec.unschedulable=false");
        assert!(schedulable.is_ok_and(|s| s.matches(&node)));
        assert!(Selector::parse(&EVENTS, "", "involvedObject.name=a,type=Warning").is_ok());
    }
}
