//! Channels of kinds that are not stored: what was created, who is subscribed, what went over them.

use std::sync::Arc;

use super::list::{SLICE, STEP};
use super::{ACTIVE_MS, ChannelFacts, ChannelQuestion, now_ms, stored_kind};
use crate::engine::traffic::Traffic;
use crate::model::name::check_channel;
use crate::rt;
use crate::shard::Shard;

/// What one core knows of a channel.
#[derive(Debug)]
pub(in crate::shard) struct Traced {
    pub(super) name: Box<str>,
    subscribed: bool,
    traffic: Traffic,
}

impl Traced {
    /// Adds what another core knows.
    pub(super) fn add(&mut self, other: &Self) {
        self.subscribed |= other.subscribed;
        self.traffic.add(&other.traffic);
    }

    pub(super) fn facts(&self) -> ChannelFacts<'_> {
        let seen = self.traffic.messages_in > 0 || self.traffic.responses_in > 0;
        let idle_ms = now_ms().saturating_sub(self.traffic.last_ms);
        ChannelFacts {
            name: &self.name,
            active: self.subscribed || (seen && idle_ms < ACTIVE_MS),
            traffic: self.traffic,
            ..ChannelFacts::default()
        }
    }
}

impl Shard {
    /// Collects the channels of this core; one may be there several times.
    pub(super) async fn trace(&self, question: &Arc<ChannelQuestion>) -> Vec<Traced> {
        let mut found = Vec::new();
        for step in [Self::trace_created, Self::trace_traffic, Self::trace_names] {
            let mut place = Place::default();
            while step(self, question, &mut place, &mut found) {
                rt::reactor_yield().await;
            }
        }
        found
    }

    /// What was created: the logs of this shard know it. `false` when there is no more.
    fn trace_created(
        &self,
        question: &Arc<ChannelQuestion>,
        place: &mut Place,
        found: &mut Vec<Traced>,
    ) -> bool {
        let began = rt::now();
        let kind = stored_kind(question.kind);
        while let Some(seat) = self.stored.seats.get(place.seat) {
            let slots = seat.slots.borrow();
            for (at, (key, channel)) in slots.channels_after(place.after).enumerate() {
                place.after = Some(key);
                if channel.kind == kind && question.wants(&channel.name) {
                    found.push(Traced {
                        name: (&*channel.name).into(),
                        subscribed: self.is_subscribed(question, &channel.name),
                        traffic: Traffic {
                            last_ms: channel.created_ns / 1_000_000,
                            ..Traffic::default()
                        },
                    });
                }
                if at % STEP == STEP - 1 && rt::now().since(began) > SLICE {
                    return true;
                }
            }
            place.seat += 1;
            place.after = None;
        }
        false
    }

    /// What has been used lately.
    fn trace_traffic(
        &self,
        question: &Arc<ChannelQuestion>,
        place: &mut Place,
        found: &mut Vec<Traced>,
    ) -> bool {
        let began = rt::now();
        let Some(table) = self.channels.traffic(question.kind) else {
            return false;
        };
        for (step, (at, name, traffic)) in table.borrow().entries_from(place.at).enumerate() {
            place.at = at + 1;
            if question.wants(name) {
                found.push(Traced {
                    name: name.into(),
                    subscribed: self.is_subscribed(question, name),
                    traffic: *traffic,
                });
            }
            if step % STEP == STEP - 1 && rt::now().since(began) > SLICE {
                return true;
            }
        }
        false
    }

    /// What is subscribed to by its name.
    fn trace_names(
        &self,
        question: &Arc<ChannelQuestion>,
        place: &mut Place,
        found: &mut Vec<Traced>,
    ) -> bool {
        let began = rt::now();
        let Some((_, table)) = self.table(question.kind) else {
            return false;
        };
        let from = u32::try_from(place.at).unwrap_or(u32::MAX);
        for (step, (at, name)) in table.borrow().names_from(from).enumerate() {
            place.at = usize::try_from(at).map_or(usize::MAX, |at| at.saturating_add(1));
            // Some subscriptions have names that no channel can have.
            if question.wants(name) && check_channel(name).is_ok() {
                found.push(Traced {
                    name: name.into(),
                    subscribed: true,
                    traffic: Traffic::default(),
                });
            }
            if step % STEP == STEP - 1 && rt::now().since(began) > SLICE {
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

/// How far a walk has come.
#[derive(Debug, Default)]
struct Place {
    seat: usize,
    after: Option<ringmq_storage::ChannelKey>,
    at: usize,
}
