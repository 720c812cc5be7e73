//! The definitions of both resources, and when the program installs them.
//!
//! The schemas follow from the types. `deploy/controlplane/crds` holds the same for those who install by hand.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

use crate::{PodEni, PodNetworking, keys};

/// The definitions, each with the version it is compared by.
pub fn definitions() -> Vec<CustomResourceDefinition> {
    vec![PodEni::crd(), PodNetworking::crd()]
}

/// What to do about one definition.
#[derive(Debug, Clone, PartialEq)]
pub enum Installation {
    /// It is not there: create ours.
    Create,
    /// An older one, or one that says no version: replace it by this, which carries its resource version.
    Replace(Box<CustomResourceDefinition>),
    /// Ours, or a newer one that another program installed.
    Keep,
}

/// What to do about `ours`, when `found` is what the API server has under its name.
pub fn installation(
    ours: &CustomResourceDefinition,
    found: Option<&CustomResourceDefinition>,
) -> Installation {
    let Some(found) = found else {
        return Installation::Create;
    };
    let theirs = version(found);
    if theirs.is_some() && theirs >= version(ours) {
        return Installation::Keep;
    }
    let mut next = found.clone();
    next.spec = ours.spec.clone();
    let annotations = next.metadata.annotations.get_or_insert_default();
    annotations.extend(ours.metadata.annotations.clone().unwrap_or_default());
    Installation::Replace(Box::new(next))
}

/// Major, minor, patch, and whether it is a release: those come after their pre-releases (semver 2.0, 11).
type Version = (u64, u64, u64, bool);

fn version(definition: &CustomResourceDefinition) -> Option<Version> {
    let annotations = definition.metadata.annotations.as_ref()?;
    let text = annotations.get(keys::DEFINITION_VERSION)?;
    let text = text.strip_prefix('v').unwrap_or(text);
    let text = text.split('+').next().unwrap_or_default();
    let (numbers, release) = match text.split_once('-') {
        Some((numbers, _)) => (numbers, false),
        None => (text, true),
    };
    let mut numbers = numbers.splitn(3, '.').map(str::parse);
    let mut next = || numbers.next()?.ok();
    Some((next()?, next()?, next()?, release))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_version(text: Option<&str>) -> CustomResourceDefinition {
        let mut found = PodEni::crd();
        found.metadata.resource_version = Some("7".into());
        let annotations = found.metadata.annotations.get_or_insert_default();
        match text {
            Some(text) => annotations.insert(keys::DEFINITION_VERSION.into(), text.into()),
            None => annotations.remove(keys::DEFINITION_VERSION),
        };
        found
    }

    #[test]
    fn only_what_is_older_is_replaced() {
        let ours = with_version(Some("v0.10.0"));
        assert_eq!(installation(&ours, None), Installation::Create);
        for newer in [
            "v0.10.0",
            "0.10.0",
            "v0.10.1",
            "v0.11.0-rc1",
            "v1.0.0+build",
        ] {
            let found = with_version(Some(newer));
            assert_eq!(
                installation(&ours, Some(&found)),
                Installation::Keep,
                "{newer}"
            );
        }
        for older in [
            Some("v0.9.9"),
            Some("v0.10.0-rc1"),
            Some("x"),
            Some("v1.0"),
            None,
        ] {
            let found = with_version(older);
            let Installation::Replace(next) = installation(&ours, Some(&found)) else {
                panic!("{older:?} is kept");
            };
            assert_eq!(next.metadata.resource_version.as_deref(), Some("7"));
            assert_eq!(version(&next), version(&ours));
        }
    }
}
