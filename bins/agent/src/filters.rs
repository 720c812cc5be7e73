//! Keeps the filters at the trunk ENI: without them trunk pods send under no VLAN and anybody may send to
//! them.
//!
//! What they are and where they hang is the data path's; here is only when to look.

use datapath::{Netlink, Trunk};

use crate::{bell::Bell, cause::chain, notices::Notices};

/// Keeps them for ever, from when there is a trunk.
pub(crate) fn keep(trunk: &Trunk, notices: &Notices, mut bell: Bell) {
    let mut complaint = String::new();
    loop {
        // Opened anew: after a failure nobody knows what the old socket still holds.
        let kept = Netlink::open().and_then(|mut netlink| trunk.keep(&mut netlink));
        match kept.map_err(|error| chain(&error)) {
            Ok(lacked) => {
                if !lacked.is_empty() {
                    notices.trunk_repaired(&lacked);
                    if bell.repaired() {
                        notices.contested(None, &lacked.join("; "));
                    }
                }
                complaint.clear();
            }
            Err(why) if why != complaint => {
                notices.trunk_broken(&why);
                complaint = why;
            }
            Err(_) => {}
        }
        bell.wait();
    }
}
