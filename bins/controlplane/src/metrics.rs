//! What is counted and measured, as Prometheus reads it. The catalogue is docs/metrics.md.

use std::{collections::BTreeMap, sync::atomic::AtomicU64, time::Duration};

use engine::cluster::View;
use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

/// Labels by name; every value is of a small closed set or a code of the cloud.
type Labels = Vec<(&'static str, String)>;
type Count = Gauge<u64, AtomicU64>;

/// Milliseconds: the buckets dashboards know.
const CLOUD_MS: [f64; 12] = [
    50.0, 100.0, 200.0, 400.0, 800.0, 1600.0, 3200.0, 6400.0, 12800.0, 16800.0, 28800.0, 44800.0,
];

/// Everything the control plane tells Prometheus.
pub(crate) struct Metrics {
    registry: Registry,
    cloud: Family<Labels, Histogram, fn() -> Histogram>,
    cloud_errors: Family<Labels, Counter>,
    leads: Gauge,
    degraded: Family<Labels, Gauge>,
    records: Family<Labels, Count>,
    held_back: Family<Labels, Count>,
    notices: Family<Labels, Count>,
    waiting: Count,
    under_way: Family<Labels, Count>,
    vswitches_full: Count,
    orphans: Count,
    warm: Family<Labels, Count>,
    warm_uses: Family<Labels, Count>,
    route_nodes: Family<Labels, Count>,
    routes_astray: Count,
}

impl Metrics {
    /// Everything registered, nothing counted.
    pub(crate) fn new() -> Self {
        let latency: fn() -> Histogram = || Histogram::new(CLOUD_MS);
        let mut all = Self {
            registry: Registry::default(),
            cloud: Family::new_with_constructor(latency),
            cloud_errors: Family::default(),
            leads: Gauge::default(),
            degraded: Family::default(),
            records: Family::default(),
            held_back: Family::default(),
            notices: Family::default(),
            waiting: Count::default(),
            under_way: Family::default(),
            vswitches_full: Count::default(),
            orphans: Count::default(),
            warm: Family::default(),
            warm_uses: Family::default(),
            route_nodes: Family::default(),
            routes_astray: Count::default(),
        };
        let registry = &mut all.registry;
        registry.register(
            "aliyun_openapi_latency",
            "Calls to the cloud, in milliseconds",
            all.cloud.clone(),
        );
        registry.register(
            "terway_cloud_errors",
            "Calls the cloud refused or did not answer",
            all.cloud_errors.clone(),
        );
        registry.register(
            "terway_controlplane_leads",
            "1 on the replica that leads",
            all.leads.clone(),
        );
        registry.register(
            "terway_controlplane_degraded",
            "1 at the level at which calls are held back",
            all.degraded.clone(),
        );
        registry.register(
            "terway_controlplane_podenis",
            "PodENIs by phase",
            all.records.clone(),
        );
        registry.register(
            "terway_controlplane_waiting",
            "Pods and PodENIs about which something is being waited for",
            all.waiting.clone(),
        );
        registry.register(
            "terway_controlplane_held_back",
            "Pods whose next call waits for the budget of its API",
            all.held_back.clone(),
        );
        registry.register(
            "terway_controlplane_under_way",
            "Calls of the cloud and writes of PodENIs under way",
            all.under_way.clone(),
        );
        registry.register(
            "terway_controlplane_vswitches_full",
            "vSwitches without a free address",
            all.vswitches_full.clone(),
        );
        registry.register(
            "terway_controlplane_leaked_enis",
            "ENIs of this cluster that nothing refers to",
            all.orphans.clone(),
        );
        registry.register(
            "terway_controlplane_warm_enis",
            "ENIs kept ready for pods, by how far they are",
            all.warm.clone(),
        );
        registry.register(
            "terway_controlplane_warm_uses",
            "Pods' interfaces that drew on them or found none; ENIs kept when their pod went, and given back",
            all.warm_uses.clone(),
        );
        registry.register(
            "terway_controlplane_route_nodes",
            "Nodes by how it stands about their entry of the VPC's route table",
            all.route_nodes.clone(),
        );
        registry.register(
            "terway_controlplane_routes_astray",
            "Route entries of ours that no node needs",
            all.routes_astray.clone(),
        );
        registry.register(
            "terway_notices",
            "What people were told, by reason (docs/events.md)",
            all.notices.clone(),
        );
        all
    }

    /// A call of the cloud ended, with the code of its refusal if it was refused.
    pub(crate) fn cloud(&self, api: &str, took: Duration, code: Option<&str>) {
        let error = code.is_some().to_string();
        let labels = vec![("api", api.to_owned()), ("error", error)];
        let ms = took.as_secs_f64() * 1000.0;
        self.cloud.get_or_create(&labels).observe(ms);
        if let Some(code) = code {
            let labels = vec![("api", api.to_owned()), ("code", code.to_owned())];
            self.cloud_errors.get_or_create(&labels).inc();
        }
    }

    /// This replica leads, or does not.
    pub(crate) fn leads(&self, leads: bool) {
        self.leads.set(i64::from(leads));
    }

    /// Calls are held back at this level, if at any.
    pub(crate) fn degraded(&self, level: Option<&'static str>) {
        self.degraded.clear();
        if let Some(level) = level {
            self.degraded
                .get_or_create(&vec![("level", level.into())])
                .set(1);
        }
    }

    /// What the route machine sees now.
    pub(crate) fn routes(&self, view: &engine::route::View) {
        self.route_nodes.clear();
        for (state, count) in &view.nodes {
            let labels = vec![("state", (*state).to_owned())];
            self.route_nodes.get_or_create(&labels).set(*count);
        }
        self.routes_astray.set(view.astray);
    }

    /// All of it as text, with what the machine sees now.
    pub(crate) fn text(&self, view: &View, notices: &BTreeMap<&'static str, u64>) -> String {
        let fill = |family: &Family<Labels, Count>, label, counts: &BTreeMap<&'static str, u64>| {
            family.clear();
            for (name, count) in counts {
                let labels = vec![(label, (*name).to_owned())];
                family.get_or_create(&labels).set(*count);
            }
        };
        fill(&self.records, "phase", &view.phases);
        fill(&self.held_back, "api", &view.held_back);
        fill(&self.notices, "reason", notices);
        let under_way = [("calls", view.calls), ("writes", view.writes)];
        fill(&self.under_way, "what", &under_way.into());
        fill(&self.warm, "state", &view.spares);
        let spent = [
            ("drawn", view.spent.drawn),
            ("missed", view.spent.missed),
            ("kept", view.spent.kept),
            ("returned", view.spent.returned),
        ];
        fill(&self.warm_uses, "what", &spent.into());
        self.waiting.set(view.waiting);
        self.vswitches_full.set(view.vswitches_full);
        self.orphans.set(view.orphans);
        let mut text = String::new();
        // Writing into a text cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
