//! Keeps the masquerade of a node of mode VPC, and says so when it cannot be kept. Here is only when to look.

use std::path::PathBuf;

use datapath::Nftables;
use ipnet::IpNet;

use crate::{bell::Bell, cause::chain, config::Settings, notices::Notices};

/// Who keeps it.
pub(crate) struct Keeper {
    /// `eni_conf`, whose key `cluster_cidr` says what is inside.
    pub(crate) source: PathBuf,
    pub(crate) notices: Notices,
    pub(crate) bell: Bell,
}

impl Keeper {
    /// Keeps it for ever.
    pub(crate) fn run(mut self) {
        let (mut stood, mut complaint) = (false, String::new());
        // What the file said last counts while it cannot be read; before it said anything, what the last agent left.
        let mut inside: Option<Vec<IpNet>> = None;
        loop {
            if let Ok(settings) = Settings::load(&self.source, None) {
                inside = Some(settings.cluster_cidr.map(IpNet::V4).into_iter().collect());
            }
            let Some(inside) = &inside else {
                self.bell.wait();
                continue;
            };
            match look(inside) {
                Ok(made) => {
                    if made && stood {
                        tracing::warn!("masquerade made anew");
                        self.notices.count("MasqueradeRepaired");
                        if self.bell.repaired() {
                            self.notices.contested(None, "the masquerade");
                        }
                    }
                    stood = true;
                    complaint.clear();
                }
                // A module that was missing may be there the next time.
                Err(why) if why != complaint => {
                    self.notices.masquerade_missing(&why);
                    complaint = why;
                }
                Err(_) => {}
            }
            self.bell.wait();
        }
    }
}

/// The socket is opened anew: after a failure nobody knows what the old one still holds.
fn look(inside: &[IpNet]) -> Result<bool, String> {
    let failed = |error: datapath::Error| chain(&error);
    let mut nftables = Nftables::open().map_err(failed)?;
    datapath::keep_masquerade(&mut nftables, inside).map_err(failed)
}
