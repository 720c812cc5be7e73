//! What the program must know before it starts: the region and the credential.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Context;
use cloud::{Client, Credentials, Deadline, Keys, Metadata, Source};
use model::RegionId;

use crate::config::{Config, Credential};

/// What the metadata service may take.
const METADATA_BUDGET: Duration = Duration::from_secs(10);

/// A client of the cloud that signs with the configured AccessKey, or with the instance's RAM role.
pub(crate) async fn client(
    config: &Config,
    credential: &Path,
    metadata: &str,
) -> anyhow::Result<Client> {
    let metadata = Arc::new(Metadata::new(metadata).context("--metadata")?);
    let key = Credential::read(credential)?;
    let key = key.map(|(id, secret)| Source::Static(Keys::permanent(&id, &secret)));
    let role = Source::InstanceRole(Arc::clone(&metadata));
    let credentials = Credentials::new(key.into_iter().chain([role]).collect());
    let region = match config.region_id.is_empty() {
        false => RegionId::new(&config.region_id).context("regionID")?,
        true => {
            let facts = metadata.instance(Deadline::within(METADATA_BUDGET)).await;
            facts
                .context("regionID is not given, and the metadata service does not tell")?
                .region
        }
    };
    let config = cloud::Config::from_env(|name| std::env::var(name).ok(), region)?;
    Ok(Client::new(config, credentials)?)
}
