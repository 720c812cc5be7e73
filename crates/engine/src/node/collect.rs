//! Taking away what nobody will ever take away: attachments whose DEL never comes, addresses kept from
//! use for a pod that is gone, and rules and routes that belong to nobody.
//!
//! A live pod is never touched, whatever one view says: an attachment goes only when the kernel shows
//! its sandbox gone *and* somebody else confirms it (the API server has no such pod or says that it
//! ended, or the runtime asked for a newer sandbox), both twice and apart in time. A view that could
//! not be had confirms nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use ipnet::IpNet;
use model::{
    AttachmentKey, PodKey, PodUid, Timestamp,
    net::{Link, PodPlan, Route, Rule},
};
use serde::{Deserialize, Serialize};

use super::{
    Node, Op,
    joint::slave_is_gone,
    message::{Action, AddRequest, FailureKind, KernelView, Leftovers, Notice, OpNumber},
};
use crate::{
    ledger::{Attachment, Change, Entry, Joint},
    netplan::{self, SLAVE_PREFIX},
    retry::Backoff,
};

/// How often the kernel is looked at when nothing is in doubt. It costs a few milliseconds, and what it
/// finds has been there since a fault nobody saw.
const LOOK_PERIOD: Duration = Duration::from_secs(300);

/// How soon a doubt is looked at again, and how far apart two confirmations must be at least: longer
/// than kubelet takes between a sandbox's end and its DEL, or its next ADD.
const SECOND_LOOK: Duration = Duration::from_secs(30);

/// Confirmations it takes.
const CONFIRMATIONS: u8 = 2;

/// What is in doubt.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Doubts {
    #[serde(with = "crate::pairs")]
    attachments: BTreeMap<AttachmentKey, Doubt>,
    /// What the last look showed to belong to nobody.
    leftovers: Leftovers,
    removing: bool,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Doubt {
    confirmed: u8,
    last: Timestamp,
}

impl Node {
    pub(super) fn drive_kernel_look(&mut self, now: Timestamp) {
        if self.kernel.is_new() {
            self.kernel.want();
        }
        if self.kernel.take_due(now) {
            let number = self.start(Op::Kernel { sent: now });
            self.out.emit(Action::ObserveKernel(number));
        }
    }

    /// Whether the kernel routes the address to a pod that the ledger does not know.
    pub(super) fn is_occupied(&self, address: IpAddr) -> bool {
        self.occupied.contains_key(&address)
    }

    pub(super) fn kernel_seen(
        &mut self,
        now: Timestamp,
        number: OpNumber,
        result: Result<KernelView, String>,
    ) {
        let Some(Op::Kernel { sent }) = self.ops.remove(&number) else {
            return;
        };
        let looks = self.kernel.failures + 1;
        let view = match result {
            Ok(view) => view,
            Err(error) => {
                let wait = self.wait(Backoff::CLOUD, looks);
                self.kernel.again(now.after(wait), looks);
                return self.notice(Notice::KernelFailed(format!(
                    "looking at the node: {error}"
                )));
            }
        };
        self.kernel.answered();
        self.doubt(now, sent, &view);
        let leftovers = self.leftovers(sent, &view);
        self.judge_occupied(&view, &leftovers);
        self.judge_leftovers(leftovers);
        let quiet = self.doubts.attachments.is_empty()
            && self.occupied.values().all(|unseen| *unseen == 0)
            && self.doubts.leftovers == Leftovers::default();
        let wait = if quiet { LOOK_PERIOD } else { SECOND_LOOK };
        self.kernel.again(now.after(wait), 0);
    }

    /// Looks for attachments whose sandbox the kernel does not have any more.
    fn doubt(&mut self, now: Timestamp, sent: Timestamp, view: &KernelView) {
        let suspects: Vec<Attachment> = self
            .ledger
            .attachments()
            .filter(|it| it.created < sent && !self.work.contains_key(&it.key))
            .filter(|it| self.is_gone(it, view))
            .cloned()
            .collect();
        let known: BTreeSet<_> = suspects.iter().map(|it| &it.key).collect();
        self.doubts.attachments.retain(|key, _| known.contains(key));
        let mut ask = BTreeSet::new();
        for suspect in &suspects {
            let first = Doubt {
                confirmed: 0,
                last: now,
            };
            let key = suspect.key.clone();
            self.doubts.attachments.entry(key).or_insert(first);
            if suspect.superseded {
                self.confirm(
                    now,
                    suspect,
                    "the runtime asked for a newer sandbox of the pod",
                );
            } else {
                ask.insert(suspect.key.clone());
            }
        }
        if !ask.is_empty() {
            let pods = suspects.iter().filter(|it| ask.contains(&it.key));
            let pods = pods.map(|it| it.pod.clone()).collect();
            let number = self.start(Op::Pods {
                asked: ask,
                seen: now,
            });
            self.out.emit(Action::ListPods(number, pods));
        }
    }

    /// A newer sandbox asks for an address: earlier ones of the pod wait no longer, and those that stand
    /// are marked. That it asks is enough: on a full node it gets its address only when theirs are free.
    pub(super) fn supersede(&mut self, newer: &AddRequest) {
        let same = |pod: &PodKey, key: &AttachmentKey| {
            *pod == newer.pod && key.interface == newer.key.interface
        };
        let waits = |(_, add): &(_, AddRequest)| same(&add.pod, &add.key);
        while let Some(at) = self.waiting.iter().position(waits)
            && let Some((number, add)) = self.waiting.remove(at)
        {
            let message = format!("{} gave way to a newer sandbox of {}", add.key, add.pod);
            self.fail(number, FailureKind::Deleted, message);
        }
        let standing = self.ledger.attachments();
        let earlier = standing.filter(|it| same(&it.pod, &it.key) && !it.superseded);
        for it in earlier.cloned().collect::<Vec<_>>() {
            let superseded = true;
            self.record(Change::Put(Entry::Attachment(Attachment {
                superseded,
                ..it
            })));
        }
    }

    /// Whether the kernel does not have the attachment's link any more: none has its name, or the one
    /// that has is another sandbox's. One with a MAC that nobody knows may be the same link, renumbered
    /// by other software of the node.
    fn is_gone(&self, old: &Attachment, view: &KernelView) -> bool {
        if !old.joint.is_veth() {
            return slave_is_gone(old, view);
        }
        let named = |link: &&Link| link.name == old.host_link;
        let Some(link) = view.links.iter().find(named) else {
            return true;
        };
        self.ledger.attachments().any(|it| {
            let other = it.host_link == old.host_link && it.key != old.key;
            other && link.mac == netplan::pod_net(it, None).veth.host_mac
        })
    }

    pub(super) fn pods_listed(
        &mut self,
        number: OpNumber,
        result: Result<BTreeMap<PodKey, PodUid>, String>,
    ) {
        let Some(Op::Pods { asked, seen }) = self.ops.remove(&number) else {
            return;
        };
        // Who does not answer confirms nothing; the next look asks again.
        let Ok(pods) = result else {
            return;
        };
        for key in asked {
            let Some(attachment) = self.ledger.attachment(&key).cloned() else {
                continue;
            };
            let has = pods.get(&attachment.pod);
            let lives = match &attachment.uid {
                Some(uid) => has == Some(uid),
                None => has.is_some(),
            };
            if lives {
                self.doubts.attachments.remove(&key);
            } else if !self.work.contains_key(&key) {
                self.confirm(
                    seen,
                    &attachment,
                    "the pod does not exist any more or has ended",
                );
            }
        }
    }

    /// Counts what confirms the look answered `seen`. Looks are [`SECOND_LOOK`] apart, whatever it took
    /// to ask the API server after each: an answer sooner than the last one's would not count otherwise.
    fn confirm(&mut self, seen: Timestamp, attachment: &Attachment, why: &str) {
        let Some(doubt) = self.doubts.attachments.get_mut(&attachment.key) else {
            return;
        };
        // The first counts at once, each further one only at a distance.
        if doubt.confirmed > 0 && seen.since(doubt.last) < SECOND_LOOK {
            return;
        }
        (doubt.confirmed, doubt.last) = (doubt.confirmed + 1, seen);
        if doubt.confirmed < CONFIRMATIONS {
            return;
        }
        self.doubts.attachments.remove(&attachment.key);
        let (key, pod) = (attachment.key.clone(), attachment.pod.clone());
        let link = match attachment.joint {
            Joint::Veth => format!("link {}", attachment.host_link),
            Joint::Ipvlan(_) => "ipvlan device".into(),
        };
        let why = format!("{why}, and its {link} is gone");
        self.notice(Notice::Collected(key.clone(), pod, why));
        self.remove(key, Vec::new(), 0);
    }

    /// Keeps from use what the kernel routes to strangers or still has rules for, and frees it when
    /// that is gone.
    fn judge_occupied(&mut self, view: &KernelView, leftovers: &Leftovers) {
        let ruled = leftovers
            .rules
            .iter()
            .filter_map(|rule| rule.from.or(rule.to));
        let single = ruled.filter(|net| net.prefix_len() == net.max_prefix_len());
        let seen: BTreeSet<IpAddr> = single
            .map(|net| net.addr())
            .chain(view.routed.clone())
            .collect();
        for address in &seen {
            let held = self.ledger.attachments().any(|it| it.holds(*address));
            if !held {
                self.occupied.insert(*address, 0);
            }
        }
        self.occupied.retain(|address, unseen| {
            *unseen = match seen.contains(address) {
                true => 0,
                false => *unseen + 1,
            };
            *unseen < CONFIRMATIONS
        });
    }

    fn judge_leftovers(&mut self, found: Leftovers) {
        let again = Leftovers {
            routes: &found.routes & &self.doubts.leftovers.routes,
            rules: &found.rules & &self.doubts.leftovers.rules,
        };
        self.doubts.leftovers = found;
        if again == Leftovers::default() || self.doubts.removing {
            return;
        }
        self.doubts.removing = true;
        let number = self.start(Op::Leftovers(again.clone()));
        self.out.emit(Action::RemoveLeftovers(number, again));
    }

    /// What carries our mark and belongs to nobody. A rule of an address that is still routed to a pod
    /// belongs to a pod the ledger lost, which must go on working; a route goes with its link, so only
    /// one over the link of a known attachment can be left over.
    fn leftovers(&self, sent: Timestamp, view: &KernelView) -> Leftovers {
        let mut owned = Leftovers::default();
        let mut links = BTreeSet::new();
        for attachment in self.ledger.attachments() {
            let settled = attachment.created < sent && !self.work.contains_key(&attachment.key);
            let plan = self.pod_plan(attachment);
            owned.routes.extend(plan.host_routes().iter().cloned());
            owned.rules.extend(plan.host_rules().iter().cloned());
            if let PodPlan::Veth(net) = plan
                && settled
                && stands(attachment, view)
            {
                links.extend(net.pairs().map(|pair| pair.host.clone()));
            }
        }
        let held = |net: IpNet| {
            self.ledger.attachments().any(|it| {
                // Whose ENI is wholly its own has no rules, and its ENI is none of the pool's.
                let linkless = !it.is_whole() && self.eni_link(&it.eni).is_none();
                let unsure = linkless || self.work.contains_key(&it.key);
                unsure && it.every_address().any(|own| net.contains(&own))
            })
        };
        let stray = |rule: &&Rule| {
            let of = rule.from.or(rule.to);
            let lives = of.is_none_or(|net| {
                held(net) || view.routed.iter().any(|address| net.contains(address))
            });
            !lives && !owned.rules.contains(rule)
        };
        // What the plan gives to a live pod with another table is as stray as what nobody plans.
        let misplaced = |rule: &&Rule| {
            let of = rule.from.or(rule.to);
            let planned = of.is_some_and(|net| {
                let same = |own: &&Rule| own.from.or(own.to) == Some(net);
                owned.rules.iter().any(|own| same(&own)) && !held(net)
            });
            planned && !owned.rules.contains(rule)
        };
        // The node's slave outlives its pods. The route of one that lives and is not known stays.
        let over_slave = |route: &&Route| {
            let has = |own: &IpAddr| route.destination.contains(own);
            let lives = held(route.destination) || view.slaves.values().flatten().any(has);
            route.link.as_str().starts_with(SLAVE_PREFIX) && !lives
        };
        let over_known = |route: &&Route| links.contains(&route.link) || over_slave(route);
        let unowned = view.routes.iter().filter(|it| !owned.routes.contains(it));
        Leftovers {
            routes: unowned.filter(over_known).cloned().collect(),
            rules: view
                .rules
                .iter()
                .filter(|rule| stray(rule) || misplaced(rule))
                .cloned()
                .collect(),
        }
    }

    pub(super) fn leftovers_removed(&mut self, number: OpNumber, result: Result<(), String>) {
        let Some(Op::Leftovers(removed)) = self.ops.remove(&number) else {
            return;
        };
        self.doubts.removing = false;
        match result {
            Ok(()) => {
                let routes = removed.routes.iter().map(|route| {
                    format!(
                        "route {} dev {} table {}",
                        route.destination, route.link, route.table
                    )
                });
                let rules = removed.rules.iter().map(|rule| {
                    let of = rule.from.or(rule.to).map(|net| net.to_string());
                    let of = of.unwrap_or_else(|| "all".into());
                    format!("rule {} of {of} table {}", rule.priority, rule.table)
                });
                self.notice(Notice::LeftoversRemoved(routes.chain(rules).collect()));
            }
            Err(error) => {
                self.notice(Notice::KernelFailed(format!("removing leftovers: {error}")));
            }
        }
    }
}

/// Whether the node's end of the attachment's own link is there for certain: a newer sandbox of the pod
/// has a link of the same name and another MAC.
fn stands(attachment: &Attachment, view: &KernelView) -> bool {
    let veth = netplan::pod_net(attachment, None).veth;
    view.links
        .iter()
        .any(|link| link.name == veth.host && link.mac == veth.host_mac)
}
