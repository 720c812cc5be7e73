//! A cloud that makes ENIs under tokens and moves them in its own time.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use engine::podeni::{Answer, Call, NewEni, SeenEni};
use model::{
    ClientToken, DualStack, EniId, EniKind, EniStatus, FaultClass, InstanceId, Mac, Timestamp,
    podeni::OwnedEni,
};

/// How long the cloud takes over an attach or a detach.
pub(crate) const MOVES: Duration = Duration::from_secs(2);

pub(crate) struct CloudEni {
    pub(crate) id: EniId,
    pub(crate) address: IpAddr,
    pub(crate) status: EniStatus,
    pub(crate) on: Option<(InstanceId, Option<EniId>)>,
    settles: Timestamp,
    pub(crate) elastic: bool,
    vlan: u16,
}

#[derive(Default)]
pub(crate) struct Cloud {
    pub(crate) enis: Vec<CloudEni>,
    tokens: BTreeMap<ClientToken, EniId>,
    made: u16,
}

impl Cloud {
    pub(crate) fn settle(&mut self, now: Timestamp) {
        for eni in self.enis.iter_mut().filter(|eni| eni.settles <= now) {
            match eni.status {
                EniStatus::Attaching => eni.status = EniStatus::InUse,
                EniStatus::Detaching => (eni.status, eni.on) = (EniStatus::Available, None),
                _ => {}
            }
        }
        self.enis.retain(|eni| eni.status != EniStatus::Deleting);
    }

    fn eni(&mut self, id: &EniId) -> Result<&mut CloudEni, FaultClass> {
        let found = self.enis.iter_mut().find(|eni| eni.id == *id);
        found.ok_or(FaultClass::Gone)
    }

    pub(crate) fn seen(&self, id: &EniId) -> Option<SeenEni> {
        let eni = self.enis.iter().find(|eni| eni.id == *id)?;
        Some(SeenEni {
            status: eni.status,
            kind: EniKind::Member,
            instance: eni.on.as_ref().map(|(instance, _)| instance.clone()),
            trunk: eni.on.as_ref().and_then(|(_, trunk)| trunk.clone()),
            vlan: (eni.status == EniStatus::InUse).then_some(eni.vlan),
        })
    }

    pub(crate) fn carry_out(&mut self, now: Timestamp, call: &Call) -> Result<Answer, FaultClass> {
        let settles = now.after(MOVES);
        match call {
            Call::Create(create) => {
                let known = self.tokens.get(&create.token).cloned();
                let id = known.unwrap_or_else(|| {
                    self.made += 1;
                    let id = EniId::new(format!("eni-{}", self.made)).unwrap();
                    let [high, low] = self.made.to_be_bytes();
                    let address = IpAddr::from([10, 0, high, low]);
                    self.enis.push(CloudEni {
                        id: id.clone(),
                        address: create.addresses.v4.unwrap_or(address),
                        status: EniStatus::Available,
                        on: None,
                        settles: now,
                        elastic: create.delete_on_release,
                        vlan: self.made,
                    });
                    self.tokens.insert(create.token.clone(), id.clone());
                    id
                });
                let eni = self.enis.iter().find(|eni| eni.id == id);
                let eni = eni.ok_or(FaultClass::Gone)?;
                let [high, low] = eni.vlan.to_be_bytes();
                Ok(Answer::Created(Box::new(NewEni {
                    eni: OwnedEni {
                        id,
                        mac: Mac::locally_administered([2, 0, 0, 0, high, low]),
                        vpc: None,
                    },
                    addresses: DualStack {
                        v4: Some(eni.address),
                        v6: None,
                    },
                })))
            }
            Call::Attach {
                eni,
                instance,
                trunk,
            } => {
                let eni = self.eni(eni)?;
                if eni.status != EniStatus::Available {
                    return Err(FaultClass::Conflict);
                }
                eni.status = EniStatus::Attaching;
                eni.on = Some((instance.clone(), trunk.clone()));
                eni.settles = settles;
                Ok(Answer::Accepted)
            }
            Call::Detach { eni, instance, .. } => {
                let eni = self.eni(eni)?;
                let there = eni.on.as_ref().is_some_and(|(on, _)| on == instance);
                if eni.status != EniStatus::InUse || !there {
                    return Err(FaultClass::Conflict);
                }
                (eni.status, eni.settles) = (EniStatus::Detaching, settles);
                Ok(Answer::Accepted)
            }
            Call::Delete(eni) => {
                let eni = self.eni(eni)?;
                if eni.status != EniStatus::Available {
                    return Err(FaultClass::Conflict);
                }
                eni.status = EniStatus::Deleting;
                Ok(Answer::Accepted)
            }
            Call::Look(eni) => Ok(self.seen(eni).map_or(Answer::Missing, Answer::Seen)),
        }
    }
}
