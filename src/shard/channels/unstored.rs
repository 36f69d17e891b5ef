//! Channels of kinds that are not stored: what was created, who is subscribed, what went over them.

use std::sync::Arc;

use super::chunked::Chunked;
use super::pace::{Pace, STEP};
use super::{ACTIVE_MS, ChannelFacts, ChannelQuestion, now_ms, stored_kind, to_u64};
use crate::engine::traffic::Traffic;
use crate::model::name::check_channel;
use crate::shard::Shard;

/// What one core knows of a channel.
#[derive(Debug, Default)]
pub(in crate::shard) struct Traced {
    subscribed: bool,
    /// Subscriptions by its name.
    subscribers: u64,
    traffic: Traffic,
}

impl Traced {
    /// Adds what another core knows.
    pub(super) fn add(&mut self, other: &Self) {
        self.subscribed |= other.subscribed;
        self.subscribers += other.subscribers;
        self.traffic.add(&other.traffic);
    }

    pub(super) fn facts<'a>(&self, name: &'a str) -> ChannelFacts<'a> {
        let seen = self.traffic.messages_in > 0 || self.traffic.responses_in > 0;
        let idle_ms = now_ms().saturating_sub(self.traffic.last_ms);
        ChannelFacts {
            name,
            active: self.subscribed || (seen && idle_ms < ACTIVE_MS),
            traffic: self.traffic,
            consumers: self.subscribers,
            ..ChannelFacts::default()
        }
    }
}

impl Shard {
    /// Collects the channels of this core; one may be there several times.
    pub(super) async fn trace(
        &self,
        question: &Arc<ChannelQuestion>,
    ) -> Chunked<(Box<str>, Traced)> {
        let mut found = self.trace_created(question).await;
        let mut pace = Pace::begin();
        for step in [Self::trace_traffic, Self::trace_names] {
            let mut place = 0;
            while step(self, question, &pace, &mut place, &mut found) {
                pace.pause().await;
            }
        }
        found
    }

    /// What was created: the logs of this shard know it.
    async fn trace_created(&self, question: &ChannelQuestion) -> Chunked<(Box<str>, Traced)> {
        let mut found = Chunked::default();
        self.walk_stored(stored_kind(question.kind), |met| {
            let name = &met.channel.name;
            if question.wants(name) {
                let traced = Traced {
                    subscribed: self.is_subscribed(question, name),
                    subscribers: 0,
                    traffic: Traffic {
                        last_ms: met.channel.created_ns / 1_000_000,
                        ..Traffic::default()
                    },
                };
                found.push(((&**name).into(), traced));
            }
            1
        })
        .await;
        found
    }

    /// What has been used lately.
    fn trace_traffic(
        &self,
        question: &Arc<ChannelQuestion>,
        pace: &Pace,
        place: &mut usize,
        found: &mut Chunked<(Box<str>, Traced)>,
    ) -> bool {
        let Some(table) = self.channels.traffic(question.kind) else {
            return false;
        };
        for (step, (at, name, traffic)) in table.borrow().entries_from(*place).enumerate() {
            *place = at + 1;
            if question.wants(name) {
                let traced = Traced {
                    subscribed: self.is_subscribed(question, name),
                    subscribers: 0,
                    traffic: *traffic,
                };
                found.push((name.into(), traced));
            }
            if step % STEP == STEP - 1 && pace.is_over() {
                return true;
            }
        }
        false
    }

    /// What is subscribed to by its name.
    fn trace_names(
        &self,
        question: &Arc<ChannelQuestion>,
        pace: &Pace,
        place: &mut usize,
        found: &mut Chunked<(Box<str>, Traced)>,
    ) -> bool {
        let Some((_, table)) = self.table(question.kind) else {
            return false;
        };
        let from = u32::try_from(*place).unwrap_or(u32::MAX);
        for (step, (at, name, count)) in table.borrow().names_from(from).enumerate() {
            *place = usize::try_from(at).map_or(usize::MAX, |at| at.saturating_add(1));
            // Some subscriptions have names that no channel can have.
            if question.wants(name) && check_channel(name).is_ok() {
                let traced = Traced {
                    subscribed: true,
                    subscribers: to_u64(count),
                    traffic: Traffic::default(),
                };
                found.push((name.into(), traced));
            }
            if step % STEP == STEP - 1 && pace.is_over() {
                return true;
            }
        }
        false
    }

    fn is_subscribed(&self, question: &ChannelQuestion, name: &str) -> bool {
        let table = self.table(question.kind);
        table.is_some_and(|(_, table)| table.borrow_mut().is_subscribed(name))
    }
}
