//! What is counted and measured, as Prometheus reads it. The catalogue is docs/metrics.md; names of the
//! Go project are kept where the meaning is the same, so that dashboards go on working.

use std::{fmt::Write, time::Duration};

use datapath::TrunkCounters;
use engine::node::View;
use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::Registry,
};

use crate::observe::Observation;

/// Labels by name; every value is of a small closed set, an ENI of the node, or a code of the cloud.
type Labels = Vec<(&'static str, String)>;
type Histograms = Family<Labels, Histogram, fn() -> Histogram>;

/// Milliseconds. The buckets of `terway_rpc_latency` are those dashboards know, and finer ones below,
/// where an ADD from the pool is.
const RPC_MS: [f64; 16] = [
    1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 400.0, 800.0, 1600.0, 3200.0, 6400.0, 12800.0,
    25600.0, 89600.0,
];
/// The same for what the runtime waits: half a second and more is what an agent that is away costs.
const WAIT_MS: [f64; 11] = [
    10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 15000.0, 60000.0,
];
const CLOUD_MS: [f64; 12] = [
    50.0, 100.0, 200.0, 400.0, 800.0, 1600.0, 3200.0, 6400.0, 12800.0, 16800.0, 28800.0, 44800.0,
];
const LOCAL_MS: [f64; 10] = [0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 50.0, 200.0, 1000.0, 10000.0];

/// Everything the agent tells Prometheus.
pub(crate) struct Metrics {
    registry: Registry,
    rpc: Histograms,
    wait: Histograms,
    cloud: Histograms,
    cloud_errors: Family<Labels, Counter>,
    metadata: Histograms,
    ledger: Histogram,
    pool: Pool,
    notices: Family<Labels, Gauge>,
    config_error: Gauge,
}

/// Gauges of the pool, set anew at every scrape.
#[derive(Default)]
struct Pool {
    total: Family<Labels, Gauge>,
    idle: Family<Labels, Gauge>,
    allocated: Family<Labels, Gauge>,
    resting: Family<Labels, Gauge>,
    waiting: Gauge,
    disposed: Family<Labels, Gauge>,
    enis: Family<Labels, Gauge>,
    addresses: Family<Labels, Gauge>,
    exhausted: Family<Labels, Gauge>,
    trunk_pods: Gauge,
    trunk_waiting: Gauge,
    frames: Family<Labels, Gauge>,
}

/// What a node may have: labels of the Go project's gauges.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Limits {
    pub(crate) enis_max: u32,
    pub(crate) addresses_per_eni: u32,
}

impl Metrics {
    /// Everything registered, nothing counted.
    pub(crate) fn new(started: u64) -> Self {
        let mut registry = Registry::default();
        let rpc = histograms(
            &mut registry,
            "terway_rpc_latency",
            "Requests of the plugin, in milliseconds",
            || Histogram::new(RPC_MS),
        );
        let wait = histograms(
            &mut registry,
            "terway_plugin_latency",
            "The plugin from its start to the answer, in milliseconds",
            || Histogram::new(WAIT_MS),
        );
        let cloud = histograms(
            &mut registry,
            "aliyun_openapi_latency",
            "Calls to the cloud, in milliseconds",
            || Histogram::new(CLOUD_MS),
        );
        let metadata = histograms(
            &mut registry,
            "aliyun_metadata_latency",
            "Readings of the instance metadata, in milliseconds",
            || Histogram::new(LOCAL_MS),
        );
        let ledger = Histogram::new(LOCAL_MS);
        registry.register(
            "terway_ledger_write_latency",
            "Writes of the ledger with their sync, in milliseconds",
            ledger.clone(),
        );
        let cloud_errors = Family::default();
        registry.register(
            "terway_cloud_errors",
            "Calls the cloud refused or did not answer",
            cloud_errors.clone(),
        );
        let notices = Family::default();
        registry.register(
            "terway_notices",
            "What people were told, by reason (docs/events.md)",
            notices.clone(),
        );
        let config_error = Gauge::default();
        registry.register(
            "terway_config_error",
            "1 while eni_conf cannot be used and an earlier one is",
            config_error.clone(),
        );
        let start: Gauge = Gauge::default();
        start.set(i64::try_from(started).unwrap_or_default());
        registry.register(
            "terway_agent_started_seconds",
            "When the agent started, in seconds since the Unix epoch",
            start,
        );
        let build = Info::new([("version", crate::VERSION)]);
        registry.register("terway_build", "The agent's release", build);
        let pool = Pool::register(&mut registry);
        Self {
            registry,
            rpc,
            wait,
            cloud,
            cloud_errors,
            metadata,
            ledger,
            pool,
            notices,
            config_error,
        }
    }

    /// A request of the plugin was answered.
    pub(crate) fn rpc(&self, verb: &'static str, took: Duration, failed: bool) {
        let labels = vec![("rpc_api", verb.to_owned()), ("error", failed.to_string())];
        self.rpc.get_or_create(&labels).observe(ms(took));
    }

    /// The same, from when the plugin started.
    pub(crate) fn waited(&self, verb: &'static str, took: Duration, failed: bool) {
        let labels = vec![("rpc_api", verb.to_owned()), ("error", failed.to_string())];
        self.wait.get_or_create(&labels).observe(ms(took));
    }

    /// A call to the cloud ended; `error` is the cloud's code, or a word when there is none.
    pub(crate) fn cloud(&self, api: &str, took: Duration, error: Option<&str>) {
        let failed = error.is_some().to_string();
        let labels = vec![("api", api.to_owned()), ("error", failed)];
        self.cloud.get_or_create(&labels).observe(ms(took));
        if let Some(code) = error {
            let labels = vec![("api", api.to_owned()), ("code", code.to_owned())];
            self.cloud_errors.get_or_create(&labels).inc();
        }
    }

    /// The instance metadata was read.
    pub(crate) fn metadata(&self, url: &str, took: Duration, failed: bool) {
        let labels = vec![("url", url.to_owned()), ("error", failed.to_string())];
        self.metadata.get_or_create(&labels).observe(ms(took));
    }

    /// A batch of changes was written.
    pub(crate) fn ledger_write(&self, took: Duration) {
        self.ledger.observe(ms(took));
    }

    /// The whole text. Without an observation the pool's gauges are left out, because what was true
    /// once is worse than nothing.
    pub(crate) fn text(&self, seen: Option<&Observation>, config_error: bool) -> String {
        self.config_error.set(config_error.into());
        self.pool.clear();
        if let Some(seen) = seen {
            self.pool.set(&seen.view, seen.limits);
            self.pool.set_frames(seen.frames);
            for (reason, count) in &seen.notices {
                let gauge = self
                    .notices
                    .get_or_create(&vec![("reason", (*reason).to_owned())]);
                gauge.set(i64::try_from(*count).unwrap_or(i64::MAX));
            }
            let released = seen.notices.get("Released").copied().unwrap_or_default();
            let disposed = self.pool.disposed.get_or_create(&kind());
            disposed.set(i64::try_from(released).unwrap_or(i64::MAX));
        }
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            // Writing into a String cannot fail; this is what is left if an encoder ever does.
            text.clear();
            let _ = writeln!(text, "# EOF");
        }
        text
    }
}

impl Pool {
    fn register(registry: &mut Registry) -> Self {
        let pool = Self::default();
        let families = [
            (
                "terway_resource_pool_total_count",
                "Addresses the node holds",
                &pool.total,
            ),
            (
                "terway_resource_pool_idle_count",
                "Addresses ready for the next pod",
                &pool.idle,
            ),
            (
                "terway_resource_pool_allocated_count",
                "Addresses held by pods",
                &pool.allocated,
            ),
            (
                "terway_resource_pool_resting_count",
                "Released addresses that rest before they are used again",
                &pool.resting,
            ),
            (
                "terway_resource_pool_disposed_count",
                "Addresses that came back from pods since the agent started",
                &pool.disposed,
            ),
            (
                "terway_eniip_factory_eni_count",
                "ENIs that serve pods",
                &pool.enis,
            ),
            (
                "terway_eniip_factory_ip_count",
                "Addresses on each ENI",
                &pool.addresses,
            ),
        ];
        for (name, help, family) in families {
            registry.register(name, help, family.clone());
        }
        registry.register(
            "terway_resource_pool_waiting_count",
            "Pods that wait for an address",
            pool.waiting.clone(),
        );
        registry.register(
            "terway_trunk_pods",
            "Trunk pods the node carries",
            pool.trunk_pods.clone(),
        );
        registry.register(
            "terway_trunk_waiting_count",
            "Trunk pods that wait for their PodENI",
            pool.trunk_waiting.clone(),
        );
        registry.register(
            "terway_trunk_frames",
            "Frames at the trunk ENI, by what became of them",
            pool.frames.clone(),
        );
        registry.register(
            "terway_pool_exhausted",
            "1 while the pool cannot grow and does not try",
            pool.exhausted.clone(),
        );
        pool
    }

    fn clear(&self) {
        for family in [
            &self.total,
            &self.idle,
            &self.allocated,
            &self.resting,
            &self.enis,
            &self.addresses,
            &self.exhausted,
            &self.frames,
        ] {
            family.clear();
        }
    }

    fn set_frames(&self, frames: Option<TrunkCounters>) {
        let Some(frames) = frames else {
            return;
        };
        for (what, count) in [
            ("tagged", frames.tagged),
            ("untagged", frames.untagged),
            ("foreign_source", frames.foreign_source),
            ("wrong_vlan", frames.wrong_vlan),
            ("bare", frames.bare),
            ("refused", frames.refused),
        ] {
            let gauge = self.frames.get_or_create(&vec![("what", what.to_owned())]);
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    fn set(&self, view: &View, limits: Limits) {
        let total: usize = view.enis.iter().map(|eni| eni.addresses.len()).sum();
        let whole = |family: &Family<Labels, Gauge>, value: i64| {
            family.get_or_create(&of_pool()).set(value);
        };
        whole(&self.total, i64::try_from(total).unwrap_or(i64::MAX));
        whole(&self.idle, view.idle.into());
        whole(&self.resting, view.resting.into());
        self.allocated
            .get_or_create(&kind())
            .set(view.assigned.into());
        self.waiting.set(view.waiting.into());
        let carried: usize = view.enis.iter().map(|eni| eni.members.len()).sum();
        self.trunk_pods
            .set(i64::try_from(carried).unwrap_or(i64::MAX));
        self.trunk_waiting.set(view.trunk_waiting.into());
        if let Some(exhausted) = &view.exhausted {
            let kind = vec![("kind", exhausted.kind.name().to_owned())];
            self.exhausted.get_or_create(&kind).set(1);
        }
        let enis = vec![
            ("name", "eniip".to_owned()),
            ("max_eni", limits.enis_max.to_string()),
        ];
        let count = i64::try_from(view.enis.len()).unwrap_or(i64::MAX);
        self.enis.get_or_create(&enis).set(count);
        for eni in &view.enis {
            let labels = vec![
                ("name", "eniip".to_owned()),
                ("eni", eni.id.to_string()),
                ("max_ip", limits.addresses_per_eni.to_string()),
            ];
            let count = i64::try_from(eni.addresses.len()).unwrap_or(i64::MAX);
            self.addresses.get_or_create(&labels).set(count);
        }
    }
}

fn kind() -> Labels {
    vec![("type", "LocalIP".to_owned())]
}

fn of_pool() -> Labels {
    vec![
        ("type", "LocalIP".to_owned()),
        ("ipStack", "ipv4".to_owned()),
    ]
}

fn histograms(
    registry: &mut Registry,
    name: &str,
    help: &str,
    each: fn() -> Histogram,
) -> Histograms {
    let family = Histograms::new_with_constructor(each);
    registry.register(name, help, family.clone());
    family
}

fn ms(took: Duration) -> f64 {
    took.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(waiting: u32) -> Observation {
        let view = serde_json::json!({
            "enis": [{ "id": "eni-1", "mac": "00:16:3e:00:00:01", "vswitch": "vsw-1", "stage": "Attached",
                "usable": true, "link": "eth1", "addresses": { "10.1.0.5": "idle", "10.1.0.6": "default/a" },
                "members": { "10.2.0.7": "default/b (VLAN 5)" } }],
            "idle": 1, "assigned": 1, "resting": 0, "waiting": waiting, "waiting_for": null, "open_calls": 0,
        });
        Observation {
            view: serde_json::from_value(view).unwrap(),
            limits: Limits {
                enis_max: 7,
                addresses_per_eni: 10,
            },
            cloud_failure: None,
            notices: [("Released", 3), ("Defect", 0)].into(),
            frames: Some(TrunkCounters {
                wrong_vlan: 4,
                ..Default::default()
            }),
        }
    }

    #[test]
    fn what_is_seen_is_told_under_the_catalogues_names() {
        let metrics = Metrics::new(1_700_000_000);
        metrics.rpc("add", Duration::from_millis(3), false);
        metrics.waited("add", Duration::from_secs(3), false);
        metrics.cloud(
            "CreateNetworkInterface",
            Duration::from_secs(1),
            Some("Throttling"),
        );
        metrics.metadata("network/interfaces", Duration::from_millis(1), false);
        metrics.ledger_write(Duration::from_millis(1));
        let text = metrics.text(Some(&seen(2)), true);
        for line in [
            "terway_resource_pool_total_count{type=\"LocalIP\",ipStack=\"ipv4\"} 2",
            "terway_resource_pool_allocated_count{type=\"LocalIP\"} 1",
            "terway_resource_pool_waiting_count 2",
            "terway_trunk_pods 1",
            "terway_trunk_frames{what=\"wrong_vlan\"} 4",
            "terway_resource_pool_disposed_count{type=\"LocalIP\"} 3",
            "terway_eniip_factory_eni_count{name=\"eniip\",max_eni=\"7\"} 1",
            "terway_eniip_factory_ip_count{name=\"eniip\",eni=\"eni-1\",max_ip=\"10\"} 2",
            "terway_cloud_errors_total{api=\"CreateNetworkInterface\",code=\"Throttling\"} 1",
            "terway_rpc_latency_count{rpc_api=\"add\",error=\"false\"} 1",
            "terway_plugin_latency_bucket{le=\"2000.0\",rpc_api=\"add\",error=\"false\"} 0",
            "terway_plugin_latency_bucket{le=\"5000.0\",rpc_api=\"add\",error=\"false\"} 1",
            "terway_config_error 1",
        ] {
            assert!(
                text.contains(&format!("{line}\n")),
                "{line} is not in\n{text}"
            );
        }
        let catalogue = include_str!("../../../docs/metrics.md");
        let families = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        for family in families.filter_map(|line| line.split(' ').next()) {
            assert!(
                catalogue.contains(&format!("`{family}")),
                "{family} is not in docs/metrics.md"
            );
        }
    }

    #[test]
    fn an_old_observation_is_not_repeated() {
        let metrics = Metrics::new(0);
        metrics.text(Some(&seen(0)), false);
        let text = metrics.text(None, false);
        assert!(!text.contains("ipStack=\"ipv4\""), "{text}");
    }
}
