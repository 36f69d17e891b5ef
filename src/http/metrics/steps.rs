//! An exposition in steps: family by family, some series at a time.

use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;

use super::gather::{CHANNELS, Scrape};
use super::text::{Format, Kind, Text};
use super::{broker, channels, reference, sending};
use crate::engine::clients::{FailureFacts, UseFacts};
use crate::http::body::Body;
use crate::model::Kind as ChannelKind;
use crate::rt::{self, Queue, Sleep};
use crate::shard::{ChannelFacts, PositionLag};

/// A piece is handed on when it is as large: some 100 µs of writing.
const PIECE_BYTES: usize = 48 << 10;

/// How long the core is left to others after each piece.
const PAUSE: Duration = Duration::from_micros(50);

/// Pieces of channels, or of as many uses, that are dropped in one go.
const DROPPED: usize = 4;

/// A channel in a scrape, or with an empty name the sum of those without series of their own.
pub(super) struct Row<'a> {
    pub(super) kind: ChannelKind,
    pub(super) facts: ChannelFacts<'a>,
    pub(super) positions: &'a [PositionLag],
}

impl Row<'_> {
    /// Whether this is no channel, but the sum of the rest.
    pub(super) fn is_rest(&self) -> bool {
        self.facts.name.is_empty()
    }
}

/// What a family's series are of.
#[derive(Clone, Copy)]
pub(super) enum Series {
    /// Channels.
    Channels(fn(&Scrape, &Row<'_>, &mut Text)),
    /// Clients' uses of channels.
    Uses(fn(&Scrape, &UseFacts, &mut Text)),
    /// Channels where sends failed.
    Failures(fn(&Scrape, &FailureFacts, &mut Text)),
}

/// A family with many series.
#[derive(Clone, Copy)]
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) help: &'static str,
    pub(super) series: Series,
    /// Writes what belongs to no entry of the list.
    pub(super) rest: Option<fn(&Scrape, &mut Text)>,
}

enum Step {
    /// Families with few series.
    Small(fn(&Scrape, &mut Text)),
    Large(Family),
}

/// A scrape on its way out.
pub(super) struct Exposition {
    scrape: Scrape,
    text: Text,
    steps: std::vec::IntoIter<Step>,
    /// The family that is being written, and its next series: piece and place of a channel, or the
    /// place in a list.
    open: Option<(Family, usize, usize)>,
    ended: bool,
}

impl Exposition {
    pub(super) fn new(scrape: Scrape, format: Format) -> Self {
        let mut steps = Vec::new();
        if scrape.channels.is_some() {
            let families = reference::families(scrape.client_label).into_iter();
            steps.extend(families.chain(channels::FAMILIES).map(Step::Large));
        }
        let small = [
            broker::kinds,
            broker::counters,
            broker::latencies,
            broker::cores,
            broker::node,
            broker::process,
        ];
        steps.extend(small.map(Step::Small));
        Self {
            scrape,
            text: Text::new(format),
            steps: steps.into_iter(),
            open: None,
            ended: false,
        }
    }

    /// The next piece; `None` when all is written.
    pub(super) fn next(&mut self) -> Option<Vec<u8>> {
        while !self.ended && self.text.out.len() < PIECE_BYTES {
            self.step();
        }
        let piece = std::mem::take(&mut self.text.out);
        (!piece.is_empty()).then_some(piece)
    }

    fn step(&mut self) {
        if let Some((family, piece, place)) = self.open.take() {
            self.open = self.write_series(family, piece, place);
            return;
        }
        match self.steps.next() {
            Some(Step::Small(write)) => write(&self.scrape, &mut self.text),
            Some(Step::Large(family)) => {
                self.text.family(family.name, family.kind, family.help);
                self.open = Some((family, 0, 0));
            }
            None => {
                self.text.end();
                self.ended = true;
            }
        }
    }

    /// Writes series of a family until the piece is full; where it goes on, if it does.
    fn write_series(
        &mut self,
        family: Family,
        mut piece: usize,
        mut place: usize,
    ) -> Option<(Family, usize, usize)> {
        while self.text.out.len() < PIECE_BYTES {
            let more = match family.series {
                Series::Channels(write) => self.write_channel(write, piece, place),
                Series::Uses(write) => {
                    let found = self.scrape.clients.uses.get(place);
                    found
                        .map(|found| write(&self.scrape, found, &mut self.text))
                        .is_some()
                }
                Series::Failures(write) => {
                    let found = self.scrape.clients.failures.get(place);
                    found
                        .map(|found| write(&self.scrape, found, &mut self.text))
                        .is_some()
                }
            };
            if more {
                place += 1;
                continue;
            }
            let pieces = self
                .scrape
                .channels
                .as_ref()
                .map_or(0, |found| found.shown.len());
            let channels = matches!(family.series, Series::Channels(_));
            if channels && piece + 1 < pieces {
                (piece, place) = (piece + 1, 0);
                continue;
            }
            self.write_rest(&family);
            return None;
        }
        Some((family, piece, place))
    }

    fn write_channel(
        &mut self,
        write: fn(&Scrape, &Row<'_>, &mut Text),
        piece: usize,
        place: usize,
    ) -> bool {
        let channels = self.scrape.channels.as_ref();
        let piece = channels.and_then(|channels| channels.shown.get(piece));
        let Some(channel) = piece.and_then(|piece| piece.get(place)) else {
            return false;
        };
        let row = Row {
            kind: channel.kind,
            facts: channel.facts(),
            positions: &channel.positions,
        };
        write(&self.scrape, &row, &mut self.text);
        true
    }

    fn write_rest(&mut self, family: &Family) {
        if let Series::Channels(write) = family.series
            && let Some(channels) = &self.scrape.channels
        {
            for (kind, rest) in ChannelKind::ALL.into_iter().zip(&channels.rest) {
                if rest.channels > 0 {
                    let row = Row {
                        kind,
                        facts: rest.sums,
                        positions: &[],
                    };
                    write(&self.scrape, &row, &mut self.text);
                }
            }
        }
        if let Some(rest) = family.rest {
            rest(&self.scrape, &mut self.text);
        }
    }

    /// The body that sends it, at a pace that leaves the core to others.
    pub(super) fn into_body(self) -> Body {
        let sent = sending::begin(self);
        let mut pause: Option<Sleep> = None;
        Body::stream(move |cx: &mut Context<'_>| {
            if let Some(sleep) = &mut pause {
                if sleep.poll(cx).is_pending() {
                    return Poll::Pending;
                }
                pause = None;
            }
            let mut sent = sent.borrow_mut();
            // Gone when it took too long and others wanted its place.
            let Some(exposition) = sent.as_mut() else {
                return Poll::Ready(None);
            };
            let piece = exposition.next();
            if piece.is_some() && !exposition.ended {
                pause = Some(Sleep::new(PAUSE));
            }
            Poll::Ready(piece.map(Bytes::from))
        })
    }
}

impl Drop for Exposition {
    /// Very many channels are let go of a few at a time.
    fn drop(&mut self) {
        let channels = self.scrape.channels.take().unwrap_or_default();
        let mut uses = std::mem::take(&mut self.scrape.clients.uses);
        if channels.shown.len() + uses.len() / CHANNELS > DROPPED {
            rt::spawn(Queue::Background, "discard scrape", async move {
                for piece in channels.shown {
                    drop(piece);
                    rt::reactor_yield().await;
                }
                while !uses.is_empty() {
                    uses.truncate(uses.len().saturating_sub(CHANNELS));
                    rt::reactor_yield().await;
                }
            });
        }
    }
}
