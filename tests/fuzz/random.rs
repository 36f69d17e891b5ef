//! Inputs from a seed: the same in every run.

/// SplitMix64: small, and good enough to choose bytes.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound.max(1)).unwrap()).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    /// Random bytes, or an example with a few things changed.
    pub(crate) fn input(&mut self, examples: &[Vec<u8>]) -> Vec<u8> {
        if self.below(16) == 0 {
            let length = self.below(512);
            return (0..length).map(|_| self.byte()).collect();
        }
        let mut bytes = examples[self.below(examples.len())].clone();
        for _ in 0..self.below(6) {
            self.change(&mut bytes, examples);
        }
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, examples: &[Vec<u8>]) {
        let at = self.below(bytes.len());
        let rest = bytes.len() - at;
        match self.below(9) {
            0 => bytes.truncate(at),
            1 => {
                let other = &examples[self.below(examples.len())];
                bytes.extend_from_slice(&other[self.below(other.len())..]);
            }
            2 if rest > 0 => {
                let piece = bytes[at..at + self.below(rest)].to_vec();
                bytes.splice(at..at, piece);
            }
            3 if rest > 0 => {
                bytes.drain(at..at + self.below(rest));
            }
            4 if rest > 0 => {
                bytes[at] = [0, 0x7f, 0x80, 0xff, b'"', b'{', b'[', b'\n'][self.below(8)];
            }
            5 => {
                let length = self.below(12);
                let piece: Vec<u8> = (0..length).map(|_| self.byte()).collect();
                bytes.splice(at..at, piece);
            }
            6 if rest > 0 => {
                // What a length or a number may be turned into.
                let number = *b"99999999999999999999";
                let length = self.below(number.len());
                bytes.splice(at..=at, number[..length].to_vec());
            }
            _ if rest > 0 => bytes[at] ^= 1 << self.below(8),
            _ => bytes.push(self.byte()),
        }
    }
}
