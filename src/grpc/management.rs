//! Channel management: requests to the broker itself, on a channel that nobody else may serve.

use std::rc::Rc;

use bytes::BytesMut;

use super::codec::management::{
    Operation, PartedAnswer, list_item, list_response, management_response,
};
use super::codec::request::{RequestType, RequestView};
use super::gate::Gate;
use super::queues;
use crate::model::Kind;
use crate::rt;
use crate::security::Action;
use crate::shard::{
    ChannelChange, ChannelQuestion, Redrive, Redriven, Shard, StoreFailure, WhichChannels,
};
use crate::wire::server::Responder;
use crate::wire::status::{Code, Status};
use crate::wire_error::Refusal;

/// SDKs try a list again when its error holds this.
const LIST_BUSY: &str = "cluster snapshot not ready yet: too many lists are being made";

/// A request to the broker itself, without the bytes that it came in.
pub(super) struct Asked {
    client_id: Box<str>,
    request_id: String,
    operation: Result<Operation, String>,
}

/// Reads a request that was sent to the channel of channel management.
pub(super) fn read(request: &RequestView<'_>, request_type: RequestType) -> Asked {
    let operation = match request_type {
        RequestType::Query => Operation::read(request),
        // Its answer would lose its body.
        RequestType::Command => Err("channel management takes queries, not commands".to_owned()),
    };
    Asked {
        client_id: request.client_id.into(),
        request_id: request.request_id.to_owned(),
        operation,
    }
}

impl Asked {
    /// Asks whether it may be done. What means nothing may: its answer says so.
    pub(super) fn allow(&self, gate: &mut Gate) -> Result<(), Refusal> {
        let Ok(operation) = &self.operation else {
            return Ok(());
        };
        let client_id = &*self.client_id;
        let channel = match operation {
            Operation::List(..) => return gate.allow_managing(client_id, None, Action::Read),
            Operation::Create(_, channel)
            | Operation::Delete(_, channel)
            | Operation::Purge(_, channel) => channel,
            Operation::Redrive { queue, target, .. } => {
                gate.allow_target(client_id, target)?;
                queue
            }
        };
        gate.allow_managing(client_id, Some(channel), Action::Write)
    }
}

/// A change that was asked for, as it is written down.
pub(super) struct Managed {
    what: &'static str,
    target: String,
    client_id: Box<str>,
}

impl Managed {
    /// Of a request; `None` when it changes nothing.
    pub(super) fn of(asked: &Asked) -> Option<Self> {
        let (what, kind, channel) = match asked.operation.as_ref().ok()? {
            Operation::List(..) => return None,
            Operation::Create(kind, channel) => ("channel.create", *kind, channel),
            Operation::Delete(kind, channel) => ("channel.delete", *kind, channel),
            Operation::Purge(kind, channel) => ("channel.purge", *kind, channel),
            Operation::Redrive { queue, .. } => ("channel.redrive", Kind::Queues, queue),
        };
        Some(Self {
            what,
            target: format!("{kind}:{channel}"),
            client_id: asked.client_id.clone(),
        })
    }

    /// Writes down what it came to.
    pub(super) fn record(&self, gate: &Gate, outcome: Result<(), &str>) {
        gate.record(self.what, &self.client_id, &self.target, outcome);
    }
}

/// Does what is asked, and answers. One who leaves meanwhile has asked for it all the same. Gives
/// back what the answer says.
pub(super) async fn serve(
    shard: &Rc<Shard>,
    asked: Asked,
    responder: Responder,
) -> Result<(), String> {
    let Asked {
        request_id,
        operation,
        ..
    } = asked;
    let outcome = match operation {
        Ok(Operation::List(kind, search)) => match list(shard, kind, search).await {
            Ok(list) => {
                let answer = list_response(&request_id, rt::unix_ns(), list);
                answer_in_parts(responder, answer).await;
                return Ok(());
            }
            Err(error) => Err(error),
        },
        Ok(operation) => change(shard, &operation).await,
        Err(error) => Err(error),
    };
    let told = match &outcome {
        Ok(body) => Ok(body.as_bytes()),
        Err(error) => Err(&**error),
    };
    let mut answer = BytesMut::new();
    management_response(&request_id, rt::unix_ns(), told, &mut answer);
    responder.unary(Ok(answer.freeze()));
    outcome.map(drop)
}

async fn list(
    shard: &Rc<Shard>,
    kind: Kind,
    search: Box<str>,
) -> Result<crate::shard::ChannelList, String> {
    let question = ChannelQuestion {
        kind,
        which: WhichChannels::Containing(search),
        write: list_item(kind),
    };
    let listed = shard.list_channels(question).await;
    listed.map_err(|_busy| LIST_BUSY.to_owned())
}

/// Changes a channel; gives the answer's body.
async fn change(shard: &Rc<Shard>, operation: &Operation) -> Result<String, String> {
    let (change, kind, name) = match operation {
        Operation::Create(kind, name) => (ChannelChange::Create, *kind, name),
        Operation::Delete(kind, name) => (ChannelChange::Delete, *kind, name),
        Operation::Purge(Kind::Queues, name) => {
            let removed = queues::drain(shard, name).await;
            return removed
                .map(purged)
                .map_err(|refusal| refusal.text().into_owned());
        }
        Operation::Purge(Kind::EventsStore, name) => {
            let removed = shard
                .change_channel(ChannelChange::Empty, Kind::EventsStore, name)
                .await;
            return removed
                .map(purged)
                .map_err(|failure| Refusal::from(failure).text().into_owned());
        }
        Operation::Purge(kind, _) => return Err(format!("{kind} keep no messages")),
        Operation::Redrive {
            queue,
            target,
            rate,
            max,
        } => {
            let (rate, max) = (*rate, *max);
            let redrive = Redrive {
                source: queue,
                target,
                rate,
                max,
            };
            return redriven(shard.redrive(&redrive).await);
        }
        Operation::List(..) => return Ok(String::new()),
    };
    let done = shard.change_channel(change, kind, name).await;
    done.map(|_| String::new())
        .map_err(|failure| Refusal::from(failure).text().into_owned())
}

/// What a redrive came to. How many messages it moved counts also when it ended early.
fn redriven(outcome: Result<Redriven, StoreFailure>) -> Result<String, String> {
    let redriven = outcome.map_err(|failure| Refusal::from(failure).text().into_owned())?;
    match redriven.failure {
        None => Ok(format!("{{\"moved\":{}}}", redriven.moved)),
        Some(failure) => Err(format!(
            "{} messages were moved, then: {failure}",
            redriven.moved
        )),
    }
}

fn purged(removed: u64) -> String {
    format!("{{\"removed\":{removed}}}")
}

/// Answers a unary call with a message in parts.
pub(super) async fn answer_in_parts(responder: Responder, answer: PartedAnswer) {
    let Ok(mut stream) = responder.start_unary() else {
        return;
    };
    for part in answer.parts {
        if stream.send_all(part).await.is_err() {
            return;
        }
        // A list of very many channels is long: others are served between its parts.
        rt::reactor_yield().await;
    }
    stream.finish(Status::new(Code::Ok, ""));
}
