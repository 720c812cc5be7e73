//! What the service's paths hold, parsed into types once.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;
use model::{
    EniId, IdError, InstanceId, Ipv4Prefix, Mac, RegionId, VSwitchId, VpcId, ZoneId,
    id::ID_LENGTH_MAX,
};

use super::{Metadata, MetadataError, malformed};
use crate::Deadline;

const MACS_PATH: &str = "network/interfaces/macs/";

/// What the node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceFacts {
    /// Its id (`instance-id`).
    pub instance: InstanceId,
    /// Its region (`region-id`).
    pub region: RegionId,
    /// Its zone (`zone-id`).
    pub zone: ZoneId,
    /// Its VPC (`vpc-id`).
    pub vpc: VpcId,
    /// The vSwitch of its primary interface (`vswitch-id`).
    pub vswitch: VSwitchId,
    /// Its type (`instance/instance-type`), for example `ecs.g7.xlarge`.
    pub instance_type: String,
    /// The MAC of its primary interface (`mac`).
    pub primary_mac: Mac,
}

/// What the node's host knows about one of its interfaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceFacts {
    /// Its MAC.
    pub mac: Mac,
    /// Its ENI (`network-interface-id`).
    pub eni: EniId,
    /// Its own address (`primary-ip-address`).
    pub primary_address: IpAddr,
    /// The next hop of its vSwitch (`gateway`).
    pub gateway: IpAddr,
    /// All its IPv4 addresses, its own included (`private-ipv4s`).
    pub addresses: Vec<IpAddr>,
    /// Its IPv4 prefixes (`ipv4-prefixes`, unconfirmed: clients of the service read it, its
    /// documentation does not list it). Nothing when the service does not speak of prefixes.
    pub prefixes: Option<Vec<Ipv4Prefix>>,
    /// Its vSwitch (`vswitch-id`).
    pub vswitch: VSwitchId,
    /// The IPv4 block of its vSwitch (`vswitch-cidr-block`).
    pub vswitch_cidr: Ipv4Net,
}

impl InstanceFacts {
    pub(super) async fn read(
        service: &Metadata,
        deadline: Deadline,
    ) -> Result<Self, MetadataError> {
        Ok(Self {
            instance: service.id("instance-id", deadline).await?,
            region: service.id("region-id", deadline).await?,
            zone: service.id("zone-id", deadline).await?,
            vpc: service.id("vpc-id", deadline).await?,
            vswitch: service.id("vswitch-id", deadline).await?,
            instance_type: service.word("instance/instance-type", deadline).await?,
            primary_mac: parsed(
                "mac",
                &service.word("mac", deadline).await?,
                "a MAC address",
            )?,
        })
    }
}

/// What the service answered about one interface, path by path, unread.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InterfaceAnswers {
    /// `network-interface-id`.
    pub eni: String,
    /// `primary-ip-address`.
    pub primary_address: String,
    /// `gateway`.
    pub gateway: String,
    /// `private-ipv4s`.
    pub addresses: String,
    /// `ipv4-prefixes`; nothing when the service has no such path.
    pub prefixes: Option<String>,
    /// `vswitch-id`.
    pub vswitch: String,
    /// `vswitch-cidr-block`.
    pub vswitch_cidr: String,
}

impl InterfaceAnswers {
    /// Reads the answers about the interface with `mac`.
    ///
    /// # Errors
    /// When any of them is malformed, or the list of addresses is a partial one.
    pub fn decode(&self, mac: Mac) -> Result<InterfaceFacts, MetadataError> {
        let path = |leaf: &str| format!("{MACS_PATH}{mac}/{leaf}");
        let address = |leaf: &str, text: &str| {
            let path = path(leaf);
            let word = word(&path, text)?;
            parsed::<Ipv4Addr>(&path, word, "an IPv4 address").map(IpAddr::V4)
        };
        let list = path("private-ipv4s");
        let block = path("vswitch-cidr-block");
        let listed = |text: &String| prefixes(&path("ipv4-prefixes"), text);
        let cidr = word(&block, &self.vswitch_cidr)?;
        let facts = InterfaceFacts {
            mac,
            eni: id(&path("network-interface-id"), &self.eni)?,
            primary_address: address("primary-ip-address", &self.primary_address)?,
            gateway: address("gateway", &self.gateway)?,
            addresses: addresses(&list, &self.addresses)?,
            prefixes: self.prefixes.as_ref().map(listed).transpose()?,
            vswitch: id(&path("vswitch-id"), &self.vswitch)?,
            vswitch_cidr: parsed(&block, cidr, "an IPv4 network")?,
        };
        // An interface always holds its own address, so a list without it is a partial one.
        if !facts.addresses.contains(&facts.primary_address) {
            let found = format!("{:?}", facts.addresses);
            return Err(malformed(&list, &found, "a list with the primary address"));
        }
        Ok(facts)
    }
}

impl InterfaceFacts {
    pub(super) async fn read(
        service: &Metadata,
        mac: Mac,
        deadline: Deadline,
    ) -> Result<Self, MetadataError> {
        let text = async |leaf: &str| {
            let path = format!("{MACS_PATH}{mac}/{leaf}");
            service.text(&path, deadline).await
        };
        let prefixes = match text("ipv4-prefixes").await {
            Ok(text) => Some(text),
            Err(error) if error.is_absent() => None,
            Err(error) => return Err(error),
        };
        let answers = InterfaceAnswers {
            eni: text("network-interface-id").await?,
            primary_address: text("primary-ip-address").await?,
            gateway: text("gateway").await?,
            addresses: text("private-ipv4s").await?,
            prefixes,
            vswitch: text("vswitch-id").await?,
            vswitch_cidr: text("vswitch-cidr-block").await?,
        };
        answers.decode(mac)
    }
}

impl Metadata {
    async fn id<T: TryFrom<String, Error = IdError>>(
        &self,
        path: &str,
        deadline: Deadline,
    ) -> Result<T, MetadataError> {
        id(path, &self.text(path, deadline).await?)
    }

    /// The one word at `path`.
    pub(crate) async fn word(
        &self,
        path: &str,
        deadline: Deadline,
    ) -> Result<String, MetadataError> {
        let text = self.text(path, deadline).await?;
        word(path, &text).map(str::to_owned)
    }
}

/// The one word of an answer. It starts with a letter or digit, which tells it from the page of a proxy
/// and from an error document; a directory's trailing `/` is not part of it.
fn word<'a>(path: &str, text: &'a str) -> Result<&'a str, MetadataError> {
    let word = text.trim().trim_matches('/');
    let starts = word
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_alphanumeric());
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/@+=,".contains(&byte);
    if !starts || word.len() > ID_LENGTH_MAX || !word.bytes().all(allowed) {
        return Err(malformed(path, word, "one word"));
    }
    Ok(word)
}

fn id<T: TryFrom<String, Error = IdError>>(path: &str, text: &str) -> Result<T, MetadataError> {
    let word = word(path, text)?.to_owned();
    T::try_from(word).map_err(|error| malformed(path, &error.text, error.what))
}

pub(super) async fn list(
    service: &Metadata,
    deadline: Deadline,
) -> Result<Vec<Mac>, MetadataError> {
    macs(&service.text(MACS_PATH, deadline).await?)
}

/// The MACs of a list of interfaces.
///
/// # Errors
/// When the list is empty or malformed.
pub fn macs(text: &str) -> Result<Vec<Mac>, MetadataError> {
    let lines = text.split_ascii_whitespace();
    let macs = lines
        .map(|line| parsed(MACS_PATH, line.trim_end_matches('/'), "MAC addresses"))
        .collect::<Result<Vec<Mac>, _>>()?;
    if macs.is_empty() {
        return Err(malformed(MACS_PATH, text, "at least one MAC address"));
    }
    Ok(macs)
}

/// `["192.168.1.3","192.168.1.4"]`.
fn addresses(path: &str, text: &str) -> Result<Vec<IpAddr>, MetadataError> {
    let parsed: Result<Vec<Ipv4Addr>, _> = serde_json::from_str(text.trim());
    match parsed {
        Ok(addresses) if !addresses.is_empty() => {
            Ok(addresses.into_iter().map(IpAddr::V4).collect())
        }
        _ => Err(malformed(
            path,
            text,
            "a JSON list of IPv4 addresses, not empty",
        )),
    }
}

/// A list in brackets, its entries in quotes or not: nothing says which of the service's two habits
/// (`private-ipv4s`, `ipv6s`) this path has.
fn prefixes(path: &str, text: &str) -> Result<Vec<Ipv4Prefix>, MetadataError> {
    let expected = "a list of IPv4 blocks with 28 bits of mask, in brackets";
    let inner = text.trim().strip_prefix('[');
    let inner = inner.and_then(|rest| rest.strip_suffix(']'));
    let inner = inner.ok_or_else(|| malformed(path, text, expected))?.trim();
    if inner.is_empty() {
        return Ok(Vec::new());
    }
    let entries = inner.split(',').map(|entry| entry.trim().trim_matches('"'));
    entries.map(|entry| parsed(path, entry, expected)).collect()
}

fn parsed<T: core::str::FromStr>(
    path: &str,
    text: &str,
    expected: &'static str,
) -> Result<T, MetadataError> {
    text.parse().map_err(|_| malformed(path, text, expected))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macs_are_one_a_line() {
        let found = macs("00:16:3e:00:00:01/\n00:16:3e:00:00:02/").unwrap();
        assert_eq!(
            found,
            [Mac([0, 22, 62, 0, 0, 1]), Mac([0, 22, 62, 0, 0, 2])]
        );
        for bad in [
            "",
            "\n",
            "<html>",
            "00:16:3e:00:00/",
            "00:16:3e:00:00:01/\n00:16",
        ] {
            assert!(macs(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn prefixes_are_a_whole_list_with_or_without_quotes() {
        for text in [
            "[\"10.0.0.16/28\", \"10.0.0.32/28\"]",
            "[10.0.0.16/28,10.0.0.32/28]\n",
        ] {
            assert_eq!(prefixes("p", text).unwrap().len(), 2, "{text}");
        }
        assert_eq!(prefixes("p", "[]").unwrap(), []);
        for bad in [
            "",
            "[",
            "[10.0.0.16/28",
            "10.0.0.16/28",
            "[10.0.0.1/28]",
            "[,]",
        ] {
            assert!(prefixes("p", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn addresses_are_a_whole_json_list() {
        let found = addresses("p", "[\"10.0.0.1\",\"10.0.0.2\"]\n").unwrap();
        assert_eq!(found.len(), 2);
        for bad in [
            "",
            "[]",
            "[\"10.0.0.1\"",
            "10.0.0.1",
            "[\"10.0.0\"]",
            "[1]",
            "null",
        ] {
            assert!(addresses("p", bad).is_err(), "{bad:?}");
        }
    }
}
