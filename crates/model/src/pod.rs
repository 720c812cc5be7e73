//! Names by which the cluster and the container runtime know a pod and its sandbox.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{self, IdError};

/// Why a text is not a name of this kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not an id at all.
    #[error(transparent)]
    Id(#[from] IdError),
    /// Not allowed by the CNI specification, section 2 "Parameters".
    #[error("{what} {text:?} is not allowed: {expected}")]
    Grammar {
        /// Which parameter.
        what: &'static str,
        /// The text as it came.
        text: String,
        /// What the specification asks for.
        expected: &'static str,
    },
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Takes `text` as such a name.
            ///
            /// # Errors
            /// When the text is not of the form this name must have.
            pub fn new(text: impl Into<String>) -> Result<Self, KeyError> {
                let text = text.into();
                $check(&text)?;
                Ok(Self(text))
            }

            /// The name as it came.
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
            type Error = KeyError;
            fn try_from(text: String) -> Result<Self, KeyError> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
    };
}

name!(
    /// `CNI_CONTAINERID`: the sandbox, unique among all sandboxes that ever ran on the node.
    ContainerId, check_container
);
name!(
    /// `CNI_IFNAME`: the interface inside the sandbox, as the kernel names links.
    InterfaceName, check_interface
);
name!(
    /// The UID the API server gave the pod; a pod re-created under its name has another.
    PodUid, check_uid
);

/// CNI specification 1.1, section 2: starts with an alphanumeric character, then alphanumeric,
/// underscore, dot or hyphen.
fn check_container(text: &str) -> Result<(), KeyError> {
    id::check("container id", text)?;
    let mut bytes = text.bytes();
    let starts = bytes
        .next()
        .is_some_and(|byte| byte.is_ascii_alphanumeric());
    if !starts || !bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte)) {
        return Err(KeyError::Grammar {
            what: "container id",
            text: text.into(),
            expected: "letters, digits, '_', '.' and '-', starting with a letter or digit",
        });
    }
    Ok(())
}

/// Linux `dev_valid_name` (net/core/dev.c): 1 to 15 bytes, not `.` or `..`, no `/`, `:` or blank.
fn check_interface(text: &str) -> Result<(), KeyError> {
    id::check("interface name", text)?;
    if text.len() > 15 || matches!(text, "." | "..") || text.contains(['/', ':']) {
        return Err(KeyError::Grammar {
            what: "interface name",
            text: text.into(),
            expected: "1 to 15 characters without '/' and ':', not '.' or '..'",
        });
    }
    Ok(())
}

fn check_uid(text: &str) -> Result<(), KeyError> {
    Ok(id::check("pod UID", text)?)
}

/// Namespace and name of a pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PodKey {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl PodKey {
    /// The pod `namespace`/`name`.
    ///
    /// # Errors
    /// When either part is empty, too long or not printable.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Result<Self, KeyError> {
        let (namespace, name) = (namespace.into(), name.into());
        id::check("pod namespace", &namespace)?;
        // Kubernetes allows 253 characters here; the id limit would refuse legal names.
        if name.is_empty() || name.len() > 253 || !name.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(KeyError::Grammar {
                what: "pod name",
                text: name.chars().take(48).collect(),
                expected: "1 to 253 printable characters",
            });
        }
        Ok(Self { namespace, name })
    }
}

impl fmt::Display for PodKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// One attachment: a sandbox and the interface in it. The CNI specification makes this pair the
/// identity of every verb.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttachmentKey {
    /// The sandbox.
    pub container: ContainerId,
    /// The interface inside it.
    pub interface: InterfaceName,
}

impl fmt::Display for AttachmentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.container, self.interface)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_of_the_specification_holds() {
        assert!(ContainerId::new("0aF_.-").is_ok());
        for bad in ["", "-a", "../etc", "a/b", "a b"] {
            assert!(ContainerId::new(bad).is_err(), "{bad}");
        }
        assert!(InterfaceName::new("eth0").is_ok());
        for bad in ["", "..", "a/b", "a:b", "sixteencharacter"] {
            assert!(InterfaceName::new(bad).is_err(), "{bad}");
        }
    }
}
