//! The chain of plugins, called as the specification says and as container runtimes do.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Map, Value, json};
use tokio::{io::AsyncWriteExt, process::Command, time::timeout};

/// Where the runtime finds the chain and the plugins.
const CONF_DIR: &str = "/etc/cni/net.d";
const CNI_PATH: &str = "/opt/cni/bin";
/// How long one call of a plugin may take. Runtimes leave it to kubelet's 2 minutes for a sandbox.
const CALL_MAX: Duration = Duration::from_secs(120);
/// The interface of a pod.
const INTERFACE: &str = "eth0";

/// What the runtime passes for one sandbox; kept from its ADD to its last DEL.
#[derive(Debug, Clone)]
pub(super) struct Attachment {
    /// `CNI_CONTAINERID`.
    pub(super) sandbox: String,
    /// `CNI_ARGS`.
    pub(super) args: String,
    /// `namespace/name`, for the record.
    pub(super) pod: String,
    /// Values for `runtimeConfig`, by capability; a plugin gets those it declares.
    pub(super) capabilities: BTreeMap<&'static str, Value>,
    /// The chain as it was when the sandbox was made.
    pub(super) chain: Chain,
    /// What the last plugin of the ADD answered.
    pub(super) result: Option<Value>,
}

/// A network configuration list.
#[derive(Debug, Clone)]
pub(super) struct Chain {
    name: Value,
    version: Value,
    plugins: Vec<Map<String, Value>>,
}

impl Chain {
    /// The first list by name, if one is installed.
    ///
    /// # Errors
    /// When it is no network configuration list.
    pub(super) fn installed() -> Result<Option<Self>> {
        let Ok(entries) = fs::read_dir(CONF_DIR) else {
            return Ok(None);
        };
        let paths = entries.flatten().map(|entry| entry.path());
        let lists = paths.filter(|path| path.extension().is_some_and(|kind| kind == "conflist"));
        let Some(first) = lists.min() else {
            return Ok(None);
        };
        let what = || format!("{} is no network configuration list", first.display());
        let list: Value =
            serde_json::from_slice(&fs::read(&first).with_context(what)?).with_context(what)?;
        let plugins = list["plugins"].as_array().with_context(what)?;
        let plugins: Option<_> = plugins
            .iter()
            .map(|plugin| plugin.as_object().cloned())
            .collect();
        Ok(Some(Self {
            name: list["name"].clone(),
            version: list["cniVersion"].clone(),
            plugins: plugins.with_context(what)?,
        }))
    }

    /// Standard input of one plugin.
    fn input(
        &self,
        plugin: &Map<String, Value>,
        of: &Attachment,
        previous: Option<&Value>,
    ) -> Value {
        let mut input = plugin.clone();
        let declared = input.remove("capabilities").unwrap_or_default();
        let runtime: Map<String, Value> = of
            .capabilities
            .iter()
            .filter(|(name, _)| declared[**name] == true)
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        if !runtime.is_empty() {
            input.insert("runtimeConfig".into(), runtime.into());
        }
        input.insert("name".into(), self.name.clone());
        input.insert("cniVersion".into(), self.version.clone());
        if let Some(previous) = previous {
            input.insert("prevResult".into(), previous.clone());
        }
        input.into()
    }
}

impl Attachment {
    /// ADD through the whole chain.
    ///
    /// # Errors
    /// What the plugin that failed said.
    pub(super) async fn add(&mut self, netns: &Path) -> Result<()> {
        let mut result = None;
        for plugin in &self.chain.plugins {
            let input = self.chain.input(plugin, self, result.as_ref());
            let output = self
                .call("ADD", plugin, &input, &netns.to_string_lossy())
                .await?;
            result = Some(serde_json::from_str(&output).context("the plugin's result is no JSON")?);
        }
        self.result = result;
        Ok(())
    }

    /// DEL through the whole chain, backwards; without a namespace when it is gone.
    ///
    /// # Errors
    /// What the plugin that failed said.
    pub(super) async fn del(&self, netns: Option<&Path>) -> Result<()> {
        let netns = netns.map(Path::to_string_lossy).unwrap_or_default();
        for plugin in self.chain.plugins.iter().rev() {
            let input = self.chain.input(plugin, self, self.result.as_ref());
            self.call("DEL", plugin, &input, &netns).await?;
        }
        Ok(())
    }

    async fn call(
        &self,
        verb: &str,
        plugin: &Map<String, Value>,
        input: &Value,
        netns: &str,
    ) -> Result<String> {
        let kind = plugin
            .get("type")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let mut child = Command::new(Path::new(CNI_PATH).join(kind))
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", &self.sandbox)
            .env("CNI_NETNS", netns)
            .env("CNI_IFNAME", INTERFACE)
            .env("CNI_ARGS", &self.args)
            .env("CNI_PATH", CNI_PATH)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("failed to find plugin {kind:?} in path [{CNI_PATH}]"))?;
        let text = serde_json::to_vec(input)?;
        if let Some(mut stdin) = child.stdin.take() {
            // A plugin that ends without reading has its reasons; its answer tells them.
            let _ = stdin.write_all(&text).await;
        }
        let output = timeout(CALL_MAX, child.wait_with_output()).await;
        let output = output.map_err(|_| anyhow!("no answer to {verb} within {CALL_MAX:?}"))??;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            bail!(
                "plugin type={kind:?} failed ({verb}): {}",
                complaint(&said, &output.stderr)
            );
        }
        Ok(said)
    }
}

/// The plugin's error document as one line, or whatever it said instead.
fn complaint(said: &str, stderr: &[u8]) -> String {
    let document: Value = serde_json::from_str(said).unwrap_or_default();
    let part = |key: &str| document[key].as_str().unwrap_or_default().to_owned();
    match (part("msg"), part("details")) {
        (msg, details) if !msg.is_empty() && !details.is_empty() => format!("{msg}: {details}"),
        (msg, _) if !msg.is_empty() => msg,
        _ => format!(
            "netplugin failed: {said:?} {:?}",
            String::from_utf8_lossy(stderr)
        ),
    }
}

/// Appends one line about a call of the whole chain to the node's record.
pub(super) fn note(record: &Path, verb: &str, pod: &str, took: Duration, outcome: &Result<()>) {
    let error = outcome.as_ref().err().map(|error| format!("{error:#}"));
    let ms = took.as_secs_f64() * 1e3;
    let line = json!({ "verb": verb, "pod": pod, "ms": ms, "ok": error.is_none(), "error": error });
    let written = File::options().create(true).append(true).open(record);
    // One write, so that lines of calls that end at once do not mix.
    let written = written.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
    if let Err(error) = written {
        tracing::warn!(%error, "a call is not recorded");
    }
}

/// Runs `call` and notes it.
pub(super) async fn timed(
    record: &Path,
    verb: &str,
    pod: &str,
    call: impl Future<Output = Result<()>>,
) -> Result<()> {
    let began = Instant::now();
    let outcome = call.await;
    note(record, verb, pod, began.elapsed(), &outcome);
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attachment(chain: Chain) -> Attachment {
        let capabilities = BTreeMap::from([
            ("bandwidth", json!({ "ingressRate": 8 })),
            ("portMappings", json!([])),
        ]);
        Attachment {
            sandbox: "s1".into(),
            args: String::new(),
            pod: "default/web".into(),
            capabilities,
            chain,
            result: None,
        }
    }

    #[test]
    fn a_plugin_gets_its_keys_the_lists_name_and_only_what_it_declared() {
        let plugin =
            json!({ "type": "terway", "mtu": 1400, "capabilities": { "bandwidth": true } });
        let plugin = plugin.as_object().unwrap().clone();
        let chain = Chain {
            name: "chain".into(),
            version: "0.4.0".into(),
            plugins: vec![plugin.clone()],
        };
        let of = attachment(chain.clone());
        let expected = json!({
            "type": "terway", "mtu": 1400, "name": "chain", "cniVersion": "0.4.0",
            "runtimeConfig": { "bandwidth": { "ingressRate": 8 } }, "prevResult": { "ips": [] },
        });
        assert_eq!(
            chain.input(&plugin, &of, Some(&json!({ "ips": [] }))),
            expected
        );
    }

    #[test]
    fn a_failed_plugin_is_quoted() {
        let document = r#"{"cniVersion":"1.0.0","code":11,"msg":"try later","details":"why"}"#;
        assert_eq!(complaint(document, b""), "try later: why");
        assert!(complaint("Segmentation", b"fault").contains("fault"));
    }
}
