//! When messages should be sent: a function of the load alone, without a clock.
//!
//! The rate over time is a curve; the number of messages that should have been sent by a time is
//! the area under it. A producer's messages lie at the times at which that area reaches certain
//! values: every n-th whole number, shifted by the producer's own number, for constant arrivals;
//! the sum of exponential gaps for Poisson arrivals. So both follow ramps and steps exactly, and
//! the times of a message do not depend on what happened before it.

use crate::random::Random;
use crate::scenario::{Arrivals, Load, Rate, Step};

/// After the last message: no more is due.
pub(crate) const NEVER_NS: u64 = u64::MAX;

/// The intended times of one producer.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    curve: Curve,
    arrivals: Drawn,
    /// Of all producers, which is the distance of two messages of one of them.
    producers: f64,
    next_ns: u64,
}

#[derive(Clone, Debug)]
enum Drawn {
    /// The area at which the next message lies.
    Constant(f64),
    Poisson {
        area: f64,
        random: Random,
    },
}

impl Schedule {
    /// The times of producer `number` of so many, over all channels; `seconds`: warm-up and
    /// duration. `None`: a closed loop has no times.
    pub(crate) fn new(
        load: &Load,
        seconds: f64,
        producers: u32,
        number: u32,
        seed: u64,
    ) -> Option<Self> {
        let Load::Open { arrivals, rate } = load else {
            return None;
        };
        let arrivals = match arrivals {
            Arrivals::Constant => Drawn::Constant(f64::from(number)),
            Arrivals::Poisson => Drawn::Poisson {
                area: 0.0,
                random: Random::new(seed, &[u64::from(number), 0x7ACE]),
            },
        };
        let mut schedule = Self {
            curve: Curve::new(rate, seconds),
            arrivals,
            producers: f64::from(producers.max(1)),
            next_ns: 0,
        };
        if let Drawn::Poisson { .. } = schedule.arrivals {
            schedule.pop();
        } else {
            schedule.next_ns = schedule.curve.time_ns(f64::from(number));
        }
        Some(schedule)
    }

    /// When the next message should be sent, in nanoseconds from the beginning of the run;
    /// [`NEVER_NS`] when no more should.
    pub(crate) const fn peek_ns(&self) -> u64 {
        self.next_ns
    }

    /// Goes on to the message after that.
    pub(crate) fn pop(&mut self) {
        let area = match &mut self.arrivals {
            Drawn::Constant(area) => {
                *area += self.producers;
                *area
            }
            Drawn::Poisson { area, random } => {
                *area += random.exponential() * self.producers;
                *area
            }
        };
        self.next_ns = self.curve.time_ns(area);
    }
}

/// The rate over time in straight pieces, and how far it has been followed.
#[derive(Clone, Debug)]
struct Curve {
    /// The piece in use is first; those before it are over. In reverse order, so that one is
    /// dropped by taking the last.
    pieces: Vec<Piece>,
}

/// Where the rate is a straight line.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Piece {
    begin: f64,
    seconds: f64,
    /// Messages before it.
    before: f64,
    /// At its beginning, in messages a second.
    rate: f64,
    /// By how much the rate changes in a second.
    slope: f64,
}

impl Piece {
    fn area(&self, seconds: f64) -> f64 {
        (self.slope / 2.0).mul_add(seconds, self.rate) * seconds
    }

    /// The time within the piece at which its area reaches `area`: the root of a quadratic, in the
    /// form that does not cancel when the slope is small.
    fn time(&self, area: f64) -> f64 {
        let root = (2.0 * self.slope)
            .mul_add(area, self.rate * self.rate)
            .max(0.0)
            .sqrt();
        match self.rate + root {
            0.0 => 0.0,
            divisor => 2.0 * area / divisor,
        }
    }
}

impl Curve {
    fn new(rate: &Rate, seconds: f64) -> Self {
        let mut pieces = Vec::new();
        let mut put = |seconds: f64, rate: f64, slope: f64| {
            let (begin, before) = pieces.last().map_or((0.0, 0.0), |last: &Piece| {
                (
                    last.begin + last.seconds,
                    last.before + last.area(last.seconds),
                )
            });
            pieces.push(Piece {
                begin,
                seconds,
                before,
                rate,
                slope,
            });
        };
        match rate {
            Rate::Constant(rate) => put(f64::INFINITY, *rate, 0.0),
            Rate::Ramp { from, to } => {
                if seconds > 0.0 {
                    put(seconds, *from, (to - from) / seconds);
                }
                put(f64::INFINITY, *to, 0.0);
            }
            Rate::Steps(steps) => {
                let last = steps.last().map_or(0.0, |step: &Step| step.rate);
                for step in steps {
                    put(step.seconds, step.rate, 0.0);
                }
                put(f64::INFINITY, last, 0.0);
            }
        }
        pieces.reverse();
        Self { pieces }
    }

    /// When the area reaches `area`, which never falls from call to call.
    fn time_ns(&mut self, area: f64) -> u64 {
        while let Some([next, _]) = self.pieces.last_chunk::<2>()
            && next.before <= area
        {
            self.pieces.pop();
        }
        match self.pieces.last() {
            Some(piece) if piece.rate > 0.0 || piece.slope > 0.0 => {
                let within = piece.time(area - piece.before).min(piece.seconds);
                nanoseconds(piece.begin + within)
            }
            _ => NEVER_NS,
        }
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "times are not negative, and the cast saturates"
)]
fn nanoseconds(seconds: f64) -> u64 {
    (seconds * 1e9).round() as u64
}

#[cfg(test)]
mod tests;
