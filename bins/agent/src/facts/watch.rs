//! Follows what the node machine was told of its node: `eni_conf`, the node's own part of it, the node's facts
//! and its podCIDR. What changed goes to the driver.

use std::{
    path::PathBuf,
    pin::pin,
    sync::{Arc, mpsc::SyncSender},
    time::Duration,
};

use engine::node::{Config, Policy};
use tokio::time::Instant;

use super::{Asker, Known, config, discover, own, tell_forbidden_trunk, tell_moved};
use crate::{
    cause::chain,
    config::{Fixed, Settings, SettingsError},
    driver::Message,
    dynamic::{self, Own},
    health::Health,
    mode::Mode,
    notices::Notices,
    pods::Pods,
};

/// How often the file is looked at. kubelet brings a changed ConfigMap within a minute or so.
const WATCH_PERIOD: Duration = Duration::from_secs(10);

/// What the watch of the configuration needs.
pub(crate) struct Watch {
    pub(crate) path: PathBuf,
    pub(crate) asker: Asker,
    pub(crate) driver: SyncSender<Message>,
    pub(crate) health: Arc<Health>,
    pub(crate) notices: Notices,
    pub(crate) pods: Arc<Pods>,
}

/// What the process runs with.
pub(crate) struct Running {
    pub(crate) config: Config,
    pub(crate) known: Known,
    /// What was taken up at the start; nothing when there was no `eni_conf`.
    pub(crate) fixed: Option<Fixed>,
    pub(crate) own: Own,
}

impl Watch {
    /// Tells the driver the configuration whenever it differs from what runs: when the file changes, when the
    /// node's own configuration or its podCIDR does, and after the node's facts were asked for anew, however
    /// long the cloud or a permission lets that wait. One that makes no sense changes nothing and is complained
    /// about once.
    pub(crate) async fn run(self, mut running: Running) {
        let first = Settings::load(&self.path, running.own.overlay()).ok();
        let mut discovery = pin!(discover(first.as_ref(), &self.asker));
        let mut discovered = false;
        let (mut complaint, mut restart) = (String::new(), None);
        let mut looked = Instant::now();
        let mut block_due = looked;
        loop {
            if self.asker.mode == Mode::Vpc && block_due <= Instant::now() {
                block_due = Instant::now() + dynamic::PERIOD;
                self.read_block(&mut running).await;
            }
            let mut trouble = None;
            if running.own == Own::Unknown || looked.elapsed() >= dynamic::PERIOD {
                looked = Instant::now();
                match dynamic::overlay(&self.asker.kube, &self.asker.node).await {
                    Ok(overlay) => running.own = Own::Known(overlay),
                    Err(error) if error.is_standing() => {
                        running.own.refused(&error);
                        trouble = Some(chain(&error));
                    }
                    Err(error) => tracing::debug!(error = %chain(&error), "kept as it is"),
                }
            }
            if let Err(error) = self.apply(&mut running, &mut restart) {
                trouble = Some(chain(&error));
            }
            self.complain(trouble, &mut complaint, looked);
            tokio::select! {
                known = &mut discovery, if !discovered => {
                    discovered = true;
                    // Of the block, what was read here last is the newest.
                    let block = running.known.block.take().or(known.block);
                    running.known = Known { block, ..known };
                }
                () = tokio::time::sleep(WATCH_PERIOD) => {}
            }
        }
    }

    /// Reads the node's podCIDR again: a node that was registered anew, with its pods and this process running
    /// on, has got another. It is taken up whatever else is wrong, as others may be given the old one.
    async fn read_block(&self, running: &mut Running) {
        let asker = &self.asker;
        let primary = running.known.primary_mac;
        match own::block(&asker.kube, &asker.node, &asker.metadata, primary).await {
            Ok(block) => {
                tell_moved(running.known.block.as_ref(), &block, &self.notices);
                running.known.block = Some(block);
            }
            Err(error) => {
                tracing::warn!(error = %chain(&error), "going on with the podCIDR that is known");
            }
        }
        let policy = Policy {
            block: running.known.block.clone(),
            ..running.config.policy.clone()
        };
        let config = Config {
            policy,
            ..running.config.clone()
        };
        self.deliver(running, config);
    }

    fn deliver(&self, running: &mut Running, config: Config) {
        if running.config != config {
            let message = Message::Configured(Box::new(config.clone()), running.known.clone());
            // Refused only when the queue is full; then the next round says it.
            if self.driver.try_send(message).is_ok() {
                running.config = config;
            }
        }
    }

    /// Takes up the file as it is now. Without the node's own part what runs stays: the cluster's alone
    /// could move the node's pods to other vSwitches.
    fn apply(
        &self,
        running: &mut Running,
        restart: &mut Option<Fixed>,
    ) -> Result<(), SettingsError> {
        let Own::Known(overlay) = &running.own else {
            return Ok(());
        };
        let settings = Settings::load(&self.path, overlay.as_ref())?;
        self.pods.set_sticky_kinds(&settings.sticky_kinds);
        self.compare_fixed(&settings, running.fixed.as_ref(), restart);
        let mut config = config(&settings, &running.known);
        config
            .policy
            .ipvlan
            .clone_from(&running.config.policy.ipvlan);
        let ipvlan = config.policy.ipvlan.as_ref().is_some_and(|it| it.new_pods);
        if ipvlan && config.policy.services.is_empty() {
            return Err(SettingsError::ServicesGone);
        }
        if running.config != config {
            tell_forbidden_trunk(&settings, &self.notices);
        }
        self.deliver(running, config);
        Ok(())
    }

    fn complain(&self, trouble: Option<String>, complaint: &mut String, looked: Instant) {
        match trouble {
            Some(text) if text != *complaint => {
                self.notices
                    .config_error(&format!("{text}; the last good configuration stays"));
                self.health.set_config_error(Some(text.clone()));
                *complaint = text;
            }
            Some(_) => {}
            // Between two looks at the node's own configuration its trouble is not over.
            None if looked.elapsed() > WATCH_PERIOD => {}
            None => {
                complaint.clear();
                self.health.set_config_error(None);
            }
        }
    }

    /// Says once for each change what this process cannot take up.
    fn compare_fixed(&self, settings: &Settings, began: Option<&Fixed>, told: &mut Option<Fixed>) {
        let fixed = settings.fixed();
        if began.is_none_or(|began| *began == fixed) {
            *told = None;
        } else if told.as_ref() != Some(&fixed) {
            self.notices.restart_needed(
                "eni_conf keys access_key, access_secret, region_id or resource_group_id changed; \
                 they are read when the agent starts: delete its pod on this node to take them up",
            );
            *told = Some(fixed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        path::Path,
        sync::{Mutex, mpsc},
    };

    use axum::{Router, extract::Request};
    use cloud::Metadata;
    use engine::node::{IpvlanPolicy, PodBlock};
    use model::EniId;
    use serde_json::json;
    use tokio::net::TcpListener;

    use super::*;

    const MAC: &str = "00:16:3e:00:00:01";

    /// What the API server and the metadata service say of a node; of credentials they know nothing.
    fn answer(path: &str, cidr: &str) -> String {
        let leaf = path.rsplit('/').next().unwrap_or_default();
        match leaf {
            "n1" => json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "n1" },
                "spec": { "podCIDR": cidr } })
            .to_string(),
            "network-interface-id" => "eni-own".into(),
            "primary-ip-address" => "192.168.0.9".into(),
            "gateway" => "192.168.0.253".into(),
            "private-ipv4s" => r#"["192.168.0.9"]"#.into(),
            "ipv4-prefixes" => "[]".into(),
            "vswitch-id" => "vsw-1".into(),
            "vswitch-cidr-block" => "192.168.0.0/24".into(),
            "token" => "t".into(),
            "instance-id" => "i-1".into(),
            "region-id" => "cn-hangzhou".into(),
            "zone-id" => "cn-hangzhou-i".into(),
            "instance-type" => "ecs.g7.xlarge".into(),
            "mac" => MAC.into(),
            _ => "?".into(),
        }
    }

    async fn serve(cidr: Arc<Mutex<&'static str>>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let all = Router::new().fallback(move |request: Request| {
            let cidr = *cidr.lock().unwrap();
            let text = answer(request.uri().path(), cidr);
            async move { text }
        });
        tokio::spawn(async move { axum::serve(listener, all).await });
        base
    }

    fn block(cidr: &str) -> PodBlock {
        PodBlock {
            cidr: cidr.parse().unwrap(),
            eni: EniId::new("eni-own").unwrap(),
            vswitch: "vsw-1".to_owned().try_into().unwrap(),
        }
    }

    fn running(file: &Path, cidr: &str) -> Running {
        std::fs::write(
            file,
            r#"{"version":"1","security_group":"sg-1","cluster_cidr":"172.16.0.0/16"}"#,
        )
        .unwrap();
        let settings = Settings::load(file, None).unwrap();
        let known = Known {
            instance: "i-1".to_owned().try_into().unwrap(),
            region: "cn-hangzhou".to_owned().try_into().unwrap(),
            zone: "cn-hangzhou-i".to_owned().try_into().unwrap(),
            instance_type: "ecs.g7.xlarge".into(),
            primary_mac: MAC.parse().unwrap(),
            limits: super::super::NO_ENIS,
            block: Some(block(cidr)),
        };
        Running {
            config: config(&settings, &known),
            known,
            fixed: None,
            own: Own::Known(None),
        }
    }

    async fn watch(base: &str, path: PathBuf, driver: SyncSender<Message>) -> Watch {
        // Another test may have installed it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let kube = kube::Client::try_from(kube::Config::new(base.parse().unwrap())).unwrap();
        let notices = Notices::new(kube.clone(), "n1".into());
        let asker = Asker {
            mode: Mode::Vpc,
            kube: kube.clone(),
            node: "n1".into(),
            metadata: Arc::new(Metadata::new(base).unwrap()),
            notices: notices.clone(),
        };
        let handle = tokio::runtime::Handle::current();
        Watch {
            path,
            asker,
            driver,
            health: Arc::new(Health::new()),
            notices,
            pods: Arc::new(Pods::new(kube, handle, "n1".into())),
        }
    }

    fn told(message: Message) -> (String, String) {
        let Message::Configured(config, known) = message else {
            panic!("a configuration");
        };
        let text = |block: Option<PodBlock>| block.unwrap().cidr.to_string();
        (text(config.policy.block), text(known.block))
    }

    #[tokio::test]
    async fn services_are_not_taken_from_pods_on_ipvlan_and_the_choice_outlives_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("eni_conf");
        let (driver, _messages) = mpsc::sync_channel(8);
        let watch = watch("http://127.0.0.1:1", file.clone(), driver).await;
        // It names no Services.
        let mut running = running(&file, "172.16.1.0/24");
        for new_pods in [true, false] {
            let chosen = IpvlanPolicy {
                new_pods,
                by_host: Vec::new(),
            };
            running.config.policy.ipvlan = Some(chosen.clone());
            let refused = watch.apply(&mut running, &mut None).err();
            let text = refused.map(|error| error.to_string()).unwrap_or_default();
            assert_eq!(text.contains("service_cidr is gone"), new_pods, "{text}");
            assert_eq!(running.config.policy.ipvlan, Some(chosen));
        }
    }

    #[tokio::test]
    async fn another_pod_cidr_is_taken_up_and_said_though_the_source_check_cannot_be_read() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("eni_conf");
        let cidr = Arc::new(Mutex::new("172.16.2.0/24"));
        let base = serve(Arc::clone(&cidr)).await;
        let (driver, messages) = mpsc::sync_channel(8);
        let watch = watch(&base, file.clone(), driver).await;
        let notices = watch.notices.clone();
        let task = tokio::spawn(watch.run(running(&file, "172.16.1.0/24")));
        let first = tokio::task::spawn_blocking(move || {
            let first = messages.recv_timeout(Duration::from_secs(20));
            (first, messages)
        });
        let (first, _messages) = first.await.unwrap();
        let expected = ("172.16.2.0/24".to_owned(), "172.16.2.0/24".to_owned());
        assert_eq!(told(first.expect("a configuration in time")), expected);
        assert_eq!(notices.counts().get("PodCIDRChanged"), Some(&1));
        task.abort();
    }

    #[tokio::test]
    async fn each_change_of_the_pod_cidr_is_told_once_and_a_file_that_makes_no_sense_is_no_hindrance()
     {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("eni_conf");
        let cidr = Arc::new(Mutex::new("172.16.1.0/24"));
        let base = serve(Arc::clone(&cidr)).await;
        let (driver, messages) = mpsc::sync_channel(8);
        let watch = watch(&base, file.clone(), driver).await;
        let mut running = running(&file, "172.16.1.0/24");
        std::fs::write(&file, "nonsense").unwrap();
        // What the API server says, and whether that is news.
        for (now, news) in [
            ("172.16.1.0/24", false),
            ("172.16.3.0/24", true),
            ("172.16.3.0/24", false),
            ("", false),
            ("172.16.1.0/24", true),
        ] {
            *cidr.lock().unwrap() = now;
            watch.read_block(&mut running).await;
            let message = messages.try_recv().ok().map(told);
            let expected = news.then(|| (now.to_owned(), now.to_owned()));
            assert_eq!(message, expected, "{now}");
        }
        assert_eq!(watch.notices.counts().get("PodCIDRChanged"), Some(&2));
    }
}
