//! PodNetworkings: whether pods may use one, found out from its vSwitches and written into its status.

use model::{
    Timestamp,
    podnetworking::{PodNetworking, Resolved},
};

use super::{
    Cluster,
    message::{Action, Notice},
    vswitch::Standing,
};
use crate::retry::Backoff;

/// One PodNetworking, and what is going on about its status.
#[derive(Debug)]
pub(super) struct Plane {
    pub(super) networking: PodNetworking,
    /// What is being written.
    writing: Option<Resolved>,
    judge: bool,
    failures: u32,
    not_before: Timestamp,
}

impl Cluster {
    /// A PodNetworking as it is now.
    pub(super) fn networking_seen(
        &mut self,
        now: Timestamp,
        name: String,
        networking: Option<PodNetworking>,
    ) {
        let Some(networking) = networking else {
            self.planes.remove(&name);
            self.visit_all();
            return;
        };
        for id in &networking.vswitches {
            self.vswitches.want(id);
        }
        let plane = self.planes.entry(name).or_insert_with(|| Plane {
            networking: networking.clone(),
            writing: None,
            judge: true,
            failures: 0,
            not_before: now,
        });
        (plane.networking, plane.judge) = (networking, true);
        self.hasten_list(now);
        self.visit_all();
    }

    /// vSwitches changed: every PodNetworking is judged anew.
    pub(super) fn judge_networkings(&mut self) {
        for plane in self.planes.values_mut() {
            plane.judge = true;
        }
    }

    pub(super) fn networking_deadline(&self) -> Option<Timestamp> {
        let due = |plane: &&Plane| plane.judge && plane.writing.is_none();
        let planes = self.planes.values().filter(due);
        planes.map(|plane| plane.not_before).min()
    }

    pub(super) fn drive_networkings(&mut self, now: Timestamp) {
        let due = |plane: &Plane| plane.judge && plane.writing.is_none() && plane.not_before <= now;
        let names = self.planes.iter().filter(|(_, plane)| due(plane));
        let names: Vec<String> = names.map(|(name, _)| name.clone()).collect();
        for name in names {
            self.judge(now, &name);
        }
    }

    fn judge(&mut self, now: Timestamp, name: &str) {
        let Some(plane) = self.planes.get(name) else {
            return;
        };
        let found = resolve(now, &plane.networking, |id| self.vswitches.standing(id));
        let Some(plane) = self.planes.get_mut(name) else {
            return;
        };
        plane.judge = false;
        let Some(found) = found else { return };
        let says = plane.networking.resolved.as_ref();
        let known = says.is_some_and(|says| {
            (says.ready, &says.vswitches, &says.message)
                == (found.ready, &found.vswitches, &found.message)
        });
        if known {
            return;
        }
        plane.writing = Some(found.clone());
        self.emit(Action::Resolve(name.to_owned(), found));
    }

    /// A write of a PodNetworking's status ended.
    pub(super) fn networking_written(
        &mut self,
        now: Timestamp,
        name: &str,
        result: Result<(), String>,
    ) {
        let Some(plane) = self.planes.get_mut(name) else {
            return;
        };
        let Some(written) = plane.writing.take() else {
            return;
        };
        // What was written comes back by the watch, and is judged then; what was not is judged again.
        match result {
            Ok(()) => {
                plane.failures = 0;
                let notice = match written.ready {
                    true => Notice::NetworkingReady(name.to_owned()),
                    false => Notice::NetworkingFailed(name.to_owned(), written.message.clone()),
                };
                plane.networking.resolved = Some(written);
                self.notice(notice);
                self.visit_all();
            }
            Err(why) => {
                plane.failures += 1;
                let failures = plane.failures;
                plane.judge = true;
                plane.not_before = now.after(Backoff::CLOUD.wait(failures, &mut self.dice));
                let text = format!("writing the status of PodNetworking {name}: {why}");
                self.notice(Notice::CloudFailed(text));
            }
        }
    }
}

/// Whether pods may use it; nothing while one of its vSwitches was not looked at.
fn resolve(
    now: Timestamp,
    networking: &PodNetworking,
    standing: impl Fn(&model::VSwitchId) -> Standing,
) -> Option<Resolved> {
    let (mut vswitches, mut absent) = (Vec::new(), Vec::new());
    for id in &networking.vswitches {
        match standing(id) {
            Standing::Unknown => return None,
            Standing::Absent => absent.push(id.to_string()),
            Standing::In(zone) => vswitches.push((id.clone(), zone)),
        }
    }
    let message = match (absent.is_empty(), networking.vswitches.is_empty()) {
        (_, true) => "vSwitchOptions is empty".to_owned(),
        (true, false) => String::new(),
        (false, false) => format!(
            "the region has no vSwitch {}, as far as vpc:DescribeVSwitches shows: correct vSwitchOptions, make it, or \
             permit the call",
            absent.join(", ")
        ),
    };
    Some(Resolved {
        ready: message.is_empty(),
        vswitches,
        message,
        at: now,
    })
}
