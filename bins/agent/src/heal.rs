//! Self-heal: hears from the kernel that something changed, and compares and puts back what the machine
//! says.
//!
//! Must not know which pods there are, nor when to look: the machine says both.

use std::{sync::mpsc::SyncSender, thread, time::Duration};

use datapath::{Netlink, Observed, Trunk, Watch};
use engine::node::{Finding, Input, Lack, Lacks, Remedy, Standing};
use model::net::{EniNet, Sysctl};

use crate::{bell::Ring, cause::chain, driver::Message};

/// How long announcements are gathered. A script that flushes a table makes hundreds within milliseconds,
/// and one look is enough for all.
const WINDOW: Duration = Duration::from_millis(100);

/// How long nothing may be announced before the sockets are asked again; it only bounds one wait.
const PATIENCE: Duration = Duration::from_secs(3600);

/// How long it rests when the kernel cannot be heard. The slow looks go on.
const REST: Duration = Duration::from_secs(5);

/// Hears the kernel for ever; tells the driver and whoever keeps something by himself.
pub(crate) fn listen(driver: &SyncSender<Message>, rings: &[Ring]) {
    let tell = || {
        for ring in rings {
            ring.now();
        }
        let disturbed = Input::Heal(Finding::Disturbed);
        driver.send(Message::Input(disturbed)).is_ok()
    };
    let mut complaint = String::new();
    loop {
        let heard = Watch::open().and_then(|mut watch| {
            complaint.clear();
            loop {
                // First for what happened before anybody listened.
                if !tell() {
                    return Ok(());
                }
                while watch.wait(PATIENCE, WINDOW)?.is_none() {}
            }
        });
        let Err(error) = heard else {
            return;
        };
        let why = chain(&error);
        if why != complaint {
            tracing::warn!(error = why, "the kernel's announcements are not heard");
            complaint = why;
        }
        thread::sleep(REST);
    }
}

/// Carries out one remedy.
pub(crate) fn carry_out(netlink: &mut Netlink, trunk: &Trunk, remedy: Remedy) -> Finding {
    match remedy {
        Remedy::Compare(standing) => {
            let lacks = compare(netlink, trunk, &standing);
            Finding::Compared(lacks.map_err(|error| chain(&error)))
        }
        Remedy::Mend(key, net) => {
            let lacked = datapath::mend_pod(netlink, trunk, &net);
            let lacked = lacked.map(|all| all.iter().map(ToString::to_string).collect());
            Finding::Mended(key, lacked.map_err(|error| chain(&error)))
        }
        Remedy::Write(sysctls) => write(netlink, &sysctls),
    }
}

fn compare(netlink: &mut Netlink, trunk: &Trunk, standing: &Standing) -> datapath::Result<Lacks> {
    let node = datapath::observe(netlink)?;
    let mut lacks = Lacks::default();
    for (id, net) in &standing.enis {
        let what = words(datapath::diff_eni(net, &node));
        let cut = is_away(net, &node);
        if !what.is_empty() {
            lacks.enis.push((id.clone(), Lack { what, cut }));
        }
    }
    for (key, net) in &standing.pods {
        let what = words(datapath::diff_on_node(trunk, net, &node)?);
        let cut = datapath::is_cut_off(net, &node);
        if !what.is_empty() {
            lacks.pods.push((key.clone(), Lack { what, cut }));
        }
    }
    let wrong = datapath::wrong_sysctls(&standing.sysctls);
    lacks.sysctls = wrong.into_iter().map(|(sysctl, _)| sysctl).collect();
    Ok(lacks)
}

/// Whether no link has the name that the plan of an ENI knows.
fn is_away(net: &EniNet, node: &Observed) -> bool {
    node.links.iter().all(|seen| seen.link.name != net.link)
}

fn words(differences: Vec<datapath::Difference>) -> Vec<String> {
    differences.iter().map(ToString::to_string).collect()
}

/// Those that are right meanwhile are left alone.
fn write(netlink: &mut Netlink, sysctls: &[Sysctl]) -> Finding {
    let (mut done, mut refused) = (Vec::new(), Vec::new());
    for (sysctl, was) in datapath::wrong_sysctls(sysctls) {
        match datapath::write_sysctl(netlink, &sysctl) {
            Ok(()) => done.push(was),
            Err(error) => refused.push(chain(&error)),
        }
    }
    Finding::Written { done, refused }
}
