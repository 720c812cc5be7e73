//! Content negotiation: which representation of an object the client wants.

use axum::http::{HeaderMap, header::ACCEPT};

use crate::ApiError;

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// The object itself.
    Object,
    /// A `Table` of this version of meta.k8s.io.
    Table(&'static str),
    /// `PartialObjectMetadata` of this version of meta.k8s.io.
    Metadata(&'static str),
}

const VERSIONS: [&str; 2] = ["v1", "v1beta1"];

/// One alternative of an `Accept` header.
pub(super) struct Media<'a> {
    pub(super) kind: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
}

impl<'a> Media<'a> {
    pub(super) fn parameter(&self, name: &str) -> &'a str {
        self.parameters
            .iter()
            .find(|(key, _)| *key == name)
            .map_or("", |(_, value)| *value)
    }

    pub(super) fn is_json(&self) -> bool {
        matches!(self.kind, "application/json" | "application/*" | "*/*" | "")
    }
}

/// The alternatives in the order the client gave them, which is how it ranks them.
pub(super) fn accepted(headers: &HeaderMap) -> Vec<Media<'_>> {
    let header = headers
        .get(ACCEPT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    header
        .split(',')
        .map(|alternative| {
            let mut pieces = alternative.split(';').map(str::trim);
            let kind = pieces.next().unwrap_or_default();
            let parameters = pieces.filter_map(|piece| piece.split_once('=')).collect();
            Media { kind, parameters }
        })
        .collect()
}

/// The first alternative this server can write.
///
/// # Errors
/// `NotAcceptable` when there is none.
pub(super) fn form(headers: &HeaderMap) -> Result<Form, ApiError> {
    let understood = |media: &Media<'_>| {
        let version = VERSIONS.into_iter().find(|v| *v == media.parameter("v"));
        match (media.parameter("as"), version) {
            _ if !media.is_json() => None,
            ("", _) => Some(Form::Object),
            (_, Some(_)) if media.parameter("g") != "meta.k8s.io" => None,
            ("Table", Some(version)) => Some(Form::Table(version)),
            ("PartialObjectMetadata" | "PartialObjectMetadataList", Some(version)) => {
                Some(Form::Metadata(version))
            }
            _ => None,
        }
    };
    accepted(headers)
        .iter()
        .find_map(understood)
        .ok_or_else(ApiError::not_acceptable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_understood_alternative_wins() {
        let ask = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, accept.parse().expect("header"));
            form(&headers).ok()
        };
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
        assert_eq!(ask(table), Some(Form::Table("v1")));
        let old = "application/json;as=Table;v=v1beta1;g=meta.k8s.io, application/json";
        assert_eq!(ask(old), Some(Form::Table("v1beta1")));
        assert_eq!(
            ask("application/json;as=Table;v=v9;g=meta.k8s.io,*/*"),
            Some(Form::Object)
        );
        assert_eq!(
            ask("application/vnd.kubernetes.protobuf, application/json"),
            Some(Form::Object)
        );
        assert_eq!(ask("application/vnd.kubernetes.protobuf"), None);
        assert_eq!(form(&HeaderMap::new()), Ok(Form::Object));
    }
}
