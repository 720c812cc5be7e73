//! What a path under `/api/v1` or `/apis/GROUP/VERSION` names.

use crate::{ApiError, Cluster, Resource};

/// A parsed path.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) resource: &'static Resource,
    /// Empty for all namespaces, or for what lives in none.
    pub(super) namespace: String,
    /// `None` for the collection.
    pub(super) name: Option<String>,
    pub(super) subresource: Option<String>,
}

impl Place {
    /// # Errors
    /// `PathNotFound`.
    pub(super) fn parse(cluster: &Cluster, path: &str) -> Result<Self, ApiError> {
        let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (group, version, rest) = match segments.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return Err(ApiError::path_not_found()),
        };
        let (namespace, rest) = match rest {
            ["namespaces", _, "status" | "finalize"] => ("", rest),
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
            _ => ("", rest),
        };
        let (plural, name, subresource) = match rest {
            [plural] => (plural, None, None),
            [plural, name] => (plural, Some(*name), None),
            [plural, name, subresource] => (plural, Some(*name), Some(*subresource)),
            _ => return Err(ApiError::path_not_found()),
        };
        let resource = cluster.find(group, version, plural);
        let resource = resource.ok_or_else(ApiError::path_not_found)?;
        // A namespaced object has no path outside its namespace, a cluster's none inside one.
        if resource.namespaced == namespace.is_empty() && (name.is_some() || !namespace.is_empty())
        {
            return Err(ApiError::path_not_found());
        }
        Ok(Self {
            resource,
            namespace: namespace.to_owned(),
            name: name.map(str::to_owned),
            subresource: subresource.map(str::to_owned),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_what_the_api_says() {
        let cluster = Cluster::new(1, std::time::Duration::ZERO);
        let read = |path: &str| {
            Place::parse(&cluster, path).ok().map(|p| {
                format!(
                    "{} {:?} {} {}",
                    p.resource.plural,
                    p.namespace,
                    p.name.unwrap_or_default(),
                    p.subresource.unwrap_or_default()
                )
            })
        };
        let cases = [
            ("/api/v1/pods", Some("pods \"\"  ")),
            ("/api/v1/namespaces/a/pods/", Some("pods \"a\"  ")),
            (
                "/api/v1/namespaces/a/pods/x/status",
                Some("pods \"a\" x status"),
            ),
            ("/api/v1/namespaces/a", Some("namespaces \"\" a ")),
            (
                "/api/v1/namespaces/a/status",
                Some("namespaces \"\" a status"),
            ),
            (
                "/apis/coordination.k8s.io/v1/namespaces/a/leases/l",
                Some("leases \"a\" l "),
            ),
            ("/api/v1/pods/x", None),
            ("/api/v1/namespaces/a/nodes", None),
            ("/api/v1/namespaces/a/nodes/n", None),
            ("/api/v2/pods", None),
            ("/apis/apps/v1/statefulsets", None),
            ("/api/v1/namespaces/a/pods/x/status/y", None),
            ("/", None),
        ];
        for (path, expected) in cases {
            assert_eq!(read(path).as_deref(), expected, "{path}");
        }
    }
}
