//! `/v1/stats/channels`: channels of all kinds.

use std::collections::BTreeMap;

use super::page::{Asked, messages, rank, volume};
use super::stream::List;
use super::write::{put, put_member, put_string};
use super::{put_begin, put_end};
use crate::engine::clients::ClientReport;
use crate::http::Context;
use crate::http::snapshot::human::rfc3339;
use crate::model::Kind;
use crate::rt;
use crate::shard::{
    ChannelFacts, ChannelTotals, ClientQuestion, ListsBusy, Survey, SurveyQuestion, Surveyed,
    merge_client_reports,
};

/// Failures that are looked at in one go.
const FAILURES: usize = 256;

/// Failed sends, by kind and channel.
type Errors = BTreeMap<(Kind, Box<str>), u64>;

/// The list of channels.
pub(super) async fn list(context: &Context, asked: Asked) -> Result<List, ListsBusy> {
    let kinds: &[Kind] = if asked.kinds.is_empty() {
        &Kind::ALL
    } else {
        &asked.kinds
    };
    let mut survey = Survey::default();
    let mut by_kind = Vec::new();
    for kind in Kind::ALL.into_iter().filter(|kind| kinds.contains(kind)) {
        let question = SurveyQuestion {
            kind,
            search: asked.search.clone(),
            rank: rank(&asked),
            falling: asked.falling(),
            keep: asked.keep(),
            positions_max: 0,
        };
        let of_kind = context.shard.survey_channels(question).await?;
        by_kind.push((kind, of_kind.totals));
        survey.join(of_kind);
    }
    let question = ClientQuestion {
        failures: true,
        ..ClientQuestion::default()
    };
    let reports = context
        .shard
        .ask_all(move |shard| async move { shard.client_report(question).await });
    let report = merge_client_reports(reports.await).await;
    let total = survey.totals.channels;
    survey
        .skip(asked.page.map_or(0, |page| page.before()))
        .await;

    let mut before = Vec::with_capacity(256);
    put_begin(&mut before);
    put("\"Host\":", &mut before);
    put_string(&context.process.machine, &mut before);
    put(",\"LastUpdate\":", &mut before);
    put_string(&rfc3339(rt::unix_ns()), &mut before);
    put(",\"Channels\":[", &mut before);
    let mut after = b"]".to_vec();
    put_summary(&mut by_kind, &report, &mut after);
    put_end(asked.page, total, &mut after);
    let count = asked.page.map_or(usize::MAX, |page| page.size);
    let (detailed, errors) = (asked.page.is_some(), errors_of(report).await);
    Ok(List::of(before, survey, count, after, move |row, out| {
        put_row(row, &errors, detailed, out);
    }))
}

async fn errors_of(report: ClientReport) -> Errors {
    let mut errors = Errors::new();
    for (at, failure) in report.failures.into_iter().enumerate() {
        errors.insert((failure.kind, failure.channel), failure.errors);
        if at % FAILURES == FAILURES - 1 {
            rt::reactor_yield().await;
        }
    }
    errors
}

/// The sums by kind, those with most messages first, as the reference has them.
fn put_summary(by_kind: &mut [(Kind, ChannelTotals)], report: &ClientReport, out: &mut Vec<u8>) {
    by_kind.sort_by_key(|(_, totals)| u64::MAX - messages(&totals.sums));
    put(",\"Summery\":[", out);
    let known = by_kind.iter().filter(|(_, totals)| totals.channels > 0);
    for (at, (kind, totals)) in known.enumerate() {
        put(if at == 0 { "{\"kind\":" } else { ",{\"kind\":" }, out);
        put_string(kind.name(), out);
        put_member("total_channels", totals.channels, out);
        put_member("total_messages", messages(&totals.sums), out);
        put_member("total_volume", volume(&totals.sums), out);
        put_member("total_errors", report.errors_of(*kind), out);
        put("}", out);
    }
    put("]", out);
}

fn put_row(row: &Surveyed, errors: &Errors, detailed: bool, out: &mut Vec<u8>) {
    let facts = row.facts();
    let failed = match errors.is_empty() {
        true => None,
        false => errors.get(&(row.kind, facts.name.into())),
    };
    put("{\"kind\":", out);
    put_string(row.kind.name(), out);
    put(",\"name\":", out);
    put_string(facts.name, out);
    put_member("total_messages", messages(&facts), out);
    put_member("total_volume", volume(&facts), out);
    put_member("total_errors", failed.copied().unwrap_or_default(), out);
    if detailed {
        put_details(&facts, out);
    }
    put("}", out);
}

/// What the reference does not tell.
fn put_details(facts: &ChannelFacts<'_>, out: &mut Vec<u8>) {
    let traffic = &facts.traffic;
    for (key, number) in [
        ("messages_in", traffic.messages_in),
        ("bytes_in", traffic.bytes_in),
        ("messages_out", traffic.messages_out),
        ("bytes_out", traffic.bytes_out),
        ("responses", traffic.responses_in),
        ("messages", facts.messages),
        ("bytes", facts.bytes),
        ("waiting", facts.waiting),
        ("in_flight", facts.in_flight),
        ("delayed", facts.delayed),
        ("expired", facts.expired),
        ("dead_lettered", facts.dead_lettered),
        ("consumers", facts.consumers),
        ("lag", facts.lag_max),
        ("oldest", facts.oldest_ms),
        ("last_activity", traffic.last_ms),
    ] {
        put_member(key, number, out);
    }
    put(",\"active\":", out);
    put(if facts.active { "true" } else { "false" }, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_stand_by_their_messages_and_those_without_channels_are_left_out() {
        let totals = |channels, messages_in| {
            let mut totals = ChannelTotals::default();
            (totals.channels, totals.sums.traffic.messages_in) = (channels, messages_in);
            totals
        };
        let mut by_kind = [
            (Kind::Events, totals(1, 3)),
            (Kind::Queues, totals(2, 9)),
            (Kind::Queries, totals(0, 0)),
        ];
        let mut out = b"{\"x\":0".to_vec();
        put_summary(&mut by_kind, &ClientReport::default(), &mut out);
        out.push(b'}');
        let read: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let kinds: Vec<_> = read["Summery"].as_array().unwrap().iter().collect();
        assert_eq!(kinds.len(), 2);
        assert_eq!(
            (&kinds[0]["kind"], &kinds[0]["total_messages"]),
            (&"queues".into(), &9.into())
        );
        assert_eq!(kinds[1]["total_channels"], 1);
    }
}
