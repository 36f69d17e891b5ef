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

use crate::flow::Flow;
use crate::scenario::{Calls, Pattern};
use crate::worker::Worker;

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
