//! Who may call: keys, role credentials, the clock and the nonce of each call.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use model::{InstanceId, Timestamp};

use crate::{
    config::{AccessKey, Grant},
    dice::Dice,
    refusal::{Outcome, Refusal},
    sign::Claim,
};

/// How far a call's time may be from the region's (gateway: 15 minutes either way).
const SKEW: Duration = Duration::from_secs(15 * 60);
/// Nonces remembered. A nonce must be known until its call's time is too old, at most 30 minutes
/// after it came in; 2,000 calls a minute, four times the busiest limit of a CNI, make 60,000.
const NONCES_MAX: usize = 65_536;
/// A role credential is replaced when less than this is left of it, so that whoever reads it can use
/// it for a while (unconfirmed: the cloud renews 30 minutes before the end).
const RENEWAL: Duration = Duration::from_secs(30 * 60);

/// Temporary credentials of a role, as metadata hands them out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) key_id: String,
    pub(crate) secret: String,
    pub(crate) token: String,
    pub(crate) issued: Timestamp,
    pub(crate) expires: Timestamp,
    grant: Grant,
}

/// Who a call was found to come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) key_id: String,
    pub(crate) grant: Grant,
}

/// Keys, sessions and nonces.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    keys: BTreeMap<String, AccessKey>,
    sessions: BTreeMap<String, Session>,
    current: BTreeMap<(InstanceId, String), String>,
    nonces: BTreeSet<(String, String)>,
    arrivals: VecDeque<(Timestamp, (String, String))>,
}

impl Gate {
    pub(crate) fn new(keys: &[AccessKey]) -> Self {
        Self {
            keys: keys
                .iter()
                .map(|key| (key.id.clone(), key.clone()))
                .collect(),
            sessions: BTreeMap::new(),
            current: BTreeMap::new(),
            nonces: BTreeSet::new(),
            arrivals: VecDeque::new(),
        }
    }

    /// Lets a call in or says why not.
    pub(crate) fn admit(&mut self, now: Timestamp, claim: &Claim) -> Outcome<Caller> {
        let (secret, grant) = self.secret(now, claim)?;
        let off = now.since(claim.time).max(claim.time.since(now));
        if off > SKEW {
            let message = "Specified time stamp or date value is expired.";
            return Err(Refusal::new(400, "InvalidTimeStamp.Expired", message));
        }
        claim.verify(&secret)?;
        self.first_use(now, claim)?;
        let key_id = claim.key_id.clone();
        Ok(Caller { key_id, grant })
    }

    fn secret(&self, now: Timestamp, claim: &Claim) -> Outcome<(String, Grant)> {
        if let Some(session) = self.sessions.get(&claim.key_id) {
            let problem = match &claim.security_token {
                None => Some((
                    "MissingSecurityToken",
                    "SecurityToken is mandatory for this action.",
                )),
                Some(token) if *token != session.token => Some((
                    "InvalidSecurityToken.MismatchWithAccessKey",
                    "Specified SecurityToken mismatch with the AccessKey.",
                )),
                Some(_) if now >= session.expires => Some((
                    "InvalidSecurityToken.Expired",
                    "Specified SecurityToken is expired.",
                )),
                Some(_) => None,
            };
            return match problem {
                Some((code, message)) => Err(Refusal::new(400, code, message)),
                None => Ok((session.secret.clone(), session.grant.clone())),
            };
        }
        let Some(key) = self.keys.get(&claim.key_id) else {
            let message = "Specified access key is not found.";
            return Err(Refusal::new(404, "InvalidAccessKeyId.NotFound", message));
        };
        if claim.security_token.is_some() {
            let message = "Specified SecurityToken is malformed.";
            return Err(Refusal::new(400, "InvalidSecurityToken.Malformed", message));
        }
        Ok((key.secret.clone(), key.grant.clone()))
    }

    fn first_use(&mut self, now: Timestamp, claim: &Claim) -> Outcome<()> {
        while let Some((until, _)) = self.arrivals.front() {
            if *until > now && self.arrivals.len() < NONCES_MAX {
                break;
            }
            if let Some((_, old)) = self.arrivals.pop_front() {
                self.nonces.remove(&old);
            }
        }
        let nonce = (claim.key_id.clone(), claim.nonce.clone());
        if !self.nonces.insert(nonce.clone()) {
            let message = "Specified signature nonce was used already.";
            return Err(Refusal::new(400, "SignatureNonceUsed", message));
        }
        // Not until claim.time + SKEW: keeping arrivals in order of arrival is worth twice the window.
        self.arrivals.push_back((now.after(SKEW * 2), nonce));
        Ok(())
    }

    /// The credential that metadata shows `instance` for `role`, made or renewed when it is time.
    pub(crate) fn session(
        &mut self,
        now: Timestamp,
        (instance, role): (&InstanceId, &str),
        grant: &Grant,
        lifetime: Duration,
        dice: &mut Dice,
    ) -> Session {
        self.sessions.retain(|_, session| session.expires > now);
        let place = (instance.clone(), role.to_owned());
        let current = self
            .current
            .get(&place)
            .and_then(|id| self.sessions.get(id));
        if let Some(session) =
            current.filter(|session| session.expires.since(now) > RENEWAL.min(lifetime / 2))
        {
            return session.clone();
        }
        let session = Session {
            key_id: format!("STS.N{}", dice.word(24)),
            secret: dice.word(44),
            token: format!("CAIS{}", dice.word(60)),
            issued: now,
            expires: now.after(lifetime),
            grant: grant.clone(),
        };
        self.current.insert(place, session.key_id.clone());
        self.sessions
            .insert(session.key_id.clone(), session.clone());
        session
    }
}
