//! The mesh: a bounded single-producer, single-consumer queue from each executor to each other.
//!
//! What travels should be a batch: waking a parked executor costs some 20 us, the item itself
//! 50 ns. Bounds and lanes are the caller's, in [`crate::shard`].

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use glommio::channels::shared_channel::{
    ConnectedReceiver, ConnectedSender, SharedReceiver, SharedSender, new_bounded,
};

/// One executor's place in the mesh; moved to the executor, then connected there.
#[derive(Debug)]
pub struct Seat<T: Send> {
    senders: Vec<Option<SharedSender<T>>>,
    receivers: Vec<Option<SharedReceiver<T>>>,
}

/// Makes the seats for `count` executors with queues of `capacity` items.
#[must_use]
pub fn seats<T: Send + 'static>(count: usize, capacity: usize) -> Vec<Seat<T>> {
    let mut seats: Vec<Seat<T>> = (0..count)
        .map(|_| Seat {
            senders: Vec::with_capacity(count),
            receivers: Vec::new(),
        })
        .collect();
    let mut receivers: Vec<Vec<Option<SharedReceiver<T>>>> =
        (0..count).map(|_| Vec::with_capacity(count)).collect();
    for (source, seat) in seats.iter_mut().enumerate() {
        for (target, inward) in receivers.iter_mut().enumerate() {
            if source == target {
                seat.senders.push(None);
                inward.push(None);
            } else {
                let (sender, receiver) = new_bounded(capacity);
                seat.senders.push(Some(sender));
                inward.push(Some(receiver));
            }
        }
    }
    for (seat, inward) in seats.iter_mut().zip(receivers) {
        seat.receivers = inward;
    }
    seats
}

impl<T: Send + 'static> Seat<T> {
    /// Connects to all peers; waits until each of them does so too. The place of this executor
    /// itself is empty in both lists.
    pub async fn connect(self) -> (Vec<Option<Outgoing<T>>>, Vec<Option<Incoming<T>>>) {
        // All at once: an end waits for its peer's, so that two executors that went through their
        // lists in different orders would wait for each other for ever.
        let senders = self.senders.into_iter().map(|sender| async move {
            match sender {
                Some(sender) => Some(Outgoing(sender.connect().await)),
                None => None,
            }
        });
        let receivers = self.receivers.into_iter().map(|receiver| async move {
            match receiver {
                Some(receiver) => Some(Incoming(receiver.connect().await)),
                None => None,
            }
        });
        let mut outgoing = Together::new(senders);
        let mut incoming = Together::new(receivers);
        std::future::poll_fn(|cx| {
            let (sent, received) = (outgoing.poll(cx), incoming.poll(cx));
            if sent && received {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
        (outgoing.finish(), incoming.finish())
    }
}

type Boxed<R> = Pin<Box<dyn Future<Output = R>>>;

/// Futures that run side by side until all are done.
struct Together<R> {
    running: Vec<(usize, Boxed<R>)>,
    done: Vec<(usize, R)>,
}

impl<R> Together<R> {
    fn new(futures: impl Iterator<Item = impl Future<Output = R> + 'static>) -> Self {
        let running = futures
            .enumerate()
            .map(|(place, future)| (place, Box::pin(future) as Boxed<R>))
            .collect();
        Self {
            running,
            done: Vec::new(),
        }
    }

    /// Polls those that run; says whether all are done.
    fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        let done = &mut self.done;
        self.running
            .retain_mut(|(place, future)| match future.as_mut().poll(cx) {
                Poll::Ready(result) => {
                    done.push((*place, result));
                    false
                }
                Poll::Pending => true,
            });
        self.running.is_empty()
    }

    /// The results, in the order of the futures.
    fn finish(mut self) -> Vec<R> {
        self.done.sort_by_key(|(place, _)| *place);
        self.done.into_iter().map(|(_, result)| result).collect()
    }
}

/// The queue to one peer.
#[derive(Debug)]
pub struct Outgoing<T: Send>(ConnectedSender<T>);

impl<T: Send> Outgoing<T> {
    /// Waits for room and sends; `false` when the peer has ended. One task calls this: two waiting
    /// senders of one queue could both be promised the same place.
    pub async fn send(&self, item: T) -> bool {
        self.0.send(item).await.is_ok()
    }
}

/// The queue from one peer.
#[derive(Debug)]
pub struct Incoming<T: Send>(ConnectedReceiver<T>);

impl<T: Send> Incoming<T> {
    /// Waits for the next item; `None` when the peer has ended.
    pub async fn receive(&self) -> Option<T> {
        self.0.recv().await
    }
}
