//! The region's only source of novelty: ids, MACs and tokens from one seeded generator.

use model::Mac;

/// The prefix the cloud registered for its virtual interfaces (`00:16:3e`, Xensource's OUI, as every
/// MacAddress example of the ECS API shows it).
const OUI: [u8; 3] = [0x00, 0x16, 0x3e];
/// What stands after the kind in ids of cn-hangzhou, as in `eni-bp1...`.
const ZONE_INFIX: &str = "bp1";
/// Characters after the infix: the cloud's examples have 20 after the kind.
const ID_TAIL: usize = 17;

/// SplitMix64 (Steele, Lea, Flood 2014): enough spread for ids, and one `u64` of state.
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which must not be zero. The bias of the remainder is below 2^-32 for
    /// the sizes of vSwitches and does not matter here.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        u32::try_from(self.next() % u64::from(bound)).unwrap_or(0)
    }

    /// `length` lower-case letters and digits.
    pub(crate) fn word(&mut self, length: usize) -> String {
        const ALPHABET: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
        (0..length)
            .map(|_| char::from(ALPHABET[self.below(36) as usize]))
            .collect()
    }

    /// An id such as `eni-bp1...`.
    pub(crate) fn id(&mut self, kind: &str) -> String {
        format!("{kind}-{ZONE_INFIX}{}", self.word(ID_TAIL))
    }

    pub(crate) fn mac(&mut self) -> Mac {
        let [a, b, c, ..] = self.next().to_be_bytes();
        let [x, y, z] = OUI;
        Mac([x, y, z, a, b, c])
    }

    /// A RequestId: 32 hexadecimal digits in the cloud's upper-case grouping.
    pub(crate) fn request_id(&mut self) -> String {
        let (high, low) = (self.next(), self.next());
        format!(
            "{:08X}-{:04X}-{:04X}-{:04X}-{:012X}",
            high >> 32,
            (high >> 16) & 0xffff,
            high & 0xffff,
            low >> 48,
            low & 0xffff_ffff_ffff,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_region() {
        let draw = |seed| {
            let mut dice = Dice::new(seed);
            (dice.id("eni"), dice.mac().to_string(), dice.request_id())
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn ids_look_like_the_clouds() {
        let mut dice = Dice::new(1);
        let id = dice.id("eni");
        assert!(id.starts_with("eni-bp1") && id.len() == 24, "{id}");
        assert!(dice.mac().to_string().starts_with("00:16:3e:"));
        let parts: Vec<usize> = dice.request_id().split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12]);
    }
}
