//! The instance metadata service, as one instance sees it at 100.100.100.200.
//!
//! It shows attached ENIs only, trails behind the API by its own lag, and hands out the credentials
//! of the instance's RAM role. It never shows another instance's things.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use ipnet::Ipv4Net;
use model::{EniStatus, InstanceId, Timestamp};
use serde_json::json;

use crate::{
    config::MetadataTokens,
    gate::Gate,
    iso,
    state::{Eni, Instance},
    vswitch::VSwitch,
    world::World,
};

/// Where values live.
const VALUES: &str = "/latest/meta-data";
/// Where session tokens are made.
const TOKEN: &str = "/latest/api/token";
/// Longest life of a session token, in seconds (metadata page: 1 to 21600).
const TOKEN_TTL_MAX: u64 = 21_600;
/// Session tokens that are valid at once. Clients renew at half of 6 hours; 4,096 is room for 500
/// nodes with eight clients each.
const TOKENS_MAX: usize = 4096;

/// A request to the metadata service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MetadataRequest {
    /// `GET` or `PUT`.
    pub method: String,
    /// The path, for example `/latest/meta-data/mac`.
    pub path: String,
    /// `X-aliyun-ecs-metadata-token`.
    pub token: Option<String>,
    /// `X-aliyun-ecs-metadata-token-ttl-seconds`.
    pub token_ttl: Option<String>,
}

impl MetadataRequest {
    /// A request for a value, without a session token.
    pub fn get(path: impl Into<String>) -> Self {
        Self {
            method: "GET".into(),
            path: path.into(),
            ..Self::default()
        }
    }
}

/// The answer of the metadata service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataResponse {
    /// HTTP status.
    pub status: u16,
    /// The value, or the cloud's reason.
    pub body: String,
}

impl MetadataResponse {
    fn new(status: u16, body: impl Into<String>) -> Self {
        Self {
            status,
            body: body.into(),
        }
    }
}

/// Session tokens and whose they are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sessions {
    tokens: BTreeMap<String, (InstanceId, Timestamp)>,
    order: VecDeque<String>,
}

impl Sessions {
    fn add(&mut self, token: String, instance: InstanceId, until: Timestamp) {
        if self.order.len() == TOKENS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.tokens.remove(&oldest);
        }
        self.tokens.insert(token.clone(), (instance, until));
        self.order.push_back(token);
    }

    fn holds(&self, now: Timestamp, token: &str, instance: &InstanceId) -> bool {
        let known = self.tokens.get(token);
        known.is_some_and(|(whose, until)| whose == instance && *until > now)
    }
}

pub(crate) fn serve(
    world: &mut World,
    gate: &mut Gate,
    sessions: &mut Sessions,
    now: Timestamp,
    caller: &InstanceId,
    request: &MetadataRequest,
) -> MetadataResponse {
    let Some(instance) = world.instances.get(caller).cloned() else {
        return MetadataResponse::new(404, "no such instance");
    };
    match (request.method.as_str(), request.path.trim_end_matches('/')) {
        ("PUT", TOKEN) => {
            let ttl = request
                .token_ttl
                .as_deref()
                .and_then(|text| text.parse().ok());
            let Some(ttl) = ttl.filter(|ttl| (1..=TOKEN_TTL_MAX).contains(ttl)) else {
                return MetadataResponse::new(400, "bad token ttl: expected 1 to 21600 seconds");
            };
            let token = world.dice.word(56);
            sessions.add(
                token.clone(),
                caller.clone(),
                now.after(Duration::from_secs(ttl)),
            );
            MetadataResponse::new(200, token)
        }
        ("GET", path) => {
            let required = world.config.metadata_tokens == MetadataTokens::Required;
            match &request.token {
                Some(token) if !sessions.holds(now, token, caller) => {
                    return MetadataResponse::new(401, "the session token is unknown or expired");
                }
                // Unconfirmed which of 401 and 403 the cloud gives here; clients get their token first.
                None if required => {
                    return MetadataResponse::new(403, "a session token is required");
                }
                _ => {}
            }
            let below = path
                .strip_prefix(VALUES)
                .filter(|rest| rest.is_empty() || rest.starts_with('/'));
            let parts: Vec<&str> = below
                .unwrap_or("?")
                .split('/')
                .filter(|part| !part.is_empty())
                .collect();
            match value(world, gate, now, &instance, &parts) {
                Some(body) => MetadataResponse::new(200, body),
                None => MetadataResponse::new(404, "404 - Not Found"),
            }
        }
        _ => MetadataResponse::new(405, "method not allowed"),
    }
}

fn value(
    world: &mut World,
    gate: &mut Gate,
    now: Timestamp,
    instance: &Instance,
    parts: &[&str],
) -> Option<String> {
    let text = |value: &dyn std::fmt::Display| Some(value.to_string());
    match parts {
        [] => Some(
            "instance-id\ninstance/\nmac\nnetwork/\nram/\nregion-id\nvpc-cidr-block\nvpc-id\nvswitch-cidr-block\n\
             vswitch-id\nzone-id"
                .into(),
        ),
        ["instance-id"] => text(&instance.id),
        ["instance"] => Some("instance-name\ninstance-type".into()),
        ["instance", "instance-name"] => text(&instance.name),
        ["instance", "instance-type"] => text(&instance.instance_type),
        ["mac"] => text(&instance.primary_mac),
        ["private-ipv4"] => text(&instance.primary_address),
        ["region-id"] => text(&world.config.region),
        ["zone-id"] => text(&instance.zone),
        ["vpc-id"] => text(&world.config.vpc),
        ["vpc-cidr-block"] => text(&world.config.vpc_cidr),
        ["vswitch-id"] => text(&instance.vswitch),
        ["vswitch-cidr-block"] => text(&world.vswitches.get(&instance.vswitch)?.spec.cidr),
        ["owner-account-id"] => text(&world.config.owner),
        ["network"] => Some("interfaces/".into()),
        ["network", "interfaces"] => Some("macs/".into()),
        ["network", "interfaces", "macs", rest @ ..] => interface(world, now, instance, rest),
        ["ram"] => Some("security-credentials/".into()),
        ["ram", "security-credentials"] => instance.ram_role.clone(),
        ["ram", "security-credentials", role] => credentials(world, gate, now, instance, role),
        _ => None,
    }
}

/// ENIs that metadata shows the instance now, as they were a lag ago. Members are no links of it.
fn attached<'a>(
    world: &'a World,
    now: Timestamp,
    instance: &'a Instance,
) -> impl Iterator<Item = &'a Eni> {
    let lag = world.config.timing.metadata_lag;
    world.history.view(now, lag).filter(|eni| {
        // An ENI on its way off is still there for the guest until it is gone.
        let on = matches!(eni.status, EniStatus::InUse | EniStatus::Detaching);
        on && eni.ride.is_none() && eni.instance.as_ref() == Some(&instance.id)
    })
}

fn interface(world: &World, now: Timestamp, instance: &Instance, parts: &[&str]) -> Option<String> {
    let [mac, rest @ ..] = parts else {
        let macs: Vec<String> = attached(world, now, instance)
            .map(|eni| format!("{}/", eni.mac))
            .collect();
        return Some(macs.join("\n"));
    };
    let eni = attached(world, now, instance).find(|eni| eni.mac.to_string() == *mac)?;
    let vswitch: &VSwitch = world.vswitches.get(&eni.vswitch)?;
    let cidr: Ipv4Net = vswitch.spec.cidr;
    Some(match rest {
        [] => "gateway\nipv4-prefixes\nnetmask\nnetwork-interface-id\nprimary-ip-address\nprivate-ipv4s\nvpc-cidr-block\n\
               vpc-id\nvswitch-cidr-block\nvswitch-id"
            .into(),
        ["network-interface-id"] => eni.id.to_string(),
        ["primary-ip-address"] => eni.primary.to_string(),
        ["private-ipv4s"] => {
            let all: Vec<_> = eni.addresses().map(|(address, _)| address).collect();
            json!(all).to_string()
        }
        // Unconfirmed: clients of the service read this path, its documentation does not list it.
        ["ipv4-prefixes"] => json!(eni.prefixes).to_string(),
        ["gateway"] => vswitch.gateway().to_string(),
        ["netmask"] => cidr.netmask().to_string(),
        ["vswitch-id"] => eni.vswitch.to_string(),
        ["vswitch-cidr-block"] => cidr.to_string(),
        ["vpc-id"] => world.config.vpc.to_string(),
        ["vpc-cidr-block"] => world.config.vpc_cidr.to_string(),
        _ => return None,
    })
}

fn credentials(
    world: &mut World,
    gate: &mut Gate,
    now: Timestamp,
    instance: &Instance,
    role: &str,
) -> Option<String> {
    let role = instance.ram_role.as_deref().filter(|own| *own == role)?;
    let grant = world.config.roles.get(role)?;
    let lifetime = world.config.limits.role_credential;
    let session = gate.session(now, (&instance.id, role), grant, lifetime, &mut world.dice);
    let body = json!({
        "AccessKeyId": session.key_id,
        "AccessKeySecret": session.secret,
        "SecurityToken": session.token,
        "Expiration": iso::format(session.expires),
        "LastUpdated": iso::format(session.issued),
        "Code": "Success",
    });
    Some(body.to_string())
}
