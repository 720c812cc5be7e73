//! Ids the cloud gives out, as types that cannot be mistaken for one another.
//!
//! The cloud documents no grammar beyond a prefix (`eni-`, `vsw-`, `sg-`, `i-`), and private clouds
//! differ in it, so an id is any short printable word: what must never happen is that an empty
//! string or a whole document is taken for an id.

use core::fmt;

use serde::{Deserialize, Serialize};

/// Longest id accepted. The longest the cloud documents is a 64-character ClientToken; twice that
/// leaves room for private clouds and still bounds every record that carries ids.
pub const ID_LENGTH_MAX: usize = 128;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{what} {text:?} is not an id: expected 1 to {ID_LENGTH_MAX} printable ASCII characters without blanks"
)]
pub struct IdError {
    /// The kind of id that was expected, for example `ENI id`.
    pub what: &'static str,
    /// The text as it came, cut to a readable length.
    pub text: String,
}

pub(crate) fn check(what: &'static str, text: &str) -> Result<(), IdError> {
    let printable = text.bytes().all(|byte| byte.is_ascii_graphic());
    if text.is_empty() || text.len() > ID_LENGTH_MAX || !printable {
        let text = text.chars().take(48).collect();
        return Err(IdError { what, text });
    }
    Ok(())
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Takes `text` as this kind of id.
            ///
            /// # Errors
            /// When it is empty, too long, or holds blanks or unprintable characters.
            pub fn new(text: impl Into<String>) -> Result<Self, IdError> {
                let text = text.into();
                check($what, &text)?;
                Ok(Self(text))
            }

            /// The id as the cloud writes it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }
    };
}

id!(
    /// An elastic network interface, `eni-...`.
    EniId, "ENI id"
);
id!(
    /// A vSwitch (the cloud's subnet, in one zone), `vsw-...`.
    VSwitchId, "vSwitch id"
);
id!(
    /// A security group, `sg-...`.
    SecurityGroupId, "security group id"
);
id!(
    /// An ECS instance: a node of the cluster, `i-...`.
    InstanceId, "instance id"
);
id!(
    /// A VPC, `vpc-...`.
    VpcId, "VPC id"
);
id!(
    /// A route table of a VPC, `vtb-...`.
    RouteTableId, "route table id"
);
id!(
    /// An entry of a route table, `rte-...`.
    RouteEntryId, "route entry id"
);
id!(
    /// A zone, for example `cn-hangzhou-i`.
    ZoneId, "zone id"
);
id!(
    /// A region, for example `cn-hangzhou`.
    RegionId, "region id"
);
id!(
    /// What makes a repeated call the same call: the cloud keeps the answer of the first. At most 64
    /// ASCII characters (ECS API, parameter ClientToken).
    ClientToken, "ClientToken"
);
id!(
    /// The cloud's name for one call, quoted to support.
    RequestId, "RequestId"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_short_printable_word() {
        assert_eq!(EniId::new("eni-bp1").unwrap().as_str(), "eni-bp1");
        for bad in [
            "",
            "eni 1",
            "eni-\n",
            "eni-é",
            &"x".repeat(ID_LENGTH_MAX + 1),
        ] {
            let error = EniId::new(bad).unwrap_err();
            assert_eq!(error.what, "ENI id", "{bad:?} must be refused");
        }
    }
}
