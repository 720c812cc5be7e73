//! From what decisions know to the object that is stored.
//!
//! Kubernetes takes spec and metadata in one request and status in another. Spec goes first: ids and promises
//! stand there, and a status that lags behind them makes the planner repeat a step. The other way round a
//! status could speak of an ENI that no spec names.

use std::collections::BTreeMap;

use model::{
    Family,
    podeni::{Allocation as Interface, Phase, PodEni as Record},
    podnetworking::EniAttachment,
};

use super::{Allocation, AttachmentOptions, Eni, EniInfo, PodEni, PodEniSpec, PodEniStatus, read};
use crate::{AllocationType, keys, network, time};

/// What brings a stored object to a new state: first `spec`, then `status` with the resource version that the
/// answer to `spec` brings. Each is a whole object; nothing where nothing changes.
#[derive(Debug, Clone, PartialEq)]
pub struct Halves {
    /// For the resource itself: spec, labels, annotations, finalizers.
    pub spec: Option<PodEni>,
    /// For its status subresource.
    pub status: Option<PodEni>,
}

impl PodEni {
    /// The object to create for a record that has none. Its status is empty: Kubernetes takes none here.
    pub fn create(record: &Record) -> Self {
        let mut made = Self::new(&record.key.name, PodEniSpec::default());
        made.metadata.namespace = Some(record.key.namespace.clone());
        // `new` puts the definition's own annotations there.
        made.metadata.annotations = None;
        made.metadata.finalizers = Some(vec![keys::FINALIZER.into()]);
        made.overlay_spec(record);
        made
    }

    /// What is to be written so that this object says what `record` does. Both halves carry the version the
    /// record was read at: the API server refuses them when somebody wrote in between.
    pub fn halves(&self, record: &Record) -> Halves {
        let mut spec = self.clone();
        spec.metadata.resource_version = Some(record.version.clone());
        let mut status = spec.clone();
        spec.overlay_spec(record);
        let old = self.status.clone().unwrap_or_default();
        status.status = Some(status_of(record, &old));
        let changed = |next: &PodEni| {
            next.spec != self.spec
                || next.metadata.labels != self.metadata.labels
                || next.metadata.annotations != self.metadata.annotations
        };
        Halves {
            spec: Some(spec).filter(changed),
            status: Some(status).filter(|next| next.status.as_ref() != Some(&old)),
        }
    }

    /// This object without our finalizers: to be written when its ENIs are out of the cloud. Carries the
    /// version it was read at.
    pub fn let_go(&self) -> Self {
        let mut next = self.clone();
        if let Some(finalizers) = &mut next.metadata.finalizers {
            finalizers.retain(|one| one != keys::FINALIZER && one != keys::FINALIZER_OLD);
        }
        next
    }

    fn overlay_spec(&mut self, record: &Record) {
        let meta = &mut self.metadata;
        let labels = meta.labels.get_or_insert_default();
        let label = keys::node_label(&record.node);
        let annotations = meta.annotations.get_or_insert_default();
        match label == record.node {
            true => annotations.remove(keys::NODE),
            false => annotations.insert(keys::NODE.into(), record.node.clone()),
        };
        labels.insert(keys::NODE.into(), label);
        annotations.insert(keys::POD_UID.into(), record.pod.to_string());
        let all = &record.allocations;
        let attempts = by_interface(all, |one| (one.attempt > 0).then_some(one.attempt));
        let editions = by_interface(all, |one| one.edition.clone());
        for (key, text) in [
            (keys::ENI_ATTEMPTS, attempts),
            (keys::ENI_EDITIONS, editions),
        ] {
            match text {
                Some(text) => annotations.insert(key.into(), text),
                None => annotations.remove(key),
            };
        }
        let zone = record.zone.to_string();
        let old = std::mem::take(&mut self.spec.allocations);
        let all = record.allocations.iter();
        self.spec.allocations = all.map(|one| allocation_of(one, &zone, &old)).collect();
        self.spec.zone = zone;
    }
}

/// What stands beside the allocations, an annotation each: nothing when no interface has it.
fn by_interface<T: serde::Serialize>(
    allocations: &[Interface],
    of: impl Fn(&Interface) -> Option<T>,
) -> Option<String> {
    let all = allocations.iter();
    let all: BTreeMap<&str, T> = all
        .filter_map(|one| Some((one.interface.as_str(), of(one)?)))
        .collect();
    (!all.is_empty()).then(|| serde_json::json!(all).to_string())
}

/// One interface, laid over what stands in the object for it. Where that means the same already it stays as
/// it was written.
fn allocation_of(one: &Interface, zone: &str, old: &[Allocation]) -> Allocation {
    let name = one.interface.as_str();
    let of_name = |old: &&Allocation| match old.interface.as_str() {
        "" => name == read::ETH0,
        other => name == other,
    };
    let old = old.iter().find(of_name);
    if let Some(old) = old
        && let Ok(means) = read::read_allocation("", old)
        && (Interface {
            attempt: one.attempt,
            edition: one.edition.clone(),
            ..means
        }) == *one
    {
        return old.clone();
    }
    let old = old.cloned().unwrap_or_default();
    let text = |family| one.addresses.get(family).map(ToString::to_string);
    let block = |family| one.blocks.get(family).map(ToString::to_string);
    Allocation {
        allocation_type: AllocationType::of(one.tenure),
        eni: eni_of(one, zone, old.eni),
        ipv4: text(Family::V4).unwrap_or_default(),
        ipv6: text(Family::V6).unwrap_or_default(),
        ipv4_cidr: block(Family::V4).unwrap_or_default(),
        ipv6_cidr: block(Family::V6).unwrap_or_default(),
        interface: name.into(),
        default_route: one.default_route,
        extra_routes: network::routes_of(&one.routes),
        extra_config: old.extra_config,
        others: old.others,
    }
}

fn eni_of(one: &Interface, zone: &str, old: Eni) -> Eni {
    let eni = one.eni.as_ref();
    let vpc = eni.and_then(|eni| eni.vpc.as_ref());
    Eni {
        id: eni.map(|eni| eni.id.to_string()).unwrap_or_default(),
        vpc_id: vpc.map(ToString::to_string).unwrap_or_default(),
        mac: eni.map(|eni| eni.mac.to_string()).unwrap_or_default(),
        zone: zone.into(),
        vswitch_id: one.vswitch.to_string(),
        resource_group_id: one.resource_group.clone().unwrap_or_default(),
        security_group_ids: network::texts(&one.security_groups),
        attachment_options: AttachmentOptions {
            trunk: match one.attachment {
                EniAttachment::Default => None,
                EniAttachment::Trunk => Some(true),
                EniAttachment::Own => Some(false),
            },
        },
        others: old.others,
    }
}

fn status_of(record: &Record, old: &PodEniStatus) -> PodEniStatus {
    let phase = match record.phase {
        Phase::Initial => "",
        Phase::Binding => "Binding",
        Phase::Bind => "Bind",
        Phase::Detaching => "Detaching",
        Phase::Unbind => "Unbind",
        Phase::Deleting => "Deleting",
    };
    let text = |id: Option<String>| id.unwrap_or_default();
    PodEniStatus {
        phase: phase.into(),
        instance_id: text(record.instance.as_ref().map(ToString::to_string)),
        trunk_eni_id: text(record.trunk.as_ref().map(ToString::to_string)),
        msg: record.message.clone(),
        pod_last_seen: record.last_seen.map(time::print),
        eni_infos: infos_of(record, &old.eni_infos),
        others: old.others.clone(),
    }
}

/// Each ENI of the record that is on its node, or was.
fn infos_of(record: &Record, old: &BTreeMap<String, EniInfo>) -> BTreeMap<String, EniInfo> {
    let enis = record.allocations.iter().filter_map(|one| one.eni.as_ref());
    let info = |eni: &model::EniId| {
        let id = eni.to_string();
        let before = old.get(&id).cloned();
        let info = match record.attached.get(eni) {
            Some(attached) => EniInfo {
                id: id.clone(),
                kind: match attached.vlan {
                    Some(_) => "Member".into(),
                    None => "Secondary".into(),
                },
                vid: attached.vlan.map(i64::from),
                status: "Bind".into(),
                ..before.unwrap_or_default()
            },
            // The next attach gives it a VLAN of its own.
            None => EniInfo {
                vid: None,
                status: "Unbind".into(),
                ..before?
            },
        };
        Some((id, info))
    };
    enis.filter_map(|eni| info(&eni.id)).collect()
}
