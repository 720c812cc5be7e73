//! What the node machine must be told: `eni_conf`, the instance's metadata and its type's limits, put
//! together.

mod own;
mod watch;

use std::{path::PathBuf, sync::Arc, time::Duration};

use cloud::{Client, Credentials, Deadline, Keys, Metadata, Source, ecs};
use engine::node::{Config, PodBlock, Policy};
use model::{EniId, InstanceId, InstanceLimits, Mac, RegionId, ZoneId};
use serde::{Deserialize, Serialize};

pub(crate) use self::watch::{Running, Watch};
use crate::{
    cause::chain,
    config::{Settings, SettingsError},
    mode::Mode,
    notices::Notices,
    privileges::may_load_programs,
};

/// What asking the cloud for the node's facts may take, each time.
const BUDGET: Duration = Duration::from_secs(30);

/// What one first look at the metadata service, or at the node's own configuration, may delay a restart
/// that could do without.
pub(crate) const FIRST_LOOK: Duration = Duration::from_secs(1);

/// How often a failed attempt is repeated: a pod that waits for the first start loses this much.
const RETRY: Duration = Duration::from_secs(2);

/// The longest such wait in mode VPC, where what lacks may be a permission of all nodes: a thousand of them ask 2,000
/// times a minute then.
const RETRY_LONGEST: Duration = Duration::from_secs(30);

/// Where a mounted Secret holds an AccessKey.
const KEY_DIRECTORY: &str = "/var/alibaba-addon-secret";

/// MTU of pods and ENIs unless the CNI configuration says otherwise.
const MTU: u32 = 1500;

/// The tag that marks an ENI as made by an agent.
const CREATOR: (&str, &str) = ("creator", "terway");

/// Why the node machine cannot be told yet.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FactsError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error("the instance metadata service does not say what this node is")]
    Metadata(#[source] cloud::MetadataError),
    #[error("the endpoint of the cloud's API")]
    Endpoint(#[source] cloud::ConfigError),
    #[error("eni_conf key region_id")]
    Region(#[source] model::IdError),
    #[error("a client of the cloud's API")]
    Client(#[source] cloud::ClientError),
    #[error("asking the cloud for the limits of instance type {instance_type}")]
    Limits {
        instance_type: String,
        #[source]
        source: Box<cloud::CloudError>,
    },
    #[error("the cloud does not know instance type {0}")]
    UnknownType(String),
    #[error("reading the node's own object for its podCIDR")]
    Node(#[source] kube::Error),
    #[error("reading the node's own object for its podCIDR: no answer within {BUDGET:?}")]
    NodeLate,
    #[error(
        "the node has no IPv4 podCIDR, from which mode VPC gives pods their addresses: let kube-controller-manager \
         allocate them (--allocate-node-cidrs, --cluster-cidr)"
    )]
    NoPodCidr,
    #[error(
        "asking the cloud whether SourceDestCheck of the node's own ENI {eni} is off, as mode VPC needs it; an answer \
         without the ENI means that ecs:DescribeNetworkInterfaces is not permitted (deploy/ram/agent-vpc.json)"
    )]
    Unseen {
        eni: EniId,
        #[source]
        source: Option<Box<cloud::CloudError>>,
    },
    #[error(
        "SourceDestCheck of the node's own ENI {eni} is on, so that packets of pods are dropped, and cannot be switched \
         off: permit ecs:ModifyNetworkInterfaceAttribute (deploy/ram/agent-vpc.json) or switch it off by hand"
    )]
    SourceDestCheck {
        eni: EniId,
        #[source]
        source: Box<cloud::CloudError>,
    },
}

/// What the cloud says of this node; kept, so that the agent starts without the cloud.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Known {
    pub(crate) instance: InstanceId,
    pub(crate) region: RegionId,
    pub(crate) zone: ZoneId,
    pub(crate) instance_type: String,
    pub(crate) primary_mac: Mac,
    pub(crate) limits: InstanceLimits,
    /// Where pods' addresses come from in mode VPC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) block: Option<PodBlock>,
}

/// Who asks for the facts of which node.
#[derive(Clone)]
pub(crate) struct Asker {
    pub(crate) mode: Mode,
    pub(crate) kube: kube::Client,
    pub(crate) node: String,
    pub(crate) metadata: Arc<Metadata>,
    pub(crate) notices: Notices,
}

/// What a node of mode VPC has of ENIs for pods: its instance type is not asked for.
const NO_ENIS: InstanceLimits = InstanceLimits {
    enis: 0,
    ipv4_per_eni: 0,
    ipv6_per_eni: 0,
    enis_total: 0,
    trunk: false,
};

/// A client of the cloud that signs with what the configuration and the node offer: the AccessKey of
/// `eni_conf`, a mounted one, or the instance's RAM role. `settings` may be missing: then the last
/// two are left.
pub(crate) fn client(
    settings: Option<&Settings>,
    own: &RegionId,
    metadata: &Arc<Metadata>,
) -> Result<Client, FactsError> {
    let configured = settings.and_then(|settings| settings.access_key.as_ref());
    let key = configured.map(|key| Source::Static(Keys::permanent(&key.id, &key.secret)));
    let directory = PathBuf::from(KEY_DIRECTORY);
    let files = Source::Files {
        id: directory.join("access-key-id"),
        secret: directory.join("access-key-secret"),
    };
    let role = Source::InstanceRole(Arc::clone(metadata));
    let credentials = Credentials::new(key.into_iter().chain([files, role]).collect());
    let region = match settings.and_then(|settings| settings.region.as_deref()) {
        Some(region) if !region.is_empty() => RegionId::new(region).map_err(FactsError::Region)?,
        _ => own.clone(),
    };
    let config = cloud::Config::from_env(|name| std::env::var(name).ok(), region)
        .map_err(FactsError::Endpoint)?;
    Client::new(config, credentials).map_err(FactsError::Client)
}

/// The instance this is, if its metadata service answers at once.
pub(crate) async fn instance_now(metadata: &Metadata) -> Option<InstanceId> {
    let facts = metadata.instance(Deadline::within(FIRST_LOOK)).await;
    match facts {
        Ok(facts) => Some(facts.instance),
        Err(error) => {
            tracing::warn!(error = %chain(&error), "metadata does not answer; going on with what is known");
            None
        }
    }
}

/// The node's podCIDR as it is now, if the cluster says so at once: a node that was registered anew has another one,
/// and the last may be a different node's.
pub(crate) async fn block_now(asker: &Asker, primary: Mac) -> Option<PodBlock> {
    let look = own::block(&asker.kube, &asker.node, &asker.metadata, primary);
    match tokio::time::timeout(FIRST_LOOK, look).await {
        Ok(Ok(block)) => Some(block),
        Ok(Err(error)) => {
            tracing::warn!(error = %chain(&error), "going on with the podCIDR that is known");
            None
        }
        Err(_) => None,
    }
}

/// Says that the node was given another podCIDR: its pods that stand have lost the way to them.
pub(crate) fn tell_moved(before: Option<&PodBlock>, block: &PodBlock, notices: &Notices) {
    if let Some(before) = before.filter(|before| before.cidr != block.cidr) {
        notices.pod_cidr_changed(before.cidr, block.cidr);
    }
}

async fn look(settings: Option<&Settings>, asker: &Asker) -> Result<Known, FactsError> {
    let metadata = &asker.metadata;
    let facts = metadata.instance(Deadline::within(BUDGET)).await;
    let facts = facts.map_err(FactsError::Metadata)?;
    let client = client(settings, &facts.region, metadata)?;
    let (limits, block) = match asker.mode {
        Mode::EniMultiIp => (limits(&client, &facts.instance_type).await?, None),
        Mode::Vpc => {
            let block = own::block(&asker.kube, &asker.node, metadata, facts.primary_mac).await?;
            own::uncheck(&client, &block.eni).await?;
            (NO_ENIS, Some(block))
        }
    };
    Ok(Known {
        instance: facts.instance,
        region: facts.region,
        zone: facts.zone,
        instance_type: facts.instance_type,
        primary_mac: facts.primary_mac,
        limits,
        block,
    })
}

async fn limits(client: &Client, instance_type: &str) -> Result<InstanceLimits, FactsError> {
    let instance_type = instance_type.to_owned();
    let call = ecs::DescribeInstanceTypes {
        types: vec![instance_type.clone()],
    };
    let answer = client.call(&call, Deadline::within(BUDGET)).await;
    let answer = answer.map_err(|source| FactsError::Limits {
        instance_type: instance_type.clone(),
        source: Box::new(source),
    })?;
    let limits = answer.value.get(&instance_type).copied();
    limits.ok_or(FactsError::UnknownType(instance_type))
}

/// What the cloud says of this node, asked for until it answers.
pub(crate) async fn discover(settings: Option<&Settings>, asker: &Asker) -> Known {
    let (mut complaint, mut rest) = (String::new(), RETRY);
    loop {
        match look(settings, asker).await {
            Ok(known) => return known,
            Err(error) => {
                let text = chain(&error);
                tracing::warn!(error = text, "waiting for the node's facts");
                // What this mode needs is a person's to give; the other one waits for the cloud alone.
                if asker.mode == Mode::Vpc && text != complaint {
                    asker.notices.config_error(&text);
                    complaint = text;
                }
            }
        }
        tokio::time::sleep(rest).await;
        // A permission that a whole fleet lacks is asked for in calls that all nodes share.
        if asker.mode == Mode::Vpc {
            rest = (rest * 2).min(RETRY_LONGEST);
        }
    }
}

/// The node machine's configuration.
pub(crate) fn config(settings: &Settings, known: &Known) -> Config {
    let mut tags = settings.tags.clone();
    // What this agent makes must pass the filter by which it knows its own.
    tags.extend(settings.policy.tag_filter.clone());
    tags.insert(CREATOR.0.into(), CREATOR.1.into());
    Config {
        instance: known.instance.clone(),
        zone: known.zone.clone(),
        primary_mac: known.primary_mac,
        limits: known.limits,
        enis_max: settings.enis_max(known.limits),
        vswitches: settings
            .vswitches
            .get(&known.zone)
            .cloned()
            .unwrap_or_default(),
        security_groups: settings.security_groups.clone(),
        tags,
        idle_min: settings.idle_min(known.limits),
        idle_max: settings.idle_max,
        cooldown: settings.cooldown,
        mtu: MTU,
        policy: Policy {
            trunk: settings
                .policy
                .trunk
                .filter(|_| may_load_programs() && known.block.is_none()),
            block: known.block.clone(),
            ..settings.policy.clone()
        },
    }
}

/// Says that a trunk ENI is asked for and this process could not serve by it.
pub(crate) fn tell_forbidden_trunk(settings: &Settings, notices: &Notices) {
    if settings.policy.trunk.is_some() && !may_load_programs() {
        notices.config_error(
            "eni_conf key enable_eni_trunking is set, but the agent may load no eBPF program, so the \
             node gets no trunk ENI; apply deploy/overlays/trunk, which gives it capability BPF",
        );
    }
}
