//! Keeps the filters at the node's ENIs: without the trunk's, trunk pods send under no VLAN and anybody may send
//! to them; without the others, pods on ipvlan reach neither their node nor Services.
//!
//! What they are and where they hang is the data path's; here is only when to look.

use datapath::Netlink;

use crate::{bell::Bell, cause::chain, kernel::Programs, notices::Notices};

/// Keeps them for ever, from when there are any.
pub(crate) fn keep(programs: &Programs, notices: &Notices, mut bell: Bell) {
    let [mut of_trunk, mut of_ipvlan] = [String::new(), String::new()];
    loop {
        let mut put_back = Vec::new();
        let kept = look(|netlink| programs.trunk.keep(netlink));
        tell(
            kept,
            &mut of_trunk,
            |lacked| {
                notices.trunk_repaired(lacked);
                put_back.extend_from_slice(lacked);
            },
            |why| notices.trunk_broken(why),
        );
        let kept = look(|netlink| programs.host_stack.keep(netlink));
        tell(
            kept,
            &mut of_ipvlan,
            |lacked| {
                notices.ipvlan_repaired(lacked);
                put_back.extend_from_slice(lacked);
            },
            |why| notices.ipvlan_broken(why),
        );
        if !put_back.is_empty() && bell.repaired() {
            notices.contested(None, &put_back.join("; "));
        }
        bell.wait();
    }
}

/// What was missing. The socket is opened anew: after a failure nobody knows what the old one still holds.
fn look(
    keep: impl FnOnce(&mut Netlink) -> datapath::Result<Vec<String>>,
) -> Result<Vec<String>, String> {
    let kept = Netlink::open().and_then(|mut netlink| keep(&mut netlink));
    kept.map_err(|error| chain(&error))
}

/// Says what was missing and is back, and once, until it changes, why it cannot be.
fn tell(
    kept: Result<Vec<String>, String>,
    complaint: &mut String,
    repaired: impl FnOnce(&[String]),
    broken: impl FnOnce(&str),
) {
    match kept {
        Ok(lacked) => {
            if !lacked.is_empty() {
                repaired(&lacked);
            }
            complaint.clear();
        }
        Err(why) if why != *complaint => {
            broken(&why);
            *complaint = why;
        }
        Err(_) => {}
    }
}
