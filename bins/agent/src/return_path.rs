//! Keeps the way back of what comes in by the node's own ENI, and while there are pods with an ENI wholly
//! their own their way to Services; says so when they cannot be kept.
//!
//! What it consists of is planned in the engine and made in the data path; here is only when to look.

use std::path::PathBuf;

use datapath::{Netlink, Nftables};
use engine::netplan;
use model::Mac;

use crate::{bell::Bell, cause::chain, cniconf, kernel, notices::Notices};

/// The key of our plugin's part of the CNI configuration that switches it off, as in the Go project,
/// where it is off unless it is true.
const KEY: &str = "symmetric_routing";

/// Who keeps it.
pub(crate) struct Keeper {
    /// MAC of the node's own ENI.
    pub(crate) primary: Mac,
    /// The directory with the keys of the ConfigMap.
    pub(crate) source: PathBuf,
    pub(crate) notices: Notices,
    pub(crate) bell: Bell,
}

impl Keeper {
    /// Keeps it for ever.
    pub(crate) fn run(mut self) {
        let (mut stood, mut complaint) = (false, String::new());
        loop {
            match self.look() {
                Ok(lacked) => {
                    if stood && !lacked.is_empty() {
                        self.notices.return_path_repaired(&lacked);
                        if self.bell.repaired() {
                            self.notices.contested(None, &lacked.join("; "));
                        }
                    } else if !lacked.is_empty() {
                        tracing::info!(made = lacked.join("; "), "return path");
                    }
                    stood = true;
                    complaint.clear();
                }
                Err(why) => {
                    // A module that was missing may be there the next time.
                    if why != complaint {
                        self.notices.return_path_missing(&why);
                        complaint = why;
                    }
                }
            }
            self.bell.wait();
        }
    }

    /// Puts back what is missing; says what that was. Sockets are opened anew: after a failure nobody
    /// knows what the old ones still hold.
    fn look(&self) -> Result<Vec<String>, String> {
        let failed = |error: datapath::Error| chain(&error);
        let mut netlink = Netlink::open().map_err(failed)?;
        let group = netplan::service_path().group;
        let services = match netlink.has_group(group).map_err(failed)? {
            true => kernel::keep_service_path(&mut netlink).map_err(failed),
            false => Ok(Vec::new()),
        };
        if cniconf::declines(&self.source, KEY) {
            return services;
        }
        let primary = netlink.link_by_mac(self.primary).map_err(failed)?;
        let missing = || format!("no link has the MAC {} of the node's own ENI", self.primary);
        let plan = netplan::return_path(&primary.ok_or_else(missing)?);
        let mut nftables = Nftables::open().map_err(failed)?;
        let kept = datapath::keep_return_path(&mut netlink, &mut nftables, &plan);
        // Neither way keeps the other from being put back.
        let mut lacked = kept.map_err(failed)?;
        lacked.extend(services?);
        Ok(lacked)
    }
}
