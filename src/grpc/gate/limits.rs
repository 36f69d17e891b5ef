//! How much somebody may ask for, and send.

use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use super::Gate;
use crate::grpc::refused;
use crate::security::limits::LimitReached;
use crate::shard::Shard;
use crate::wire::server::MessageReader;
use crate::wire::status::Status;
use crate::wire_error::Refusal;

impl Gate {
    /// The one message of a call, if its caller may ask for so much.
    ///
    /// # Errors
    /// Those of the reader; [`Refusal::LimitReached`].
    pub(in crate::grpc) async fn only_message(
        &self,
        shard: &Shard,
        reader: &mut MessageReader,
    ) -> Result<Bytes, Status> {
        let message = reader.only_message().await?;
        self.security
            .limits()
            .admit(&self.identity, self.peer.ip(), message.len())
            .map_err(|reached| refused(shard, limit_reached(&reached)))?;
        Ok(message)
    }

    /// Counts all messages of a batch that [`only_message`](Self::only_message) has brought; that
    /// counted as one.
    ///
    /// # Errors
    /// [`Refusal::LimitReached`].
    pub(in crate::grpc) fn admit_batch(&self, count: usize) -> Result<(), Refusal> {
        let (limits, more) = (self.security.limits(), count.saturating_sub(1));
        let admitted = limits.admit_more(&self.identity, self.peer.ip(), more);
        admitted.map_err(|reached| limit_reached(&reached))
    }

    /// Counts a message of a stream; false when no other may be read before
    /// [`poll_may_read`](Self::poll_may_read) is ready.
    pub(in crate::grpc) fn read(&mut self, bytes: usize) -> bool {
        self.read_batch(bytes, 1)
    }

    /// The same for a message of a stream that holds `count` of them.
    pub(in crate::grpc) fn read_batch(&mut self, bytes: usize, count: usize) -> bool {
        let Some(guard) = &mut self.guard else {
            return true;
        };
        // Whoever waits is woken by the poll that follows.
        let mut nobody = Context::from_waker(Waker::noop());
        let limits = self.security.limits();
        let admitted = limits.poll_admit_many(&mut guard.meter, &mut nobody, bytes, count);
        guard.is_slowed = admitted.is_pending();
        !guard.is_slowed
    }

    /// Ready while the next message of the stream may be read. Only the last poller is woken.
    pub(in crate::grpc) fn poll_may_read(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(guard) = self.guard.as_mut().filter(|guard| guard.is_slowed) else {
            return Poll::Ready(());
        };
        let admitted = self.security.limits().poll_admit(&mut guard.meter, cx, 0);
        admitted.map(|()| guard.is_slowed = false)
    }

    /// Takes a place among the subscriptions of a client, for as long as the call lives.
    ///
    /// # Errors
    /// [`Refusal::LimitReached`].
    pub(in crate::grpc) fn hold_subscription(&mut self, client_id: &str) -> Result<(), Refusal> {
        let hold = self.security.limits().subscription(client_id);
        let hold = hold.map_err(|reached| limit_reached(&reached))?;
        if let Some(guard) = &mut self.guard {
            guard.subscription = Some(hold);
        }
        Ok(())
    }
}

pub(super) fn limit_reached(reached: &LimitReached) -> Refusal {
    Refusal::LimitReached {
        limit: reached.limit,
        retry_after: reached.retry_after,
    }
}
