//! The operator's brake: which calls to the cloud are held back while `degradation` of the configuration file
//! says so. It counts at once, without a restart.
//!
//! What is held back is refused like a call the cloud does not permit, so the machine keeps what it has, says
//! why in the PodENI, and asks again at longer and longer intervals.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use engine::{
    podeni::{Call, Fault},
    route,
};
use model::FaultClass;
use serde::Deserialize;

use crate::{
    config::{self, ConfigError},
    metrics::Metrics,
};

/// Wait between looks at the file. kubelet brings a changed ConfigMap within a minute.
const EVERY: Duration = Duration::from_secs(5);

/// How much is held back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) enum Degradation {
    /// Nothing.
    #[default]
    None,
    /// Whatever gives something back: detach, delete, and the collector's lists.
    Releases,
    /// Whatever changes something, and the collector's lists.
    Changes,
}

/// By the names the key has had.
impl TryFrom<String> for Degradation {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "" => Ok(Self::None),
            "l1" => Ok(Self::Releases),
            "l0" => Ok(Self::Changes),
            _ => Err(format!(
                "degradation is {text}: l0, l1 and nothing are possible"
            )),
        }
    }
}

impl Degradation {
    /// The name of the level, if anything is held back.
    fn name(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Releases => Some("l1"),
            Self::Changes => Some("l0"),
        }
    }

    fn holds(self, call: &Call) -> bool {
        match call {
            Call::Look(_) => false,
            Call::Create(_) | Call::Attach { .. } => self == Self::Changes,
            Call::Detach { .. } | Call::Delete(_) => self != Self::None,
        }
    }

    fn fault(self) -> Fault {
        Fault {
            class: FaultClass::Denied,
            text: format!(
                "held back: degradation is {} in the control plane's configuration",
                self.name().unwrap_or_default()
            ),
        }
    }
}

/// What is held back now; a clone is the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Brake(Arc<RwLock<Degradation>>);

impl Brake {
    pub(crate) fn new(first: Degradation) -> Self {
        Self(Arc::new(RwLock::new(first)))
    }

    fn now(&self) -> Degradation {
        *self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// # Errors
    /// When this call is held back.
    pub(crate) fn lets(&self, call: &Call) -> Result<(), Fault> {
        let now = self.now();
        match now.holds(call) {
            true => Err(now.fault()),
            false => Ok(()),
        }
    }

    /// # Errors
    /// When this change of the route table is held back.
    pub(crate) fn lets_route(&self, call: &route::Call) -> Result<(), Fault> {
        let now = self.now();
        let holds = match call {
            route::Call::Create { .. } => now == Degradation::Changes,
            route::Call::Delete { .. } => now != Degradation::None,
        };
        if holds { Err(now.fault()) } else { Ok(()) }
    }

    /// # Errors
    /// When the collector's lists are held back.
    pub(crate) fn lets_list(&self) -> Result<(), Fault> {
        match self.now() {
            Degradation::None => Ok(()),
            now => Err(now.fault()),
        }
    }

    /// Follows the file, for ever. What it last said counts while it cannot be read.
    pub(crate) async fn follow(self, file: PathBuf, metrics: Arc<Metrics>) {
        let mut complaint = String::new();
        loop {
            let why = self
                .look(&file)
                .map_or_else(|error| error.to_string(), |()| String::new());
            if why != complaint && !why.is_empty() {
                tracing::warn!(why, "degradation stays as it is");
            }
            complaint = why;
            metrics.degraded(self.now().name());
            tokio::time::sleep(EVERY).await;
        }
    }

    fn look(&self, file: &Path) -> Result<(), ConfigError> {
        self.set(config::degradation(file)?);
        Ok(())
    }

    fn set(&self, said: Degradation) {
        let mut now = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if *now != said {
            let level = said.name().unwrap_or("none");
            tracing::warn!(level, "degradation");
            *now = said;
        }
    }
}

#[cfg(test)]
mod tests {
    use model::{EniId, InstanceId};

    use super::*;

    #[test]
    fn each_level_holds_its_calls_back_as_soon_as_the_file_says_so() {
        let eni = EniId::new("eni-1").expect("an id");
        let instance = InstanceId::new("i-1").expect("an id");
        let calls = [
            Call::Look(eni.clone()),
            Call::Attach {
                eni: eni.clone(),
                instance,
                trunk: None,
            },
            Call::Delete(eni),
        ];
        let file = tempfile::NamedTempFile::new().expect("a file");
        let brake = Brake::new(Degradation::None);
        for (text, read, passes, lists) in [
            ("", true, [true, true, true], true),
            ("degradation: l1", true, [true, true, false], false),
            ("degradation: l0", true, [true, false, false], false),
            ("degradation: l7", false, [true, false, false], false),
            ("degradation: ''", true, [true, true, true], true),
        ] {
            std::fs::write(file.path(), format!("clusterID: c\nvpcID: v\n{text}\n"))
                .expect("written");
            assert_eq!(brake.look(file.path()).is_ok(), read, "{text}");
            let let_through = calls.each_ref().map(|call| brake.lets(call).is_ok());
            assert_eq!(
                (let_through, brake.lets_list().is_ok()),
                (passes, lists),
                "{text}"
            );
        }
    }
}
