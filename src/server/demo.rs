//! The demo: one event, one stored event, one queue message, one command and one query, through
//! real connections to the broker that was just started.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use ringmq_proto::kubemq::request::RequestType;
use ringmq_proto::kubemq::subscribe::{EventsStoreType, SubscribeType};
use ringmq_proto::kubemq::{
    Event, EventReceive, QueueMessage, ReceiveQueueMessagesRequest, ReceiveQueueMessagesResponse,
    Request, Response, Result as EventResult, SendQueueMessageResult, Subscribe,
};

use crate::rt::start::{Plan, start as start_executors};
use crate::rt::{self, Queue};
use crate::wire::client::{CallOptions, Client, ClientSettings};
use crate::wire::status::{Code, Status};

const SEND_EVENT: &str = "/kubemq.kubemq/SendEvent";
const SEND_REQUEST: &str = "/kubemq.kubemq/SendRequest";
const SEND_RESPONSE: &str = "/kubemq.kubemq/SendResponse";
const SEND_QUEUE_MESSAGE: &str = "/kubemq.kubemq/SendQueueMessage";
const RECEIVE_QUEUE_MESSAGES: &str = "/kubemq.kubemq/ReceiveQueueMessages";
const SUBSCRIBE_TO_EVENTS: &str = "/kubemq.kubemq/SubscribeToEvents";
const SUBSCRIBE_TO_REQUESTS: &str = "/kubemq.kubemq/SubscribeToRequests";

/// Runs the demo beside the broker, on an executor of its own, as any client would.
pub(super) fn start(broker: SocketAddr) {
    let address = SocketAddr::new(loopback_for(broker), broker.port());
    let plan = Plan {
        cpu: None,
        spin: None,
    };
    let started = start_executors(&[plan], vec![address], |_, address| async move {
        match run(address).await {
            Ok(()) => farewell(address),
            Err(error) => eprintln!("demo: {error}"),
        }
    });
    if let Err(error) = started {
        eprintln!("demo: {error}");
    }
}

/// A broker that listens on all interfaces is reached by the loopback one.
fn loopback_for(broker: SocketAddr) -> std::net::IpAddr {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
    match broker.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    }
}

async fn run(address: SocketAddr) -> Result<(), Status> {
    let connect = || async move {
        Client::connect(address, ClientSettings::default())
            .await
            .map_err(|error| Status::new(Code::Unavailable, error.to_string()))
    };
    let (sender, receiver) = (connect().await?, connect().await?);
    show_event(&sender, &receiver).await?;
    show_stored_event(&sender, &receiver).await?;
    show_queue_message(&sender, &receiver).await?;
    respond(&receiver, SubscribeType::Commands, "demo.lights").await?;
    show_request(&sender, RequestType::Command, "demo.lights", "switch on").await?;
    respond(&receiver, SubscribeType::Queries, "demo.weather").await?;
    show_request(
        &sender,
        RequestType::Query,
        "demo.weather",
        "how warm is it?",
    )
    .await?;
    sender.close();
    receiver.close();
    Ok(())
}

async fn show_event(sender: &Client, receiver: &Client) -> Result<(), Status> {
    let subscribe = subscribe(SubscribeType::Events, "demo.*");
    let mut events = receiver.server_stream(SUBSCRIBE_TO_EVENTS, encode(&subscribe), &plain())?;
    // Headers arrive when the subscription is live.
    events.headers().await?;
    let event = Event {
        client_id: "demo-sender".into(),
        channel: "demo.hello".into(),
        metadata: "greeting".into(),
        body: Bytes::from_static(b"hello from RingMQ"),
        ..Event::default()
    };
    say("event    sent to demo.hello:", &event.body);
    let result = sender.unary(SEND_EVENT, encode(&event), &plain()).await?;
    let result = decode::<EventResult>(&result)?;
    if !result.sent {
        return Err(Status::new(Code::Internal, result.error));
    }
    let message = events.message().await?.ok_or_else(ended)?;
    let received = decode::<EventReceive>(&message)?;
    say(
        &format!("event    received on {} by demo.*:", received.channel),
        &received.body,
    );
    Ok(())
}

/// Stores an event and subscribes afterwards: it is replayed.
async fn show_stored_event(sender: &Client, receiver: &Client) -> Result<(), Status> {
    const CHANNEL: &str = "demo.journal";
    let event = Event {
        client_id: "demo-sender".into(),
        channel: CHANNEL.into(),
        body: Bytes::from_static(b"kept until it is read"),
        store: true,
        ..Event::default()
    };
    say(&format!("stored   sent to {CHANNEL}:"), &event.body);
    let began = rt::now();
    let result = sender.unary(SEND_EVENT, encode(&event), &plain()).await?;
    let took = rt::now().since(began);
    let result = decode::<EventResult>(&result)?;
    if !result.sent {
        return Err(Status::new(Code::Internal, result.error));
    }
    say(
        &format!("stored   acknowledged after {took:.0?}:"),
        b"sent=true",
    );
    let subscribe = Subscribe {
        events_store_type_data: EventsStoreType::StartFromFirst.into(),
        ..subscribe(SubscribeType::EventsStore, CHANNEL)
    };
    let mut events = receiver.server_stream(SUBSCRIBE_TO_EVENTS, encode(&subscribe), &plain())?;
    loop {
        let message = events.message().await?.ok_or_else(ended)?;
        let received = decode::<EventReceive>(&message)?;
        say(
            &format!("stored   replayed as number {}:", received.sequence),
            &received.body,
        );
        // Others may come before it: from an earlier demo on the same store.
        if received.event_id == result.event_id {
            return Ok(());
        }
    }
}

/// Sends a queue message, and takes it from the queue.
async fn show_queue_message(sender: &Client, receiver: &Client) -> Result<(), Status> {
    const QUEUE: &str = "demo.work";
    let message = QueueMessage {
        client_id: "demo-sender".into(),
        channel: QUEUE.into(),
        body: Bytes::from_static(b"done once, by whoever comes first"),
        ..QueueMessage::default()
    };
    say(&format!("queue    sent to {QUEUE}:"), &message.body);
    let began = rt::now();
    let result = sender
        .unary(SEND_QUEUE_MESSAGE, encode(&message), &plain())
        .await?;
    let result = decode::<SendQueueMessageResult>(&result)?;
    let took = rt::now().since(began);
    if result.is_error {
        return Err(Status::new(Code::Internal, result.error));
    }
    say(
        &format!("queue    acknowledged after {took:.0?}:"),
        b"is_error=false",
    );
    let receive = ReceiveQueueMessagesRequest {
        client_id: "demo-receiver".into(),
        channel: QUEUE.into(),
        max_number_of_messages: 10,
        wait_time_seconds: 5,
        ..ReceiveQueueMessagesRequest::default()
    };
    let answer = receiver
        .unary(RECEIVE_QUEUE_MESSAGES, encode(&receive), &plain())
        .await?;
    let answer = decode::<ReceiveQueueMessagesResponse>(&answer)?;
    if answer.is_error {
        return Err(Status::new(Code::Internal, answer.error));
    }
    for message in answer.messages {
        let sequence = message.attributes.unwrap_or_default().sequence;
        say(
            &format!("queue    taken from {QUEUE} as number {sequence}:"),
            &message.body,
        );
    }
    Ok(())
}

/// Answers requests on `channel` until the connection ends.
async fn respond(client: &Client, kind: SubscribeType, channel: &str) -> Result<(), Status> {
    let subscribe = subscribe(kind, channel);
    let mut requests = client.server_stream(SUBSCRIBE_TO_REQUESTS, encode(&subscribe), &plain())?;
    requests.headers().await?;
    let client = client.clone();
    rt::spawn(Queue::Serve, "demo responder", async move {
        while let Ok(Some(message)) = requests.message().await {
            let Ok(request) = decode::<Request>(&message) else {
                return;
            };
            let name = name_of(request.request_type_data);
            say(
                &format!("{name}  received on {}:", request.channel),
                &request.body,
            );
            let response = Response {
                client_id: "demo-responder".into(),
                request_id: request.request_id,
                reply_channel: request.reply_channel,
                body: Bytes::from_static(b"21 degrees"),
                executed: true,
                ..Response::default()
            };
            if client
                .unary(SEND_RESPONSE, encode(&response), &plain())
                .await
                .is_err()
            {
                return;
            }
        }
    });
    Ok(())
}

async fn show_request(
    client: &Client,
    kind: RequestType,
    channel: &str,
    body: &'static str,
) -> Result<(), Status> {
    let name = name_of(kind.into());
    let request = Request {
        request_type_data: kind.into(),
        client_id: "demo-sender".into(),
        channel: channel.into(),
        body: Bytes::from_static(body.as_bytes()),
        timeout: i32::try_from(Duration::from_secs(5).as_millis()).unwrap_or(i32::MAX),
        ..Request::default()
    };
    say(&format!("{name}  sent to {channel}:"), &request.body);
    let began = rt::now();
    let answer = client
        .unary(SEND_REQUEST, encode(&request), &plain())
        .await?;
    let took = rt::now().since(began);
    let response = decode::<Response>(&answer)?;
    let result = if response.body.is_empty() {
        format!("executed={}", response.executed)
    } else {
        String::from_utf8_lossy(&response.body).into_owned()
    };
    say(
        &format!("{name}  answered after {took:.0?}:"),
        result.as_bytes(),
    );
    Ok(())
}

fn name_of(request_type: i32) -> &'static str {
    if request_type == i32::from(RequestType::Command) {
        "command"
    } else {
        "query  "
    }
}

fn subscribe(kind: SubscribeType, channel: &str) -> Subscribe {
    Subscribe {
        subscribe_type_data: kind.into(),
        client_id: "demo-receiver".into(),
        channel: channel.into(),
        ..Subscribe::default()
    }
}

fn plain() -> CallOptions {
    CallOptions::default()
}

fn encode(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

fn decode<M: Message + Default>(message: &[u8]) -> Result<M, Status> {
    M::decode(message).map_err(|error| Status::new(Code::Internal, error.to_string()))
}

fn ended() -> Status {
    Status::new(Code::Unavailable, "the subscription ended")
}

/// Writes one line of the show. A closed standard output is no reason to end the broker.
fn say(what: &str, body: &[u8]) {
    let body = String::from_utf8_lossy(body);
    let _nobody_watches = writeln!(std::io::stdout(), "  {what:<46} {body}");
}

fn farewell(address: SocketAddr) {
    let text = format!(
        "\nThe broker stays up on {address}; stop it with Ctrl-C. Where to go next:\n  \
         pip install kubemq==4.1.5 and python docs/examples/quickstart.py: the same with an SDK\n  \
         ringmq config: every setting and where it comes from\n  \
         docs/ARCHITECTURE.md: how it works\n"
    );
    let _nobody_watches = std::io::stdout().write_all(text.as_bytes());
}
