//! Damage: bits, numbers, ranges and words of an input that was right.

/// Longest input. Larger than any message (128 KiB) it would only be slower.
const BYTES_MAX: usize = 160 * 1024;

/// Words that parsers look for, and values at the edges of what fits.
const WORDS: [&str; 24] = [
    "null",
    "true",
    "{}",
    "[]",
    "\"\"",
    "0",
    "-1",
    "255",
    "256",
    "65536",
    "4294967296",
    "18446744073709551615",
    "18446744073709551616",
    "1e309",
    "-0.0",
    "\\u0000",
    "\\ud800",
    "\u{feff}",
    "%",
    "%zz",
    "::",
    "fe80::1%eth0",
    "10.0.0.1/33",
    "\0",
];

/// Makes damaged inputs from right ones.
#[derive(Debug)]
pub struct Mutator(u64);

impl Mutator {
    /// One whose damage follows from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `n`, which is not zero (SplitMix64).
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    }

    /// One of `seeds`, damaged once to six times.
    pub fn damaged(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = self.one(seeds).to_vec();
        for _ in 0..=self.below(6) {
            let other = self.one(seeds);
            self.damage(&mut bytes, other);
        }
        bytes.truncate(BYTES_MAX);
        bytes
    }

    fn one<'a>(&mut self, seeds: &'a [Vec<u8>]) -> &'a [u8] {
        match seeds.len() {
            0 => &[],
            count => &seeds[self.below(count)],
        }
    }

    /// A range of `bytes`, mostly short.
    fn range(&mut self, bytes: &[u8]) -> std::ops::Range<usize> {
        let from = self.below(bytes.len() + 1);
        let longest = [8, 64, bytes.len() + 1][self.below(3)];
        let to = from + self.below(longest);
        from..to.min(bytes.len())
    }

    fn damage(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        let at = self.below(bytes.len() + 1);
        match self.below(8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            1 if at < bytes.len() => bytes[at] = self.below(256) as u8,
            2 => {
                let range = self.range(bytes);
                bytes.drain(range);
            }
            3 => {
                let copy = self.range(bytes);
                let copy = bytes[copy].to_vec();
                bytes.splice(at..at, copy);
            }
            4 => {
                let range = self.range(other);
                bytes.splice(at..at, other[range].to_vec());
            }
            5 => bytes.truncate(at),
            6 => self.renumber(bytes, at),
            _ => {
                let word = WORDS[self.below(WORDS.len())];
                bytes.splice(at..at, word.bytes());
            }
        }
    }

    /// Puts a word in the place of the number or quoted text at or after `at`.
    fn renumber(&mut self, bytes: &mut Vec<u8>, at: usize) {
        let digit = |byte: &u8| byte.is_ascii_digit() || *byte == b'"';
        let Some(from) = bytes
            .iter()
            .skip(at)
            .position(digit)
            .map(|found| at + found)
        else {
            return;
        };
        let quoted = bytes[from] == b'"';
        let rest = bytes.iter().skip(from + 1);
        let length = match quoted {
            true => rest.take_while(|byte| **byte != b'"').count() + 2,
            false => rest.take_while(|byte| byte.is_ascii_digit()).count() + 1,
        };
        let to = (from + length).min(bytes.len());
        let word = WORDS[self.below(WORDS.len())];
        bytes.splice(from..to, word.bytes());
    }
}
