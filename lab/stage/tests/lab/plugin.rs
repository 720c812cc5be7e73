//! The plugin as a container runtime calls it.

use std::{io::Write, process::Stdio};

use serde_json::Value;

use crate::rig::Lab;

/// One call of the plugin on a node.
pub(crate) struct Plugin<'a> {
    pub(crate) lab: &'a Lab,
    pub(crate) node: &'a str,
    pub(crate) verb: &'a str,
    pub(crate) container: &'a str,
    pub(crate) netns: &'a str,
    pub(crate) interface: &'a str,
    pub(crate) pod: &'a str,
    pub(crate) config: Value,
}

impl Plugin<'_> {
    /// What the plugin prints, as its result or as its refusal.
    pub(crate) fn call(&self) -> Result<Value, Value> {
        let arguments = format!(
            "CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={}",
            self.pod
        );
        let mut plugin = self.lab.command_on(self.node);
        plugin.args(["env", &arguments]);
        plugin.arg(format!("CNI_COMMAND={}", self.verb));
        plugin.arg(format!("CNI_CONTAINERID={}", self.container));
        plugin.arg(format!("CNI_NETNS={}", self.netns));
        plugin.arg(format!("CNI_IFNAME={}", self.interface));
        plugin.arg("/opt/cni/bin/terway");
        let mut plugin = plugin
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = self.config.to_string();
        plugin
            .stdin
            .take()
            .unwrap()
            .write_all(input.as_bytes())
            .unwrap();
        let output = plugin.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let document = match text.trim() {
            "" => Value::Null,
            text => serde_json::from_str(text).unwrap(),
        };
        if output.status.success() {
            Ok(document)
        } else {
            Err(document)
        }
    }
}
