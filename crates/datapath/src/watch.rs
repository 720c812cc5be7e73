//! The kernel's announcements: whether something changed that may have been ours. What it was is found by
//! comparing, never believed from an announcement, so one that is lost costs nothing but a look.
//!
//! What only adds to the node (a new pod's routes and rules) is no news. Never changes anything.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use model::{InterfaceName, Mac, net::PROTOCOL_TERWAY};
use netlink_packet_route::{
    RouteNetlinkMessage, neighbour::NeighbourState, route::RouteProtocol, rule::RuleAttribute,
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

use crate::{
    decode::{LinkDetail, link_detail},
    error::{Error, Result},
    exchange::parse,
    frame::{self, Frame},
    netfilter,
    netlink::Netlink,
    observe,
    socket::{Heard, Socket},
};

/// Groups of NETLINK_ROUTE (include/uapi/linux/rtnetlink.h): links, neighbours, filters, then addresses,
/// routes and rules of IPv4 and of IPv6, then forwarding and reverse-path checks of both.
const GROUPS: [u32; 11] = [1, 3, 4, 5, 7, 8, 9, 11, 19, 24, 25];
/// NFNLGRP_NFTABLES of NETLINK_NETFILTER (include/uapi/linux/netfilter/nfnetlink.h).
const TABLES_GROUP: u32 = 7;

/// What may wait to be read. An announcement is charged 1 to 3 KiB (a link is the largest), so this holds
/// some 500, a wave of 40 pods; it is read at once. What does not fit is not lost: it makes a look.
const RECEIVE_BYTES: usize = 1 << 20;

/// Kinds of announcement (include/uapi/linux/rtnetlink.h).
const NEW_LINK: u16 = 16;
const DELETED_LINK: u16 = 17;
const DELETED_ADDRESS: u16 = 21;
const NEW_ROUTE: u16 = 24;
const DELETED_ROUTE: u16 = 25;
const NEW_NEIGHBOUR: u16 = 28;
const DELETED_NEIGHBOUR: u16 = 29;
const DELETED_RULE: u16 = 33;
const DELETED_QDISC: u16 = 37;
const NEW_FILTER: u16 = 44;
const DELETED_FILTER: u16 = 45;
const NEW_SETTING: u16 = 80;
/// A route took the place of another (NLM_F_REPLACE).
const REPLACED: u16 = 0x100;

/// Deletions of nf_tables, of a table, a chain or a rule: NFNL_SUBSYS_NFTABLES above NFT_MSG_DEL*
/// (include/uapi/linux/netfilter/nf_tables.h). The first attribute of each is the table's name.
const DELETED_OF_TABLES: [u16; 3] = [10 << 8 | 2, 10 << 8 | 5, 10 << 8 | 8];
const TABLE_NAME: u16 = 1;

/// How our tables' names begin.
const OUR_TABLES: &str = "terway";

/// Listens in one network namespace.
#[derive(Debug)]
pub struct Watch {
    route: Socket,
    /// None where the kernel has no nf_tables.
    tables: Option<Socket>,
    links: BTreeMap<u32, Known>,
    /// For the list of links.
    ask: Netlink,
}

/// What of a link may not change.
#[derive(Debug, PartialEq, Eq)]
struct Known {
    name: InterfaceName,
    mac: Option<Mac>,
    up: bool,
    mtu: u32,
    group: u32,
}

impl From<LinkDetail> for Known {
    fn from(link: LinkDetail) -> Self {
        let LinkDetail {
            name,
            mac,
            up,
            mtu,
            group,
            ..
        } = link;
        Self {
            name,
            mac,
            up,
            mtu,
            group,
        }
    }
}

/// Why it is time to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// Something changed that may have been ours.
    Changed,
    /// The kernel announced more than could be read: everything may have changed.
    Missed,
}

impl Watch {
    /// Listens in the network namespace of this thread, from now on.
    ///
    /// # Errors
    /// [`Error::Socket`], or when links cannot be listed.
    pub fn open() -> Result<Self> {
        let failed = |step| move |source| Error::Socket { step, source };
        let route = Socket::open(None).map_err(failed("opening NETLINK_ROUTE"))?;
        route
            .hear(&GROUPS, RECEIVE_BYTES)
            .map_err(failed("joining its groups"))?;
        let tables = netfilter::open("nf_tables").ok();
        // Without nf_tables there is nothing of ours in them.
        let tables = tables.filter(|it| it.hear(&[TABLES_GROUP], RECEIVE_BYTES).is_ok());
        let mut watch = Self {
            route,
            tables,
            links: BTreeMap::new(),
            ask: Netlink::open()?,
        };
        watch.learn_links()?;
        Ok(watch)
    }

    fn learn_links(&mut self) -> Result<()> {
        let links = observe::link_details(&mut self.ask)?;
        self.links = links
            .into_iter()
            .map(|link| (link.index, link.into()))
            .collect();
        Ok(())
    }

    /// Waits until something changed that may have been ours, and then gathers for `window` what comes
    /// with it. `None` when nothing did within `patience`.
    ///
    /// # Errors
    /// When the sockets cannot be read any more.
    pub fn wait(&mut self, patience: Duration, window: Duration) -> Result<Option<News>> {
        let (mut end, mut news) = (Instant::now() + patience, None);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(news);
            }
            self.sleep(left)?;
            let heard = self.hear()?;
            if news.is_none() && heard.is_some() {
                end = Instant::now() + window;
            }
            news = match (news, heard) {
                (_, Some(News::Missed)) | (Some(News::Missed), _) => Some(News::Missed),
                (before, heard) => before.or(heard),
            };
        }
    }

    /// Sleeps until a socket has something to read, or `most` is over.
    fn sleep(&self, most: Duration) -> Result<()> {
        let sockets = [Some(&self.route), self.tables.as_ref()];
        let sockets = sockets.into_iter().flatten();
        let mut fds: Vec<_> = sockets
            .map(|socket| PollFd::new(socket, PollFlags::IN))
            .collect();
        let most = Timespec::try_from(most).ok();
        match poll(&mut fds, most.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(Error::Socket {
                step: "waiting for announcements",
                source: errno.into(),
            }),
        }
    }

    /// Reads what is there.
    fn hear(&mut self) -> Result<Option<News>> {
        let mut news = None;
        let links = &mut self.links;
        let missed = read(&mut self.route, |frame| {
            if concerns(frame, links) {
                news = Some(News::Changed);
            }
        })?;
        let mut missed_tables = false;
        if let Some(tables) = &mut self.tables {
            missed_tables = read(tables, |frame| {
                if concerns_tables(frame) {
                    news = Some(News::Changed);
                }
            })?;
        }
        if missed {
            self.learn_links()?;
        }
        match missed || missed_tables {
            true => Ok(Some(News::Missed)),
            false => Ok(news),
        }
    }
}

/// Reads everything that waits at `socket`; true when there was more than fit. What is no frame is
/// nobody's announcement.
fn read(socket: &mut Socket, mut take: impl FnMut(&Frame<'_>)) -> Result<bool> {
    let mut missed = false;
    loop {
        let heard = socket.try_receive().map_err(|source| Error::Socket {
            step: "reading announcements",
            source,
        })?;
        match heard {
            Heard::Nothing => return Ok(missed),
            Heard::TooMuch => missed = true,
            Heard::Datagram(datagram) => {
                for frame in frame::frames(datagram).unwrap_or_default() {
                    take(&frame);
                }
            }
        }
    }
}

/// Whether an announcement may be about something of ours that is not as it was.
fn concerns(frame: &Frame<'_>, links: &mut BTreeMap<u32, Known>) -> bool {
    match frame.kind {
        DELETED_ADDRESS | DELETED_NEIGHBOUR | DELETED_QDISC | NEW_FILTER | DELETED_FILTER
        | NEW_SETTING => return true,
        NEW_ROUTE if frame.flags & REPLACED != 0 => return true,
        NEW_LINK | DELETED_LINK | DELETED_ROUTE | DELETED_RULE | NEW_NEIGHBOUR => {}
        _ => return false,
    }
    // What cannot be read may be anything.
    let Ok(message) = parse(frame.kind, frame.payload) else {
        return true;
    };
    match &message {
        RouteNetlinkMessage::NewLink(_) => link_detail(&message).is_some_and(|link| {
            let (index, now) = (link.index, Known::from(link));
            let before = links.insert(index, now);
            before.is_some_and(|before| links.get(&index) != Some(&before))
        }),
        RouteNetlinkMessage::DelLink(link) => links.remove(&link.header.index).is_some(),
        RouteNetlinkMessage::DelRoute(route) => {
            route.header.protocol == RouteProtocol::Other(PROTOCOL_TERWAY)
        }
        RouteNetlinkMessage::DelRule(rule) => {
            let ours = RuleAttribute::Protocol(RouteProtocol::Other(PROTOCOL_TERWAY));
            rule.attributes.contains(&ours)
        }
        RouteNetlinkMessage::NewNeighbour(neighbour) => {
            neighbour.header.state == NeighbourState::Permanent
        }
        _ => false,
    }
}

fn concerns_tables(frame: &Frame<'_>) -> bool {
    if !DELETED_OF_TABLES.contains(&frame.kind) {
        return false;
    }
    let attributes = frame.payload.get(netfilter::GENERIC_HEADER_LEN..);
    let mut attributes = frame::attributes(attributes.unwrap_or_default());
    attributes.any(|(kind, name)| kind == TABLE_NAME && name.starts_with(OUR_TABLES.as_bytes()))
}
