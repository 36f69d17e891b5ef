//! Surveys: the first channels in an order, and the sums over all.
//!
//! Each core walks its channels once, in slices, and keeps the first of them in a bounded tree.
//! The core that asked merges what the others send, which are lists in order already: nothing is
//! ever sorted in one go, and nothing is let go of in one go.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use ringmq_storage::ChannelKey;

use super::chunked::Chunked;
use super::facts::{PositionLag, add_depth, positions};
use super::list::Walk;
use super::pace::Pace;
use super::top::{Place, Top};
use super::unstored::Traced;
use super::{
    ChannelFacts, ChannelQuestion, ChannelTotals, ListsBusy, WhichChannels, now_ms, stored_kind,
};
use crate::model::Kind;
use crate::shard::Shard;

/// Where a channel stands in an order: lower comes first. The time is that of the survey, in
/// milliseconds since 1970.
pub type Rank = fn(&ChannelFacts<'_>, u64) -> u64;

/// A question for the first channels of one kind.
#[derive(Clone, Debug)]
pub struct SurveyQuestion {
    /// The kind.
    pub kind: Kind,
    /// Those whose names hold this text.
    pub search: Box<str>,
    /// The order. Those of one rank stand by their names.
    pub rank: Rank,
    /// Names fall instead of rising.
    pub falling: bool,
    /// How many are wanted.
    pub keep: usize,
    /// How many durable positions are wanted of each.
    pub positions_max: usize,
}

/// A channel of a survey.
#[derive(Debug)]
pub struct Surveyed {
    /// Its kind.
    pub kind: Kind,
    place: Place,
    facts: ChannelFacts<'static>,
    /// Its durable positions, by owner and name.
    pub positions: Vec<PositionLag>,
}

impl Surveyed {
    /// What is known of it.
    #[must_use]
    pub fn facts(&self) -> ChannelFacts<'_> {
        ChannelFacts {
            name: &self.place.name,
            ..self.facts
        }
    }
}

/// The answer: channels in order, and the sums over all that were asked for, wanted or not.
///
/// Holds what it has not given out yet: take large ones apart a few channels at a time.
#[derive(Debug, Default)]
pub struct Survey {
    runs: Vec<Chunked<Surveyed>>,
    /// The sums.
    pub totals: ChannelTotals,
}

impl Survey {
    /// Takes the next channel.
    pub fn pop(&mut self) -> Option<Surveyed> {
        let mut first: Option<(usize, &Surveyed)> = None;
        for (at, run) in self.runs.iter().enumerate() {
            if let Some(front) = run.front()
                && first.is_none_or(|(_, first)| before(front, first))
            {
                first = Some((at, front));
            }
        }
        let (at, _) = first?;
        self.runs.get_mut(at)?.pop()
    }

    /// Adds the answer for another kind: both come in one order then.
    pub fn join(&mut self, other: Self) {
        self.runs.extend(other.runs);
        self.totals.merge(&other.totals);
    }

    /// Leaves out the next `count` channels, in slices.
    pub async fn skip(&mut self, count: usize) {
        let mut pace = Pace::begin();
        for _ in 0..count {
            if self.pop().is_none() {
                return;
            }
            pace.step().await;
        }
    }

    /// Gives everything back, in slices.
    pub async fn discard(mut self) {
        self.skip(usize::MAX).await;
    }

    /// Whether it holds so much that it should not be dropped in one go.
    #[must_use]
    pub fn is_large(&self) -> bool {
        self.runs.iter().any(Chunked::is_large)
    }
}

/// Channels of several kinds may have one name.
fn before(a: &Surveyed, b: &Surveyed) -> bool {
    a.place
        .cmp(&b.place)
        .then_with(|| a.kind.cmp(&b.kind))
        .is_lt()
}

/// What one core has found.
#[derive(Debug)]
enum Part {
    Stored(Chunked<Surveyed>, Box<ChannelTotals>),
    Traced(Chunked<(Box<str>, Traced)>),
    Busy,
}

impl Shard {
    /// Surveys the channels of one kind, on all cores, as a task of the background queue of each.
    /// Slices of 100 us with pauses between them, so that it disturbs nobody.
    ///
    /// # Errors
    /// [`ListsBusy`].
    pub async fn survey_channels(
        self: &Rc<Self>,
        question: SurveyQuestion,
    ) -> Result<Survey, ListsBusy> {
        let question = Arc::new(question);
        let asked = question.clone();
        let parts = self.ask_all(move |shard| {
            let question = asked.clone();
            async move { shard.survey_here(&question).await }
        });
        let mut survey = Survey::default();
        let mut traced = Vec::new();
        for part in parts.await {
            match part {
                Part::Stored(run, totals) => {
                    survey.runs.push(run);
                    survey.totals.merge(&totals);
                }
                Part::Traced(found) => traced.push(found),
                Part::Busy => return Err(ListsBusy),
            }
        }
        if !traced.is_empty() {
            let joined = join_traced(traced).await;
            survey
                .runs
                .push(order_traced(&question, joined, &mut survey.totals).await);
        }
        Ok(survey)
    }

    async fn survey_here(self: &Rc<Self>, question: &SurveyQuestion) -> Part {
        let Some(_walk) = Walk::begin(&self.channels.lists_running) else {
            return Part::Busy;
        };
        match question.kind {
            Kind::EventsStore | Kind::Queues => self.survey_stored(question).await,
            Kind::Events | Kind::Commands | Kind::Queries => {
                let question = Arc::new(ChannelQuestion {
                    kind: question.kind,
                    which: WhichChannels::Containing(question.search.clone()),
                    write: |_, _| {},
                });
                Part::Traced(self.trace(&question).await)
            }
        }
    }

    async fn survey_stored(&self, question: &SurveyQuestion) -> Part {
        let (kind, now_ms) = (stored_kind(question.kind), now_ms());
        let search = &*question.search;
        let mut top: Top<(u16, ChannelKey, ChannelFacts<'static>)> = Top::new(question.keep);
        let mut totals = Box::<ChannelTotals>::default();
        self.walk_stored(kind, |met| {
            let name = &met.channel.name;
            if !(search.is_empty() || name.contains(search)) {
                return 1;
            }
            let mut facts = self.stored_facts(met);
            let steps = 1 + add_depth(met, &mut facts);
            totals.add(&facts, now_ms);
            let rank = (question.rank)(&facts, now_ms);
            top.offer(rank, question.falling, name, || {
                let facts = ChannelFacts { name: "", ..facts };
                (name.clone(), (met.seat.number, met.key, facts))
            });
            steps
        })
        .await;
        let mut run = Chunked::default();
        let mut pace = Pace::begin();
        while let Some((place, (log, key, facts))) = top.pop() {
            let wanted = question.positions_max > 0 && facts.positions > 0;
            let seat = self.stored.seat(log).filter(|_| wanted);
            let positions = seat.map(|seat| positions(seat, key, question.positions_max));
            run.push(Surveyed {
                kind: question.kind,
                place,
                facts,
                positions: positions.unwrap_or_default(),
            });
            pace.step().await;
        }
        Part::Stored(run, totals)
    }
}

/// What several cores know of channels, by name.
pub(super) async fn join_traced(
    found: Vec<Chunked<(Box<str>, Traced)>>,
) -> BTreeMap<Box<str>, Traced> {
    let mut joined: BTreeMap<Box<str>, Traced> = BTreeMap::new();
    let mut pace = Pace::begin();
    for mut found in found {
        while let Some((name, traced)) = found.pop() {
            joined.entry(name).or_default().add(&traced);
            pace.step().await;
        }
    }
    joined
}

async fn order_traced(
    question: &SurveyQuestion,
    mut joined: BTreeMap<Box<str>, Traced>,
    totals: &mut ChannelTotals,
) -> Chunked<Surveyed> {
    let now_ms = now_ms();
    let mut top = Top::new(question.keep);
    let mut pace = Pace::begin();
    while let Some((name, traced)) = joined.pop_first() {
        let facts = traced.facts(&name);
        totals.add(&facts, now_ms);
        let rank = (question.rank)(&facts, now_ms);
        top.offer(rank, question.falling, &name, || {
            ((*name).into(), ChannelFacts { name: "", ..facts })
        });
        pace.step().await;
    }
    let mut run = Chunked::default();
    while let Some((place, facts)) = top.pop() {
        run.push(Surveyed {
            kind: question.kind,
            place,
            facts,
            positions: Vec::new(),
        });
        pace.step().await;
    }
    run
}
