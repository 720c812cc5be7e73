//! A caller of the region that signs from the cloud's description, for tests without a socket.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test binary uses its own part"
)]

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use cloudsim::{
    ApiRequest, ApiResponse, Delivery, Instance, InstanceSpec, Region, RegionConfig, RunError,
};
use hmac::{Hmac, KeyInit, Mac as _};
use model::Timestamp;
use serde_json::Value;
use sha1::Sha1;

pub const ECS: &str = "2014-05-26";
pub const VPC: &str = "2016-04-28";
/// 2026-11-22T22:06:00Z: where the clock of these tests starts.
pub const START: u64 = 1_795_385_160;

/// A region and one caller of it.
pub struct Lab {
    pub region: Region,
    pub now: Timestamp,
    pub key: String,
    pub secret: String,
    pub token: Option<String>,
    calls: u64,
}

impl Lab {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    pub fn with(adapt: impl FnOnce(&mut RegionConfig)) -> Self {
        let mut config = RegionConfig::lab(1);
        adapt(&mut config);
        Self {
            region: Region::new(config).unwrap(),
            now: Timestamp::from_nanos(START * 1_000_000_000),
            key: "LTAI5tLabKey".into(),
            secret: "lab-secret".into(),
            token: None,
            calls: 0,
        }
    }

    pub fn pass(&mut self, seconds: u64) {
        self.now = self.now.after(Duration::from_secs(seconds));
        self.region.advance(self.now);
    }

    pub fn run(&mut self, instance_type: &str, vswitch: &str) -> Result<Instance, RunError> {
        let spec = InstanceSpec {
            id: None,
            name: "node".into(),
            instance_type: instance_type.into(),
            vswitch: model::VSwitchId::new(vswitch).unwrap(),
            security_groups: self.region.config().security_groups.clone(),
            ram_role: Some("terway-node".into()),
        };
        self.region.run_instance(self.now, spec)
    }

    pub fn instance(&mut self, instance_type: &str, vswitch: &str) -> Instance {
        self.run(instance_type, vswitch).unwrap()
    }

    /// The parameters of a call as a client signs them, before the signature.
    pub fn parameters(
        &mut self,
        version: &str,
        action: &str,
        params: &[(&str, &str)],
    ) -> Vec<(String, String)> {
        self.calls += 1;
        let (nonce, time) = (format!("nonce-{}", self.calls), iso(self.now));
        let common = [
            ("AccessKeyId", self.key.as_str()),
            ("Action", action),
            ("Format", "JSON"),
            ("RegionId", "cn-hangzhou"),
            ("SignatureMethod", "HMAC-SHA1"),
            ("SignatureNonce", &nonce),
            ("SignatureVersion", "1.0"),
            ("Timestamp", &time),
            ("Version", version),
        ];
        let token = self.token.as_deref().map(|token| ("SecurityToken", token));
        // A test may override a common parameter: the last one given wins.
        let all = common
            .into_iter()
            .chain(token)
            .chain(params.iter().copied());
        let all: BTreeMap<&str, &str> = all.collect();
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        all.into_iter().map(owned).collect()
    }

    pub fn request(&mut self, version: &str, action: &str, params: &[(&str, &str)]) -> ApiRequest {
        let parameters = self.parameters(version, action, params);
        sign("GET", &parameters, &self.secret)
    }

    pub fn answer(&mut self, version: &str, action: &str, params: &[(&str, &str)]) -> ApiResponse {
        let request = self.request(version, action, params);
        self.region.handle(self.now, &request)
    }

    /// The JSON of a call that is carried out.
    pub fn ok(&mut self, action: &str, params: &[(&str, &str)]) -> Value {
        let version = if action.contains("VSwitch") { VPC } else { ECS };
        let answer = self.answer(version, action, params);
        assert_eq!(
            (answer.status, answer.delivery),
            (200, Delivery::Sent),
            "{action}: {}",
            answer.body
        );
        serde_json::from_str(&answer.body).unwrap()
    }

    /// Status and code of a call that is refused.
    pub fn refused(&mut self, action: &str, params: &[(&str, &str)]) -> (u16, String) {
        let version = if action.contains("VSwitch") { VPC } else { ECS };
        let answer = self.answer(version, action, params);
        refusal(&answer)
    }

    pub fn create(&mut self, params: &[(&str, &str)]) -> String {
        let mut all = vec![
            ("VSwitchId", "vsw-bp1labh"),
            ("SecurityGroupId", "sg-bp1lab"),
        ];
        all.retain(|(name, _)| !params.iter().any(|(given, _)| given == name));
        all.extend(params);
        text(&self.ok("CreateNetworkInterface", &all)["NetworkInterfaceId"])
    }

    pub fn describe(&mut self, params: &[(&str, &str)]) -> Vec<Value> {
        let mut all = vec![("MaxResults", "500")];
        all.extend(params);
        let body = self.ok("DescribeNetworkInterfaces", &all);
        body["NetworkInterfaceSets"]["NetworkInterfaceSet"]
            .as_array()
            .unwrap()
            .clone()
    }

    pub fn status(&mut self, eni: &str) -> String {
        self.describe(&[("NetworkInterfaceId.1", eni)])
            .first()
            .map_or_else(|| "absent".into(), |eni| text(&eni["Status"]))
    }
}

pub fn refusal(answer: &ApiResponse) -> (u16, String) {
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    for member in ["RequestId", "HostId", "Code", "Message", "Recommend"] {
        assert!(
            body[member].is_string(),
            "an error document names its {member}: {body}"
        );
    }
    (answer.status, text(&body["Code"]))
}

pub fn code(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

pub fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("expected a string, got {value}"))
        .to_owned()
}

pub fn sign(method: &str, parameters: &[(String, String)], secret: &str) -> ApiRequest {
    let pairs: Vec<String> = parameters
        .iter()
        .map(|(k, v)| format!("{}={}", encode(k), encode(v)))
        .collect();
    let canonical = pairs.join("&");
    let mut mac = Hmac::<Sha1>::new_from_slice(format!("{secret}&").as_bytes()).unwrap();
    mac.update(format!("{method}&%2F&{}", encode(&canonical)).as_bytes());
    let signature = encode(&BASE64.encode(mac.finalize().into_bytes()));
    ApiRequest {
        method: method.into(),
        query: format!("{canonical}&Signature={signature}"),
        ..ApiRequest::default()
    }
}

pub fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

/// Days since START's day are enough for these tests: none runs longer than a few days.
pub fn iso(time: Timestamp) -> String {
    let seconds = time.as_nanos() / 1_000_000_000 - (START - 79_560);
    let (day, rest) = (22 + seconds / 86_400, seconds % 86_400);
    format!(
        "2026-11-{day:02}T{:02}:{:02}:{:02}Z",
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}
