//! The reference's families, with its labels and without its errors.
//!
//! Every series has the labels `channel`, `client_id`, `node`, `side` and `type`. The client is
//! empty unless `metrics.client_label` is set: then what clients did is told by client and channel,
//! as far as the tables of the clients go. What they do not hold is in the series with an empty
//! client and channel.

use super::gather::{Scrape, place};
use super::steps::{Family, Row, Series};
use super::text::{Kind, Text, Value};
use crate::engine::clients::{FailureFacts, Figures, UseFacts};
use crate::model::Kind as ChannelKind;

const MESSAGES: &str = "kubemq_messages_count";
const VOLUME: &str = "kubemq_messages_volume";
const LAST_SEEN: &str = "kubemq_messages_last_seen";
const ERRORS: &str = "kubemq_errors_count";
const CLIENTS: &str = "kubemq_clients_count";
const DELAYED: &str = "kubemq_messages_delayed";
const EXPIRED: &str = "kubemq_messages_expired";

const SEND: &str = "send";
const RECEIVE: &str = "receive";

/// The families.
pub(super) fn families(by_client: bool) -> Vec<Family> {
    let of = |name, kind, help, series| Family {
        name,
        kind,
        help,
        series,
        rest: None,
    };
    let channels = Series::Channels;
    let [messages, volume, last_seen] = if by_client {
        [messages_of_use, volume_of_use, last_seen_of_use].map(Series::Uses)
    } else {
        [messages, volume, last_seen].map(|each: EachRow| channels(each))
    };
    let mut list = vec![
        Family {
            rest: Some(rest_of_messages),
            ..of(
                MESSAGES,
                Kind::OldCounter,
                "Messages accepted and delivered.",
                messages,
            )
        },
        Family {
            rest: Some(rest_of_volume),
            ..of(VOLUME, Kind::OldCounter, "Their bytes.", volume)
        },
        Family {
            rest: Some(rest_of_errors),
            ..of(
                ERRORS,
                Kind::OldCounter,
                "Sends that failed.",
                Series::Failures(errors),
            )
        },
    ];
    list.extend([
        of(
            LAST_SEEN,
            Kind::Gauge,
            "When something last went over a channel: milliseconds since 1970.",
            last_seen,
        ),
        of(
            CLIENTS,
            Kind::Gauge,
            "Subscribers, or polls that wait.",
            channels(clients),
        ),
        of(
            DELAYED,
            Kind::Gauge,
            "Messages of a queue that become visible later.",
            channels(delayed),
        ),
        of(
            EXPIRED,
            Kind::OldCounter,
            "Messages of a queue whose time was over.",
            channels(expired),
        ),
    ]);
    list
}

type EachRow = fn(&Scrape, &Row<'_>, &mut Text);

/// The labels of a series, in the reference's order.
struct Labels<'a> {
    channel: &'a str,
    client: &'a str,
    side: &'a str,
    kind: &'a str,
}

fn put(name: &str, scrape: &Scrape, labels: &Labels<'_>, value: u64, text: &mut Text) {
    let labels = [
        ("channel", labels.channel),
        ("client_id", labels.client),
        ("node", &*scrape.node),
        ("side", labels.side),
        ("type", labels.kind),
    ];
    text.sample(name, &labels, Value::Number(value));
}

/// Writes a figure of a channel for both sides; zeroes are left out.
fn both(name: &str, scrape: &Scrape, row: &Row<'_>, sides: [u64; 2], text: &mut Text) {
    for (side, value) in [SEND, RECEIVE].into_iter().zip(sides) {
        if value > 0 {
            put(name, scrape, &of_row(row, side), value, text);
        }
    }
}

const fn of_row<'a>(row: &Row<'a>, side: &'a str) -> Labels<'a> {
    Labels {
        channel: row.facts.name,
        client: "",
        side,
        kind: row.kind.name(),
    }
}

fn messages(scrape: &Scrape, row: &Row<'_>, text: &mut Text) {
    let traffic = &row.facts.traffic;
    both(
        MESSAGES,
        scrape,
        row,
        [traffic.messages_in, traffic.messages_out],
        text,
    );
}

fn volume(scrape: &Scrape, row: &Row<'_>, text: &mut Text) {
    let traffic = &row.facts.traffic;
    both(
        VOLUME,
        scrape,
        row,
        [traffic.bytes_in, traffic.bytes_out],
        text,
    );
}

fn last_seen(scrape: &Scrape, row: &Row<'_>, text: &mut Text) {
    // The latest of all is nothing that the rest could say of itself.
    if row.is_rest() {
        return;
    }
    let traffic = &row.facts.traffic;
    let seen = |messages: u64| if messages > 0 { traffic.last_ms } else { 0 };
    let sides = [seen(traffic.messages_in), seen(traffic.messages_out)];
    both(LAST_SEEN, scrape, row, sides, text);
}

fn clients(scrape: &Scrape, row: &Row<'_>, text: &mut Text) {
    put(
        CLIENTS,
        scrape,
        &of_row(row, RECEIVE),
        row.facts.consumers,
        text,
    );
}

fn delayed(scrape: &Scrape, row: &Row<'_>, text: &mut Text) {
    if row.kind == ChannelKind::Queues {
        put(DELAYED, scrape, &of_row(row, SEND), row.facts.delayed, text);
    }
}

fn expired(scrape: &Scrape, row: &Row<'_>, text: &mut Text) {
    if row.facts.expired > 0 {
        put(EXPIRED, scrape, &of_row(row, SEND), row.facts.expired, text);
    }
}

fn errors(scrape: &Scrape, failure: &FailureFacts, text: &mut Text) {
    let labels = Labels {
        channel: &failure.channel,
        client: "",
        side: SEND,
        kind: failure.kind.name(),
    };
    put(ERRORS, scrape, &labels, failure.errors, text);
}

/// Failed sends to channels that have no entry.
fn rest_of_errors(scrape: &Scrape, text: &mut Text) {
    for kind in ChannelKind::ALL {
        let others = scrape.clients.other_errors_of(kind);
        if others > 0 {
            put(ERRORS, scrape, &of_nobody(kind, SEND), others, text);
        }
    }
}

const fn of_nobody(kind: ChannelKind, side: &'static str) -> Labels<'static> {
    Labels {
        channel: "",
        client: "",
        side,
        kind: kind.name(),
    }
}

fn of_use(name: &str, scrape: &Scrape, found: &UseFacts, sides: [u64; 2], text: &mut Text) {
    for (side, value) in [SEND, RECEIVE].into_iter().zip(sides) {
        let labels = Labels {
            channel: &found.channel,
            client: &found.client,
            side,
            kind: found.kind.name(),
        };
        if value > 0 {
            put(name, scrape, &labels, value, text);
        }
    }
}

fn messages_of_use(scrape: &Scrape, found: &UseFacts, text: &mut Text) {
    let figures = &found.figures;
    of_use(
        MESSAGES,
        scrape,
        found,
        [figures.messages_in, figures.messages_out],
        text,
    );
}

fn volume_of_use(scrape: &Scrape, found: &UseFacts, text: &mut Text) {
    let figures = &found.figures;
    of_use(
        VOLUME,
        scrape,
        found,
        [figures.bytes_in, figures.bytes_out],
        text,
    );
}

fn last_seen_of_use(scrape: &Scrape, found: &UseFacts, text: &mut Text) {
    let figures = &found.figures;
    let seen = |messages: u64| if messages > 0 { figures.last_ms } else { 0 };
    let sides = [seen(figures.messages_in), seen(figures.messages_out)];
    of_use(LAST_SEEN, scrape, found, sides, text);
}

/// Responses, and what the tables of the clients do not hold.
fn rest_of_messages(scrape: &Scrape, text: &mut Text) {
    put_others(
        MESSAGES,
        scrape,
        |figures| [figures.messages_in, figures.messages_out],
        text,
    );
    let responses = [ChannelKind::Commands, ChannelKind::Queries]
        .into_iter()
        .filter_map(|kind| scrape.channels.as_ref()?.totals.get(place(kind)))
        .map(|totals| totals.sums.traffic.responses_in)
        .sum();
    if responses > 0 {
        let labels = Labels {
            channel: "",
            client: "",
            side: SEND,
            kind: "responses",
        };
        put(MESSAGES, scrape, &labels, responses, text);
    }
}

fn rest_of_volume(scrape: &Scrape, text: &mut Text) {
    put_others(
        VOLUME,
        scrape,
        |figures| [figures.bytes_in, figures.bytes_out],
        text,
    );
}

fn put_others(name: &str, scrape: &Scrape, sides: impl Fn(&Figures) -> [u64; 2], text: &mut Text) {
    if !scrape.client_label {
        return;
    }
    for (kind, others) in ChannelKind::ALL.into_iter().zip(&scrape.clients.other_uses) {
        for (side, value) in [SEND, RECEIVE].into_iter().zip(sides(others)) {
            if value > 0 {
                put(name, scrape, &of_nobody(kind, side), value, text);
            }
        }
    }
}
