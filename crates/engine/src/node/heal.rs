//! Self-heal: what somebody else took from the node while its pods run is put back.
//!
//! A look compares the plans of everything that stands with the kernel: when the kernel announced a
//! change, and now and then besides. What is being set up or taken down is left alone, and so is what
//! belongs to nobody here. Only the node's side is in reach from outside a pod; what is inside a pod is
//! CHECK's. Must not know how a comparison or a repair is done.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use model::{
    AttachmentKey, EniId, PodKey, Timestamp,
    net::{EniNet, PodNet, Sysctl, SysctlScope},
};
use serde::{Deserialize, Serialize};

use super::{
    Node,
    attach::Work,
    message::{Action, Notice},
};
use crate::{contest::Contest, ledger::Attachment, netplan, retry::Backoff};

/// How often everything is compared though the kernel announced nothing: what it does not announce
/// (`src_valid_mark`), and what was missed, is put back within this. A look costs a few milliseconds.
const PERIOD: Duration = Duration::from_secs(60);

/// How far apart two looks are at least. A wave of pods announces changes all the time; with the watch's
/// own window of 100 ms what is missing is still put back within a second.
const GAP: Duration = Duration::from_millis(400);

/// How old an attachment must be before its sysctls are judged: the plugin writes them when it has its
/// answer, and takes milliseconds.
const SETTLED: Duration = Duration::from_secs(10);

/// How long the node's end of a pod may be missing before people are told. A sandbox that ends takes its
/// link along before its DEL comes, or while the runtime tries again.
const CUT_OFF: Duration = Duration::from_secs(30);

/// What stands, and so what is compared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// ENIs that are set up.
    pub enis: Vec<(EniId, EniNet)>,
    /// Pods at rest. Of their plans only what is on the node is compared.
    pub pods: Vec<(AttachmentKey, PodNet)>,
    /// The node's sysctls that those pods rely on.
    pub sysctls: Vec<Sysctl>,
}

/// What one plan lacks in the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lack {
    /// Each thing in words.
    pub what: Vec<String>,
    /// Whether the link itself is nowhere on the node, under whatever name.
    pub cut: bool,
}

/// What was found lacking of a [`Standing`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lacks {
    /// ENIs that lack something.
    pub enis: Vec<(EniId, Lack)>,
    /// Pods that do.
    pub pods: Vec<(AttachmentKey, Lack)>,
    /// Planned sysctls that have another value.
    pub sysctls: Vec<Sysctl>,
}

/// What the machine is told about its kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Finding {
    /// Something changed that may have been ours, or changes were missed.
    Disturbed,
    /// What was compared, or why it could not be.
    Compared(Result<Lacks, String>),
    /// What a pod lacked on the node; put back when all went well.
    Mended(AttachmentKey, Result<Vec<String>, String>),
    /// Sysctls that were written, and those that could not be and why, in words.
    Written {
        /// What was wrong and is right now.
        done: Vec<String>,
        /// What stays wrong.
        refused: Vec<String>,
    },
}

/// What the machine wants done about its kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Remedy {
    /// Compare this with the kernel and change nothing.
    Compare(Box<Standing>),
    /// Put back what a pod lacks on the node. Its links are never made anew.
    Mend(AttachmentKey, Box<PodNet>),
    /// Write sysctls of the node.
    Write(Vec<Sysctl>),
}

/// What is known of repairs.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Heal {
    /// When the next look is due.
    next: Timestamp,
    /// When the last one began.
    last: Timestamp,
    /// When the one that is under way began.
    under_way: Option<Timestamp>,
    failures: u32,
    writing: bool,
    #[serde(with = "crate::pairs")]
    pods: BTreeMap<AttachmentKey, Contest>,
    enis: BTreeMap<EniId, Contest>,
    sysctls: Contest,
    /// What ENIs that are being set up again lacked.
    lacking: BTreeMap<EniId, Vec<String>>,
    /// Since when the node's end of a pod is missing, and whether people were told.
    #[serde(with = "crate::pairs")]
    cut: BTreeMap<AttachmentKey, (Timestamp, bool)>,
    /// The sysctls people were told of.
    told: Vec<String>,
}

impl Heal {
    /// The next look comes at `at`, or when it was to come if that is sooner.
    fn look_at(&mut self, at: Timestamp) {
        self.next = self.next.min(at.max(self.last.after(GAP)));
    }

    pub(super) fn deadline(&self, now: Timestamp) -> Option<Timestamp> {
        (self.under_way.is_none() && self.next > now).then_some(self.next)
    }
}

impl Node {
    pub(super) fn found(&mut self, now: Timestamp, finding: Finding) {
        match finding {
            Finding::Disturbed => self.heal.look_at(now),
            Finding::Compared(result) => self.compared(now, result),
            Finding::Mended(key, result) => self.mended(now, key, result),
            Finding::Written { done, refused } => self.written(now, done, refused),
        }
    }

    pub(super) fn drive_heal(&mut self, now: Timestamp) {
        let heal = &mut self.heal;
        // A clock that stepped back does not put the look off.
        let due = heal.next <= now || now < heal.last;
        if !due || heal.under_way.is_some() {
            return;
        }
        (heal.last, heal.next) = (now, now.after(PERIOD));
        let standing = self.all_that_stands(now);
        if standing != Standing::default() {
            self.heal.under_way = Some(now);
            let remedy = Remedy::Compare(Box::new(standing));
            self.out.emit(Action::Heal(remedy));
        }
    }

    /// What is at rest, but for what was repaired so often that it has to wait.
    fn all_that_stands(&mut self, now: Timestamp) -> Standing {
        let known: BTreeSet<_> = self.ledger.attachments().map(|it| &it.key).collect();
        let heal = &mut self.heal;
        heal.pods
            .retain(|key, contest| known.contains(key) && !contest.is_over(now));
        heal.cut.retain(|key, _| known.contains(key));
        heal.enis
            .retain(|id, contest| self.ledger.eni(id).is_some() && !contest.is_over(now));
        heal.lacking.retain(|id, _| self.ledger.eni(id).is_some());
        let contests = heal.pods.values().chain(heal.enis.values());
        let waits = contests.chain([&heal.sysctls]).map(Contest::not_before);
        let soonest = waits.filter(|at| *at > now).min();
        if let Some(at) = soonest {
            heal.look_at(at);
        }
        let heal = &self.heal;
        let mut standing = Standing::default();
        for eni in self.ledger.enis().filter(|eni| self.is_set_up(&eni.id)) {
            let may = heal.enis.get(&eni.id).is_none_or(|it| it.may_repair(now));
            let link = self.eni_link(&eni.id).filter(|_| may);
            let net = link.map(|link| (eni.id.clone(), self.eni_net(eni, link)));
            standing.enis.extend(net);
        }
        for pod in self.ledger.attachments().filter(|it| self.at_rest(it)) {
            if heal.pods.get(&pod.key).is_none_or(|it| it.may_repair(now)) {
                standing.pods.push((pod.key.clone(), self.pod_net(pod)));
            }
        }
        if heal.sysctls.may_repair(now) && !heal.writing {
            standing.sysctls = self.sysctls_relied_on(now);
        }
        standing
    }

    /// Whether the attachment stands as its plan says and nothing is being done about it. Of a pod on ipvlan
    /// the node has but a route, which CHECK and the setting up of its ENI put back.
    fn at_rest(&self, it: &Attachment) -> bool {
        it.joint.is_veth()
            && !it.superseded
            && !self.work.contains_key(&it.key)
            && self.no_link(it).is_none()
    }

    /// The node's sysctls that pods at rest rely on. Where forwarding is off for the whole node, it can
    /// still be on where pods' packets come in, so it is asked for link by link too.
    fn sysctls_relied_on(&self, now: Timestamp) -> Vec<Sysctl> {
        let primary = self.links.get(&self.config.primary_mac);
        let mut wanted = BTreeMap::new();
        for pod in self.ledger.attachments().filter(|it| self.at_rest(it)) {
            if now.since(pod.created) < SETTLED {
                continue;
            }
            let by = Some(&pod.eni).filter(|eni| !self.is_own(eni));
            let link = by.and_then(|eni| self.eni_link(eni));
            let all = netplan::sysctls(pod, link, primary);
            let node = all.into_iter().filter(|it| it.scope == SysctlScope::Node);
            for sysctl in node {
                let link = sysctl.path.strip_suffix("/rp_filter");
                if let Some(link) = link.filter(|link| !link.ends_with("/all")) {
                    wanted.insert(format!("{link}/forwarding"), "1".to_owned());
                }
                wanted.insert(sysctl.path, sysctl.value);
            }
        }
        let sysctl = |(path, value)| Sysctl {
            scope: SysctlScope::Node,
            path,
            value,
        };
        wanted.into_iter().map(sysctl).collect()
    }

    fn compared(&mut self, now: Timestamp, result: Result<Lacks, String>) {
        let Some(began) = self.heal.under_way.take() else {
            return;
        };
        let lacks = match result {
            Ok(lacks) => lacks,
            Err(error) => {
                let failures = self.heal.failures + 1;
                let wait = self.wait(Backoff::KERNEL, failures);
                self.heal.failures = failures;
                self.heal.look_at(now.after(wait));
                if failures == 1 {
                    let text = format!("comparing the node with its plans: {error}");
                    self.notice(Notice::KernelFailed(text));
                }
                return;
            }
        };
        self.heal.failures = 0;
        let cut = lacks.pods.iter().filter(|(_, lack)| lack.cut);
        let cut: BTreeSet<_> = cut.map(|(key, _)| key.clone()).collect();
        self.heal.cut.retain(|key, _| cut.contains(key));
        for (id, lack) in lacks.enis {
            self.eni_lacks(now, &id, lack);
        }
        for (key, lack) in lacks.pods {
            self.pod_lacks(now, began, key, &lack);
        }
        match lacks.sysctls.is_empty() {
            true if self.heal.sysctls.may_repair(now) => self.heal.told.clear(),
            true => {}
            false => {
                self.heal.writing = true;
                self.out.emit(Action::Heal(Remedy::Write(lacks.sysctls)));
            }
        }
    }

    /// An ENI is set up again; one whose link is not where it was is looked for first.
    fn eni_lacks(&mut self, now: Timestamp, id: &EniId, lack: Lack) {
        if !self.is_set_up(id) {
            return;
        }
        self.heal.lacking.insert(id.clone(), lack.what);
        match lack.cut {
            true => self.links_wanted.hurry(now),
            false => self.set_up_again(id),
        }
    }

    /// An ENI was set up: whatever it lacked, it has now.
    pub(super) fn eni_healed(&mut self, now: Timestamp, id: &EniId) {
        self.heal.look_at(now);
        if let Some(what) = self.heal.lacking.remove(id) {
            let contest = self.heal.enis.entry(id.clone()).or_default();
            let tell = contest.repaired(now).then(|| what.join("; "));
            self.notice(Notice::NodeRepaired(what));
            if let Some(what) = tell {
                self.notice(Notice::Contested(None, what));
            }
        }
    }

    fn pod_lacks(&mut self, now: Timestamp, began: Timestamp, key: AttachmentKey, lack: &Lack) {
        let standing = self.ledger.attachment(&key).filter(|it| self.at_rest(it));
        let Some(pod) = standing.filter(|it| it.created <= began).cloned() else {
            return;
        };
        // The link of that name may be the other's; whose it is, its ADD or DEL settles.
        let other = |it: &Attachment| it.host_link == pod.host_link && it.key != key;
        if self.ledger.attachments().any(other) {
            return;
        }
        if lack.cut {
            return self.pod_is_cut_off(now, key, &pod);
        }
        let net = Box::new(self.pod_net(&pod));
        let work = Work::Mending {
            checks: Vec::new(),
            deleters: Vec::new(),
            deleted: false,
        };
        self.work.insert(key.clone(), work);
        self.out.emit(Action::Heal(Remedy::Mend(key, net)));
    }

    /// The node's end of a pod is gone, and so is the pod's: without the sandbox's descriptors nothing
    /// can be made in there.
    fn pod_is_cut_off(&mut self, now: Timestamp, key: AttachmentKey, pod: &Attachment) {
        let (since, told) = self.heal.cut.entry(key).or_insert((now, false));
        if *told {
            return;
        }
        if now.since(*since) < CUT_OFF {
            let at = since.after(CUT_OFF);
            return self.heal.look_at(at);
        }
        *told = true;
        self.notice(Notice::CutOff(pod.pod.clone(), pod.host_link.clone()));
    }

    fn mended(&mut self, now: Timestamp, key: AttachmentKey, result: Result<Vec<String>, String>) {
        let Some(Work::Mending {
            checks,
            deleters,
            deleted,
        }) = self.work.remove(&key)
        else {
            return;
        };
        let pod = self.ledger.attachment(&key).map(|it| it.pod.clone());
        match result {
            Ok(lacked) if lacked.is_empty() => {}
            Ok(lacked) => {
                let what = lacked.join("; ");
                self.notice(Notice::Repaired(key.clone(), lacked));
                self.pod_repaired(now, &key, pod, what);
            }
            Err(error) => {
                let text = format!("putting back what {key} lacks: {error}");
                self.notice(Notice::KernelFailed(text.clone()));
                self.pod_repaired(now, &key, pod, text);
            }
        }
        self.heal.look_at(now);
        if deleted {
            self.remove(key.clone(), deleters, 0);
        }
        for request in checks {
            self.check(request, key.clone());
        }
        self.serve_waiting(now);
    }

    fn pod_repaired(
        &mut self,
        now: Timestamp,
        key: &AttachmentKey,
        pod: Option<PodKey>,
        what: String,
    ) {
        let contest = self.heal.pods.entry(key.clone()).or_default();
        if contest.repaired(now) && pod.is_some() {
            self.notice(Notice::Contested(pod, what));
        }
    }

    fn written(&mut self, now: Timestamp, done: Vec<String>, refused: Vec<String>) {
        self.heal.writing = false;
        if !done.is_empty() {
            let tell = self.heal.sysctls.repaired(now).then(|| done.join("; "));
            self.notice(Notice::NodeRepaired(done));
            if let Some(what) = tell {
                self.notice(Notice::Contested(None, what));
            }
        }
        if !refused.is_empty() && refused != self.heal.told {
            self.notice(Notice::SysctlsWrong(refused.clone()));
        }
        self.heal.told = refused;
    }
}
