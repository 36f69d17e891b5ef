//! The requests on a stream of one message.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use ringmq_proto::kubemq::StreamRequestType as RequestType;

use super::{Asked, Ended, Held, Phase, QueueStream};
use crate::engine::queues::MoveReason;
use crate::grpc::codec::queue::validate::{check_queue, check_wait, validate_message};
use crate::grpc::codec::queue::{QueueLimits, QueueMessageView};
use crate::grpc::codec::queue_stream::{MESSAGE_FIELD, QueueStreamView};
use crate::grpc::codec::sender::Signed;
use crate::grpc::codec::validate::check_client_id;
use crate::grpc::observe::{Access, Deed};
use crate::grpc::queues::given_or_new;
use crate::grpc::queues::send::Checked;
use crate::security;
use crate::shard::{Action, PollRequest, Shard, Which};
use crate::wire::Alarm;
use crate::wire_error::{QueueStreamRefusal, Refusal};

impl QueueStream {
    /// Handles one request.
    pub(super) fn take_request(&mut self, message: &Bytes) {
        let (message, bound) = match self.watch.gate.bind_whole(message, Signed::Other) {
            Ok(bound) => (bound, Ok(())),
            Err(refusal) => (message.clone(), Err(refusal)),
        };
        let (view, decoded) = match QueueStreamView::parse(&message) {
            Ok(view) => (view, bound),
            Err(error) => (QueueStreamView::remains(&message), Err(error.into())),
        };
        let asked = Asked {
            request_id: given_or_new(&self.shard, view.request_id).into(),
            request_type: view.request_type,
        };
        self.last = asked.clone();
        let outcome = match decoded {
            Ok(()) => self.handle(&view, &message, &asked),
            Err(refusal) => Err(refusal.into()),
        };
        if let Err(refusal) = outcome {
            if let Some((channel, deed)) = deed(&view) {
                let access = Access::queue(channel, view.client_id, &asked.request_id);
                self.watch.refused(&access, deed, &refusal);
            }
            self.fail(&asked, &refusal);
            if let QueueStreamRefusal::Common(refusal) = refusal
                && refusal.is_about_the_call()
                && !matches!(self.phase, Phase::Storing { .. } | Phase::Settling { .. })
            {
                // As ever: the answer says what is wrong, and the call is over.
                let status = refusal.into();
                let broken = false;
                self.ended.get_or_insert(Ended { status, broken });
            }
        }
    }

    fn handle(
        &mut self,
        view: &QueueStreamView<'_>,
        message: &Bytes,
        asked: &Asked,
    ) -> Result<(), QueueStreamRefusal> {
        check_client_id(view.client_id)?;
        match RequestType::try_from(view.request_type) {
            Ok(RequestType::ReceiveMessage) => self.receive(view, asked),
            Ok(RequestType::AckMessage) => {
                let held = self.named(view, QueueStreamRefusal::NoMessageToAck)?;
                self.settle(held, Action::Ack, asked);
                Ok(())
            }
            Ok(RequestType::RejectMessage) => {
                let held = self.named(view, QueueStreamRefusal::NoMessageToReject)?;
                self.settle(held, Action::Nack, asked);
                Ok(())
            }
            Ok(RequestType::ModifyVisibility) => self.modify_visibility(view, asked),
            Ok(RequestType::ResendMessage) => self.resend(view, asked),
            Ok(RequestType::SendModifiedMessage) => self.send_modified(view, message, asked),
            Ok(RequestType::Unknown) | Err(_) => Err(QueueStreamRefusal::StreamRequestType),
        }
    }

    fn receive(
        &mut self,
        view: &QueueStreamView<'_>,
        asked: &Asked,
    ) -> Result<(), QueueStreamRefusal> {
        check_queue(view.channel)?;
        let visibility = self.visibility_of(view)?;
        let wait = check_wait(view.wait_seconds, &self.limits)?;
        if !matches!(self.phase, Phase::Idle) {
            return Err(QueueStreamRefusal::AlreadyReceiving);
        }
        let access = Access::queue(view.channel, view.client_id, &asked.request_id);
        self.watch.gate.allow(&access, security::Action::Read)?;
        let ticket = self.consumer.poll(&PollRequest {
            channel: view.channel,
            items_max: 1,
            bytes_max: usize::MAX,
            wait,
            peek: false,
            visibility: Some(visibility),
            field: MESSAGE_FIELD,
        });
        self.begun = Some(self.watch.polling(&access, Deed::Stream));
        self.place = Some(self.watch.place(&access));
        let asked = asked.clone();
        self.phase = Phase::Waiting { ticket, asked };
        Ok(())
    }

    fn modify_visibility(
        &mut self,
        view: &QueueStreamView<'_>,
        asked: &Asked,
    ) -> Result<(), QueueStreamRefusal> {
        let visibility = self.visibility_of(view)?;
        if let Phase::Holding(held) = &self.phase {
            let extend = Action::Extend(visibility);
            // When it comes too late, the end of the lease is on its way to us.
            self.consumer
                .settle(held.delivery, Which::All, extend, false);
        } else {
            self.visibility = Some(Alarm::new(visibility));
        }
        self.succeed(asked);
        Ok(())
    }

    fn resend(
        &mut self,
        view: &QueueStreamView<'_>,
        asked: &Asked,
    ) -> Result<(), QueueStreamRefusal> {
        check_queue(view.channel)?;
        let held = self.held().ok_or(QueueStreamRefusal::NoMessageToSend)?;
        let gate = &mut self.watch.gate;
        gate.allow_target(view.client_id, view.channel)?;
        let action = Action::Move {
            reason: MoveReason::Resend,
            target: view.channel.into(),
        };
        self.settle(held, action, asked);
        Ok(())
    }

    fn send_modified(
        &mut self,
        view: &QueueStreamView<'_>,
        message: &Bytes,
        asked: &Asked,
    ) -> Result<(), QueueStreamRefusal> {
        let modified = view.modified.ok_or(Refusal::QueueMessageMissing)?;
        let modified = message.slice_ref(modified);
        let modified = self.watch.gate.bind_whole(&modified, Signed::Other)?;
        let parsed = QueueMessageView::parse(&modified).map_err(Refusal::from)?;
        validate_message(&parsed, &self.limits)?;
        // It goes to one queue, as what it replaces has come from one.
        check_queue(parsed.channel)?;
        let held = self.held().ok_or(QueueStreamRefusal::NoMessageToAck)?;
        let access = Access::queue_message(&parsed, parsed.message_id, modified.len());
        let gate = &mut self.watch.gate;
        gate.allow_target(parsed.client_id, parsed.policy.max_receive_queue)?;
        gate.allow(&access, security::Action::Write)?;
        self.begun = Some(self.watch.begin(&access, Deed::Send));
        self.phase = Phase::Storing {
            storing: Box::pin(store(self.shard.clone(), self.limits.clone(), modified)),
            held,
            asked: asked.clone(),
            lost: false,
        };
        Ok(())
    }

    /// The message that is held, if the request names it.
    fn named(
        &self,
        view: &QueueStreamView<'_>,
        none: QueueStreamRefusal,
    ) -> Result<Held, QueueStreamRefusal> {
        if view.sequence == 0 {
            return Err(QueueStreamRefusal::WrongSequence);
        }
        let held = self.held().ok_or(none)?;
        if held.sequence != view.sequence {
            return Err(QueueStreamRefusal::WrongSequence);
        }
        Ok(held)
    }

    fn held(&self) -> Option<Held> {
        match &self.phase {
            Phase::Holding(held) => Some(*held),
            Phase::Idle
            | Phase::Waiting { .. }
            | Phase::Storing { .. }
            | Phase::Settling { .. } => None,
        }
    }

    fn settle(&mut self, held: Held, action: Action, asked: &Asked) {
        let deed = match action {
            Action::Move { .. } => Deed::Requeue,
            Action::Nack => Deed::Nack,
            _ => Deed::Ack,
        };
        self.report = self.settling(asked, deed);
        let ticket = self
            .consumer
            .settle(held.delivery, Which::All, action, true);
        let asked = asked.clone();
        self.phase = Phase::Settling { ticket, asked };
    }

    fn visibility_of(&self, view: &QueueStreamView<'_>) -> Result<Duration, QueueStreamRefusal> {
        let asked = u64::try_from(view.visibility_seconds).ok();
        let visibility = asked
            .map(Duration::from_secs)
            .filter(|visibility| *visibility <= self.limits.visibility_max)
            .ok_or(QueueStreamRefusal::Visibility)?;
        Ok(if visibility.is_zero() {
            self.limits.visibility_default
        } else {
            visibility
        })
    }
}

/// What a request does, and to what: a settlement names no queue.
fn deed<'a>(view: &QueueStreamView<'a>) -> Option<(&'a str, Deed)> {
    match RequestType::try_from(view.request_type).ok()? {
        RequestType::ReceiveMessage => Some((view.channel, Deed::Stream)),
        RequestType::AckMessage => Some(("", Deed::Ack)),
        RequestType::RejectMessage => Some(("", Deed::Nack)),
        RequestType::ResendMessage | RequestType::SendModifiedMessage => Some(("", Deed::Requeue)),
        RequestType::ModifyVisibility | RequestType::Unknown => None,
    }
}

/// Stores a message; ends when it is durable.
async fn store(shard: Rc<Shard>, limits: Rc<QueueLimits>, message: Bytes) -> Result<(), Refusal> {
    let checked = Checked::new(&shard, &limits, &message)?;
    let receipts = shard.receipts();
    while let Err(no_room) = checked.send(&shard, &receipts) {
        no_room.wait(&shard, checked.channel()).await?;
    }
    Ok(std::future::poll_fn(|cx| receipts.poll_front(cx)).await?)
}
