//! `QueuesUpstream`: requests with messages in, their results out, in the order of the requests.
//!
//! A request is answered when its messages are durable; the stream is read on meanwhile, up to a
//! bound.

mod answers;

use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::send::Sending;
use super::{MESSAGES_PER_TURN, given_or_new, told};
use crate::grpc::codec::queue::{MessagesView, QueueLimits, QueueMessageView};
use crate::grpc::codec::sender::Signed;
use crate::grpc::events::NoRoom;
use crate::grpc::observe::Watch;
use crate::grpc::routed::Routed;
use crate::grpc::{Busy, ended};
use crate::rt;
use crate::shard::{Receipts, Shard};
use crate::wire::server::{Call, MessageReader, ResponseStream};
use crate::wire::status::{Code, Status};
use crate::wire_error::{BATCH_MESSAGES_MAX, Refusal};

use answers::Answers;

pub(in crate::grpc) async fn upstream(
    shard: Rc<Shard>,
    limits: Rc<QueueLimits>,
    watch: Watch,
    busy: Busy,
    call: Call,
) {
    let (mut reader, responder) = call.into_parts();
    // The headers go out at once: some clients wait for them before they send.
    let Ok(stream) = responder.start() else {
        return;
    };
    let mut sender = Sender {
        receipts: shard.receipts(),
        shard,
        limits,
        watch,
        stream,
        answers: Answers::default(),
        busy,
    };
    if let Ok(status) = sender.serve(&mut reader).await {
        sender.stream.finish(status);
    }
}

/// One upstream.
struct Sender {
    shard: Rc<Shard>,
    limits: Rc<QueueLimits>,
    watch: Watch,
    stream: ResponseStream,
    /// INVARIANT: as many outstanding ones as messages that wait in the answers, and as many as
    /// are expected.
    receipts: Receipts,
    answers: Answers,
    /// While receipts are outstanding.
    busy: Busy,
}

/// The client has gone.
struct Gone;

/// What an upstream does next.
enum Next {
    Request(Result<Option<Bytes>, Status>),
    /// The broker ends, or the client may send nothing any more.
    End(Refusal),
    /// Everything is answered, and the end was decided before.
    Answered,
    Gone,
}

impl Sender {
    /// Serves until the end; gives the status that ends the call.
    async fn serve(&mut self, reader: &mut MessageReader) -> Result<Status, Gone> {
        let shutdown = self.shard.watch_shutdown();
        let mut end: Option<Status> = None;
        loop {
            let ending = end.is_some();
            let next = std::future::poll_fn(|cx| {
                if self.poll_answers(cx).is_ready() {
                    return Poll::Ready(Next::Gone);
                }
                if ending {
                    // What was taken is answered, whyever the stream ends.
                    return match self.answers.is_empty() {
                        true => Poll::Ready(Next::Answered),
                        false => Poll::Pending,
                    };
                }
                if shutdown.poll(cx).is_ready() {
                    return Poll::Ready(Next::End(Refusal::ShuttingDown));
                }
                // What is sent to which queue is asked for with each message.
                if let Poll::Ready(refusal) = self.watch.gate.poll_closed(cx, |_| Ok(())) {
                    return Poll::Ready(Next::End(refusal));
                }
                if self.answers.is_full() || self.watch.gate.poll_may_read(cx).is_pending() {
                    return Poll::Pending;
                }
                reader.poll_message(cx).map(Next::Request)
            })
            .await;
            match next {
                Next::Request(Ok(Some(request))) => {
                    let count = self.take(&request).await?;
                    self.watch.gate.read_batch(request.len(), count);
                }
                Next::Request(Ok(None)) => end = Some(Status::new(Code::Ok, "")),
                Next::Request(Err(status)) => end = Some(status),
                Next::End(refusal) => end = Some(ended(&self.shard, refusal)),
                Next::Answered => return end.ok_or(Gone),
                Next::Gone => return Err(Gone),
            }
        }
    }

    /// Turns receipts into answers and sends what may go, in one write. Ready when the client has
    /// gone.
    fn poll_answers(&mut self, cx: &mut Context<'_>) -> Poll<Gone> {
        if self.stream.poll_reset(cx).is_ready() {
            return Poll::Ready(Gone);
        }
        while self.answers.are_waiting() {
            let Poll::Ready(outcome) = self.receipts.poll_front(cx) else {
                break;
            };
            let (shard, outcome) = (&self.shard, outcome.map_err(Refusal::from));
            self.watch.outcome(outcome.as_ref().copied());
            self.answers
                .receipt(outcome.map_err(|refusal| told(shard, refusal)));
        }
        self.busy.set(self.answers.are_waiting());
        while self.answers.ready_bytes() > 0 {
            let want = self.answers.ready_bytes();
            let sent = match self.stream.poll_send_capacity(want, cx) {
                Poll::Ready(Ok(granted)) => self.stream.send_frames(self.answers.take(granted)),
                Poll::Ready(Err(gone)) => Err(gone),
                Poll::Pending => break,
            };
            if sent.is_err() {
                return Poll::Ready(Gone);
            }
        }
        Poll::Pending
    }

    /// Takes a request: hands its messages to their logs. Gives for how many it counts.
    async fn take(&mut self, request: &[u8]) -> Result<usize, Gone> {
        let view = match self.check(request) {
            Ok(view) => view,
            Err(refusal) => {
                self.refuse(request, refusal);
                return Ok(1);
            }
        };
        if let Err(refusal) = self.watch.gate.allow_all(&view).await {
            self.refuse(request, refusal);
            return Ok(view.count);
        }
        self.answers.begin(view.id);
        for (place, message) in view.messages().enumerate() {
            if let Err(refusal) = self.hand_over(message).await? {
                self.watch.refused_queue_message(message, &refusal);
                let message_id = QueueMessageView::message_id_of(message);
                let message_id = given_or_new(&self.shard, message_id);
                let error = told(&self.shard, refusal);
                self.answers.refused(&message_id, &error);
            }
            if place % MESSAGES_PER_TURN == MESSAGES_PER_TURN - 1 {
                self.meanwhile(rt::reactor_yield()).await?;
            }
        }
        self.answers.end();
        Ok(view.count)
    }

    /// Refuses all of a request.
    fn refuse(&mut self, request: &[u8], refusal: Refusal) {
        // The id where it can still be read: the client matches answers by it.
        let error = told(&self.shard, refusal);
        self.answers.refuse(MessagesView::id_of(request), &error);
    }

    fn check<'a>(&self, request: &'a [u8]) -> Result<MessagesView<'a>, Refusal> {
        let view = MessagesView::parse(request)?;
        if view.count == 0 {
            return Err(Refusal::UpstreamEmpty);
        }
        if view.count > BATCH_MESSAGES_MAX {
            let max = BATCH_MESSAGES_MAX;
            return Err(Refusal::BatchTooLarge { max });
        }
        Ok(view)
    }

    /// Hands one message to its log, or says why not.
    async fn hand_over(&mut self, message: &[u8]) -> Result<Result<(), Refusal>, Gone> {
        let bound = match self.watch.gate.bind(message, Signed::Other) {
            Ok(bound) => bound,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let message = &*bound;
        let sending = Sending::new(&self.shard, &self.limits, message);
        let checked = match sending.and_then(|sending| sending.allowed(&mut self.watch.gate)) {
            Ok(Sending::Queue(checked)) => checked,
            Ok(Sending::Route(routed)) => return self.hand_over_routed(*routed).await.map(Ok),
            Err(refusal) => return Ok(Err(refusal)),
        };
        while let Err(no_room) = checked.send(&self.shard, &self.receipts) {
            if let Err(refusal) = self.wait_for_room(no_room, checked.channel()).await? {
                return Ok(Err(refusal));
            }
        }
        self.answers.handed_over(&checked);
        self.watch.expect(&checked.access(message.len()));
        debug_assert_eq!(self.receipts.outstanding(), self.answers.waiting_count());
        Ok(Ok(()))
    }

    /// Hands the copies of one message to their channels.
    async fn hand_over_routed(&mut self, mut routed: Routed<'_>) -> Result<(), Gone> {
        let (shard, limits) = (self.shard.clone(), self.limits.clone());
        while let Err(no_room) = routed.send(&shard, &limits, &self.receipts, &mut self.watch) {
            if let Err(refusal) = self.wait_for_room(no_room, routed.channel()).await? {
                routed.give_up(&shard, refusal, &mut self.watch);
            }
        }
        self.answers.routed(routed.handed_over());
        debug_assert_eq!(self.receipts.outstanding(), self.answers.waiting_count());
        Ok(())
    }

    async fn wait_for_room(
        &mut self,
        no_room: NoRoom,
        channel: &str,
    ) -> Result<Result<(), Refusal>, Gone> {
        let shard = self.shard.clone();
        self.meanwhile(no_room.wait(&shard, channel)).await
    }

    /// Waits for something, while what was taken before is answered.
    async fn meanwhile<T>(&mut self, something: impl Future<Output = T>) -> Result<T, Gone> {
        let mut something = pin!(something);
        std::future::poll_fn(|cx| {
            if self.poll_answers(cx).is_ready() {
                return Poll::Ready(Err(Gone));
            }
            something.as_mut().poll(cx).map(Ok)
        })
        .await
    }
}
