//! The mesh: a bounded single-producer, single-consumer queue from each executor to each other.
//!
//! What travels should be a batch: waking a parked executor costs some 20 us, the item itself
//! 50 ns. Bounds and lanes are the caller's, in [`crate::shard`].

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
        .map(|_| Seat { senders: Vec::with_capacity(count), receivers: Vec::new() })
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
        let mut outgoing = Vec::with_capacity(self.senders.len());
        let mut incoming = Vec::with_capacity(self.receivers.len());
        for sender in self.senders {
            outgoing.push(match sender {
                Some(sender) => Some(Outgoing(sender.connect().await)),
                None => None,
            });
        }
        for receiver in self.receivers {
            incoming.push(match receiver {
                Some(receiver) => Some(Incoming(receiver.connect().await)),
                None => None,
            });
        }
        (outgoing, incoming)
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
