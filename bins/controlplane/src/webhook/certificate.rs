//! The webhooks' certificate: made, kept for all replicas, trusted by the API server, renewed under a running
//! server.

mod bundle;
mod keeper;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum_server::tls_rustls::RustlsConfig;

use self::bundle::{Bundle, Unusable};
#[cfg(test)]
pub(super) use self::bundle::{LIFE, RENEW_BEFORE, names};
pub(super) use self::keeper::{KeepError, Keeper};

/// Wait between looks at the Secret: another replica may have renewed it.
const LOOK: Duration = Duration::from_secs(60);

/// The same while a new certificate waits to be trusted: an API server knows a change of its webhook
/// configurations within a second, and this is the time it is given.
pub(super) const LOOK_PENDING: Duration = Duration::from_secs(5);

/// Why there is nothing to serve.
#[derive(Debug, thiserror::Error)]
pub(super) enum CertificateError {
    /// There is no bundle.
    #[error(transparent)]
    Keep(#[from] KeepError),
    /// There is one, but it cannot be served.
    #[error("the certificate cannot be served: {0}")]
    Unusable(#[from] Unusable),
}

/// The certificate that is being served.
pub(super) struct Served {
    bundle: Bundle,
    config: RustlsConfig,
}

impl Served {
    /// The first one: served at once, trusted as soon as can be.
    ///
    /// # Errors
    /// When there is none.
    pub(super) async fn start(keeper: &Keeper, now: SystemTime) -> Result<Self, CertificateError> {
        let bundle = keeper.obtain(now).await?;
        let config = RustlsConfig::from_config(Arc::new(bundle.config()?));
        if let Err(error) = keeper.trust(&bundle.authorities).await {
            tracing::warn!(%error, "the API server does not trust the webhooks yet");
        }
        Ok(Self { bundle, config })
    }

    /// For the listener; follows what is served.
    pub(super) fn config(&self) -> RustlsConfig {
        self.config.clone()
    }

    /// Looks whether another certificate is to be served, and whether this one is trusted. Returns when to look
    /// again.
    pub(super) async fn look(&mut self, keeper: &Keeper, now: SystemTime) -> Duration {
        match self.follow(keeper, now).await {
            Ok(true) => LOOK,
            Ok(false) => LOOK_PENDING,
            Err(error) => {
                tracing::warn!(%error, "the webhooks' certificate could not be looked after");
                LOOK
            }
        }
    }

    /// Whether the newest one is served. It is not before a look that finds it trusted: the API server must
    /// know its authority first. One that is not valid any more is not held on to.
    async fn follow(&mut self, keeper: &Keeper, now: SystemTime) -> Result<bool, CertificateError> {
        let newest = keeper.obtain(now).await?;
        let trusted = keeper.trust(&newest.authorities).await;
        let valid = self.bundle.judge(&keeper.names, now).is_ok();
        if newest != self.bundle && (!valid || matches!(trusted, Ok(true))) {
            self.config.reload_from_config(Arc::new(newest.config()?));
            self.bundle = newest.clone();
            tracing::info!("the webhooks serve a new certificate");
        }
        trusted?;
        Ok(newest == self.bundle)
    }
}
