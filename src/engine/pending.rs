//! The requester's side of commands and queries: which caller a response belongs to.
//!
//! A request leaves with a reply channel that names the core of its caller, the caller's slot
//! there and a random secret. Any core can read the way home from the text; only the core that
//! made it can tell whether the secret is the right one. The first response takes the waiter out:
//! late, repeated and invented ones find nothing.

mod reply_channel;

pub use reply_channel::{ReplyAddress, ReplyChannel, SECRET_CHARS};

use super::arena::{Arena, Key};

/// Source of randomness: fills the slice with independent, uniform bytes that a client cannot
/// predict.
pub type Random<'a> = &'a mut dyn FnMut(&mut [u8]);

/// As many requests wait for a response as may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("pending requests at their maximum of {pending_max}")]
pub struct Full {
    /// The bound that was reached.
    pub pending_max: usize,
}

/// Names one pending request; goes stale when the request is answered or closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PendingKey(Key);

/// The requests of one core that wait for a response, each with its waiter `W`.
///
/// Owned by the core that holds the callers' connections. A request leaves the table exactly once:
/// through [`PendingRequests::answer`] or through [`PendingRequests::close`], whichever comes
/// first. It takes 28 bytes beside its waiter.
#[derive(Debug)]
pub struct PendingRequests<W> {
    requests: Arena<Pending<W>>,
    core: u16,
    pending_max: usize,
}

#[derive(Debug)]
struct Pending<W> {
    secret: [u8; SECRET_CHARS],
    waiter: W,
}

impl<W> PendingRequests<W> {
    /// Makes the table of core `core`, for at most `pending_max` requests at once.
    #[must_use]
    pub fn new(core: u16, pending_max: usize) -> Self {
        Self {
            requests: Arena::new(),
            core,
            pending_max,
        }
    }

    /// The number of requests that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.requests.len()
    }

    /// Whether no request waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Takes a waiter in and returns the reply channel that leads back to it.
    ///
    /// # Errors
    /// [`Full`] when `pending_max` requests wait already; the waiter is dropped.
    pub fn open(
        &mut self,
        waiter: W,
        random: Random<'_>,
    ) -> Result<(PendingKey, ReplyChannel), Full> {
        if self.requests.len() >= self.pending_max {
            return Err(Full {
                pending_max: self.pending_max,
            });
        }
        let secret = reply_channel::draw_secret(random);
        let key = self.requests.insert(Pending { secret, waiter });
        let address = ReplyAddress {
            core: self.core,
            index: key.index(),
            secret,
        };
        Ok((PendingKey(key), address.channel()))
    }

    /// Gives up on a request: its time is over, or its caller has gone. `None` if it was answered
    /// or closed before.
    pub fn close(&mut self, key: PendingKey) -> Option<W> {
        self.requests.remove(key.0).map(|pending| pending.waiter)
    }

    /// Takes out the waiter that a response is for. `None` if nobody waits there: the response is
    /// late, repeated, of another core, or its sender made the address up.
    pub fn answer(&mut self, address: &ReplyAddress) -> Option<W> {
        self.peek(address)?;
        self.requests
            .remove_at(address.index)
            .map(|pending| pending.waiter)
    }

    /// The waiter that [`PendingRequests::answer`] would take out.
    #[must_use]
    pub fn peek(&self, address: &ReplyAddress) -> Option<&W> {
        let pending = self.requests.at(address.index)?;
        let right = address.core == self.core && pending.secret == address.secret;
        right.then_some(&pending.waiter)
    }

    /// Closes all requests at once; for the end of the broker.
    pub fn drain(&mut self) -> Vec<W> {
        self.requests
            .drain()
            .map(|pending| pending.waiter)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    /// A predictable source: bytes that count up.
    fn counter() -> impl FnMut(&mut [u8]) {
        let mut state = 0_u64;
        move |bytes| {
            for byte in bytes {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                *byte = state.to_be_bytes()[0];
            }
        }
    }

    fn parse(channel: &ReplyChannel) -> ReplyAddress {
        let address = ReplyChannel::parse(channel.as_str()).expect("our own text");
        assert_eq!(address, channel.address());
        address
    }

    #[test]
    fn the_first_response_wins() {
        let mut random = counter();
        let mut pending = PendingRequests::new(3, 10);
        let (key, channel) = pending.open("caller", &mut random).unwrap();
        let address = parse(&channel);
        assert_eq!(pending.answer(&address), Some("caller"));
        assert_eq!(pending.answer(&address), None);
        assert_eq!((pending.close(key), pending.len()), (None, 0));
    }

    #[test]
    fn a_closed_request_has_no_answer() {
        let mut random = counter();
        let mut pending = PendingRequests::new(0, 10);
        let (key, channel) = pending.open((), &mut random).unwrap();
        assert_eq!(pending.close(key), Some(()));
        assert_eq!(pending.close(key), None);
        assert_eq!(pending.answer(&parse(&channel)), None);
    }

    #[test]
    fn a_late_response_does_not_reach_the_next_request_of_its_slot() {
        let mut random = counter();
        let mut pending = PendingRequests::new(0, 10);
        let (first_key, first) = pending.open(1, &mut random).unwrap();
        pending.close(first_key);
        let (_, second) = pending.open(2, &mut random).unwrap();
        assert_eq!(
            parse(&first).index,
            parse(&second).index,
            "the slot is reused"
        );
        assert_eq!(pending.close(first_key), None);
        assert_eq!(pending.answer(&parse(&first)), None);
        assert_eq!(pending.answer(&parse(&second)), Some(2));
    }

    #[test]
    fn an_address_must_be_right_in_every_part() {
        let mut random = counter();
        let mut pending = PendingRequests::new(7, 10);
        let (_, channel) = pending.open((), &mut random).unwrap();
        let address = parse(&channel);
        for changed in 0..SECRET_CHARS {
            let mut wrong = address;
            wrong.secret[changed] ^= 1;
            assert_eq!(pending.answer(&wrong), None);
        }
        assert_eq!(pending.answer(&ReplyAddress { core: 8, ..address }), None);
        assert_eq!(
            pending.answer(&ReplyAddress {
                index: 1,
                ..address
            }),
            None
        );
        assert_eq!(pending.answer(&address), Some(()));
    }

    #[test]
    fn a_full_table_refuses_until_one_leaves() {
        let mut random = counter();
        let mut pending = PendingRequests::new(0, 2);
        let (key, _) = pending.open((), &mut random).unwrap();
        pending.open((), &mut random).unwrap();
        let refused = pending.open((), &mut random).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "pending requests at their maximum of 2"
        );
        pending.close(key);
        assert!(pending.open((), &mut random).is_ok());
    }

    #[test]
    fn to_peek_takes_nothing_out_and_to_drain_takes_all() {
        let mut random = counter();
        let mut pending = PendingRequests::new(0, 10);
        let requests: Vec<_> = (0..3)
            .map(|n| pending.open(n, &mut random).unwrap())
            .collect();
        let addresses: Vec<_> = requests.iter().map(|(_, channel)| parse(channel)).collect();
        assert_eq!(pending.peek(&addresses[1]), Some(&1));
        assert_eq!(
            pending.peek(&ReplyAddress {
                core: 1,
                ..addresses[1]
            }),
            None
        );
        assert_eq!(pending.answer(&addresses[1]), Some(1));
        assert_eq!(pending.peek(&addresses[1]), None);
        assert_eq!(pending.drain(), [0, 2]);
        assert!(pending.is_empty());
        assert_eq!(pending.answer(&addresses[0]), None);
    }

    #[derive(Clone, Copy, Debug)]
    enum Action {
        Open,
        Close(prop::sample::Index),
        Answer(prop::sample::Index),
    }

    fn action() -> impl Strategy<Value = Action> {
        prop_oneof![
            2 => Just(Action::Open),
            1 => any::<prop::sample::Index>().prop_map(Action::Close),
            1 => any::<prop::sample::Index>().prop_map(Action::Answer),
        ]
    }

    proptest! {
        #[test]
        fn every_waiter_leaves_exactly_once(actions in prop::collection::vec(action(), 1..200)) {
            let mut random = counter();
            let mut pending = PendingRequests::new(1, 20);
            let mut opened = Vec::new();
            let mut model: HashMap<usize, ()> = HashMap::new();
            for action in actions {
                match action {
                    Action::Open => match pending.open(opened.len(), &mut random) {
                        Ok(request) => {
                            model.insert(opened.len(), ());
                            opened.push(request);
                        }
                        Err(full) => prop_assert_eq!(full.pending_max, model.len()),
                    },
                    Action::Close(_) | Action::Answer(_) if opened.is_empty() => {}
                    Action::Close(which) => {
                        let id = which.index(opened.len());
                        let expected = model.remove(&id).map(|()| id);
                        prop_assert_eq!(pending.close(opened[id].0), expected);
                    }
                    Action::Answer(which) => {
                        let id = which.index(opened.len());
                        let expected = model.remove(&id).map(|()| id);
                        prop_assert_eq!(pending.answer(&parse(&opened[id].1)), expected);
                    }
                }
                prop_assert_eq!(pending.len(), model.len());
            }
        }
    }
}
