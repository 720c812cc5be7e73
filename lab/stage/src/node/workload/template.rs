//! What a template says about a program's pod, as far as a node without a real kubelet carries it out.
//!
//! Pure. What cannot be carried out is refused by name: the lab runs a program as its manifest says, or
//! not at all. Left to the tier with a real Kubernetes: seccomp, resources, the service account.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result, anyhow, bail};
use k8s_openapi::{
    api::core::v1::{self, PodSpec, PodTemplateSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::volume::FileVolume;

/// What a runtime leaves a container whose manifest drops nothing (containerd's default).
const DEFAULT_CAPABILITIES: [&str; 14] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Where fields of the pod come from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Identity<'a> {
    pub(super) namespace: &'a str,
    pub(super) pod: &'a str,
    pub(super) node: &'a str,
}

/// The program's pod.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pod {
    pub(super) volumes: Vec<FileVolume>,
    pub(super) init: Vec<Container>,
    pub(super) main: Container,
}

/// One of its containers.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Container {
    pub(super) name: String,
    pub(super) words: Vec<String>,
    pub(super) environment: BTreeMap<String, String>,
    /// In upper case, without `CAP_`.
    pub(super) capabilities: Vec<String>,
    pub(super) gains_privileges: bool,
    /// User and group, where they are not root's.
    pub(super) user: Option<(i64, i64)>,
    pub(super) writes_its_root: bool,
    pub(super) mounts: Vec<Mount>,
    pub(super) readiness: Option<Probe>,
    pub(super) liveness: Option<Probe>,
}

/// A path of the node in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) source: String,
    pub(super) target: String,
    pub(super) read_only: bool,
    /// A directory that is made where there is none.
    pub(super) made: bool,
}

/// A question to the container over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Probe {
    pub(super) path: String,
    pub(super) port: u16,
    pub(super) period: u64,
    pub(super) timeout: u64,
    pub(super) failures: u32,
}

/// Reads the template for the pod of `identity`.
///
/// # Errors
/// When it asks for something that the lab's nodes cannot do.
pub(super) fn read(template: &PodTemplateSpec, identity: Identity<'_>) -> Result<Pod> {
    let spec = template.spec.as_ref().context("its template has no spec")?;
    if spec.host_network != Some(true) {
        bail!("its pod has no hostNetwork: the lab runs no program in a network of its own");
    }
    let container = |container| {
        self::container(container, spec, identity)
            .with_context(|| format!("container {}", container.name))
    };
    let [main] = spec.containers.as_slice() else {
        bail!("its pod has {} containers, not one", spec.containers.len());
    };
    let volumes = spec.volumes.iter().flatten();
    Ok(Pod {
        volumes: volumes
            .filter_map(|volume| FileVolume::read(volume, identity))
            .collect(),
        init: spec
            .init_containers
            .iter()
            .flatten()
            .map(container)
            .collect::<Result<_>>()?,
        main: container(main)?,
    })
}

fn container(
    container: &v1::Container,
    spec: &PodSpec,
    identity: Identity<'_>,
) -> Result<Container> {
    let words: Vec<String> = [&container.command, &container.args]
        .into_iter()
        .flatten()
        .flatten()
        .cloned()
        .collect();
    if container.command.is_none() {
        bail!("it has no command: the lab knows no image's own");
    }
    if words.iter().any(|word| word.contains("$(")) || container.env_from.is_some() {
        bail!("$(NAME) and envFrom are not carried out");
    }
    let environment = container.env.iter().flatten();
    let environment =
        environment.map(|variable| Ok((variable.name.clone(), value(variable, identity)?)));
    let security = container.security_context.clone().unwrap_or_default();
    if security.privileged == Some(true) {
        bail!("a privileged container is not carried out");
    }
    let mounts = container.volume_mounts.iter().flatten();
    let user = user(spec, &security);
    Ok(Container {
        name: container.name.clone(),
        words,
        environment: environment.collect::<Result<_>>()?,
        capabilities: capabilities(security.capabilities.unwrap_or_default()),
        user,
        gains_privileges: security.allow_privilege_escalation != Some(false),
        writes_its_root: security.read_only_root_filesystem != Some(true),
        mounts: mounts
            .map(|mount| self::mount(mount, spec, identity))
            .collect::<Result<_>>()?,
        readiness: container.readiness_probe.as_ref().map(probe).transpose()?,
        liveness: container.liveness_probe.as_ref().map(probe).transpose()?,
    })
}

fn value(variable: &v1::EnvVar, identity: Identity<'_>) -> Result<String> {
    let Some(source) = &variable.value_from else {
        return Ok(variable.value.clone().unwrap_or_default());
    };
    let field = source
        .field_ref
        .as_ref()
        .map(|field| field.field_path.as_str());
    let text = match field {
        Some("spec.nodeName") => identity.node,
        Some("metadata.namespace") => identity.namespace,
        Some("metadata.name") => identity.pod,
        other => bail!(
            "variable {}: the lab does not know {other:?}",
            variable.name
        ),
    };
    Ok(text.to_owned())
}

/// As whom it runs; the container's word counts before the pod's.
fn user(spec: &PodSpec, own: &v1::SecurityContext) -> Option<(i64, i64)> {
    let pod = spec.security_context.as_ref();
    let user = own.run_as_user.or_else(|| pod?.run_as_user)?;
    let group = own.run_as_group.or_else(|| pod?.run_as_group);
    Some((user, group.unwrap_or_default()))
}

fn capabilities(asked: v1::Capabilities) -> Vec<String> {
    let dropped = asked.drop.unwrap_or_default();
    let kept = DEFAULT_CAPABILITIES
        .into_iter()
        .filter(|name| {
            !dropped
                .iter()
                .any(|dropped| dropped == "ALL" || dropped == name)
        })
        .map(str::to_owned);
    let mut all: Vec<String> = kept.chain(asked.add.unwrap_or_default()).collect();
    all.sort();
    all.dedup();
    all
}

fn mount(mount: &v1::VolumeMount, spec: &PodSpec, identity: Identity<'_>) -> Result<Mount> {
    let volume = spec
        .volumes
        .iter()
        .flatten()
        .find(|volume| volume.name == mount.name);
    let volume = volume.ok_or_else(|| anyhow!("there is no volume {}", mount.name))?;
    if mount.sub_path.is_some() || mount.mount_propagation.is_some() {
        bail!(
            "mount {}: subPath and mountPropagation are not carried out",
            mount.name
        );
    }
    if !Path::new(&mount.mount_path).is_absolute() {
        bail!(
            "mount {}: {} is no absolute path",
            mount.name,
            mount.mount_path
        );
    }
    let (source, made) = match (&volume.host_path, FileVolume::read(volume, identity)) {
        (Some(host), _) => {
            let made = match host.type_.as_deref() {
                None | Some("" | "DirectoryOrCreate") => true,
                Some("Directory" | "File") => false,
                Some(other) => bail!("volume {}: type {other} is not carried out", volume.name),
            };
            (host.path.clone(), made)
        }
        (_, Some(files)) => (files.path, false),
        _ => bail!(
            "volume {} is neither hostPath, configMap nor secret",
            volume.name
        ),
    };
    Ok(Mount {
        source,
        target: mount.mount_path.clone(),
        read_only: mount.read_only == Some(true),
        made,
    })
}

fn probe(probe: &v1::Probe) -> Result<Probe> {
    let get = probe
        .http_get
        .as_ref()
        .context("only probes by httpGet are carried out")?;
    let IntOrString::Int(port) = get.port else {
        bail!("a probe's port is a number here");
    };
    let seconds = |given: Option<i32>, default: i32| u64::try_from(given.unwrap_or(default).max(1));
    Ok(Probe {
        path: get.path.clone().unwrap_or_else(|| "/".to_owned()),
        port: u16::try_from(port).context("a probe's port")?,
        period: seconds(probe.period_seconds, 10)?,
        timeout: seconds(probe.timeout_seconds, 1)?,
        failures: u32::try_from(probe.failure_threshold.unwrap_or(3).max(1))?,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const WHO: Identity<'static> = Identity {
        namespace: "kube-system",
        pod: "terway-a",
        node: "node-1",
    };

    fn template() -> Value {
        json!({ "spec": {
            "hostNetwork": true,
            "containers": [{
                "name": "terway", "command": ["terwayd"], "args": ["run", "--listen", ":9190"],
                "env": [
                    { "name": "NODE_NAME", "valueFrom": { "fieldRef": { "fieldPath": "spec.nodeName" } } },
                    { "name": "RUST_LOG", "value": "info" },
                ],
                "securityContext": {
                    "runAsUser": 65532, "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                    "capabilities": { "drop": ["ALL"], "add": ["NET_ADMIN"] },
                },
                "readinessProbe": { "httpGet": { "path": "/readyz", "port": 9190 }, "periodSeconds": 2 },
                "volumeMounts": [
                    { "name": "conf", "mountPath": "/etc/eni", "readOnly": true },
                    { "name": "state", "mountPath": "/var/lib/x" },
                ],
            }],
            "volumes": [
                { "name": "conf", "configMap": { "name": "eni-config", "optional": true, "defaultMode": 256 } },
                { "name": "state", "hostPath": { "path": "/var/lib/x", "type": "DirectoryOrCreate" } },
            ],
        } })
    }

    fn read(template: Value) -> Result<Pod> {
        super::read(&serde_json::from_value(template).unwrap(), WHO)
    }

    #[test]
    fn a_container_is_what_its_manifest_says() {
        let pod = read(template()).unwrap();
        let main = &pod.main;
        assert_eq!(main.words, ["terwayd", "run", "--listen", ":9190"]);
        assert_eq!(main.environment["NODE_NAME"], "node-1");
        assert_eq!(main.environment.len(), 2);
        assert_eq!(main.capabilities, ["NET_ADMIN"]);
        assert!(!main.gains_privileges && !main.writes_its_root);
        assert_eq!(main.user, Some((65532, 0)));
        assert_eq!(main.mounts[0].source, "/run/lab/node/volumes/terway-a/conf");
        assert!(main.mounts[0].read_only && main.mounts[1].made);
        let ready = main.readiness.as_ref().unwrap();
        assert_eq!(
            (ready.port, ready.period, ready.timeout, ready.failures),
            (9190, 2, 1, 3)
        );
        assert_eq!(
            (pod.volumes[0].mode, pod.volumes[0].optional),
            (0o400, true)
        );
    }

    #[test]
    fn what_the_lab_cannot_do_is_refused_by_name() {
        let cases = [
            ("/spec/hostNetwork", json!(false), "hostNetwork"),
            ("/spec/containers/0/command", Value::Null, "no command"),
            (
                "/spec/containers/0/args/0",
                json!("$(NODE_NAME)"),
                "$(NAME)",
            ),
            (
                "/spec/containers/0/env/0/valueFrom/fieldRef/fieldPath",
                json!("status.podIP"),
                "status.podIP",
            ),
            (
                "/spec/containers/0/volumeMounts/0/name",
                json!("other"),
                "no volume other",
            ),
            (
                "/spec/containers/0/readinessProbe/httpGet/port",
                json!("http"),
                "a number",
            ),
            (
                "/spec/volumes/1",
                json!({ "name": "state", "emptyDir": {} }),
                "neither",
            ),
        ];
        for (at, value, says) in cases {
            let mut template = template();
            *template.pointer_mut(at).unwrap() = value;
            let error = format!("{:#}", read(template).unwrap_err());
            assert!(error.contains(says), "{at}: {error}");
        }
        let mut privileged = template();
        privileged["spec"]["containers"][0]["securityContext"] = json!({ "privileged": true });
        assert!(format!("{:#}", read(privileged).unwrap_err()).contains("privileged"));
    }

    #[test]
    fn without_a_word_a_container_has_what_runtimes_leave_it() {
        let mut template = template();
        template["spec"]["containers"][0]["securityContext"] =
            json!({ "capabilities": { "drop": ["KILL"] } });
        let main = read(template).unwrap().main;
        assert_eq!(main.capabilities.len(), DEFAULT_CAPABILITIES.len() - 1);
        assert!(main.gains_privileges && main.writes_its_root);
    }
}
