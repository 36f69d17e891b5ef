//! Clients of a stored channel that remember: a publisher what was acknowledged, a reader what it
//! was given. Whatever happens to the broker in between, the two must fit together.
//!
//! Events carry the number of their publisher, which goes up by one, over all rounds. A publisher
//! ends when the broker does; what it had in flight then may be stored or not, but without a hole.

pub(crate) mod life;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use super::kubemq::{self, START_FROM_FIRST, path};
use super::peer::{Peer, grpc_framed};

/// Events in flight of one publisher.
const WINDOW: u64 = 64;

/// Events that are written at once.
const BURST: u64 = 16;

/// What one channel was sent, and what of it must be there.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) channel: String,
    rounds: Vec<Round>,
    /// The number of each sequence that a reader was given; it never changes again.
    numbers: Vec<u64>,
    /// Whether the channel gives up its oldest events.
    trims: bool,
}

/// The events of one publisher's life, by their numbers.
#[derive(Clone, Copy, Debug)]
struct Round {
    first: u64,
    sent: u64,
    acknowledged: u64,
    /// How many are stored, once a reader has seen what follows them.
    stored: Option<u64>,
}

/// How a channel differs from its ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Difference {
    /// An acknowledged event is not there.
    Lost { number: u64, acknowledged: u64 },
    /// Anything else: order, sequences, contents.
    Wrong(String),
}

impl Ledger {
    pub(crate) fn new(channel: &str, trims: bool) -> Self {
        Self {
            channel: channel.into(),
            rounds: Vec::new(),
            numbers: Vec::new(),
            trims,
        }
    }

    /// Acknowledged events, over all rounds.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.rounds.iter().map(|round| round.acknowledged).sum()
    }

    /// The number of the next event.
    fn next(&self) -> u64 {
        self.rounds.last().map_or(0, |last| last.first + last.sent)
    }

    fn begin(&mut self) {
        self.rounds.push(Round {
            first: self.next(),
            sent: 0,
            acknowledged: 0,
            stored: None,
        });
    }

    fn current(&mut self) -> &mut Round {
        self.rounds.last_mut().expect("a round has begun")
    }

    /// Publishes until the broker is gone. Counts receipts in `progress`.
    ///
    /// # Panics
    /// When a receipt is wrong or does not come although the broker lives.
    pub(crate) fn publish(&mut self, mut peer: Peer, progress: &AtomicU64) {
        self.begin();
        let stream = peer.open(path::SEND_EVENTS_STREAM);
        loop {
            let round = *self.current();
            if round.sent - round.acknowledged <= WINDOW - BURST {
                let from = round.first + round.sent;
                self.current().sent += BURST;
                let framed: Vec<u8> = (from..from + BURST)
                    .flat_map(|number| grpc_framed(&self.event(number)))
                    .collect();
                if !peer.send_framed(stream, &framed, false) {
                    break;
                }
            }
            let Some(receipt) = peer.next_message(stream) else {
                break;
            };
            self.take_receipt(&receipt);
            progress.fetch_add(1, Ordering::Relaxed);
            while let Some(receipt) = peer.reply(stream).take_message() {
                self.take_receipt(&receipt);
                progress.fetch_add(1, Ordering::Relaxed);
            }
        }
        // A write that failed says that the broker is gone, before the end was read; receipts that
        // had come in before it count.
        let gone = peer.wait(|peer| peer.ended.is_some());
        while let Some(receipt) = peer.reply(stream).take_message() {
            self.take_receipt(&receipt);
        }
        assert!(
            gone,
            "the broker lives and sends no receipt: {:?}",
            peer.reply(stream)
        );
    }

    /// Publishes one event by a call of its own and gets its receipt.
    pub(crate) fn publish_one(&mut self, peer: &mut Peer) {
        self.begin();
        let number = self.current().first;
        self.current().sent = 1;
        let mut reply = peer.unary(path::SEND_EVENT, &self.event(number));
        let receipt = reply.take_message();
        self.take_receipt(&receipt.unwrap_or_else(|| panic!("no receipt: {reply:?}")));
    }

    fn event(&self, number: u64) -> Vec<u8> {
        let id = self.event_id(number);
        kubemq::stored_event(&id, &self.channel, &body(number))
    }

    fn event_id(&self, number: u64) -> String {
        format!("{}-{number}", self.channel)
    }

    fn take_receipt(&mut self, receipt: &[u8]) {
        let round = *self.current();
        let expected = self.event_id(round.first + round.acknowledged);
        let id = String::from_utf8_lossy(kubemq::field(receipt, 1)).into_owned();
        let error = String::from_utf8_lossy(kubemq::field(receipt, 3)).into_owned();
        assert_eq!((id, error), (expected, String::new()), "receipts in order");
        assert_eq!(kubemq::number(receipt, 2), 1, "sent");
        self.current().acknowledged += 1;
    }

    /// Notes what a reader got as `sequence`; it must be what anybody else got.
    fn note(&mut self, sequence: u64, number: u64) -> Result<(), Difference> {
        let place = usize::try_from(sequence - 1).expect("a test's length");
        match self.numbers.get(place) {
            Some(known) if *known == number => Ok(()),
            Some(known) => Err(Difference::Wrong(format!(
                "{}: sequence {sequence} was event {known} and is {number}",
                self.channel
            ))),
            None if place == self.numbers.len() => {
                self.numbers.push(number);
                Ok(())
            }
            None => Err(Difference::Wrong(format!(
                "{}: sequence {sequence} follows {}",
                self.channel,
                self.numbers.len()
            ))),
        }
    }

    /// Reads the whole channel and compares. Publishes one event to know where it ends.
    pub(crate) fn verify(&mut self, address: SocketAddr) -> Result<(), Difference> {
        let mut peer = Peer::connect(address);
        self.publish_one(&mut peer);
        let last = self.current().first;
        let client_id = format!("reader-{last}");
        let request = kubemq::subscribe_stored(&self.channel, &client_id, START_FROM_FIRST);
        let stream = peer.subscribe(path::SUBSCRIBE_TO_EVENTS, &request);
        let mut expected = None;
        let mut read = None;
        while read != Some(last) {
            let Some(event) = peer.next_message(stream) else {
                let text = format!("{}: nothing behind {read:?}", self.channel);
                return Err(Difference::Wrong(text));
            };
            let (sequence, number) = parse(&event).map_err(Difference::Wrong)?;
            // Only a channel that gives up its oldest events begins anywhere else.
            let fits = match expected {
                None => sequence == 1 || self.trims,
                Some(expected) => sequence == expected,
            };
            if !fits {
                let text = format!("{}: {sequence}, not {expected:?}", self.channel);
                return Err(Difference::Wrong(text));
            }
            self.note(sequence, number)?;
            (expected, read) = (Some(sequence + 1), Some(number));
        }
        self.compare()
    }

    /// Compares what readers were given with what was sent. A loss is told only when all
    /// else is as it should be.
    fn compare(&mut self) -> Result<(), Difference> {
        let mut rest = self.numbers.iter().copied().peekable();
        let mut lost = None;
        for round in &mut self.rounds {
            let mut stored = 0;
            while stored < round.sent && rest.next_if_eq(&(round.first + stored)).is_some() {
                stored += 1;
            }
            if stored < round.acknowledged {
                lost.get_or_insert(Difference::Lost {
                    number: round.first + stored,
                    acknowledged: round.acknowledged,
                });
            } else if round.stored.is_some_and(|before| before != stored) {
                let text = format!("{}: {stored} events of {round:?}", self.channel);
                return Err(Difference::Wrong(text));
            }
            round.stored = Some(stored);
        }
        match (rest.next(), lost) {
            (None, None) => Ok(()),
            (None, Some(lost)) => Err(lost),
            (Some(number), _) => Err(Difference::Wrong(format!(
                "{}: event {number} is out of order or was not sent",
                self.channel
            ))),
        }
    }
}

/// A durable subscriber: its position outlives the broker.
#[derive(Debug)]
pub(crate) struct Follower {
    client_id: String,
    /// The last sequence that it got in order.
    last: u64,
    /// The first sequence of each life, for those that ask whether its position moved.
    pub(crate) began_at: Vec<u64>,
    /// Sequence and number of everything it got, to be compared when the round is over.
    got: Vec<(u64, u64)>,
}

impl Follower {
    pub(crate) fn new(client_id: &str) -> Self {
        Self {
            client_id: client_id.into(),
            last: 0,
            began_at: Vec::new(),
            got: Vec::new(),
        }
    }

    /// Reads until the broker is gone, or until `upto` came.
    ///
    /// # Errors
    /// When something is left out: a durable position never passes what was not delivered.
    pub(crate) fn follow(
        &mut self,
        mut peer: Peer,
        channel: &str,
        upto: Option<u64>,
    ) -> Result<(), Difference> {
        let request = kubemq::subscribe_stored(channel, &self.client_id, START_FROM_FIRST);
        let stream = peer.call(path::SUBSCRIBE_TO_EVENTS, &request);
        let mut previous = None;
        while let Some(event) = peer.next_message(stream) {
            let (sequence, number) = parse(&event).map_err(Difference::Wrong)?;
            let expected = previous.map_or(self.last + 1, |previous: u64| previous + 1);
            // In a new life, some may come again; within one, none.
            let fits = match previous {
                None => sequence <= expected,
                Some(_) => sequence == expected,
            };
            if !fits {
                let text = format!("{channel}: {sequence} delivered, {expected} expected");
                return Err(Difference::Wrong(text));
            }
            if previous.is_none() {
                self.began_at.push(sequence);
            }
            previous = Some(sequence);
            self.last = self.last.max(sequence);
            self.got.push((sequence, number));
            if upto.is_some_and(|upto| sequence >= upto) {
                return Ok(());
            }
        }
        match peer.ended {
            Some(_) if upto.is_none() => Ok(()),
            _ => Err(Difference::Wrong(format!(
                "{channel}: nothing behind {previous:?} of {upto:?}: {:?}",
                peer.reply(stream)
            ))),
        }
    }

    /// Compares what it got with the channel, read anew by [`Ledger::verify`].
    pub(crate) fn compare(&mut self, ledger: &mut Ledger) -> Result<(), Difference> {
        for (sequence, number) in self.got.drain(..) {
            ledger.note(sequence, number)?;
        }
        Ok(())
    }

    /// Reads what it has not had yet, up to the last event that the ledger knows.
    pub(crate) fn catch_up(
        &mut self,
        address: SocketAddr,
        ledger: &mut Ledger,
    ) -> Result<(), Difference> {
        let last = u64::try_from(ledger.numbers.len()).expect("a test's length");
        self.follow(Peer::connect(address), &ledger.channel, Some(last))?;
        self.compare(ledger)
    }
}

/// Sequence and number of a delivered event, whose body must be the one that was sent.
fn parse(event: &[u8]) -> Result<(u64, u64), String> {
    let sequence = kubemq::number(event, 6);
    let got = kubemq::event_body(event);
    let Some(number) = got.first_chunk().map(|bytes| u64::from_le_bytes(*bytes)) else {
        return Err(format!("sequence {sequence} has no body"));
    };
    if sequence == 0 || got != body(number) {
        return Err(format!(
            "sequence {sequence}: not the body of event {number}"
        ));
    }
    Ok((sequence, number))
}

/// The body of event `number`: the number, then up to some KiB that follow from it.
fn body(number: u64) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let len = usize::try_from(state >> 40).expect("24 bits") % 2_048;
    let mut body = number.to_le_bytes().to_vec();
    while body.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        body.extend_from_slice(&state.to_le_bytes());
    }
    body
}
