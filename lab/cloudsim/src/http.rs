//! The region on sockets: two routers and the loop that lets time pass.
//!
//! All decisions stay in [`Region`]; this reads the wall clock, holds the lock for the length of one
//! call and never across a wait.

mod metadata;
mod openapi;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use model::Timestamp;
use tokio::sync::Notify;

use crate::{Effect, Region};

pub use metadata::metadata_router;
pub use openapi::openapi_router;

/// How long [`drive`] sleeps when nothing is due: any change wakes it at once, so this only bounds
/// what a lost wake-up could cost.
const IDLE: Duration = Duration::from_secs(60);

/// A region that several tasks serve.
#[derive(Debug, Clone)]
pub struct Shared(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    region: Mutex<Region>,
    changed: Notify,
}

impl Shared {
    /// Shares `region`.
    pub fn new(region: Region) -> Self {
        let region = Mutex::new(region);
        Self(Arc::new(Inner {
            region,
            changed: Notify::new(),
        }))
    }

    /// Runs `act` on the region at the wall clock's time, then wakes [`drive`].
    ///
    /// Everything that changes the region from outside goes through here (`run_instance`, `inject`,
    /// `snapshot` and so on). `act` must not call back into the same `Shared`.
    pub fn with<T>(&self, act: impl FnOnce(Timestamp, &mut Region) -> T) -> T {
        let result = {
            let mut region = self.0.region.lock().unwrap_or_else(PoisonError::into_inner);
            act(wall_clock(), &mut region)
        };
        self.0.changed.notify_one();
        result
    }
}

/// The time as the region counts it: since the Unix epoch, because callers sign their clock.
pub fn wall_clock() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::EPOCH.after(since)
}

/// Lets time pass and hands out effects in their order, one at a time, for ever.
///
/// Drop the future to stop it; an effect that was handed out is not handed out again. There is one
/// driver a region: two would share the effects between them.
pub async fn drive<F, Done>(shared: Shared, mut on_effect: F)
where
    F: FnMut(Effect) -> Done,
    Done: Future<Output = ()>,
{
    loop {
        let (effect, deadline) = {
            let mut region = shared
                .0
                .region
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            region.advance(wall_clock());
            (region.poll_effect(), region.deadline())
        };
        if let Some(effect) = effect {
            on_effect(effect).await;
            continue;
        }
        let pause = deadline.map_or(IDLE, |deadline| deadline.since(wall_clock()));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shared.0.changed.notified() => {}
        }
    }
}
