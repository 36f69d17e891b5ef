//! Does a receiver's connection live? Asked before a newcomer with its client id is refused.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use crate::engine::feeds::Address;
use crate::rt::{self, Notify, Queue};
use crate::shard::Shard;
use crate::shard::message::Note;

/// A connection that does not answer a ping for this long is dead.
const PATIENCE: Duration = Duration::from_secs(1);

/// A question that waits for its answer.
#[derive(Clone, Debug, Default)]
pub(in crate::shard) struct Question {
    alive: Rc<Cell<Option<bool>>>,
    answered: Notify,
}

impl Shard {
    /// Asks whether the receiver at an address lives; when its connection does not answer, it is
    /// closed.
    pub(super) async fn receiver_lives(self: &Rc<Self>, receiver: Address) -> bool {
        let question = Question::default();
        let index = self.stored.probes.borrow_mut().insert(question.clone());
        let number = u64::try_from(index).unwrap_or(u64::MAX);
        match self.lane(receiver.core) {
            None => self.probe_here(self.id, receiver.key, number),
            Some(lane) => lane.push_note(Note::Probe {
                key: receiver.key,
                question: number,
            }),
        }
        question.answered.wait().await;
        self.stored.probes.borrow_mut().try_remove(index);
        question.alive.get().unwrap_or(false)
    }

    /// Pings a connection of this core for the shard that asks.
    pub(in crate::shard) fn probe_here(self: &Rc<Self>, asker: u16, key: u64, question: u64) {
        let local = self.stored.receivers.borrow().find(key).cloned();
        let shard = self.clone();
        rt::spawn(Queue::Serve, "probe", async move {
            let alive = match local {
                None => false,
                Some(local) => {
                    let alive = local.control.answers_within(PATIENCE).await;
                    if !alive {
                        local.control.close();
                    }
                    alive
                }
            };
            match shard.lane(asker) {
                None => shard.probed_here(question, alive),
                Some(lane) => lane.push_note(Note::Probed { question, alive }),
            }
        });
    }

    /// The answer to a question of this shard.
    pub(in crate::shard) fn probed_here(&self, question: u64, alive: bool) {
        let probes = self.stored.probes.borrow();
        let index = usize::try_from(question).unwrap_or(usize::MAX);
        if let Some(question) = probes.get(index) {
            question.alive.set(Some(alive));
            question.answered.raise();
        }
    }
}
