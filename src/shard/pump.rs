//! Living: the shard's tasks, and what comes over the mesh.

use std::rc::Rc;
use std::time::Duration;

use super::Shard;
use super::admission::Rooms;
use super::lane::{Batch, QUEUE_BATCHES};
use super::message::{Note, Work};
use super::requests::Outcome;
use crate::engine::feeds::Address;
use crate::engine::subscriptions::SubscriberAddress;
use crate::rt::{self, Queue, mesh};

/// How long a pump may work on batches of one peer before sockets are looked at again.
const PUMP_TURN: Duration = Duration::from_micros(500);

/// A shard's place in the mesh; made for all shards before they start.
#[derive(Debug)]
pub struct Seat {
    mesh: mesh::Seat<Batch>,
    rooms: Rooms,
}

impl Seat {
    /// Makes the seats of `count` shards.
    #[must_use]
    pub fn all(count: u16) -> Vec<Self> {
        let rooms = Rooms::new(count);
        let seat = |mesh| Self {
            mesh,
            rooms: rooms.clone(),
        };
        let seats = mesh::seats(usize::from(count), QUEUE_BATCHES);
        seats.into_iter().map(seat).collect()
    }
}

impl Shard {
    /// Connects the shard to the others and starts its tasks; returns when all are connected.
    pub async fn run(self: &Rc<Self>, seat: Seat) {
        self.admission.join(seat.rooms);
        let timers = self.clone();
        rt::spawn(Queue::Serve, "timers", async move {
            timers.timers.turn(|key| timers.time_out(key)).await;
        });
        let (outgoing, incoming) = seat.mesh.connect().await;
        for (peer, outgoing) in (0_u16..).zip(outgoing) {
            let Some(outgoing) = outgoing else { continue };
            let shard = self.clone();
            rt::spawn(Queue::Serve, "lane", async move {
                if let Some(lane) = shard.lane(peer) {
                    lane.flush(outgoing, &shard.counters).await;
                }
            });
        }
        for (peer, incoming) in (0_u16..).zip(incoming) {
            let Some(incoming) = incoming else { continue };
            let shard = self.clone();
            rt::spawn(Queue::Serve, "pump", async move {
                shard.pump(peer, incoming).await;
            });
        }
        self.keep_coarse_time();
        self.run_stored();
    }

    async fn pump(self: &Rc<Self>, peer: u16, incoming: mesh::Incoming<Batch>) {
        let mut busy = Duration::ZERO;
        while let Some(batch) = incoming.receive().await {
            let began = rt::now();
            // Notes first: a subscription asked for before this batch's events was pushed before
            // them, and a response never waits behind work.
            batch
                .notes
                .into_iter()
                .for_each(|note| self.take_note(peer, note));
            batch.work.into_iter().for_each(|work| self.take_work(work));
            busy += rt::now().since(began);
            if busy > PUMP_TURN {
                rt::reactor_yield().await;
                busy = Duration::ZERO;
            }
        }
    }

    fn take_work(&self, work: Work) {
        match work {
            Work::Publish { frame, channel } => self.publish_here(frame, channel),
            Work::Deliver { key, frame } => self.deliver_here(key, &frame),
            Work::Request(request) => self.dispatch(*request),
            Work::Store(work) => self.store_here(work),
        }
    }

    fn take_note(self: &Rc<Self>, peer: u16, note: Note) {
        let address = |key| SubscriberAddress { core: peer, key };
        match note {
            Note::Subscribe {
                kind,
                pattern,
                group,
                key,
            } => {
                self.hold(kind, &pattern, &group, address(key));
                if let Some(lane) = self.lane(peer) {
                    lane.push_note(Note::Subscribed { key });
                }
            }
            Note::Unsubscribe { kind, key } => self.release(kind, address(key)),
            Note::Subscribed { key } => self.subscribed(key),
            Note::Full { kind, key, full } => self.set_full(kind, address(key), full),
            Note::Response { reply, message } => {
                self.answer_here(&reply, Outcome::Response(message));
            }
            Note::CacheHit { reply, message } => {
                self.answer_here(&reply, Outcome::CacheHit(message));
            }
            Note::NoResponder { reply } => {
                self.answer_here(&reply, Outcome::NoResponder);
            }
            Note::Cache {
                channel,
                key,
                message,
                lifetime_ms,
            } => {
                self.remember_here(&channel, &key, message, lifetime_ms);
            }
            stored => self.take_stored_note(peer, stored),
        }
    }

    /// Notes that concern stored channels.
    fn take_stored_note(self: &Rc<Self>, peer: u16, note: Note) {
        match note {
            Note::Receipts {
                key,
                first,
                count,
                outcome,
            } => self.complete_here(key, first, count, &outcome.map_err(|failure| *failure)),
            Note::Open { key, open } => self.open_here(peer, key, *open),
            Note::Opened { key, opened } => {
                self.opened_here(key, opened.map_err(|refused| *refused));
            }
            Note::Chunk { key, chunk } => self.chunk_here(key, *chunk),
            Note::Told { log, key, told } => {
                self.told_here(log, Address { core: peer, key }, told);
            }
            Note::Ended { key } => self.ended_here(key),
            Note::Ask { key, question } => self.question_here(peer, key, question),
            Note::Answered { from, key, answer } => self.reply_here(from, key, answer),
            Note::Channels { key, question } => self.list_here(peer, key, question),
            Note::ChannelsListed { key, list } => self.listed_here(key, *list),
            Note::Change { key, work } => self.change_here(peer, key, *work),
            Note::Changed { key, outcome } => {
                self.changed_here(key, outcome.map_err(|failure| *failure));
            }
            Note::ForgetTraffic { kind, channel } => self.forget_traffic_here(kind, &channel),
            Note::Probe { key, question } => self.probe_here(peer, key, question),
            Note::Probed { question, alive } => self.probed_here(question, alive),
            Note::Consumer { log, key, said } => {
                self.said_here(log, Address { core: peer, key }, said);
            }
            Note::MovesOver { ids } => self.moves_over_here(ids),
            Note::MovesAsked { ids } => self.moves_asked_here(ids),
            Note::ConsumerEvent { key, event } => self.consumer_event_here(key, *event),
            Note::Tap { key, said } => self.tap_note_here(peer, key, *said),
            _ => {}
        }
    }
}
