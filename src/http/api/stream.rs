//! `/api/stream_queue_messages`: one queue message at a time, polled and settled by a page.
//!
//! Each poll is a call of the contract's stream of one message; it ends with the message. A page
//! that closes its socket in order gives back what it holds as if it had not been received; one
//! that vanishes, as received once more.

use std::task::{Context, Poll};

use bytes::Bytes;
use prost::Message as _;
use ringmq_proto::{kubemq, method};
use serde::Serialize;

use super::super::exchange::{Exchange, Response};
use super::super::websocket::{End, Slice, WebSocket};
use super::input::{self, Input};
use super::standing::Standing;
use super::turns::{self, Source, Turn};
use super::{Asker, access, no_socket, show};
use crate::security::{Action, Resource};
use crate::wire::Status;
use crate::wire::local::LocalCall;
use kubemq::{StreamQueueMessagesRequest, StreamQueueMessagesResponse, StreamRequestType};

const POLL: &str = "stream_queue_messages";
const ACK: &str = "ack_queue_messages";
const REJECT: &str = "reject_queue_messages";

/// What a page is told.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    request_type: &'a str,
    message: Option<show::QueueMessage>,
    error: &'a str,
    is_error: bool,
}

pub(super) fn handle(exchange: Exchange) -> Response {
    if let Some(refusal) = no_socket(&exchange, false) {
        return refusal;
    }
    let polling = Polling::new(&exchange);
    exchange.upgrade(move |socket| serve(socket, polling))
}

/// How far the stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    /// For a message.
    Waiting,
    Holding,
    /// What was asked last is being done.
    Settling(&'static str),
}

/// The page's stream.
struct Polling {
    asker: Asker,
    standing: Standing,
    phase: Phase,
    call: Option<LocalCall>,
    /// Calls whose message is settled, until they have ended.
    leaving: Option<LocalCall>,
}

impl Source for Polling {
    type Event = Result<Option<Bytes>, Status>;

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Self::Event> {
        if let Some(leaving) = &mut self.leaving
            && let Poll::Ready(Ok(None) | Err(_)) = leaving.poll_message(cx)
        {
            self.leaving = None;
        }
        match &mut self.call {
            Some(call) => call.poll_message(cx),
            None => Poll::Pending,
        }
    }

    fn flushed(&mut self) {
        if let Some(call) = &mut self.call
            && call.unwritten() > 0
        {
            call.written();
        }
    }

    fn standing(&mut self) -> &mut Standing {
        &mut self.standing
    }
}

impl Polling {
    fn new(exchange: &Exchange) -> Self {
        Self {
            asker: Asker::of(exchange),
            standing: Standing::of(exchange, Vec::new()),
            phase: Phase::Idle,
            call: None,
            leaving: None,
        }
    }

    /// Does what the page asks; the text of a refusal.
    fn obey(&mut self, asked: &str, input: &Input) -> Result<(), String> {
        match asked {
            POLL => self.ask(input),
            ACK => self.settle(ACK, StreamRequestType::AckMessage, input),
            REJECT => self.settle(REJECT, StreamRequestType::RejectMessage, input),
            _ => Ok(()),
        }
    }

    fn ask(&mut self, input: &Input) -> Result<(), String> {
        if self.phase != Phase::Idle {
            return Err(
                "error polling queue messages, previous request is not finished yet".to_owned(),
            );
        }
        let channel = input.required("channel", "channel")?;
        if !self
            .standing
            .may(Resource::Management, Action::Write, channel)
        {
            return Err(access::DENIED.to_owned());
        }
        let positive = |key, name: &str| match input.number(key)? {
            ..=0 => Err(format!("{name} must be greater than 0")),
            seconds => Ok(seconds),
        };
        let request = StreamQueueMessagesRequest {
            client_id: self.asker.client_id.clone(),
            stream_request_type_data: StreamRequestType::ReceiveMessage.into(),
            channel: channel.to_owned(),
            visibility_seconds: positive("visibilitySeconds", "visibility seconds")?,
            wait_time_seconds: positive("waitSeconds", "wait seconds")?,
            ..StreamQueueMessagesRequest::default()
        };
        let mut call = self.asker.client.call(method::STREAM_QUEUE_MESSAGE);
        call.send(request.encode_to_vec().into());
        self.call = Some(call);
        self.phase = Phase::Waiting;
        Ok(())
    }

    fn settle(
        &mut self,
        asked: &'static str,
        request_type: StreamRequestType,
        input: &Input,
    ) -> Result<(), String> {
        let Some(call) = self.call.as_mut().filter(|_| self.phase == Phase::Holding) else {
            return Err("no active stream".to_owned());
        };
        let sequence = input.sequence("refSequence")?;
        if sequence == 0 {
            return Err("ref sequence must be greater than 0".to_owned());
        }
        let request = StreamQueueMessagesRequest {
            client_id: self.asker.client_id.clone(),
            stream_request_type_data: request_type.into(),
            ref_sequence: sequence,
            ..StreamQueueMessagesRequest::default()
        };
        call.send(request.encode_to_vec().into());
        self.phase = Phase::Settling(asked);
        Ok(())
    }

    /// What the stream has said, in the words of the page.
    fn told(&mut self, event: Result<Option<Bytes>, Status>) -> Option<String> {
        let phase = self.phase;
        let asked = match phase {
            Phase::Settling(asked) => asked,
            Phase::Idle | Phase::Waiting | Phase::Holding => POLL,
        };
        let response = match event {
            Ok(Some(message)) => {
                // What the broker has encoded itself can be decoded.
                StreamQueueMessagesResponse::decode(message).unwrap_or_default()
            }
            // Its last word was told before.
            Ok(None) => {
                self.over(false);
                return None;
            }
            Err(status) => {
                self.over(false);
                return (phase != Phase::Idle).then(|| refusal(asked, status.message()));
            }
        };
        if response.is_error {
            // The message is another one's, or there was none; a wrong number changes nothing.
            let holds =
                matches!(phase, Phase::Settling(_)) && is_about_the_request(&response.error);
            if holds {
                self.phase = Phase::Holding;
            } else {
                self.over(true);
            }
            return Some(refusal(asked, &response.error));
        }
        let message = response.message.map(show::QueueMessage::new);
        match phase {
            Phase::Waiting => self.phase = Phase::Holding,
            Phase::Settling(_) => self.over(true),
            Phase::Idle | Phase::Holding => {}
        }
        Some(write(&Answer {
            request_type: asked,
            message,
            error: "",
            is_error: false,
        }))
    }

    /// The call has done its work: the next poll is another one.
    fn over(&mut self, ends_by_itself: bool) {
        self.phase = Phase::Idle;
        let mut call = self.call.take();
        if ends_by_itself && let Some(call) = &mut call {
            call.written();
            call.end();
            self.leaving = None;
        }
        if ends_by_itself {
            self.leaving = call;
        }
    }

    /// The page has gone in order.
    async fn close(mut self) {
        let Some(mut call) = self.call.take() else {
            return;
        };
        call.written();
        call.end();
        while let Ok(Some(_)) = call.message().await {}
    }
}

/// Whether a refusal is about what was asked, so that the message stays.
fn is_about_the_request(error: &str) -> bool {
    ["Error 124", "Error 125", "Error 126", "Error 137"]
        .iter()
        .any(|number| error.starts_with(number))
}

fn refusal(asked: &str, error: &str) -> String {
    write(&Answer {
        request_type: asked,
        message: None,
        error,
        is_error: true,
    })
}

fn write(answer: &Answer<'_>) -> String {
    serde_json::to_string(answer).unwrap_or_default()
}

async fn serve(mut socket: WebSocket, mut polling: Polling) {
    let mut slice = Slice::default();
    let (code, reason) = loop {
        match turns::next(&mut socket, &mut slice, &mut polling).await {
            Turn::Heard(text) => {
                if let Some(answer) = hear(&mut polling, &text) {
                    turns::send(&mut socket, &mut slice, answer);
                }
            }
            Turn::Happened(event) => {
                if let Some(answer) = polling.told(event) {
                    turns::send(&mut socket, &mut slice, answer);
                }
            }
            Turn::Leaving | Turn::Gone => break turns::SHUTTING_DOWN,
            Turn::Dismissed => break turns::DISMISSED,
        }
    };
    if socket.ended() == Some(End::Broken) {
        drop(polling);
    } else {
        polling.close().await;
    }
    socket.close(code, reason).await;
}

/// What a page says; an answer only when it is refused. A request of no known type is passed over.
fn hear(polling: &mut Polling, text: &str) -> Option<String> {
    let refused = |asked: &str, error: &str| Some(refusal(asked, error));
    let (asked, input) = match input::parse_flat(text.as_bytes(), "requestType") {
        Ok(parsed) => parsed,
        Err(error) => return refused("", &error),
    };
    let outcome = polling.obey(&asked, &input);
    outcome.err().and_then(|error| refused(&asked, &error))
}
