//! Writing the document, some channels at a time.

use super::CHANNELS_MAX;
use super::human;
use super::survey::{Clients, Family, Found, Host, Uses};
use super::value::Values;
use crate::http::stats::write::{put, put_member, put_string};
use crate::model::Kind;
use crate::rt;
use crate::shard::{LATELY_MS, Surveyed};

/// Channels that are written in one go.
const CHANNELS: usize = 16;

/// Channels at the top of a dashboard.
const TOP: usize = 10;

/// Writes the document.
pub(super) async fn write(mut found: Found) -> Vec<u8> {
    let now_ms = found.now_ms;
    let mut lists = Vec::new();
    let mut top = Vec::new();
    for family in [
        &mut found.queues,
        &mut found.pubsub,
        &mut found.request_reply,
    ] {
        lists.push(write_list(family, &found.uses, now_ms, &mut top).await);
    }
    top.sort_by_key(|(last_ms, _)| u64::MAX - last_ms);
    top.truncate(TOP);
    let mut out = begin(&found, &top);
    let families = ["queues", "pubsub", "commandsQueries"].into_iter().zip([
        &found.queues,
        &found.pubsub,
        &found.request_reply,
    ]);
    for ((key, family), list) in families.zip(lists) {
        put_family(key, family, &list, now_ms, &mut out);
        rt::reactor_yield().await;
    }
    put(",\"nodeType\":\"community\",\"node\":", &mut out);
    put_string(&found.host.name, &mut out);
    put("}", &mut out);
    found.uses.discard().await;
    out
}

/// Writes everything before the families.
fn begin(found: &Found, top: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let now_ms = found.now_ms;
    let families = [&found.queues, &found.pubsub, &found.request_reply];
    let (mut incoming, mut outgoing) = (Values::default(), Values::default());
    let (mut channels, mut active) = (0, 0);
    for family in families {
        incoming.add(&family.incoming);
        outgoing.add(&family.outgoing);
        channels += family.totals.channels;
        active += family.totals.lately;
    }
    (incoming.clients, outgoing.clients) = (found.clients.incoming, found.clients.outgoing);
    let total = Values::both(&incoming, &outgoing, found.clients.all);
    let mut out = Vec::with_capacity(64 << 10);
    put("{\"hostsInfo\":[", &mut out);
    put_host(&found.host, now_ms, &mut out);
    put("],\"statsCards\":", &mut out);
    let sums = Sums {
        channels,
        active,
        incoming: &incoming,
        outgoing: &outgoing,
        clients: found.clients,
    };
    put_cards(families, &sums, &mut out);
    put(",\"topChannels\":[", &mut out);
    for (at, (_, channel)) in top.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.extend_from_slice(channel);
    }
    put("]", &mut out);
    put_activity(total.last_ms, now_ms, &mut out);
    total.put("total", now_ms, &mut out);
    incoming.put("incoming", now_ms, &mut out);
    outgoing.put("outgoing", now_ms, &mut out);
    put_counted("channels", channels, &mut out);
    put_counted("clients", found.clients.all, &mut out);
    put_member("activeChannels", active, &mut out);
    out
}

fn put_host(host: &Host, now_ms: u64, out: &mut Vec<u8>) {
    let memory = &host.process.memory;
    put("{\"host\":", out);
    put_string(&host.name, out);
    put(",\"version\":", out);
    put_string(concat!("v", env!("CARGO_PKG_VERSION")), out);
    put(",\"lastUpdate\":", out);
    let seconds = i64::try_from(now_ms / 1_000).unwrap_or_default();
    put_string(&human::moment(seconds), out);
    put(
        ",\"status\":\"Running\",\"role\":\"Standalone\",\"uptime\":",
        out,
    );
    put_string(&human::duration(host.uptime_seconds), out);
    put(",\"memoryAllocated\":", out);
    put_string(&human::bytes(memory.anonymous_bytes), out);
    put(",\"memoryUsed\":", out);
    put_string(&human::bytes(memory.resident_bytes), out);
    let used = u128::from(memory.resident_bytes) * 10_000;
    let used = used / u128::from(host.process.machine_bytes.max(1));
    put_hundredths(
        "memoryUtilization",
        u64::try_from(used).unwrap_or_default(),
        out,
    );
    put_member("osThreads", host.process.threads, out);
    put_member("cpuCores", host.cores, out);
    put_hundredths("cpuUtilization", host.cpu, out);
    put_member("activeClients", host.active_clients, out);
    put("}", out);
}

/// A number with two digits behind the point.
fn put_hundredths(key: &str, hundredths: u64, out: &mut Vec<u8>) {
    put_member(key, hundredths / 100, out);
    put(&format!(".{:02}", hundredths % 100), out);
}

/// Sums over all families.
struct Sums<'a> {
    channels: u64,
    active: u64,
    incoming: &'a Values,
    outgoing: &'a Values,
    clients: Clients,
}

fn put_cards(families: [&Family; 3], sums: &Sums<'_>, out: &mut Vec<u8>) {
    put("{\"channels\":", out);
    put_caption(
        ["Active", "Total"],
        [sums.active.to_string(), sums.channels.to_string()],
        out,
    );
    put_sections(out, families, sums.channels, |family| {
        let totals = &family.totals;
        (
            format!("({}/{})", totals.lately, totals.channels),
            totals.channels,
        )
    });
    for (key, of_all, side) in [
        (
            "outgoing",
            sums.outgoing,
            (|family| &family.outgoing) as fn(&Family) -> &Values,
        ),
        ("incoming", sums.incoming, |family| &family.incoming),
    ] {
        put(",\"", out);
        put(key, out);
        put("\":", out);
        let texts = [human::count(of_all.messages), human::bytes(of_all.volume)];
        put_caption(["Messages", "Volume"], texts, out);
        put_sections(out, families, of_all.volume, |family| {
            let values = side(family);
            let caption = if values.messages > 0 {
                format!(
                    "({}/{})",
                    human::count(values.messages),
                    human::bytes(values.volume)
                )
            } else {
                "(0/0)".to_owned()
            };
            (caption, values.volume)
        });
    }
    put(
        ",\"clients\":{\"primaryItemCaption\":\"Total\",\"primaryItemValue\":",
        out,
    );
    put_string(&sums.clients.all.to_string(), out);
    let each = families.iter().map(|family| family.clients.all).sum();
    put_sections(out, families, each, |family| {
        (format!("({})", family.clients.all), family.clients.all)
    });
    put("}", out);
}

fn put_caption([primary, secondary]: [&str; 2], [first, second]: [String; 2], out: &mut Vec<u8>) {
    put("{\"primaryItemCaption\":", out);
    put_string(primary, out);
    put(",\"primaryItemValue\":", out);
    put_string(&first, out);
    put(",\"secondaryItemCaption\":", out);
    put_string(secondary, out);
    put(",\"secondaryItemValue\":", out);
    put_string(&second, out);
}

/// Writes the sections of a card and its end: `section` gives the caption of a family and its part
/// of the whole.
fn put_sections(
    out: &mut Vec<u8>,
    families: [&Family; 3],
    whole: u64,
    section: impl Fn(&Family) -> (String, u64),
) {
    let titles = [
        ("queues", "Queues"),
        ("pubsub", "PubSub"),
        ("commandsQueries", "Commands & Queries"),
    ];
    for ((key, title), family) in titles.into_iter().zip(families) {
        let (caption, part) = section(family);
        put(",\"", out);
        put(key, out);
        put("\":{\"title\":", out);
        put_string(title, out);
        put(",\"caption\":", out);
        put_string(&caption, out);
        put(",\"value\":", out);
        put_string(&human::share(part, whole), out);
        put("}", out);
    }
    put("}", out);
}

fn put_family(key: &str, family: &Family, list: &[Vec<u8>], now_ms: u64, out: &mut Vec<u8>) {
    let total = Values::both(&family.incoming, &family.outgoing, family.clients.all);
    put(",\"", out);
    put(key, out);
    put("\":{\"name\":", out);
    put_string(family.name, out);
    put_activity(family.totals.sums.traffic.last_ms, now_ms, out);
    total.put("total", now_ms, out);
    family.incoming.put("incoming", now_ms, out);
    family.outgoing.put("outgoing", now_ms, out);
    put(",\"channelsList\":[", out);
    for piece in list {
        out.extend_from_slice(piece);
    }
    put("]", out);
    put_counted("channels", family.totals.channels, out);
    put_counted("clients", family.clients.all, out);
    put_counted("activeChannels", family.totals.lately, out);
    put_flag("isActive", family.totals.lately > 0, out);
    put("}", out);
}

/// Writes the channels of a family that were used last, in pieces; those that may be at the top of
/// all go to `top` with their time.
async fn write_list(
    family: &mut Family,
    uses: &Uses,
    now_ms: u64,
    top: &mut Vec<(u64, Vec<u8>)>,
) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    let mut piece = Vec::new();
    for at in 0..CHANNELS_MAX {
        let Some(channel) = family.survey.pop() else {
            break;
        };
        if at > 0 {
            piece.push(b',');
        }
        let written = put_channel(&channel, uses, now_ms, &mut piece);
        if at < TOP {
            top.push((channel.facts().traffic.last_ms, written));
        }
        if at % CHANNELS == CHANNELS - 1 {
            pieces.push(std::mem::take(&mut piece));
            rt::reactor_yield().await;
        }
    }
    pieces.push(piece);
    // Two kinds may have brought twice as many.
    std::mem::take(&mut family.survey).discard().await;
    pieces
}

/// Writes a channel; returns it as it stands at the top.
fn put_channel(channel: &Surveyed, uses: &Uses, now_ms: u64, out: &mut Vec<u8>) -> Vec<u8> {
    let (kind, facts) = (channel.kind, channel.facts());
    let clients = uses.of(kind, facts.name);
    let errors = uses.errors(kind, facts.name);
    let (mut incoming, mut outgoing) = Values::of_channel(kind, &facts, errors);
    for (_, figures) in clients {
        incoming.clients += u64::from(figures.messages_in > 0);
        outgoing.clients += u64::from(figures.messages_out > 0);
    }
    let all = u64::try_from(clients.len()).unwrap_or(u64::MAX);
    let total = Values::both(&incoming, &outgoing, all);
    put("{\"name\":", out);
    put_string(facts.name, out);
    put(",\"type\":", out);
    put_string(kind.name(), out);
    put_activity(facts.traffic.last_ms, now_ms, out);
    put_directions(&total, &incoming, &outgoing, now_ms, out);
    put_flag("isActive", is_active(facts.traffic.last_ms, now_ms), out);
    let key = format!("{kind}-{}", facts.name);
    put(",\"channelKey\":", out);
    put_string(&key, out);
    put(",\"clients\":[", out);
    for (at, (name, figures)) in clients.iter().enumerate() {
        let (incoming, outgoing) = Values::of_client(figures);
        put(if at == 0 { "{\"name\":" } else { ",{\"name\":" }, out);
        put_string(name, out);
        put_activity(figures.last_ms, now_ms, out);
        let total = Values::both(&incoming, &outgoing, 1);
        put_directions(&total, &incoming, &outgoing, now_ms, out);
        put_flag("isActive", is_active(figures.last_ms, now_ms), out);
        put("}", out);
    }
    put("]}", out);

    let side = |values: &Values| {
        format!(
            "{}/{}",
            human::count(values.messages),
            human::bytes(values.volume)
        )
    };
    let mut row = Vec::new();
    put("{\"type\":", &mut row);
    put_string(title(kind), &mut row);
    for (name, text) in [
        ("channel", facts.name),
        ("lastActivity", &human::ago(facts.traffic.last_ms, now_ms)),
        ("sent", &side(&incoming)),
        ("delivered", &side(&outgoing)),
        ("clients", &human::count(all)),
        ("channelKey", &key),
    ] {
        put(",\"", &mut row);
        put(name, &mut row);
        put("\":", &mut row);
        put_string(text, &mut row);
    }
    put("}", &mut row);
    row
}

fn put_directions(
    total: &Values,
    incoming: &Values,
    outgoing: &Values,
    now_ms: u64,
    out: &mut Vec<u8>,
) {
    total.put("total", now_ms, out);
    incoming.put("incoming", now_ms, out);
    outgoing.put("outgoing", now_ms, out);
}

const fn title(kind: Kind) -> &'static str {
    match kind {
        Kind::Queues => "Queue",
        Kind::Events => "Events",
        Kind::EventsStore => "Events-Store",
        Kind::Commands => "Commands",
        Kind::Queries => "Queries",
    }
}

fn is_active(last_ms: u64, now_ms: u64) -> bool {
    now_ms.saturating_sub(last_ms) < LATELY_MS
}

fn put_activity(last_ms: u64, now_ms: u64, out: &mut Vec<u8>) {
    put_member("lastActivity", last_ms, out);
    put(",\"lastActivityHuman\":", out);
    put_string(&human::ago(last_ms, now_ms), out);
}

/// A count and its text.
fn put_counted(key: &str, number: u64, out: &mut Vec<u8>) {
    put_member(key, number, out);
    put(",\"", out);
    put(key, out);
    put("Human\":", out);
    put_string(&human::count(number), out);
}

fn put_flag(key: &str, flag: bool, out: &mut Vec<u8>) {
    put(",\"", out);
    put(key, out);
    put(if flag { "\":true" } else { "\":false" }, out);
}
