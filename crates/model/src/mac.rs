//! Ethernet addresses.

use core::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A 48-bit Ethernet address, written `00:16:3e:0d:7b:c2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

/// A text that is no Ethernet address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a MAC address: expected six hexadecimal octets joined by colons")]
pub struct MacError(pub String);

impl Mac {
    /// Six octets taken from `digest`, marked locally administered and unicast (IEEE 802, the two low
    /// bits of the first octet), so that a computed address can never be a vendor's.
    pub fn locally_administered(digest: [u8; 6]) -> Self {
        let [first, rest @ ..] = digest;
        let [b, c, d, e, f] = rest;
        Self([(first & 0b1111_1100) | 0b10, b, c, d, e, f])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(out, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

impl FromStr for Mac {
    type Err = MacError;
    fn from_str(text: &str) -> Result<Self, MacError> {
        let fail = || MacError(text.chars().take(48).collect());
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts
                .next()
                .filter(|part| part.len() == 2)
                .ok_or_else(fail)?;
            *octet = u8::from_str_radix(part, 16).map_err(|_| fail())?;
        }
        if parts.next().is_some() {
            return Err(fail());
        }
        Ok(Self(octets))
    }
}

impl TryFrom<String> for Mac {
    type Error = MacError;
    fn try_from(text: String) -> Result<Self, MacError> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> String {
        mac.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_octets_round_trip() {
        let mac: Mac = "00:16:3E:0d:7b:c2".parse().unwrap();
        assert_eq!(mac.to_string(), "00:16:3e:0d:7b:c2");
    }

    #[test]
    fn what_is_no_mac_is_refused() {
        for bad in [
            "",
            "00:16:3e:0d:7b",
            "00:16:3e:0d:7b:c2:00",
            "0:16:3e:0d:7b:c2",
            "zz:16:3e:0d:7b:c2",
        ] {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_computed_address_is_local_and_unicast() {
        let Mac([first, ..]) = Mac::locally_administered([0xff; 6]);
        assert_eq!(first & 0b11, 0b10);
    }
}
