//! Questions to every core, for what is told of the broker as a whole.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use super::Shard;
use super::keyed::Keyed;
use super::message::Note;
use crate::rt::{self, Notify, Queue};

/// What one core answers.
pub(super) type Answer = Box<dyn Any + Send + Sync>;

/// Makes the answer of a core, on that core.
type Ask = dyn Fn(Rc<Shard>) -> Pin<Box<dyn Future<Output = Answer>>> + Send + Sync;

/// A question on its way.
#[derive(Clone)]
pub(super) struct Question(Arc<Ask>);

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Question")
    }
}

/// The questions of this core that wait for answers.
pub(super) type Asked = RefCell<Keyed<Rc<Gathering>>>;

/// The answers to one question.
#[derive(Debug)]
pub(super) struct Gathering {
    missing: Cell<usize>,
    answers: RefCell<Vec<Option<Answer>>>,
    ready: Notify,
}

/// Takes a question out of the table, however its wait ends.
struct Waiting<'a> {
    shard: &'a Shard,
    key: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.shard.asked.borrow_mut().remove(self.key);
    }
}

impl Shard {
    /// Asks every core, this one included, and gives the answers in order of the cores. The
    /// question runs there as a task of the background queue; what takes long yields. A core whose
    /// task broke off is missing in the answers.
    ///
    /// Dropping the future forgets the answers; the cores finish theirs.
    pub async fn ask_all<A, F>(
        self: &Rc<Self>,
        question: impl Fn(Rc<Self>) -> F + Send + Sync + 'static,
    ) -> Vec<A>
    where
        A: Send + Sync + 'static,
        F: Future<Output = A> + 'static,
    {
        let question = Question(Arc::new(move |shard| {
            let answer = question(shard);
            Box::pin(async move { Box::new(answer.await) as Answer })
        }));
        let count = usize::from(self.count);
        let gathering = Rc::new(Gathering {
            missing: Cell::new(count),
            answers: RefCell::new((0..count).map(|_| None).collect()),
            ready: Notify::new(),
        });
        let key = self.asked.borrow_mut().insert(gathering.clone());
        let _waiting = Waiting { shard: self, key };
        for peer in 0..self.count {
            match self.lane(peer) {
                None => self.question_here(self.id, key, question.clone()),
                Some(lane) => lane.push_note(Note::Ask {
                    key,
                    question: question.clone(),
                }),
            }
        }
        while gathering.missing.get() > 0 {
            gathering.ready.wait().await;
        }
        let answers = gathering.answers.take();
        let answers = answers.into_iter().flatten();
        answers
            .filter_map(|answer| answer.downcast().ok().map(|answer| *answer))
            .collect()
    }

    /// Makes this core's answer for one that asks.
    pub(super) fn question_here(self: &Rc<Self>, core: u16, key: u64, Question(ask): Question) {
        let reply = Reply {
            shard: self.clone(),
            core,
            key,
            answer: None,
        };
        let shard = self.clone();
        rt::spawn(Queue::Background, "question", async move {
            let mut reply = reply;
            reply.answer = Some(ask(shard).await);
        });
    }

    /// A core has answered, or has failed to.
    pub(super) fn reply_here(&self, core: u16, key: u64, answer: Option<Answer>) {
        let asked = self.asked.borrow();
        if let Some(gathering) = asked.get(key) {
            if let Some(place) = gathering.answers.borrow_mut().get_mut(usize::from(core)) {
                *place = answer;
            }
            let missing = gathering.missing.get().saturating_sub(1);
            gathering.missing.set(missing);
            if missing == 0 {
                gathering.ready.raise();
            }
        }
    }
}

/// Answers when it is dropped, so also for a task that panicked: nobody waits for ever.
struct Reply {
    shard: Rc<Shard>,
    /// Who asked.
    core: u16,
    key: u64,
    answer: Option<Answer>,
}

impl Drop for Reply {
    fn drop(&mut self) {
        let (from, key, answer) = (self.shard.id, self.key, self.answer.take());
        match self.shard.lane(self.core) {
            None => self.shard.reply_here(from, key, answer),
            Some(lane) => lane.push_note(Note::Answered { from, key, answer }),
        }
    }
}
