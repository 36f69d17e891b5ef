//! `/v1/stats/clients`: who has sent and received what.
//!
//! Bounded by what each core keeps: the clients that were there last. The sums count all.

use std::cmp::Ordering;

use super::page::{Asked, Sort};
use super::stream::List;
use super::write::{put, put_member, put_string};
use super::{put_begin, put_end, to_u64};
use crate::engine::clients::{ClientFacts, Figures};
use crate::http::Context;
use crate::http::snapshot::human::rfc3339;
use crate::rt;
use crate::shard::{ClientQuestion, merge_client_reports};

/// Rows that are written in one go.
const ROWS: usize = 256;

/// The list of clients.
pub(super) async fn list(context: &Context, asked: &Asked) -> List {
    let question = ClientQuestion {
        clients: true,
        ..ClientQuestion::default()
    };
    let reports = context
        .shard
        .ask_all(move |shard| async move { shard.client_report(question).await });
    let report = merge_client_reports(reports.await).await;
    let (totals, online) = (report.totals(), report.live());
    let mut clients = Vec::new();
    for (at, client) in report.clients.into_iter().enumerate() {
        if client.name.contains(&*asked.search) {
            clients.push(client);
        }
        yield_after(at).await;
    }
    sort(&mut clients, asked).await;
    let total = to_u64(clients.len());
    let mut out = Vec::with_capacity(256);
    put_begin(&mut out);
    put("\"Host\":", &mut out);
    put_string(&context.process.machine, &mut out);
    put(",\"LastUpdate\":", &mut out);
    put_string(&rfc3339(rt::unix_ns()), &mut out);
    put_member("TotalClients", total, &mut out);
    put_member("TotalMessages", messages(&totals), &mut out);
    put_member("TotalVolume", volume(&totals), &mut out);
    put_member("TotalErrors", totals.errors, &mut out);
    put_member("TotalOnline", online, &mut out);
    put(",\"Clients\":[", &mut out);
    let (skipped, count) = asked
        .page
        .map_or((0, usize::MAX), |page| (page.before(), page.size));
    let mut first = true;
    for (at, client) in clients.into_iter().enumerate() {
        if at >= skipped && at - skipped < count {
            if !std::mem::take(&mut first) {
                out.push(b',');
            }
            put_row(&client, asked.page.is_some(), &mut out);
        }
        yield_after(at).await;
    }
    put("]", &mut out);
    put_end(asked.page, total, &mut out);
    List::text(out)
}

/// Lets others have their turn now and then.
async fn yield_after(at: usize) {
    if at % ROWS == ROWS - 1 {
        rt::reactor_yield().await;
    }
}

fn put_row(client: &ClientFacts, detailed: bool, out: &mut Vec<u8>) {
    let figures = &client.figures;
    put("{\"name\":", out);
    put_string(&client.name, out);
    put_member("total_messages", messages(figures), out);
    put_member("total_volume", volume(figures), out);
    put_member("total_errors", figures.errors, out);
    // Nothing is kept for a client: what it has not taken belongs to the channel.
    put_member("total_pending", 0, out);
    if detailed {
        put_member("messages_in", figures.messages_in, out);
        put_member("bytes_in", figures.bytes_in, out);
        put_member("messages_out", figures.messages_out, out);
        put_member("bytes_out", figures.bytes_out, out);
        put_member("last_activity", figures.last_ms, out);
        put_member("live", client.live, out);
    }
    put("}", out);
}

fn messages(figures: &Figures) -> u64 {
    figures.messages_in.saturating_add(figures.messages_out)
}

fn volume(figures: &Figures) -> u64 {
    figures.bytes_in.saturating_add(figures.bytes_out)
}

fn compare(a: &ClientFacts, b: &ClientFacts, asked: &Asked) -> Ordering {
    let figure = |client: &ClientFacts| match asked.sort {
        Sort::Messages => messages(&client.figures),
        Sort::Volume => volume(&client.figures),
        Sort::Errors => client.figures.errors,
        Sort::Activity => client.figures.last_ms,
        _ => 0,
    };
    let (figures, names) = (figure(a).cmp(&figure(b)), a.name.cmp(&b.name));
    match (asked.sort, asked.descending) {
        (Sort::Name, true) => names.reverse(),
        (_, true) => figures.reverse().then(names),
        (_, false) => figures.then(names),
    }
}

/// Sorts in slices: parts that are small by themselves, then merges of neighbours.
async fn sort(clients: &mut Vec<ClientFacts>, asked: &Asked) {
    let mut runs = Vec::new();
    while !clients.is_empty() {
        let at = clients.len().saturating_sub(ROWS);
        let mut run = clients.split_off(at);
        run.sort_by(|a, b| compare(a, b, asked));
        runs.push(run);
        rt::reactor_yield().await;
    }
    while runs.len() > 1 {
        let mut merged = Vec::with_capacity(runs.len().div_ceil(2));
        let mut pairs = runs.into_iter();
        while let Some(one) = pairs.next() {
            merged.push(match pairs.next() {
                Some(other) => merge(one, other, asked).await,
                None => one,
            });
        }
        runs = merged;
    }
    *clients = runs.pop().unwrap_or_default();
}

async fn merge(one: Vec<ClientFacts>, other: Vec<ClientFacts>, asked: &Asked) -> Vec<ClientFacts> {
    let mut merged = Vec::with_capacity(one.len() + other.len());
    let (mut one, mut other) = (one.into_iter().peekable(), other.into_iter().peekable());
    loop {
        let first = match (one.peek(), other.peek()) {
            (Some(a), Some(b)) if compare(a, b, asked).is_gt() => other.next(),
            (Some(_), _) => one.next(),
            (None, _) => other.next(),
        };
        match first {
            Some(client) => merged.push(client),
            None => return merged,
        }
        if merged.len() % (4 * ROWS) == 0 {
            rt::reactor_yield().await;
        }
    }
}
