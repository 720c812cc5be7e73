//! Who leads: a Lease that one replica holds and renews, taken over when it was not renewed in its time.
//!
//! Times of the Lease are only compared with themselves: another replica's clock may be wrong, so a lease
//! counts from when its last change was *seen*.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{Api, Client, api::PostParams};

use crate::cause::of_kube;

/// Tries to give the lease up: one is refused when a renewal that was under way comes between its two requests,
/// and there is one renewal at a time.
const RELEASE_TRIES: u32 = 3;

/// Until when this replica surely leads, told to whoever must not act as a leader after that. Counted from
/// before the lease was asked for, so that no other replica counts it longer.
#[derive(Clone)]
pub(crate) struct Lead(Option<Arc<Mutex<Option<Instant>>>>);

impl Lead {
    /// Of a replica that is elected, and of one that is not asked.
    pub(crate) fn new(elected: bool) -> Self {
        Self(elected.then(Arc::default))
    }

    /// Whether it leads at this moment.
    pub(crate) fn holds(&self) -> bool {
        self.0.as_ref().is_none_or(|until| {
            let until = until.lock().unwrap_or_else(PoisonError::into_inner);
            until.is_some_and(|until| Instant::now() < until)
        })
    }

    fn set(&self, end: Option<Instant>) {
        if let Some(until) = &self.0 {
            *until.lock().unwrap_or_else(PoisonError::into_inner) = end;
        }
    }
}

/// One replica's part in the election.
pub(crate) struct Election {
    api: Api<Lease>,
    name: String,
    namespace: String,
    who: String,
    duration: Duration,
    period: Duration,
    lead: Lead,
}

/// What was last seen of the lease, and when.
struct Seen {
    holder: String,
    renewed: Option<MicroTime>,
    at: Instant,
}

impl Election {
    pub(crate) fn new(
        client: Client,
        config: &crate::config::Config,
        who: String,
        lead: Lead,
    ) -> Self {
        Self {
            api: Api::namespaced(client, &config.lease_lock_namespace),
            name: config.lease_lock_name.clone(),
            namespace: config.lease_lock_namespace.clone(),
            who,
            duration: config.lease_duration.0,
            period: config.retry_period.0,
            lead,
        }
    }

    /// Waits until this replica leads.
    pub(crate) async fn win(&self) {
        let mut seen: Option<Seen> = None;
        let mut complaint = String::new();
        loop {
            let began = Instant::now();
            match self.try_win(&mut seen).await {
                Ok(true) => return self.lead.set(began.checked_add(self.duration)),
                Ok(false) => complaint.clear(),
                Err(error) => {
                    let text = of_kube(&error);
                    if text != complaint {
                        tracing::warn!(error = text, lease = self.name, "asking for the lead");
                        complaint = text;
                    }
                }
            }
            tokio::time::sleep(self.period).await;
        }
    }

    async fn try_win(&self, seen: &mut Option<Seen>) -> Result<bool, kube::Error> {
        let Some(lease) = self.api.get_opt(&self.name).await? else {
            let lease = self.lease(None, 0);
            return settled(self.api.create(&PostParams::default(), &lease).await);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.clone().unwrap_or_default();
        let free = holder.is_empty() || holder == self.who;
        let known = seen
            .as_ref()
            .filter(|seen| seen.holder == holder && seen.renewed == spec.renew_time);
        let at = known.map_or_else(Instant::now, |known| known.at);
        let lasts = spec.lease_duration_seconds.unwrap_or(0);
        let lasts = Duration::from_secs(u64::try_from(lasts).unwrap_or(0)).max(self.duration);
        *seen = Some(Seen {
            holder,
            renewed: spec.renew_time.clone(),
            at,
        });
        if !free && at.elapsed() < lasts {
            return Ok(false);
        }
        let next = self.lease(Some(&lease), spec.lease_transitions.unwrap_or(0) + 1);
        settled(self.put(&next).await)
    }

    /// Keeps the lead; returns when it is lost, with the reason.
    pub(crate) async fn keep(&self) -> String {
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep(self.period).await;
            let left = self.duration.saturating_sub(renewed.elapsed());
            let began = Instant::now();
            let outcome = tokio::time::timeout(left, self.renew()).await;
            match outcome {
                Ok(Ok(true)) => {
                    self.lead.set(began.checked_add(self.duration));
                    renewed = Instant::now();
                }
                Ok(Ok(false)) => return "another replica holds the lease".into(),
                Ok(Err(error)) => {
                    tracing::warn!(error = %of_kube(&error), "renewing the lease");
                }
                Err(_) => {}
            }
            // Somebody else may lead from here on.
            if renewed.elapsed() >= self.duration {
                return format!("the lease was not renewed for {:?}", self.duration);
            }
        }
    }

    async fn renew(&self) -> Result<bool, kube::Error> {
        let lease = self.api.get(&self.name).await?;
        let spec = lease.spec.clone().unwrap_or_default();
        if spec.holder_identity.as_deref() != Some(&self.who) {
            return Ok(false);
        }
        let next = self.lease(Some(&lease), spec.lease_transitions.unwrap_or(0));
        // Refused for its version it is read again at the next turn: that may have been our own last
        // write, answered late.
        self.put(&next).await.map(|_| true)
    }

    async fn put(&self, lease: &Lease) -> Result<Lease, kube::Error> {
        let options = PostParams::default();
        self.api.replace(&self.name, &options, lease).await
    }

    /// Gives the lead up, so that the next replica need not wait.
    pub(crate) async fn release(&self) {
        self.lead.set(None);
        for _ in 0..RELEASE_TRIES {
            match self.try_release().await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => {
                    return tracing::warn!(error = %of_kube(&error), "giving the lease up");
                }
            }
        }
    }

    async fn try_release(&self) -> Result<bool, kube::Error> {
        let mut lease = self.api.get(&self.name).await?;
        let Some(spec) = &mut lease.spec else {
            return Ok(true);
        };
        if spec.holder_identity.as_deref() != Some(&self.who) {
            return Ok(true);
        }
        spec.holder_identity = None;
        spec.lease_duration_seconds = Some(1);
        settled(self.put(&lease).await)
    }

    fn lease(&self, old: Option<&Lease>, transitions: i32) -> Lease {
        let now = MicroTime(Timestamp::now());
        let before = old.and_then(|lease| lease.spec.as_ref());
        let ours = before.is_some_and(|spec| spec.holder_identity.as_deref() == Some(&self.who));
        let acquired = before
            .filter(|_| ours)
            .and_then(|spec| spec.acquire_time.clone());
        Lease {
            metadata: old.map_or_else(
                || ObjectMeta {
                    name: Some(self.name.clone()),
                    namespace: Some(self.namespace.clone()),
                    ..ObjectMeta::default()
                },
                |old| old.metadata.clone(),
            ),
            spec: Some(LeaseSpec {
                holder_identity: Some(self.who.clone()),
                lease_duration_seconds: i32::try_from(self.duration.as_secs()).ok(),
                acquire_time: Some(acquired.unwrap_or_else(|| now.clone())),
                renew_time: Some(now),
                lease_transitions: Some(transitions),
                ..LeaseSpec::default()
            }),
        }
    }
}

/// Whether a write went through; another's coming first is no error.
fn settled(result: Result<Lease, kube::Error>) -> Result<bool, kube::Error> {
    match result {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::webhook::tests::tls::api_server;

    /// Nobody loses a lease of this length because the machine is busy.
    const LASTS: Duration = Duration::from_secs(3);
    /// Often enough for the two to come to the API server in either order.
    const TURNS: u32 = 20;

    #[tokio::test]
    async fn the_next_leads_at_once_when_one_gives_up_and_after_its_time_when_one_dies() {
        let client = api_server().await;
        let replica = |who: &str| {
            let lead = Lead::new(true);
            let one = Election {
                api: Api::namespaced(client.clone(), "kube-system"),
                name: "lock".into(),
                namespace: "kube-system".into(),
                who: who.into(),
                duration: LASTS,
                period: Duration::from_millis(50),
                lead: lead.clone(),
            };
            (one, lead)
        };
        let (one, first) = replica("one");
        assert!(!first.holds());
        one.win().await;
        assert!(first.holds());
        let (two, second) = replica("two");
        tokio::select! {
            why = one.keep() => panic!("{why}"),
            () = two.win() => panic!("two lead"),
            () = tokio::time::sleep(LASTS + LASTS / 3) => {}
        }
        one.release().await;
        assert!(!first.holds());
        let began = Instant::now();
        two.win().await;
        assert!(began.elapsed() < LASTS / 2 && second.holds());

        // A renewal that was under way must not keep what is given up.
        for _ in 0..TURNS {
            let (renewed, ()) = tokio::join!(two.renew(), two.release());
            drop(renewed);
            let lease = two.api.get("lock").await.expect("a lease");
            assert_eq!(lease.spec.expect("a whole one").holder_identity, None);
            two.win().await;
        }

        // It dies, or hangs: it knows that it does not lead before anybody else does.
        let (three, third) = replica("three");
        let began = Instant::now();
        three.win().await;
        assert!(began.elapsed() >= LASTS && third.holds() && !second.holds());
        assert_eq!(two.keep().await, "another replica holds the lease");
    }
}
