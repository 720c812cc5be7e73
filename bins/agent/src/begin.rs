//! What the node machine begins with: the ledger, what this node is, and how it is configured; each waited
//! for when nothing earlier can stand in for it.
//!
//! Must not know: pods, the plugin's socket, what is decided later.

use std::{collections::BTreeSet, net::IpAddr, path::Path, thread, time::Duration};

use anyhow::{Context, bail};
use engine::{ledger::Ledger, node::Config};

use crate::{
    cause,
    config::{self, Overlay, Settings},
    dynamic::{self, Own},
    facts::{self, Asker, FIRST_LOOK, Known},
    health::{Health, Part},
    keeper, kernel,
    mode::Mode,
    notices::Notices,
    pod_links::{self, PodLinks},
    store::Store,
};

/// How often a missing `eni_conf` is looked for. kubelet brings a new ConfigMap within a minute.
const CONFIG_PERIOD: Duration = Duration::from_secs(1);

/// What the agent stands between.
pub(crate) struct Outside<'a> {
    pub(crate) asker: &'a Asker,
    pub(crate) health: &'a Health,
}

/// What the machine begins with.
pub(crate) struct Begun {
    pub(crate) store: Store,
    pub(crate) ledger: Ledger,
    pub(crate) occupied: BTreeSet<IpAddr>,
    pub(crate) settings: Option<Settings>,
    pub(crate) own: Own,
    pub(crate) known: Known,
    pub(crate) config: Config,
    pub(crate) links: PodLinks,
}

/// Opens the ledger, and finds out what this node is and how it is configured; waits for what it
/// cannot do without.
pub(crate) fn begin(
    runtime: &tokio::runtime::Runtime,
    (file, state): (&Path, &Path),
    outside: &Outside<'_>,
) -> anyhow::Result<Begun> {
    let asker = outside.asker;
    let instance = runtime.block_on(facts::instance_now(&asker.metadata));
    let (mut store, contents) = keeper::open(state, instance, &asker.notices, outside.health);
    let primary = contents.known.as_ref().map(|known| known.primary_mac);
    asker.mode.suits(&contents.ledger, primary)?;
    let mut netlink = datapath::Netlink::open().context("opening netlink on the node")?;
    let occupied = kernel::occupied(&mut netlink).context("reading the node's routes")?;

    let own = own_configuration(
        runtime,
        (&asker.kube, &asker.node),
        contents.config.is_some(),
        &asker.notices,
    );
    let settings = settings(
        file,
        own.overlay(),
        contents.config.is_some(),
        &asker.notices,
        outside.health,
    );
    let same = |known: &Known| known.block.is_some() == (asker.mode == Mode::Vpc);
    let known = match contents.known.filter(same) {
        Some(known) if known.block.is_some() => {
            let block = runtime.block_on(facts::block_now(asker, known.primary_mac));
            if let Some(block) = &block {
                facts::tell_moved(known.block.as_ref(), block, &asker.notices);
            }
            let block = block.or(known.block.clone());
            Known { block, ..known }
        }
        Some(known) => known,
        None => runtime.block_on(facts::discover(settings.as_ref(), asker)),
    };
    let whole = own != Own::Unknown;
    let mut config = first_config(settings.as_ref(), whole, contents.config, &known)?;
    config.policy.block.clone_from(&known.block);
    let beside = file.parent().unwrap_or(Path::new("/"));
    let (ledger, notices) = (&contents.ledger, &asker.notices);
    let place = (beside, asker.mode);
    let links = pod_links::choose(place, ledger, &mut config, notices, pod_links::try_it);
    if let Err(error) = store.keep(&config, &known) {
        tracing::error!(error = %cause::chain(&error), "keeping the configuration; the next write has it again");
    }
    outside.health.stands(Part::Configuration);
    Ok(Begun {
        store,
        ledger: contents.ledger,
        occupied,
        settings,
        own,
        known,
        config,
        links,
    })
}

/// The node's own part of the configuration, waited for when there is no `earlier` configuration to go on
/// by; otherwise one short look, and the watch of the configuration asks on.
fn own_configuration(
    runtime: &tokio::runtime::Runtime,
    (client, node): (&kube::Client, &str),
    earlier: bool,
    notices: &Notices,
) -> Own {
    let (mut own, mut complaint) = (Own::Unknown, String::new());
    loop {
        let look = dynamic::overlay(client, node);
        let budget = if earlier { FIRST_LOOK } else { dynamic::PERIOD };
        match runtime.block_on(async { tokio::time::timeout(budget, look).await }) {
            Ok(Ok(overlay)) => return Own::Known(overlay),
            Ok(Err(error)) => {
                own.refused(&error);
                let text = cause::chain(&error);
                if text != complaint {
                    notices.config_error(&text);
                    complaint = text;
                }
            }
            Err(_) => tracing::warn!("the API server does not say what the node's labels are"),
        }
        if earlier || own != Own::Unknown {
            return own;
        }
        thread::sleep(CONFIG_PERIOD);
    }
}

/// `eni_conf`. Without an earlier configuration there is nothing to serve by, and one that can be used
/// is waited for; with one, `None` means to go on by that.
fn settings(
    path: &Path,
    overlay: Option<&Overlay>,
    earlier: bool,
    notices: &Notices,
    health: &Health,
) -> Option<Settings> {
    let mut complaint = String::new();
    loop {
        let error = match Settings::load(path, overlay) {
            Ok(settings) => {
                if !config::policy_is_disabled(path) {
                    notices.policy_not_enforced();
                }
                for (key, feature) in &settings.ignored {
                    let text = format!(
                        "eni_conf key {key} is set, but this release does not do {feature}"
                    );
                    notices.config_error(&text);
                }
                facts::tell_forbidden_trunk(&settings, notices);
                let keys = settings.ignored.iter().map(|(key, _)| (*key).to_owned());
                health.set_ignored(keys.collect());
                health.set_config_error(None);
                return Some(settings);
            }
            Err(error) => cause::chain(&error),
        };
        health.set_config_error(Some(error.clone()));
        if error != complaint {
            notices.config_error(&error);
            health.lacks(Part::Configuration, error.as_str());
            complaint = error;
        }
        if earlier {
            return None;
        }
        thread::sleep(CONFIG_PERIOD);
    }
}

/// What the machine begins with. The cluster's `eni_conf` alone is not the `whole` configuration of a
/// node that has a part of its own.
fn first_config(
    settings: Option<&Settings>,
    whole: bool,
    earlier: Option<Config>,
    known: &Known,
) -> anyhow::Result<Config> {
    match (settings, earlier) {
        (Some(_), Some(config)) if !whole => Ok(config),
        (Some(settings), _) => Ok(facts::config(settings, known)),
        (None, Some(config)) => Ok(config),
        (None, None) => bail!("there is no configuration to go on with"),
    }
}
