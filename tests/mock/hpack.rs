//! HPACK (RFC 7541) for the mock peer: an encoder that never compresses and a whole decoder.

use std::collections::VecDeque;

/// Decoded header fields, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields(Vec<(String, String)>);

impl Fields {
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Encodes every field as "literal without indexing, new name", so that nothing depends on state.
pub(crate) fn encode(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0x00);
        for text in [name, value] {
            encode_integer(&mut out, 0x00, 7, text.len());
            out.extend_from_slice(text.as_bytes());
        }
    }
    out
}

fn encode_integer(out: &mut Vec<u8>, first: u8, prefix_bits: u32, value: usize) {
    let limit = (1usize << prefix_bits) - 1;
    let byte = |n: usize| u8::try_from(n).expect("masked to a byte");
    if value < limit {
        out.push(first | byte(value));
        return;
    }
    out.push(first | byte(limit));
    let mut rest = value - limit;
    while rest >= 0x80 {
        out.push(byte(rest & 0x7f) | 0x80);
        rest >>= 7;
    }
    out.push(byte(rest));
}

/// The decoder of one connection.
#[derive(Debug)]
pub(crate) struct Decoder {
    dynamic: VecDeque<(String, String)>,
    dynamic_bytes: usize,
    dynamic_bytes_max: usize,
    huffman: Huffman,
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            dynamic: VecDeque::new(),
            dynamic_bytes: 0,
            dynamic_bytes_max: 4096,
            huffman: Huffman::new(),
        }
    }
}

impl Decoder {
    /// Decodes a whole header block; `None` if it is not HPACK.
    pub(crate) fn decode(&mut self, block: &[u8]) -> Option<Fields> {
        let mut rest = block;
        let mut fields = Vec::new();
        while let Some(first) = rest.first().copied() {
            if first & 0x80 != 0 {
                let index = take_integer(&mut rest, 7)?;
                fields.push(self.indexed(index)?);
            } else if first & 0xc0 == 0x40 {
                let field = self.take_literal(&mut rest, 6)?;
                self.remember(field.clone());
                fields.push(field);
            } else if first & 0xe0 == 0x20 {
                self.dynamic_bytes_max = take_integer(&mut rest, 5)?;
                self.evict();
            } else {
                fields.push(self.take_literal(&mut rest, 4)?);
            }
        }
        Some(Fields(fields))
    }

    fn take_literal(&self, rest: &mut &[u8], prefix_bits: u32) -> Option<(String, String)> {
        let name = match take_integer(rest, prefix_bits)? {
            0 => self.take_string(rest)?,
            index => self.indexed(index)?.0,
        };
        Some((name, self.take_string(rest)?))
    }

    fn take_string(&self, rest: &mut &[u8]) -> Option<String> {
        let compressed = rest.first()? & 0x80 != 0;
        let length = take_integer(rest, 7)?;
        let (raw, after) = rest.split_at_checked(length)?;
        *rest = after;
        let bytes = if compressed {
            self.huffman.decode(raw)?
        } else {
            raw.to_vec()
        };
        String::from_utf8(bytes).ok()
    }

    fn indexed(&self, index: usize) -> Option<(String, String)> {
        let at = index.checked_sub(1)?;
        match STATIC.get(at) {
            Some((name, value)) => Some(((*name).to_owned(), (*value).to_owned())),
            None => self.dynamic.get(at - STATIC.len()).cloned(),
        }
    }

    fn remember(&mut self, field: (String, String)) {
        self.dynamic_bytes += entry_bytes(&field);
        self.dynamic.push_front(field);
        self.evict();
    }

    fn evict(&mut self) {
        while self.dynamic_bytes > self.dynamic_bytes_max {
            let Some(oldest) = self.dynamic.pop_back() else {
                break;
            };
            self.dynamic_bytes -= entry_bytes(&oldest);
        }
    }
}

/// What RFC 7541 §4.1 counts for an entry.
fn entry_bytes((name, value): &(String, String)) -> usize {
    name.len() + value.len() + 32
}

fn take_integer(rest: &mut &[u8], prefix_bits: u32) -> Option<usize> {
    let (first, mut after) = rest.split_first()?;
    let limit = (1usize << prefix_bits) - 1;
    let mut value = usize::from(*first) & limit;
    if value == limit {
        let mut shift = 0;
        loop {
            let (byte, tail) = after.split_first()?;
            after = tail;
            value = value.checked_add(usize::from(byte & 0x7f).checked_shl(shift)?)?;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    *rest = after;
    Some(value)
}

/// HPACK's Huffman code. It is canonical (codes of one length ascend with their symbols), so the
/// lengths are enough to rebuild it.
#[derive(Debug)]
struct Huffman {
    /// Symbols by ascending (length, symbol).
    symbols: Vec<usize>,
    /// For each length: the first code of that length, and how many there are.
    lengths: Vec<(u32, u32)>,
}

impl Huffman {
    fn new() -> Self {
        let mut symbols: Vec<usize> = (0..CODE_LENGTHS.len()).collect();
        symbols.sort_by_key(|symbol| (CODE_LENGTHS[*symbol], *symbol));
        let mut lengths = vec![(0, 0)];
        let mut next_code = 0u32;
        for length in 1..=30u8 {
            next_code <<= 1;
            let count = CODE_LENGTHS.iter().filter(|l| **l == length).count();
            let count = u32::try_from(count).expect("at most 257 symbols");
            lengths.push((next_code, count));
            next_code += count;
        }
        Self { symbols, lengths }
    }

    fn decode(&self, raw: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let (mut code, mut length, mut symbols_before) = (0u32, 0usize, 0u32);
        for bit in raw
            .iter()
            .flat_map(|byte| (0..8).rev().map(move |n| (byte >> n) & 1))
        {
            code = (code << 1) | u32::from(bit);
            length += 1;
            let (first, count) = *self.lengths.get(length)?;
            if code < first + count {
                let position = symbols_before + (code - first);
                let symbol = self.symbols.get(usize::try_from(position).ok()?)?;
                out.push(u8::try_from(*symbol).ok()?);
                (code, length, symbols_before) = (0, 0, 0);
            } else {
                symbols_before += count;
            }
        }
        // The padding is the beginning of the end-of-string symbol: less than a byte of ones.
        (length < 8 && code == (1 << length) - 1).then_some(out)
    }
}

/// Length in bits of each symbol's code (RFC 7541, appendix B); the last one is end-of-string.
#[rustfmt::skip]
const CODE_LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7,
    7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21,
    23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24,
    21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

/// RFC 7541, appendix A.
const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

mod tests {
    use super::*;

    /// RFC 7541, appendix C.6.1: a response with Huffman coding and indexing.
    #[test]
    fn the_decoder_reads_the_rfcs_example() {
        let block = [
            0x48, 0x82, 0x64, 0x02, 0x58, 0x85, 0xae, 0xc3, 0x77, 0x1a, 0x4b, 0x61, 0x96, 0xd0,
            0x7a, 0xbe, 0x94, 0x10, 0x54, 0xd4, 0x44, 0xa8, 0x20, 0x05, 0x95, 0x04, 0x0b, 0x81,
            0x66, 0xe0, 0x82, 0xa6, 0x2d, 0x1b, 0xff, 0x6e, 0x91, 0x9d, 0x29, 0xad, 0x17, 0x18,
            0x63, 0xc7, 0x8f, 0x0b, 0x97, 0xc8, 0xe9, 0xae, 0x82, 0xae, 0x43, 0xd3,
        ];
        let mut decoder = Decoder::default();
        let fields = decoder.decode(&block).unwrap();
        assert_eq!(fields.get(":status"), Some("302"));
        assert_eq!(fields.get("cache-control"), Some("private"));
        assert_eq!(fields.get("date"), Some("Mon, 21 Oct 2013 20:13:21 GMT"));
        assert_eq!(fields.get("location"), Some("https://www.example.com"));
        // The indexed form of the last field, from the dynamic table.
        assert_eq!(
            decoder.decode(&[0xbe]).unwrap().get("location"),
            fields.get("location")
        );
    }

    #[test]
    fn the_decoder_reads_what_the_encoder_writes() {
        let long = "x".repeat(70_000);
        let block = encode(&[(":path", "/a"), ("x-long", &long)]);
        let fields = Decoder::default().decode(&block).unwrap();
        assert_eq!(fields.get(":path"), Some("/a"));
        assert_eq!(fields.get("x-long"), Some(long.as_str()));
    }
}
