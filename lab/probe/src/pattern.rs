//! Bytes that need not be stored to be checked: a fixed stream, and a digest.

/// The longest stream served: 1 GiB takes seconds on the slowest lab link.
pub(crate) const BYTES_MAX: u64 = 1 << 30;

/// An endless stream of bytes, always the same one. Its period is far above [`BYTES_MAX`], so a
/// block that is lost, doubled or out of place changes the digest.
#[derive(Debug, Default)]
pub(crate) struct Pattern {
    counter: u64,
}

impl Pattern {
    /// Fills `buffer` with the next bytes. To get the same stream, all buffers but the last must
    /// have a length that is a multiple of 8.
    pub(crate) fn fill(&mut self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            // SplitMix64 (Steele, Lea, Flood 2014): a bijection of a counter.
            self.counter = self.counter.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut word = self.counter;
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            let bytes = (word ^ (word >> 31)).to_be_bytes();
            for (to, from) in chunk.iter_mut().zip(bytes) {
                *to = from;
            }
        }
    }
}

/// FNV-1a, 64 bits: enough against accidents, which are all that happens in a lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Digest(u64);

impl Digest {
    pub(crate) fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// Sixteen hexadecimal digits.
    pub(crate) fn text(self) -> String {
        format!("{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_fnv_1a() {
        for (text, digest) in [
            ("", "cbf29ce484222325"),
            ("a", "af63dc4c8601ec8c"),
            ("foobar", "85944171f73967e8"),
        ] {
            let mut of = Digest::new();
            of.update(text.as_bytes());
            assert_eq!(of.text(), digest, "{text:?}");
        }
    }

    #[test]
    fn the_stream_does_not_depend_on_the_buffers() {
        let (mut whole, mut parts) = ([0; 27], [0; 27]);
        Pattern::default().fill(&mut whole);
        let mut pattern = Pattern::default();
        let (head, tail) = parts.split_at_mut(16);
        pattern.fill(head);
        pattern.fill(tail);
        assert_eq!(whole, parts);
        assert_ne!(whole[..8], whole[8..16]);
    }
}
