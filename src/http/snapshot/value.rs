//! A block of figures with their humanised twins.

use super::human;
use crate::engine::clients::Figures;
use crate::http::stats::write::{put, put_member, put_number, put_string};
use crate::model::Kind;
use crate::shard::ChannelFacts;

/// The figures of one direction of a channel, a client or a family, or of both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Values {
    pub(super) messages: u64,
    pub(super) volume: u64,
    pub(super) errors: u64,
    pub(super) waiting: u64,
    pub(super) clients: u64,
    pub(super) last_ms: u64,
    pub(super) expired: u64,
    pub(super) delayed: u64,
}

impl Values {
    /// Both directions; of their clients, only the caller knows who is in both.
    pub(super) fn both(incoming: &Self, outgoing: &Self, clients: u64) -> Self {
        let mut both = *incoming;
        both.add(outgoing);
        both.clients = clients;
        both
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.messages += other.messages;
        self.volume += other.volume;
        self.errors += other.errors;
        self.waiting += other.waiting;
        self.clients += other.clients;
        self.last_ms = self.last_ms.max(other.last_ms);
        self.expired += other.expired;
        self.delayed += other.delayed;
    }

    /// What clients sent to channels of a kind, and what was delivered from them.
    pub(super) fn of_channel(kind: Kind, facts: &ChannelFacts<'_>, errors: u64) -> (Self, Self) {
        let traffic = &facts.traffic;
        let incoming = Self {
            messages: traffic.messages_in,
            volume: traffic.bytes_in,
            errors,
            last_ms: if traffic.messages_in > 0 {
                traffic.last_ms
            } else {
                0
            },
            expired: facts.expired,
            delayed: facts.delayed,
            ..Self::default()
        };
        // Stored events wait for nobody in particular.
        let waiting = if kind == Kind::Queues {
            facts.waiting
        } else {
            0
        };
        let outgoing = Self {
            messages: traffic.messages_out,
            volume: traffic.bytes_out,
            waiting,
            last_ms: if traffic.messages_out > 0 {
                traffic.last_ms
            } else {
                0
            },
            ..Self::default()
        };
        (incoming, outgoing)
    }

    /// What a client sent, and what it was given.
    pub(super) fn of_client(figures: &Figures) -> (Self, Self) {
        let side = |messages: u64, volume, errors| Self {
            messages,
            volume,
            errors,
            clients: u64::from(messages > 0),
            last_ms: if messages > 0 { figures.last_ms } else { 0 },
            ..Self::default()
        };
        (
            side(figures.messages_in, figures.bytes_in, figures.errors),
            side(figures.messages_out, figures.bytes_out, 0),
        )
    }

    /// Appends `"name":{…}`, with a comma before it.
    pub(super) fn put(&self, name: &str, now_ms: u64, out: &mut Vec<u8>) {
        put(",\"", out);
        put(name, out);
        put("\":{\"messages\":", out);
        put_number(self.messages, out);
        put_twin("messages", &human::count(self.messages), out);
        put_member("volume", self.volume, out);
        put_twin("volume", &human::bytes(self.volume), out);
        for (name, number) in [
            ("errors", self.errors),
            ("waiting", self.waiting),
            ("clients", self.clients),
        ] {
            put_member(name, number, out);
            put_twin(name, &human::count(number), out);
        }
        put_member("lastActivity", self.last_ms, out);
        put_twin("lastActivity", &human::ago(self.last_ms, now_ms), out);
        for (name, number) in [("expired", self.expired), ("delayed", self.delayed)] {
            put_member(name, number, out);
            put_twin(name, &human::count(number), out);
        }
        put("}", out);
    }
}

fn put_twin(name: &str, text: &str, out: &mut Vec<u8>) {
    put(",\"", out);
    put(name, out);
    put("Humanized\":", out);
    put_string(text, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::traffic::Traffic;

    #[test]
    fn every_figure_has_its_twin() {
        let values = Values {
            messages: 1_234,
            volume: 1_500,
            last_ms: 1_000,
            ..Values::default()
        };
        let mut out = b"{\"x\":0".to_vec();
        values.put("total", 61_000, &mut out);
        out.push(b'}');
        let read: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let total = read["total"].as_object().unwrap();
        assert_eq!(total.len(), 16);
        assert_eq!(
            (&total["messages"], &total["messagesHumanized"]),
            (&1_234.into(), &"1,234".into())
        );
        assert_eq!(total["volumeHumanized"], "1.5 kB");
        assert_eq!(total["lastActivityHumanized"], "1 minute ago");
    }

    #[test]
    fn directions_have_what_belongs_to_them() {
        let facts = ChannelFacts {
            traffic: Traffic {
                messages_in: 3,
                messages_out: 1,
                last_ms: 7,
                ..Traffic::default()
            },
            waiting: 2,
            ..ChannelFacts::default()
        };
        let (incoming, outgoing) = Values::of_channel(Kind::Queues, &facts, 1);
        assert_eq!(
            (incoming.messages, incoming.errors, incoming.waiting),
            (3, 1, 0)
        );
        assert_eq!(
            (outgoing.messages, outgoing.errors, outgoing.waiting),
            (1, 0, 2)
        );
        let both = Values::both(&incoming, &outgoing, 5);
        assert_eq!((both.messages, both.clients, both.last_ms), (4, 5, 7));
    }
}
