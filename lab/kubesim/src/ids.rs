//! UIDs and generated names from a seed: unique within a cluster, equal in every replay.

/// The alphabet of generated names: no vowels and no look-alikes, so that no words appear.
const NAME_ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// How many random characters follow a `generateName`.
const SUFFIX_LENGTH: usize = 5;

/// Longest `generateName` kept: 63, the longest DNS label, less the suffix.
const PREFIX_LIMIT: usize = 63 - SUFFIX_LENGTH;

#[derive(Debug, Clone)]
pub(crate) struct Ids {
    state: u64,
}

impl Ids {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// `SplitMix64`: every state is visited once in 2^64 draws, so nothing repeats.
    fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A UUID of version 4, variant 1.
    pub(crate) fn uid(&mut self) -> String {
        let (high, low) = (self.draw(), self.draw());
        let (high, low) = (high & !0xf000 | 0x4000, low & !(0b11 << 62) | (0b10 << 62));
        format!(
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            high >> 32,
            high >> 16 & 0xffff,
            high & 0xffff,
            low >> 48,
            low & 0xffff_ffff_ffff
        )
    }

    /// `prefix` and a random end.
    pub(crate) fn name(&mut self, prefix: &str) -> String {
        let mut name: String = prefix.chars().take(PREFIX_LIMIT).collect();
        let mut random = self.draw();
        for _ in 0..SUFFIX_LENGTH {
            let index = usize::try_from(random % 27).unwrap_or_default();
            name.push(char::from(NAME_ALPHABET[index]));
            random /= 27;
        }
        name
    }
}
