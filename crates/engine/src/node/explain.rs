//! "Why has this pod no IP": one answer out of the whole state, for people. Decides nothing.

use std::{net::IpAddr, time::Duration};

use model::{EniId, PodKey, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Node, attach::Work, history::seconds};
use crate::ledger::{Attachment, Wire};

pub use super::history::Happening;

/// Happenings told about one pod: more than a screen is no answer.
const TOLD_MAX: usize = 20;

/// How long before a pod's own first happening the pool's are part of its story: what made the pool
/// empty came before the pod that found it empty.
const BEFORE: u64 = 120;

/// How far a pod has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PodState {
    /// It has its addresses.
    Attached,
    /// An ADD of it is under way.
    Waiting,
    /// Its last ADD failed, and no other has come.
    Failed,
    /// Its links are being taken away.
    Detaching,
    /// The node has not been asked about it since the agent started.
    Unknown,
}

/// Why a pod has its address, or has not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The pod.
    pub pod: String,
    /// How far it has come.
    pub state: PodState,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// The ENI they are on; that of the first interface, if it has several.
    pub eni: Option<EniId>,
    /// Its interfaces with what belongs to each, if it has several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<String>,
    /// How it is joined to the node, if not by a veth pair.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// Since when it is in this state, in seconds since the Unix epoch.
    pub since: Option<u64>,
    /// What was tried, oldest first.
    pub tried: Vec<Happening>,
    /// What is missing, in one sentence.
    pub missing: Option<String>,
    /// What happens next by itself.
    pub next: String,
}

impl Node {
    /// Why `pod` has its address, or has not.
    pub fn explain(&self, pod: &PodKey, now: Timestamp) -> Explanation {
        let mut told = Explanation {
            pod: pod.to_string(),
            state: PodState::Unknown,
            addresses: Vec::new(),
            eni: None,
            interfaces: Vec::new(),
            link: None,
            since: None,
            tried: self.tried(pod),
            missing: None,
            next: String::new(),
        };
        let mut attachments = self.ledger.attachments().filter(|a| a.pod == *pod);
        // The newest sandbox is the one the pod lives in; older ones wait for their DEL.
        let age = |it: &&Attachment| (!it.superseded, it.created);
        let newest = attachments.by_ref().max_by_key(age).cloned();
        let waits = self.waiting.iter().find(|(_, add)| add.pod == *pod);
        if let Some((_, add)) = waits {
            told.state = PodState::Waiting;
            told.since = Some(seconds(add.started));
            let lack = self.waits_for(add, now);
            let left = add.deadline.since(now).as_secs();
            let next = match add.trunk {
                true => "it goes on as soon as its PodENI is bound to this node".into(),
                false => self.next_step(now),
            };
            told.missing = Some(match add.trunk {
                true => lack,
                false => format!("no address is free: {lack}"),
            });
            told.next = format!("{next}; the ADD waits {left} s more, then kubelet asks again");
        } else if let Some(attachment) = newest {
            self.explain_attachment(&attachment, &mut told);
        } else if let Some((_, last)) = self.history.of(pod).filter(|(failed, _)| *failed).last() {
            told.state = PodState::Failed;
            told.since = Some(last.at);
            told.missing = Some(last.what.clone());
            told.next = format!(
                "kubelet makes a new sandbox and asks again; meanwhile: {}",
                self.next_step(now)
            );
        } else {
            told.missing =
                Some("no ADD for this pod has reached the agent since it started".into());
            told.next =
                "the container runtime asks once kubelet has the pod, its volumes and its sandbox"
                    .into();
        }
        told
    }

    fn explain_attachment(&self, attachment: &Attachment, told: &mut Explanation) {
        told.addresses = attachment.every_address().collect();
        let member = attachment.member.as_ref();
        told.eni = Some(member.map_or(&attachment.eni, |it| &it.eni).clone());
        if !attachment.further.is_empty() {
            told.interfaces = attachment.wires().map(interface).collect();
        }
        told.link = (!attachment.joint.is_veth()).then(|| "ipvlan".into());
        told.missing = self.members.cut_off(&attachment.key).cloned();
        told.since = Some(seconds(attachment.created));
        match self.work.get(&attachment.key) {
            None | Some(Work::Checking { .. } | Work::Mending { .. }) => {
                told.state = PodState::Attached;
                told.next =
                    "nothing: the pod keeps this address until its sandbox is deleted".into();
            }
            Some(Work::Applying { .. }) => {
                told.state = PodState::Waiting;
                told.missing = Some("its links, routes and rules are being set up".into());
                told.next = "the ADD is answered within milliseconds of the kernel's answer".into();
            }
            Some(Work::Removing { .. }) => {
                told.state = PodState::Detaching;
                told.next = "the address rests once its links, routes and rules are gone".into();
            }
            Some(Work::RemovalDue { failures, .. }) => {
                told.state = PodState::Detaching;
                told.missing = Some(format!(
                    "the kernel refused to take it down {failures} times"
                ));
                told.next = "it is tried again; the address stays held until then".into();
            }
        }
    }

    fn tried(&self, pod: &PodKey) -> Vec<Happening> {
        let mut told: Vec<Happening> = self.history.of(pod).map(|(_, told)| told.clone()).collect();
        if let Some(first) = told.first() {
            let from = first.at.saturating_sub(BEFORE);
            told.extend(
                self.history
                    .pool()
                    .filter(|event| event.at >= from)
                    .cloned(),
            );
        }
        told.sort_by_key(|happening| happening.at);
        told.split_off(told.len().saturating_sub(TOLD_MAX))
    }

    /// What the pool does next, in one sentence.
    fn next_step(&self, now: Timestamp) -> String {
        let in_seconds = |at: Timestamp| at.since(now).max(Duration::from_secs(1)).as_secs();
        if let Some(state) = self.exhausted(now) {
            let remedy = state.kind.remedy();
            return match self.growth_stopped(now) {
                Some((_, until)) => {
                    format!(
                        "the pool asks the cloud again in {} s; {remedy}",
                        in_seconds(until)
                    )
                }
                None => remedy.into(),
            };
        }
        let again = self
            .intents
            .values()
            .filter(|intent| !intent.busy && intent.not_before > now);
        if let Some(at) = again.map(|intent| intent.not_before).min() {
            return format!("the call is made again in {} s", in_seconds(at));
        }
        if self.ledger.intents().next().is_some() {
            return "an answer of the cloud is due".into();
        }
        match self.rests(now).min() {
            Some(at) => format!("the next resting address is free in {} s", in_seconds(at)),
            None => "an address is free as soon as the cloud or a pod that ends gives one".into(),
        }
    }

    /// Why and until when the pool does not ask the cloud for more, if it does not.
    pub fn growth_stopped(&self, now: Timestamp) -> Option<(&str, Timestamp)> {
        self.stops.standing(now)
    }

    /// The last call that the cloud did not answer well.
    pub fn last_cloud_failure(&self) -> Option<&Happening> {
        self.history.cloud_failure()
    }
}

/// An interface in words.
fn interface(wire: Wire<'_>) -> String {
    let addresses = wire.addresses.iter().map(|(_, ip)| ip.to_string());
    let addresses = Vec::from_iter(addresses).join(", ");
    let mut text = format!("{}: {addresses}", wire.interface);
    if let Some(member) = wire.member {
        text.push_str(&match member.vlan() {
            Some(vlan) => format!(" on {}, VLAN {vlan}", member.eni),
            None => format!(" on {}, all of it", member.eni),
        });
        if member.default_route {
            text.push_str(", default route");
        }
        if !member.routes.is_empty() {
            let routes = member.routes.iter().map(ToString::to_string);
            text.push_str(&format!(", routes {}", Vec::from_iter(routes).join(", ")));
        }
    }
    text
}
