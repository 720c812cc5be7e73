//! What every test program of the lab looks for when a lab was taken down.

use std::{fs, path::Path};

use serde_json::Value;

/// What a lab has outside of its directory while it is up.
pub(crate) struct Footprint {
    groups: Value,
    namespaces: Vec<std::path::PathBuf>,
}

impl Footprint {
    /// Of the lab in `dir` with this `status`.
    pub(crate) fn of(dir: &Path, status: &Value) -> Self {
        let record = fs::read_to_string(dir.join("lab.json")).unwrap();
        let record: Value = serde_json::from_str(&record).unwrap();
        let nodes = status["nodes"].as_array().unwrap().iter();
        let netns = |node: &Value| fs::read_link(format!("/proc/{}/ns/net", node["pid"])).unwrap();
        Self {
            groups: record["cgroups"].clone(),
            namespaces: nodes.map(netns).collect(),
        }
    }

    /// Makes sure that files, cgroups, mounts, processes and namespaces of it are gone.
    pub(crate) fn is_gone(&self, dir: &Path) {
        assert!(!dir.exists());
        let groups = self.groups.as_array().unwrap();
        assert!(!groups.is_empty());
        for group in groups {
            let path = Path::new(group.as_str().unwrap());
            assert!(!path.exists(), "{group} is left");
        }
        let dir = dir.to_str().unwrap();
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        assert!(!mounts.contains(dir), "{mounts}");
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let words = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
            assert!(!words.contains(dir), "a process is left: {words:?}");
            if let Ok(netns) = fs::read_link(entry.path().join("ns/net")) {
                assert!(
                    !self.namespaces.contains(&netns),
                    "left in a node's network: {words:?}"
                );
            }
        }
    }
}
