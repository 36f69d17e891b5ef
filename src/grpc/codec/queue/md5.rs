//! MD5 (RFC 1321), for the hash of a body that some clients ask for. It protects against nothing.

/// Characters of a hash.
pub(super) const HEX_LEN: usize = 32;

const BLOCK: usize = 64;

/// How far each step of a round turns its word.
const TURNS: [[u32; 4]; 4] = [
    [7, 12, 17, 22],
    [5, 9, 14, 20],
    [4, 11, 16, 23],
    [6, 10, 15, 21],
];

/// The hash of `message`, as 32 characters out of `0-9a-f`.
pub(super) fn hex(message: &[u8]) -> [u8; HEX_LEN] {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    let digit = |half: u8| DIGITS.get(usize::from(half)).copied().unwrap_or_default();
    let mut hex = [0; HEX_LEN];
    let bytes = digest(message);
    let bytes = bytes.iter().flat_map(|word| word.to_le_bytes());
    for (pair, byte) in hex.chunks_exact_mut(2).zip(bytes) {
        pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 0xf)]);
    }
    hex
}

fn digest(message: &[u8]) -> [u32; 4] {
    let mut state = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
    let (blocks, rest) = message.as_chunks::<BLOCK>();
    for block in blocks {
        add_block(&mut state, block);
    }
    // The end: a one bit, zeros, and the length in bits, in one block or in two.
    let bits = u64::try_from(message.len()).unwrap_or(u64::MAX) << 3;
    let padding = [0x80].into_iter().chain(std::iter::repeat(0));
    let mut end = [0; 2 * BLOCK];
    for (to, from) in end.iter_mut().zip(rest.iter().copied().chain(padding)) {
        *to = from;
    }
    let end_len = if rest.len() < BLOCK - 8 {
        BLOCK
    } else {
        2 * BLOCK
    };
    if let Some(length) = end.get_mut(end_len - 8..end_len) {
        length.copy_from_slice(&bits.to_le_bytes());
    }
    for block in end.as_chunks::<BLOCK>().0.iter().take(end_len / BLOCK) {
        add_block(&mut state, block);
    }
    state
}

fn add_block(state: &mut [u32; 4], block: &[u8; BLOCK]) {
    let mut words = [0; 16];
    for (word, bytes) in words.iter_mut().zip(block.as_chunks::<4>().0) {
        *word = u32::from_le_bytes(*bytes);
    }
    let [mut a, mut b, mut c, mut d] = *state;
    for step in 0..BLOCK {
        let (mix, word) = match step / 16 {
            0 => (b & c | !b & d, step),
            1 => (d & b | !d & c, 5 * step + 1),
            2 => (b ^ c ^ d, 3 * step + 5),
            _ => (c ^ (b | !d), 7 * step),
        };
        let word = words.get(word % 16).copied().unwrap_or_default();
        let constant = SINES.get(step).copied().unwrap_or_default();
        let turn = TURNS
            .get(step / 16)
            .and_then(|round| round.get(step % 4))
            .copied()
            .unwrap_or_default();
        let sum = a
            .wrapping_add(mix)
            .wrapping_add(word)
            .wrapping_add(constant);
        (a, d, c) = (d, c, b);
        b = b.wrapping_add(sum.rotate_left(turn));
    }
    for (word, more) in state.iter_mut().zip([a, b, c, d]) {
        *word = word.wrapping_add(more);
    }
}

/// The whole parts of 2^32 times the sines of 1 to 64.
const SINES: [u32; BLOCK] = [
    0xd76a_a478,
    0xe8c7_b756,
    0x2420_70db,
    0xc1bd_ceee,
    0xf57c_0faf,
    0x4787_c62a,
    0xa830_4613,
    0xfd46_9501,
    0x6980_98d8,
    0x8b44_f7af,
    0xffff_5bb1,
    0x895c_d7be,
    0x6b90_1122,
    0xfd98_7193,
    0xa679_438e,
    0x49b4_0821,
    0xf61e_2562,
    0xc040_b340,
    0x265e_5a51,
    0xe9b6_c7aa,
    0xd62f_105d,
    0x0244_1453,
    0xd8a1_e681,
    0xe7d3_fbc8,
    0x21e1_cde6,
    0xc337_07d6,
    0xf4d5_0d87,
    0x455a_14ed,
    0xa9e3_e905,
    0xfcef_a3f8,
    0x676f_02d9,
    0x8d2a_4c8a,
    0xfffa_3942,
    0x8771_f681,
    0x6d9d_6122,
    0xfde5_380c,
    0xa4be_ea44,
    0x4bde_cfa9,
    0xf6bb_4b60,
    0xbebf_bc70,
    0x289b_7ec6,
    0xeaa1_27fa,
    0xd4ef_3085,
    0x0488_1d05,
    0xd9d4_d039,
    0xe6db_99e5,
    0x1fa2_7cf8,
    0xc4ac_5665,
    0xf429_2244,
    0x432a_ff97,
    0xab94_23a7,
    0xfc93_a039,
    0x655b_59c3,
    0x8f0c_cc92,
    0xffef_f47d,
    0x8584_5dd1,
    0x6fa8_7e4f,
    0xfe2c_e6e0,
    0xa301_4314,
    0x4e08_11a1,
    0xf753_7e82,
    0xbd3a_f235,
    0x2ad7_d2bb,
    0xeb86_d391,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn text(message: &[u8]) -> String {
        String::from_utf8(hex(message).to_vec()).unwrap()
    }

    #[test]
    fn hashes_are_those_of_the_standard() {
        for (message, hash) in [
            ("", "d41d8cd98f00b204e9800998ecf8427e"),
            ("a", "0cc175b9c0f1b6a831c399e269772661"),
            ("abc", "900150983cd24fb0d6963f7d28e17f72"),
            ("message digest", "f96b697d7cb7938d525a2f31aaf161d0"),
            (
                "abcdefghijklmnopqrstuvwxyz",
                "c3fcd3d76192e4007dfb496cca67e13b",
            ),
            (
                "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
                "d174ab98d277d9f5a5611c2c9f419d9f",
            ),
            (
                "12345678901234567890123456789012345678901234567890123456789012345678901234567890",
                "57edf4a22be3c955ac49da2e2107b67a",
            ),
        ] {
            assert_eq!(text(message.as_bytes()), hash, "{message:?}");
        }
    }

    #[test]
    fn every_length_around_a_block_is_padded_right() {
        let hashes: Vec<_> = [55, 56, 57, 63, 64, 65, 119, 120, 128]
            .map(|len| text(&vec![b'x'; len]))
            .into();
        assert_eq!(
            hashes,
            [
                "04364420e25c512fd958a70738aa8f72",
                "668a72d5ba17f08e62dabcafad6db14b",
                "693037871c4a9d3d8685018905cb530a",
                "7dc2ca208106a2f703567bdff99d8981",
                "c1bb4f81d892b2d57947682aeb252456",
                "1bc932052302d074bdec39795fe00cf6",
                "ab347a5f68c8a443cfcddc633f12c24f",
                "fb98667f98096de92620b64f46e1c5b5",
                "d69cb61a6ee87200676eb0d4b90edbcb",
            ]
        );
    }
}
