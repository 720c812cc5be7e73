//! Label selectors (`metav1.LabelSelector`).

use std::collections::BTreeMap;

use model::podnetworking::{Requirement, Selector};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::FieldError;

/// Conditions on labels, all of which must hold; without any, every object is selected.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LabelSelector {
    /// Labels the object must have with these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
    /// Further conditions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub match_expressions: Vec<LabelSelectorRequirement>,
}

/// A condition on one label.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LabelSelectorRequirement {
    /// The label's key.
    pub key: String,
    /// In, NotIn, Exists or DoesNotExist.
    pub operator: String,
    /// The values of In and NotIn.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

impl LabelSelector {
    /// As decisions know it; `field` is where it stands, for people.
    pub(crate) fn read(&self, field: &str) -> Result<Selector, FieldError> {
        let labels = self.match_labels.iter();
        let mut all: Vec<Requirement> = labels
            .map(|(key, value)| Requirement::In(key.clone(), vec![value.clone()]))
            .collect();
        for (at, one) in self.match_expressions.iter().enumerate() {
            all.push(one.read(&format!("{field}.matchExpressions[{at}]"))?);
        }
        Ok(Selector(all))
    }
}

impl LabelSelectorRequirement {
    fn read(&self, field: &str) -> Result<Requirement, FieldError> {
        let (key, values) = (self.key.clone(), self.values.clone());
        let one_is_needed = "one value or more is needed with In and NotIn, none with the others";
        match (self.operator.as_str(), values.is_empty()) {
            ("In", false) => Ok(Requirement::In(key, values)),
            ("NotIn", false) => Ok(Requirement::NotIn(key, values)),
            ("Exists", true) => Ok(Requirement::Exists(key)),
            ("DoesNotExist", true) => Ok(Requirement::Absent(key)),
            ("In" | "NotIn" | "Exists" | "DoesNotExist", _) => Err(FieldError::new(
                format!("{field}.values"),
                values.join(","),
                one_is_needed,
            )),
            (operator, _) => Err(FieldError::new(
                format!("{field}.operator"),
                operator,
                "expected In, NotIn, Exists or DoesNotExist",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requirement(operator: &str, values: &[&str]) -> LabelSelectorRequirement {
        LabelSelectorRequirement {
            key: "app".into(),
            operator: operator.into(),
            values: values.iter().map(|&value| value.into()).collect(),
        }
    }

    #[test]
    fn conditions_are_read_and_nonsense_is_named() {
        let selector = LabelSelector {
            match_labels: [("kind".to_owned(), "front".to_owned())].into(),
            match_expressions: vec![
                requirement("NotIn", &["a"]),
                requirement("DoesNotExist", &[]),
            ],
        };
        let expected = vec![
            Requirement::In("kind".into(), vec!["front".into()]),
            Requirement::NotIn("app".into(), vec!["a".into()]),
            Requirement::Absent("app".into()),
        ];
        assert_eq!(selector.read("x").unwrap(), Selector(expected));
        for (operator, values, named) in [
            ("In", &[][..], "x.values"),
            ("Exists", &["a"][..], "x.values"),
            ("Equals", &["a"][..], "x.operator"),
        ] {
            let error = requirement(operator, values).read("x").unwrap_err();
            assert_eq!(error.field, named);
        }
    }
}
