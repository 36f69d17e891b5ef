//! Families of ours with a series for each channel.
//!
//! Of a channel, figures that are zero mostly are left out then: a leased message, a dead letter.
//! The depth of a queue and the lag of a consumer are always there.

use super::broker::age;
use super::gather::Scrape;
use super::steps::{Family, Row, Series};
use super::text::{Kind, Text, Value};
use crate::model::Kind as ChannelKind;

/// The families.
pub(super) const FAMILIES: [Family; 8] = [
    Family {
        name: "ringmq_queue_messages",
        kind: Kind::Gauge,
        help: "Messages of a queue by their state: waiting, leased, delayed, moving.",
        series: Series::Channels(depth),
        rest: None,
    },
    Family {
        name: "ringmq_channel_stored_messages",
        kind: Kind::Gauge,
        help: "Messages that a channel keeps.",
        series: Series::Channels(stored_messages),
        rest: None,
    },
    Family {
        name: "ringmq_channel_stored_bytes",
        kind: Kind::Gauge,
        help: "Bytes of the messages that a channel keeps.",
        series: Series::Channels(stored_bytes),
        rest: None,
    },
    Family {
        name: "ringmq_oldest_message_age_seconds",
        kind: Kind::Gauge,
        help: "Age of the oldest message that a channel keeps; zero when there is none.",
        series: Series::Channels(oldest),
        rest: None,
    },
    Family {
        name: "ringmq_queue_dead_lettered_messages_total",
        kind: Kind::Counter,
        help: "Messages of a queue that went to the queue of their dead letters.",
        series: Series::Channels(dead_lettered),
        rest: None,
    },
    Family {
        name: "ringmq_queue_dropped_messages_total",
        kind: Kind::Counter,
        help: "Messages of a queue that were received as often as they may, and had nowhere to go.",
        series: Series::Channels(dropped),
        rest: None,
    },
    Family {
        name: "ringmq_consumer_lag_messages",
        kind: Kind::Gauge,
        help: "Stored events that a client or a group has not confirmed yet.",
        series: Series::Channels(lag),
        rest: None,
    },
    Family {
        name: "ringmq_consumer_positions",
        kind: Kind::Gauge,
        help: "Durable positions in a channel.",
        series: Series::Channels(positions),
        rest: None,
    },
];

fn depth(_: &Scrape, row: &Row<'_>, text: &mut Text) {
    if row.kind != ChannelKind::Queues {
        return;
    }
    let facts = &row.facts;
    for (state, messages, always) in [
        ("waiting", facts.waiting, true),
        ("leased", facts.in_flight, false),
        ("delayed", facts.delayed, false),
        ("moving", facts.moving, false),
    ] {
        if always || messages > 0 {
            let labels = [("channel", facts.name), ("state", state)];
            text.sample("ringmq_queue_messages", &labels, Value::Number(messages));
        }
    }
}

const fn is_stored(row: &Row<'_>) -> bool {
    matches!(row.kind, ChannelKind::Queues | ChannelKind::EventsStore)
}

fn stored(name: &str, row: &Row<'_>, value: Value, text: &mut Text) {
    if is_stored(row) {
        let labels = [("channel", row.facts.name), ("kind", row.kind.name())];
        text.sample(name, &labels, value);
    }
}

fn stored_messages(_: &Scrape, row: &Row<'_>, text: &mut Text) {
    let value = Value::Number(row.facts.messages);
    stored("ringmq_channel_stored_messages", row, value, text);
}

fn stored_bytes(_: &Scrape, row: &Row<'_>, text: &mut Text) {
    let value = Value::Number(row.facts.bytes);
    stored("ringmq_channel_stored_bytes", row, value, text);
}

fn oldest(scrape: &Scrape, row: &Row<'_>, text: &mut Text) {
    // Of the rest only the oldest of all is known, which has a family of its own.
    if !row.is_rest() {
        let value = age(row.facts.oldest_ms, scrape.now_ms);
        stored("ringmq_oldest_message_age_seconds", row, value, text);
    }
}

fn queue_total(name: &str, row: &Row<'_>, count: u64, text: &mut Text) {
    if row.kind == ChannelKind::Queues && count > 0 {
        text.sample(name, &[("channel", row.facts.name)], Value::Number(count));
    }
}

fn dead_lettered(_: &Scrape, row: &Row<'_>, text: &mut Text) {
    let count = row.facts.dead_lettered;
    queue_total(
        "ringmq_queue_dead_lettered_messages_total",
        row,
        count,
        text,
    );
}

fn dropped(_: &Scrape, row: &Row<'_>, text: &mut Text) {
    let count = row.facts.dropped;
    queue_total("ringmq_queue_dropped_messages_total", row, count, text);
}

fn lag(_: &Scrape, row: &Row<'_>, text: &mut Text) {
    if row.kind != ChannelKind::EventsStore || row.facts.positions == 0 {
        return;
    }
    let mut of = |consumer: &str, owner: &str, lag| {
        let labels = [
            ("channel", row.facts.name),
            ("consumer", consumer),
            ("owner", owner),
        ];
        text.sample("ringmq_consumer_lag_messages", &labels, Value::Number(lag));
    };
    let mut told = 0;
    for position in row.positions {
        told += position.lag;
        let owner = if position.group { "group" } else { "client" };
        of(&position.name, owner, position.lag);
    }
    let shown = u64::try_from(row.positions.len()).unwrap_or(u64::MAX);
    if row.facts.positions > shown {
        // Those beyond what is told of one channel, or of the channels that are not told of.
        of("", "", row.facts.lag.saturating_sub(told));
    }
}

fn positions(_: &Scrape, row: &Row<'_>, text: &mut Text) {
    if row.kind == ChannelKind::EventsStore {
        let value = Value::Number(row.facts.positions);
        text.sample(
            "ringmq_consumer_positions",
            &[("channel", row.facts.name)],
            value,
        );
    }
}
