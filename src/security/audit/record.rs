//! One entry, as it waits and as it is written.

use std::hash::{Hash, Hasher};
use std::net::SocketAddr;

use serde::Serialize;

use super::Entry;
use super::chain::Chain;
use crate::model::calendar::rfc3339_ms;
use crate::model::identity::Proof;

/// Bytes that are kept of a text. Six times as much, as which JSON may write it, has room in a
/// line.
const TEXT_BYTES_MAX: usize = 600;

/// What is kept of an entry until it is written.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) at_ns: i64,
    who: Box<str>,
    proof: Proof,
    client_id: Box<str>,
    peer: Option<SocketAddr>,
    what: Box<str>,
    target: Box<str>,
    /// Why it was refused.
    reason: Option<Box<str>>,
}

/// The fields of a line, in their order.
#[derive(Serialize)]
struct Line<'a> {
    n: u64,
    time: &'a str,
    what: &'a str,
    outcome: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    who: &'a str,
    proof: &'a str,
    client_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<SocketAddr>,
    target: &'a str,
    /// How often it happened besides the time that has a line of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    times: Option<u64>,
    /// Entries before this one that are missing.
    #[serde(skip_serializing_if = "is_zero")]
    lost: u64,
    previous: &'a str,
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "the serializer passes a reference"
)]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Record {
    pub(super) fn of(entry: &Entry<'_>, at_ns: i64) -> Self {
        Self {
            at_ns,
            who: cut(entry.who),
            proof: entry.proof,
            client_id: cut(entry.client_id),
            peer: entry.peer,
            what: cut(entry.what),
            target: cut(entry.target),
            reason: entry.outcome.err().map(cut),
        }
    }

    /// An entry about the log itself.
    pub(super) fn of_log(what: &str, target: &str, at_ns: i64) -> Self {
        let entry = Entry {
            who: "",
            proof: Proof::None,
            client_id: "",
            peer: None,
            what,
            target,
            outcome: Ok(()),
        };
        Self::of(&entry, at_ns)
    }

    pub(super) const fn is_refusal(&self) -> bool {
        self.reason.is_some()
    }

    /// Bytes that it takes while it waits, about.
    pub(super) fn bytes(&self) -> usize {
        let texts = [&self.who, &self.client_id, &self.what, &self.target];
        size_of::<Self>() + texts.iter().map(|text| text.len()).sum::<usize>()
    }

    /// Appends the line that comes next in a chain, with its end.
    pub(super) fn write(
        &self,
        times: Option<u64>,
        lost: u64,
        chain: &mut Chain,
        out: &mut Vec<u8>,
    ) {
        let line = Line {
            n: chain.last + 1,
            time: &rfc3339_ms(self.at_ns),
            what: &self.what,
            outcome: if self.is_refusal() { "refused" } else { "done" },
            reason: self.reason.as_deref(),
            who: &self.who,
            proof: self.proof.word(),
            client_id: &self.client_id,
            peer: self.peer,
            target: &self.target,
            times,
            lost,
            previous: &chain.hash.to_string(),
        };
        // Strings and numbers: nothing of that can fail.
        let json = serde_json::to_vec(&line).unwrap_or_default();
        chain.add(&json);
        out.extend_from_slice(&json);
        out.push(b'\n');
    }
}

/// The same thing once more: times and ports of peers do not count.
impl PartialEq for Record {
    fn eq(&self, other: &Self) -> bool {
        self.what == other.what
            && self.who == other.who
            && self.proof == other.proof
            && self.client_id == other.client_id
            && self.target == other.target
            && self.reason == other.reason
            && self.peer.map(|peer| peer.ip()) == other.peer.map(|peer| peer.ip())
    }
}

impl Eq for Record {}

impl Hash for Record {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let texts = (&self.what, &self.who, &self.client_id, &self.target);
        texts.hash(state);
        self.proof.hash(state);
        self.reason.hash(state);
        self.peer.map(|peer| peer.ip()).hash(state);
    }
}

fn cut(text: &str) -> Box<str> {
    let (beginning, _) = text.split_at(text.floor_char_boundary(TEXT_BYTES_MAX));
    beginning.into()
}

#[cfg(test)]
mod tests {
    use super::super::chain::{LINE_BYTES_MAX, Link};
    use super::*;

    #[test]
    fn whatever_a_peer_sends_the_line_is_one_and_bounded() {
        let nasty = "\u{1}\"\\\n\r\u{2028}é".repeat(999);
        let entry = Entry {
            who: &nasty,
            proof: Proof::Token,
            client_id: &nasty,
            peer: Some(([1, 2, 3, 4], 5).into()),
            what: &nasty,
            target: &nasty,
            outcome: Err(&nasty),
        };
        let (mut chain, mut out) = (Chain::default(), Vec::new());
        Record::of(&entry, i64::MAX).write(Some(u64::MAX), u64::MAX, &mut chain, &mut out);
        assert_eq!(out.pop(), Some(b'\n'));
        assert!(
            !out.contains(&b'\n') && out.len() <= LINE_BYTES_MAX,
            "{}",
            out.len()
        );
        let link = Link::read(&out).unwrap();
        assert!(link.follows(&Chain::default()));
    }

    #[test]
    fn a_line_has_its_fields_in_their_order() {
        let entry = Entry {
            who: "alice",
            proof: Proof::ApiKey,
            client_id: "a-1",
            peer: Some(([10, 0, 0, 1], 4_000).into()),
            what: "channel.purge",
            target: "queues:orders",
            outcome: Ok(()),
        };
        let (mut chain, mut out) = (Chain::default(), Vec::new());
        Record::of(&entry, 1_795_219_200_250_000_000).write(None, 0, &mut chain, &mut out);
        let zeros = "0".repeat(64);
        let expected = format!(
            concat!(
                r#"{{"n":1,"time":"2026-11-21T00:00:00.250Z","what":"channel.purge","#,
                r#""outcome":"done","who":"alice","proof":"api_key","client_id":"a-1","#,
                r#""peer":"10.0.0.1:4000","target":"queues:orders","previous":"{}"}}"#,
            ),
            zeros
        );
        assert_eq!(String::from_utf8(out).unwrap(), format!("{expected}\n"));
    }
}
