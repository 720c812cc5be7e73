//! One table of nf_tables: read and replaced as a whole, all or nothing.
//!
//! The table is ours by its name, and no other is ever read or changed. The kernel gives back the
//! expressions of a rule in another form than it was given them, and in another with every release; so
//! each rule carries a note with a fingerprint of what it was made of, and the notes are compared.

mod expression;
mod message;

use std::fmt;

use model::Family;

pub(crate) use self::expression::{Direction, End, Expressions};
use self::message::Note;
use crate::{
    batch,
    error::{Error, Result},
    netfilter,
    netlink::io_errno::{EAFNOSUPPORT, ENOENT, EOPNOTSUPP},
    socket::Socket,
};

/// What a kernel without it lacks.
const LACKS: &str = "nf_tables that can mark and translate connections (CONFIG_NF_TABLES_INET, CONFIG_NFT_CT, \
                     CONFIG_NF_CONNTRACK_MARK, CONFIG_NFT_MASQ)";

/// A conversation with nf_tables in one network namespace.
#[derive(Debug)]
pub struct Nftables {
    socket: Socket,
}

/// A table.
#[derive(Debug)]
pub(crate) struct Table {
    /// Of both families without one.
    pub(crate) family: Option<Family>,
    pub(crate) name: &'static str,
    /// None is empty: a table is known by its rules.
    pub(crate) chains: Vec<Chain>,
}

impl Table {
    fn notes(&self) -> Vec<Note> {
        let chains = self.chains.iter();
        chains
            .flat_map(|chain| chain.rules.iter().map(|rule| Note::of(chain, rule)))
            .collect()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = match self.family {
            None => "inet",
            Some(Family::V4) => "ip",
            Some(Family::V6) => "ip6",
        };
        write!(out, "table {family} {}", self.name)
    }
}

/// Rules for packets at one place.
#[derive(Debug)]
pub(crate) struct Chain {
    pub(crate) name: &'static str,
    pub(crate) hook: Hook,
    pub(crate) rules: Vec<Rule>,
}

/// A place on a packet's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hook {
    /// As it comes in, after its connection is tracked and before anything is translated.
    Arrival,
    /// The first of a connection as it leaves, where its source can be translated.
    Departure,
}

/// What is done with some packets.
#[derive(Debug)]
pub(crate) struct Rule {
    /// For people: `nft list` shows it as the rule's comment.
    pub(crate) purpose: &'static str,
    pub(crate) expressions: Expressions,
}

impl Nftables {
    /// Opens a socket in the network namespace of this thread.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when the kernel has no netfilter netlink.
    pub fn open() -> Result<Self> {
        let socket = netfilter::open(LACKS)?;
        Ok(Self { socket })
    }

    /// Makes the kernel's table `table`, unless it is; says whether it had to.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when the kernel lacks something it takes; else when it refuses.
    pub(crate) fn keep(&mut self, table: &Table) -> Result<bool> {
        if self.notes(table)? == table.notes() {
            return Ok(false);
        }
        let doing = |_| format!("replacing {table}");
        let packets = message::replace(table);
        let brackets = message::brackets();
        batch::transact(
            &mut self.socket,
            (&brackets[0], &packets, &brackets[1]),
            &doing,
        )
        .map_err(unsupported)?;
        Ok(true)
    }

    /// The notes of the table's rules, in order.
    fn notes(&mut self, table: &Table) -> Result<Vec<Note>> {
        let doing = || format!("listing {table}");
        let packet = message::list(table);
        let notes = batch::list(&mut self.socket, &packet, &doing, |frame| {
            Ok(message::note(frame, table))
        });
        notes.map_err(netfilter::lacks(LACKS))
    }
}

/// A chain or an expression whose code is not there is not found; a family or a mark is not supported.
fn unsupported(error: Error) -> Error {
    match (&error, error.os_error()) {
        (Error::Refused { .. }, Some(ENOENT | EOPNOTSUPP | EAFNOSUPPORT)) => {
            Error::Unsupported { what: LACKS }
        }
        _ => error,
    }
}
