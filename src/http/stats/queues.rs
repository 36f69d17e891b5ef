//! `/v1/stats/queues` and `/v1/stats/events_stores`.

use super::page::{Asked, rank};
use super::stream::List;
use super::write::{put, put_member, put_string};
use super::{put_begin, put_end, to_u64};
use crate::http::Context;
use crate::http::snapshot::human::rfc3339;
use crate::model::Kind;
use crate::rt;
use crate::shard::{ChannelFacts, ListsBusy, SurveyQuestion};

/// The list of one kind of stored channels.
pub(super) async fn list(context: &Context, kind: Kind, asked: Asked) -> Result<List, ListsBusy> {
    let question = SurveyQuestion {
        kind,
        search: asked.search.clone(),
        rank: rank(&asked),
        falling: asked.falling(),
        keep: asked.keep(),
        positions_max: 0,
    };
    let mut survey = context.shard.survey_channels(question).await?;
    let totals = survey.totals;
    let skipped = asked.page.map_or(0, |page| page.before());
    survey.skip(skipped).await;
    let mut before = Vec::with_capacity(256);
    put_begin(&mut before);
    put("\"now\":", &mut before);
    put_string(&rfc3339(rt::unix_ns()), &mut before);
    put_member("total_queues", totals.channels, &mut before);
    let sums = &totals.sums;
    put_member("sent", sums.traffic.messages_in, &mut before);
    put_member("waiting", sums.waiting, &mut before);
    put_member("delivered", sums.delivered, &mut before);
    let mut after = Vec::new();
    let count = asked.page.map_or(usize::MAX, |page| page.size);
    if totals.channels <= to_u64(skipped) {
        put(",\"queues\":null", &mut before);
        put_end(asked.page, totals.channels, &mut before);
        return Ok(List::text(before));
    }
    put(",\"queues\":[", &mut before);
    put("]", &mut after);
    put_end(asked.page, totals.channels, &mut after);
    let detailed = asked.page.is_some();
    Ok(List::of(before, survey, count, after, move |row, out| {
        write_row(&row.facts(), detailed, out);
    }))
}

fn write_row(facts: &ChannelFacts<'_>, detailed: bool, out: &mut Vec<u8>) {
    put("{\"name\":", out);
    put_string(facts.name, out);
    put_member("messages", facts.messages, out);
    put_member("bytes", facts.bytes, out);
    put_member("first_sequence", facts.first, out);
    put_member("last_sequence", facts.last, out);
    put_member("sent", facts.traffic.messages_in, out);
    put_member("subscribers", facts.consumers, out);
    put_member("waiting", facts.waiting, out);
    put_member("delivered", facts.delivered, out);
    if detailed {
        // What the reference does not tell.
        put_member("in_flight", facts.in_flight, out);
        put_member("delayed", facts.delayed, out);
        put_member("expired", facts.expired, out);
        put_member("dead_lettered", facts.dead_lettered, out);
        put_member("oldest", facts.oldest_ms, out);
        put_member("last_activity", facts.traffic.last_ms, out);
    }
    put("}", out);
}
