//! The patterns: how each kind of message is sent, received and confirmed.
//!
//! A pattern's `open` connects and subscribes everything that one flow needs, and starts the tasks
//! of its producers: their [`Pacer`](crate::worker::Pacer) lets them send when all cores are ready.

mod calls;
mod echo;
mod events;
mod fields;
mod queue_answers;
mod queue_stream;
mod queue_unary;
mod queues;
mod request_answers;
mod requests;

use std::rc::Rc;

use bytes::Bytes;
use ringmq::rt;
use ringmq::wire::client::ClientStream;
use ringmq::wire::status::Status;

use crate::flow::Flow;
use crate::scenario::{Calls, Pattern};
use crate::worker::{Worker, describe};

/// Opens a flow: consumers first, then producers.
///
/// # Errors
/// When the server is not there, or refuses a subscription.
pub(crate) async fn open(worker: &Rc<Worker>, flow: &Rc<Flow>) -> anyhow::Result<()> {
    match worker.scenario().pattern {
        Pattern::Events | Pattern::EventsStore => events::open(worker, flow).await,
        Pattern::Echo => echo::open(worker, flow).await,
        Pattern::Queue => match worker.scenario().calls {
            Calls::Stream => queue_stream::open(worker, flow).await,
            Calls::Unary => queue_unary::open(worker, flow).await,
        },
        Pattern::Command | Pattern::Query => requests::open(worker, flow).await,
    }
}

/// Takes what a stream brings, with the time at which it was there, until it ends: all that has
/// come is taken at once. `None`: the server ended it in order.
async fn take_all(stream: &mut ClientStream, mut take: impl FnMut(&Bytes, u64)) -> Option<Status> {
    loop {
        let first = match stream.message().await {
            Ok(first) => first?,
            Err(status) => return Some(status),
        };
        let now_ns = rt::now().as_ns();
        let mut next = Some(first);
        while let Some(message) = next {
            take(&message, now_ns);
            // An error shows again in the next wait.
            next = stream.try_message().unwrap_or(None);
        }
    }
}

/// How a stream has ended, in words.
fn ended_by(status: Option<&Status>) -> String {
    status.map_or_else(|| "ended by the server".to_owned(), describe)
}
