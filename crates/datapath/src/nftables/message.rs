//! Messages of nf_tables (include/uapi/linux/netfilter/nf_tables.h). Pure.

use std::hash::{DefaultHasher, Hash, Hasher};

use model::Family;

use super::{Chain, Hook, Rule, Table, expression::push_number};
use crate::{
    batch::Packet,
    exchange::{NLM_F_APPEND, NLM_F_CREATE},
    frame::{FLAG_NESTED, Frame, attributes, push_attribute, push_bytes},
    netfilter::{GENERIC_HEADER_LEN, header},
};

/// NFNL_SUBSYS_NFTABLES.
const SUBSYSTEM: u16 = 10;
const NEW_TABLE: u16 = SUBSYSTEM << 8;
const DELETE_TABLE: u16 = SUBSYSTEM << 8 | 2;
const NEW_CHAIN: u16 = SUBSYSTEM << 8 | 3;
const NEW_RULE: u16 = SUBSYSTEM << 8 | 6;
const GET_RULE: u16 = SUBSYSTEM << 8 | 7;
/// NFNL_MSG_BATCH_BEGIN and NFNL_MSG_BATCH_END.
const BRACKETS: [u16; 2] = [0x10, 0x11];

const NFTA_TABLE_NAME: u16 = 1;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NFTA_RULE_TABLE: u16 = 1;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_RULE_USERDATA: u16 = 7;
/// NFTNL_UDATA_RULE_COMMENT, the kind under which `nft` keeps a rule's comment.
const COMMENT: u8 = 0;

/// NFPROTO_INET, which is both families at once, NFPROTO_IPV4 and NFPROTO_IPV6.
fn protocol(table: &Table) -> u8 {
    match table.family {
        None => 1,
        Some(Family::V4) => 2,
        Some(Family::V6) => 10,
    }
}

/// Type of a chain at this place, the hook's number, and its priority there.
fn place(hook: Hook) -> (&'static str, u32, i32) {
    match hook {
        // NF_INET_PRE_ROUTING, NF_IP_PRI_MANGLE: connections are tracked at -200, translated at -100.
        Hook::Arrival => ("filter", 0, -150),
        // NF_INET_POST_ROUTING, NF_IP_PRI_NAT_SRC.
        Hook::Departure => ("nat", 4, 100),
    }
}

/// What a rule carries for whoever reads it again: its purpose and what it was made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Note(Vec<u8>);

impl Note {
    /// The note of a rule as `nft` writes comments: kind, length, text with a NUL.
    pub(super) fn of(chain: &Chain, rule: &Rule) -> Self {
        let mut fingerprint = DefaultHasher::new();
        (chain.name, place(chain.hook), &rule.expressions).hash(&mut fingerprint);
        let text = format!("{} [{:016x}]\0", rule.purpose, fingerprint.finish());
        let length = u8::try_from(text.len()).unwrap_or(u8::MAX);
        Self([&[COMMENT, length], text.as_bytes()].concat())
    }
}

fn packet(table: &Table, kind: u16, flags: u16, fill: impl FnOnce(&mut Vec<u8>)) -> Packet {
    let mut payload = header(protocol(table), 0);
    fill(&mut payload);
    Packet {
        kind,
        flags,
        payload,
    }
}

fn push_name(out: &mut Vec<u8>, kind: u16, name: &str) {
    push_bytes(out, kind, format!("{name}\0").as_bytes());
}

/// What stands around a transaction.
pub(super) fn brackets() -> [Packet; 2] {
    BRACKETS.map(|kind| Packet {
        kind,
        flags: 0,
        payload: header(0, SUBSYSTEM),
    })
}

/// Puts `table` in the place of whatever has its name. Only what is there can be deleted, so it is made
/// first.
pub(super) fn replace(table: &Table) -> Vec<Packet> {
    let named = |out: &mut Vec<u8>| push_name(out, NFTA_TABLE_NAME, table.name);
    let mut packets = vec![
        packet(table, NEW_TABLE, NLM_F_CREATE, named),
        packet(table, DELETE_TABLE, 0, named),
        packet(table, NEW_TABLE, NLM_F_CREATE, named),
    ];
    for chain in &table.chains {
        packets.push(packet(table, NEW_CHAIN, NLM_F_CREATE, |out| {
            let (kind, hook, priority) = place(chain.hook);
            push_name(out, NFTA_CHAIN_TABLE, table.name);
            push_name(out, NFTA_CHAIN_NAME, chain.name);
            push_name(out, NFTA_CHAIN_TYPE, kind);
            push_attribute(out, NFTA_CHAIN_HOOK | FLAG_NESTED, |out| {
                push_number(out, NFTA_HOOK_HOOKNUM, hook);
                push_number(out, NFTA_HOOK_PRIORITY, priority.cast_unsigned());
            });
        }));
        packets.extend(chain.rules.iter().map(|rule| {
            packet(table, NEW_RULE, NLM_F_CREATE | NLM_F_APPEND, |out| {
                push_name(out, NFTA_RULE_TABLE, table.name);
                push_name(out, NFTA_RULE_CHAIN, chain.name);
                let steps = &rule.expressions.0;
                push_bytes(out, NFTA_RULE_EXPRESSIONS | FLAG_NESTED, steps);
                push_bytes(out, NFTA_RULE_USERDATA, &Note::of(chain, rule).0);
            })
        }));
    }
    packets
}

/// Asks for the rules of `table`.
pub(super) fn list(table: &Table) -> Packet {
    packet(table, GET_RULE, 0, |out| {
        push_name(out, NFTA_RULE_TABLE, table.name);
    })
}

/// The note of a listed rule of `table`; empty when somebody else made the rule.
pub(super) fn note(frame: &Frame<'_>, table: &Table) -> Option<Note> {
    if frame.kind != NEW_RULE {
        return None;
    }
    let (mut ours, mut note) = (false, Note(Vec::new()));
    for (kind, value) in attributes(frame.payload.get(GENERIC_HEADER_LEN..)?) {
        match kind {
            // The kernel filters; one that did not would hand out everybody's rules.
            NFTA_RULE_TABLE => ours = value.strip_suffix(&[0]) == Some(table.name.as_bytes()),
            NFTA_RULE_USERDATA => note = Note(value.to_vec()),
            _ => {}
        }
    }
    ours.then_some(note)
}

#[cfg(test)]
mod tests {
    use model::InterfaceName;

    use super::{
        super::expression::{Direction, Expressions},
        *,
    };

    fn table(uplink: &str) -> Table {
        let uplink = InterfaceName::new(uplink).unwrap();
        let steps = Expressions::default().came_by(&uplink);
        Table {
            family: None,
            name: "terway",
            chains: vec![Chain {
                name: "chain",
                hook: Hook::Arrival,
                rules: vec![Rule {
                    purpose: "for a test",
                    expressions: steps.goes(Direction::Original).mark_connection(0x10),
                }],
            }],
        }
    }

    fn frame(payload: &[u8]) -> Frame<'_> {
        Frame {
            kind: NEW_RULE,
            flags: 0,
            sequence: 1,
            payload,
        }
    }

    #[test]
    fn a_rule_is_known_again_by_its_note_and_one_of_another_plan_is_not() {
        let [one, other] = ["eth0", "eth1"].map(table);
        let made = replace(&one).pop().unwrap().payload;
        let found = note(&frame(&made), &one).unwrap();
        assert_eq!([found], *one.notes());
        assert_ne!(one.notes(), other.notes());
        let foreign = Table {
            name: "terway_symmetric",
            ..table("eth0")
        };
        assert_eq!(note(&frame(&made), &foreign), None);
    }

    #[test]
    fn what_is_cut_short_is_no_rule_or_another() {
        let table = table("eth0");
        let whole = replace(&table).pop().unwrap().payload;
        for end in 0..whole.len() {
            let cut = note(&frame(&whole[..end]), &table);
            assert_ne!(cut, table.notes().pop(), "{end}");
        }
    }
}
