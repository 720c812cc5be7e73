//! The region as one machine: calls, instances, time and effects.

use model::{InstanceId, Timestamp};
use serde_json::Value;

use crate::{
    calls::{self, Body, Call, Product},
    config::{ConfigError, RegionConfig, Timing},
    effect::Effect,
    fault::{CallFault, Fault},
    gate::Gate,
    group::SecurityGroup,
    journal::{CallRecord, Journal},
    metadata::{self, MetadataRequest, MetadataResponse},
    params::Params,
    refusal::{Outcome, Refusal},
    render,
    request::{ApiRequest, ApiResponse, Delivery},
    sign::Claim,
    snapshot::{self, RegionSnapshot},
    tokens::Tokens,
    world::World,
};

/// The region. See the crate's documentation.
///
/// After every call of a `&mut self` method the caller drains [`Region::poll_effect`] and looks at
/// [`Region::deadline`] again.
#[derive(Debug, Clone)]
pub struct Region {
    pub(crate) world: World,
    gate: Gate,
    tokens: Tokens,
    journal: Journal,
    sessions: metadata::Sessions,
}

impl Region {
    /// A region without instances.
    ///
    /// # Errors
    /// When the configuration describes no region; see [`RegionConfig::check`].
    pub fn new(config: RegionConfig) -> Result<Self, ConfigError> {
        config.check()?;
        Ok(Self {
            gate: Gate::new(&config.keys),
            world: World::new(config),
            tokens: Tokens::default(),
            journal: Journal::default(),
            sessions: metadata::Sessions::default(),
        })
    }

    /// The configuration in force.
    pub fn config(&self) -> &RegionConfig {
        &self.world.config
    }

    /// The security groups as they are.
    pub fn security_groups(&self) -> impl Iterator<Item = &SecurityGroup> {
        self.world.groups.values()
    }

    /// Changes how long things take from now on; what is under way keeps its time.
    pub fn set_timing(&mut self, timing: Timing) {
        self.world
            .history
            .reach(timing.describe_lag.max(timing.metadata_lag));
        self.world.config.timing = timing;
    }

    /// Makes the region misbehave.
    pub fn inject(&mut self, fault: Fault) {
        self.world.faults.add(fault);
    }

    /// Ends all misbehaviour.
    pub fn clear_faults(&mut self) {
        self.world.faults.clear();
    }

    /// When [`Region::advance`] has something to do, if anything is under way.
    pub fn deadline(&self) -> Option<Timestamp> {
        self.world.deadline()
    }

    /// Carries out what is due by `now`.
    pub fn advance(&mut self, now: Timestamp) {
        self.world.advance(now);
    }

    /// The next effect, oldest first. None is ever dropped, so somebody has to take them.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.world.effects.pop_front()
    }

    /// The last calls, oldest first.
    pub fn calls(&self) -> impl DoubleEndedIterator<Item = &CallRecord> + ExactSizeIterator {
        self.journal.iter()
    }

    /// Everything in the region as it is.
    pub fn snapshot(&self) -> RegionSnapshot {
        snapshot::of(&self.world)
    }

    /// Serves one call of the OpenAPI gateway.
    pub fn handle(&mut self, now: Timestamp, request: &ApiRequest) -> ApiResponse {
        self.advance(now);
        let params = Params::of(request);
        let named = |name: &str, header: &str| {
            let header = request.headers.get(header).map(String::as_str);
            params.text(name).or(header).unwrap_or_default().to_owned()
        };
        let (action, version) = (
            named("Action", "x-acs-action"),
            named("Version", "x-acs-version"),
        );
        let request_id = self.world.dice.request_id();
        let mut fault = None;
        let outcome = self.serve(now, request, &params, (&version, &action), &mut fault);
        let product = Product::ALL
            .into_iter()
            .find(|product| product.version() == version);
        let product = product.unwrap_or(Product::Ecs);

        let (status, code, body) = match outcome {
            Ok(mut body) => {
                body.insert("RequestId".into(), request_id.clone().into());
                (200, None, Value::Object(body))
            }
            Err(refusal) => {
                let host = format!(
                    "{}.{}.aliyuncs.com",
                    product.word(),
                    self.world.config.region
                );
                let body = render::refusal(&refusal, &request_id, &host, product.title());
                (refusal.status, Some(refusal.code.to_owned()), body)
            }
        };
        let mut body = body.to_string();
        if fault == Some(CallFault::CutAnswer) {
            body.truncate(middle(&body));
        }
        let lost = fault == Some(CallFault::LoseAnswer);
        let latency = self.world.config.timing.answer;
        let caller = claimed_key(request, &params);
        let delivered = !lost && fault != Some(CallFault::CutAnswer);
        self.journal.note(CallRecord {
            time: now,
            action,
            caller,
            request_id,
            status,
            code,
            latency,
            delivered,
        });
        let delivery = if lost { Delivery::Lost } else { Delivery::Sent };
        ApiResponse {
            status,
            body,
            delivery,
            latency,
        }
    }

    fn serve(
        &mut self,
        now: Timestamp,
        request: &ApiRequest,
        params: &Params,
        (version, action): (&str, &str),
        fault: &mut Option<CallFault>,
    ) -> Outcome<Body> {
        if action.is_empty() {
            return Err(Refusal::missing("Action"));
        }
        if version.is_empty() {
            return Err(Refusal::missing("Version"));
        }
        let call = calls::find(version, action)?;
        let claim = Claim::read(request, params)?;
        let caller = self.gate.admit(now, &claim)?;
        // Without Format=JSON the gateway answers version 1 callers in XML, which nobody here reads.
        let json = params.text("Format").map(str::to_ascii_uppercase);
        if claim.asks_by_parameter() && json.as_deref() != Some("JSON") {
            return Err(Refusal::invalid(
                "Format",
                "JSON, the only format this region answers in",
            ));
        }
        if !caller
            .grant
            .allows(&format!("{}:{action}", call.product.word()))
        {
            return Err(Refusal::not_granted());
        }
        // Only calls that were let in use a fault up.
        *fault = self.world.faults.take(action);
        match fault {
            Some(CallFault::Throttle) => return Err(Refusal::throttled()),
            Some(CallFault::ServerError) => return Err(Refusal::internal()),
            Some(CallFault::EmptyList) => {
                if let Some(empty) = call.lists {
                    return Ok(empty());
                }
            }
            _ => {}
        }
        let body = self.once(now, call, params)?;
        match fault {
            Some(CallFault::ServerErrorAfter) => Err(Refusal::internal()),
            _ => Ok(body),
        }
    }

    /// Serves a call, or repeats the answer when its ClientToken was used for the same call before.
    fn once(&mut self, now: Timestamp, call: &Call, params: &Params) -> Outcome<Body> {
        let Some(token) = params.client_token()? else {
            return (call.serve)(&mut self.world, now, params);
        };
        let substance = params.substance();
        if let Some(body) = self.tokens.recall(now, call.action, token, &substance)? {
            return Ok(body);
        }
        let body = (call.serve)(&mut self.world, now, params)?;
        self.tokens
            .remember(now, call.action, token, substance, body.clone());
        Ok(body)
    }

    /// Makes a call as the account's owner, past the gateway: no signature, no grant, no fault, no journal.
    ///
    /// # Errors
    /// Code and message of the refusal.
    pub fn ask(
        &mut self,
        now: Timestamp,
        action: &str,
        params: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Value, String> {
        self.advance(now);
        let region = ("RegionId".to_owned(), self.world.config.region.to_string());
        let params: Params = std::iter::once(region).chain(params).collect();
        let mut products = Product::ALL.into_iter();
        let found = products.find_map(|product| calls::find(product.version(), action).ok());
        let call = found.ok_or_else(|| format!("the region knows no call {action:?}"))?;
        (call.serve)(&mut self.world, now, &params)
            .map(Value::Object)
            .map_err(|refusal| format!("{}: {}", refusal.code, refusal.message))
    }

    /// Answers the instance metadata service as `caller` sees it.
    pub fn metadata(
        &mut self,
        now: Timestamp,
        caller: &InstanceId,
        request: &MetadataRequest,
    ) -> MetadataResponse {
        self.advance(now);
        metadata::serve(
            &mut self.world,
            &mut self.gate,
            &mut self.sessions,
            now,
            caller,
            request,
        )
    }
}

/// A place near the middle of `text` where it can be cut.
fn middle(text: &str) -> usize {
    let half = text.len() / 2;
    (half..text.len())
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(half)
}

/// The key a call names, believed or not.
fn claimed_key(request: &ApiRequest, params: &Params) -> String {
    let claim = Claim::read(request, params).map(|claim| claim.key_id);
    claim.unwrap_or_default()
}
