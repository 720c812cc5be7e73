//! Removes what checks made: this run's ENIs, and those of an earlier run that was killed.

use std::collections::BTreeMap;

use cloud::{
    CloudError,
    ecs::{
        DeleteNetworkInterface, DescribeNetworkInterfaces, DescribedEni, DetachNetworkInterface,
    },
};
use model::{EniId, EniStatus, FaultClass};

use super::{CREATOR, RUN_SECONDS_MAX, TAG, session::Session, steps};
use crate::agent::chain;

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Cleanup {
    /// Removed, of this run and of earlier ones.
    pub(super) removed: Vec<EniId>,
    /// Still there, with the reason.
    pub(super) left: Vec<String>,
}

/// Removes the ENIs of earlier runs. Those of a run so young that it may still be going are left, and
/// told.
pub(super) async fn earlier(session: &Session, run: &str, now: u64) -> Cleanup {
    let mut cleanup = Cleanup::default();
    let tagged = match tagged(session, None).await {
        Ok(tagged) => tagged,
        Err(error) => {
            let why = chain(&error);
            cleanup.left.push(format!(
                "whether an earlier check left ENIs is not known: {why}"
            ));
            return cleanup;
        }
    };
    for seen in tagged.iter().filter(|seen| tag(seen) != Some(run)) {
        match age(seen, now) {
            Some(age) if age > RUN_SECONDS_MAX => remove(session, &seen.eni.id, &mut cleanup).await,
            _ => cleanup.left.push(format!(
                "{} is of another check that may still be going; it is removed by a check after {RUN_SECONDS_MAX} s",
                seen.eni.id
            )),
        }
    }
    cleanup
}

/// Removes everything of this run: what it knows it made, and what carries its tag.
pub(super) async fn own(session: &Session, run: &str) -> Cleanup {
    let mut cleanup = Cleanup::default();
    let mut mine: Vec<EniId> = session.made.clone();
    match tagged(session, Some(run)).await {
        Ok(tagged) => mine.extend(tagged.into_iter().map(|seen| seen.eni.id)),
        Err(error) if mine.is_empty() => {
            cleanup.left.push(format!(
                "whether an ENI was made is not known; look for tag {TAG}={run}: {}",
                chain(&error)
            ));
        }
        // Those it knows are removed all the same.
        Err(_) => {}
    }
    mine.sort();
    mine.dedup();
    for eni in mine {
        remove(session, &eni, &mut cleanup).await;
    }
    cleanup
}

/// ENIs with a check's tags. The tags are compared here too: a cloud that ignored the filter would name
/// everybody's.
async fn tagged(session: &Session, run: Option<&str>) -> Result<Vec<DescribedEni>, CloudError> {
    let mut tags = BTreeMap::new();
    tags.insert(CREATOR.0.to_owned(), CREATOR.1.to_owned());
    if let Some(run) = run {
        tags.insert(TAG.to_owned(), run.to_owned());
    }
    let mut question = DescribeNetworkInterfaces {
        tags,
        ..DescribeNetworkInterfaces::default()
    };
    let mut all = Vec::new();
    for _ in 0..cloud::client::PAGES_MAX {
        let page = session.quiet(&question).await?;
        let ours = page
            .interfaces
            .into_iter()
            .filter(|seen| is_ours(seen, run));
        all.extend(ours);
        match page.next_token {
            Some(token) => question.next_token = Some(token),
            None => break,
        }
    }
    Ok(all)
}

fn is_ours(seen: &DescribedEni, run: Option<&str>) -> bool {
    let creator = seen.eni.tags.get(CREATOR.0).map(String::as_str) == Some(CREATOR.1);
    let own = match run {
        Some(run) => tag(seen) == Some(run),
        None => tag(seen).is_some(),
    };
    creator && own
}

fn tag(seen: &DescribedEni) -> Option<&str> {
    seen.eni.tags.get(TAG).map(String::as_str)
}

/// How old the run is that made it: a run's name begins with its start.
fn age(seen: &DescribedEni, now: u64) -> Option<u64> {
    let started: u64 = tag(seen)?.split('-').next()?.parse().ok()?;
    Some(now.saturating_sub(started))
}

async fn remove(session: &Session, eni: &EniId, cleanup: &mut Cleanup) {
    match try_remove(session, eni).await {
        Ok(true) => cleanup.removed.push(eni.clone()),
        Ok(false) => {}
        Err(why) => cleanup
            .left
            .push(format!("{eni}: {why}; delete it by hand")),
    }
}

/// Removes the ENI; says whether it was there.
async fn try_remove(session: &Session, eni: &EniId) -> Result<bool, String> {
    let page = session
        .quiet(&steps::by_id(eni))
        .await
        .map_err(|error| chain(&error))?;
    if let Some(seen) = page.interfaces.first()
        && let (EniStatus::InUse | EniStatus::Attaching, Some(instance)) =
            (seen.eni.status, seen.eni.instance.clone())
    {
        let detach = DetachNetworkInterface {
            eni: eni.clone(),
            instance,
            trunk: None,
        };
        session
            .quiet(&detach)
            .await
            .map_err(|error| chain(&error))?;
    }
    if !page.interfaces.is_empty() {
        let free = |seen: Option<&DescribedEni>| {
            seen.is_none_or(|seen| seen.eni.status == EniStatus::Available)
        };
        steps::settled(session, eni, free).await;
    }
    // Also when it is not listed: lists lag behind, and deleting what is gone does no harm.
    match session
        .quiet(&DeleteNetworkInterface { eni: eni.clone() })
        .await
    {
        Ok(()) if steps::settled(session, eni, |seen| seen.is_none()).await => Ok(true),
        Ok(()) => Err("it was deleted, and still shows after a minute".into()),
        Err(error) if error.class() == FaultClass::Gone => Ok(false),
        Err(error) => Err(chain(&error)),
    }
}
