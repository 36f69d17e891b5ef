//! `ringmq queue`: an operator's tools for the queues of a running broker, over gRPC as any client.

use std::fmt::Write;
use std::net::{SocketAddr, ToSocketAddrs};
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use ringmq_proto::kubemq::request::RequestType;
use ringmq_proto::kubemq::{
    QueueInfo, QueueMessage, QueuesInfoRequest, QueuesInfoResponse, ReceiveQueueMessagesRequest,
    ReceiveQueueMessagesResponse, Request, Response,
};
use serde::Serialize;

use super::arguments::{Broker, QueueTask};
use super::store::text;
use super::{answer, exit};
use crate::rt;
use crate::rt::start::{Plan, start};
use crate::wire::client::{CallOptions, Client, ClientSettings};
use crate::wire::status::{Code, Status};

const MANAGEMENT_CHANNEL: &str = "kubemq.cluster.internal.requests";
const SEND_REQUEST: &str = "/kubemq.kubemq/SendRequest";
const QUEUES_INFO: &str = "/kubemq.kubemq/QueuesInfo";
const RECEIVE: &str = "/kubemq.kubemq/ReceiveQueueMessages";
const CLIENT_ID: &str = "ringmq-cli";

/// How long one request may take that does not move messages at a pace.
const PATIENCE: Duration = Duration::from_secs(60);

/// Seconds that a redrive with a pace takes in one request: stopping it takes no longer.
const SLICE_SECONDS: u64 = 2;

/// Messages that one without a pace moves in one request.
const SLICE_MAX: u64 = 20_000;

/// Does a task, and gives back the exit code of the process.
pub(super) fn run(broker: &Broker, grpc_port: u16, task: QueueTask) -> ExitCode {
    let address = match resolve(broker, grpc_port) {
        Ok(address) => address,
        Err(error) => {
            eprintln!("ringmq: {error}");
            return ExitCode::from(exit::USAGE);
        }
    };
    let plan = Plan {
        cpu: None,
        spin: None,
    };
    let (tx, rx) = mpsc::channel();
    let of_environment = || std::env::var("RINGMQ_TOKEN").ok();
    let seed = (address, broker.token.clone().or_else(of_environment), task);
    let started = start(&[plan], vec![seed], move |_, (address, token, task)| {
        let tx = tx.clone();
        async move {
            let outcome = perform(address, token, &task).await;
            let _main_waits = tx.send(outcome);
        }
    });
    let outcome = started
        .map_err(|error| error.to_string())
        .and_then(|_executors| {
            let ended = |_| "the connection ended".to_owned();
            rx.recv()
                .map_err(ended)?
                .map_err(|status| status.to_string())
        });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ringmq: {address}: {error}");
            ExitCode::from(exit::UNAVAILABLE)
        }
    }
}

fn resolve(broker: &Broker, grpc_port: u16) -> Result<SocketAddr, String> {
    let address = match &broker.address {
        Some(address) if address.contains(':') => address.clone(),
        Some(host) => format!("{host}:{grpc_port}"),
        None => format!("127.0.0.1:{grpc_port}"),
    };
    let found = address.to_socket_addrs();
    let found = found.map_err(|error| format!("{address:?} is no address: {error}"))?;
    let mut found = found;
    found
        .next()
        .ok_or_else(|| format!("{address:?} is no address"))
}

/// A connection to the broker.
struct Session {
    client: Client,
    token: Option<String>,
}

async fn perform(
    address: SocketAddr,
    token: Option<String>,
    task: &QueueTask,
) -> Result<(), Status> {
    let client = Client::connect(address, ClientSettings::default()).await;
    let client = client.map_err(|error| Status::new(Code::Unavailable, error.to_string()))?;
    let session = Session { client, token };
    let done = session.perform(task).await;
    session.client.close();
    done
}

impl Session {
    async fn perform(&self, task: &QueueTask) -> Result<(), Status> {
        match task {
            QueueTask::List { search } => {
                let mut queues = self.queues("").await?;
                queues.retain(|queue| queue.name.contains(search));
                queues.sort_by(|a, b| a.name.cmp(&b.name));
                answer(&list(&queues));
                Ok(())
            }
            QueueTask::Info { queue } => {
                answer(&info(&self.queue(queue).await?));
                Ok(())
            }
            QueueTask::Peek { queue, max } => self.peek(queue, *max).await,
            QueueTask::Purge { queue } => {
                let tags = [("channel_type", "queues"), ("channel", queue)];
                answer(&self.manage("purge-channel", &tags).await?);
                answer("\n");
                Ok(())
            }
            QueueTask::Redrive {
                from,
                to,
                rate,
                max,
            } => self.redrive(from, to, *rate, *max).await,
        }
    }

    async fn call<M: Message + Default>(
        &self,
        path: &'static str,
        message: &impl Message,
    ) -> Result<M, Status> {
        let mut options = CallOptions::with_timeout(PATIENCE);
        if let Some(token) = &self.token {
            options = options.metadata("authorization", token);
        }
        let message: Bytes = message.encode_to_vec().into();
        let answer = self.client.unary(path, message, &options).await?;
        M::decode(answer).map_err(|error| Status::new(Code::Internal, error.to_string()))
    }

    /// The queues of these names, separated by semicolons; all for an empty text.
    async fn queues(&self, names: &str) -> Result<Vec<QueueInfo>, Status> {
        let request = QueuesInfoRequest {
            queue_name: names.to_owned(),
            ..QueuesInfoRequest::default()
        };
        let answer: QueuesInfoResponse = self.call(QUEUES_INFO, &request).await?;
        Ok(answer.info.unwrap_or_default().queues)
    }

    async fn queue(&self, name: &str) -> Result<QueueInfo, Status> {
        let mut queues = self.queues(name).await?;
        let missing = || Status::new(Code::NotFound, format!("there is no queue {name:?}"));
        queues.pop().ok_or_else(missing)
    }

    async fn peek(&self, queue: &str, max: u16) -> Result<(), Status> {
        let request = ReceiveQueueMessagesRequest {
            client_id: CLIENT_ID.to_owned(),
            channel: queue.to_owned(),
            max_number_of_messages: max.into(),
            wait_time_seconds: 1,
            is_peak: true,
            ..ReceiveQueueMessagesRequest::default()
        };
        let peeked: ReceiveQueueMessagesResponse = self.call(RECEIVE, &request).await?;
        if peeked.is_error {
            return Err(Status::new(Code::Internal, peeked.error));
        }
        for message in &peeked.messages {
            let line = serde_json::to_string(&Peeked::of(message)).unwrap_or_default();
            answer(&(line + "\n"));
        }
        Ok(())
    }

    /// Asks the broker to do something with channels; gives the body of its answer.
    async fn manage(&self, operation: &str, tags: &[(&str, &str)]) -> Result<String, Status> {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let request = Request {
            request_type_data: RequestType::Query.into(),
            client_id: CLIENT_ID.to_owned(),
            channel: MANAGEMENT_CHANNEL.to_owned(),
            metadata: operation.to_owned(),
            timeout: i32::try_from(PATIENCE.as_millis()).unwrap_or(i32::MAX),
            tags: tags.iter().map(owned).collect(),
            ..Request::default()
        };
        let response: Response = self.call(SEND_REQUEST, &request).await?;
        if !response.executed {
            return Err(Status::new(Code::Internal, response.error));
        }
        Ok(String::from_utf8_lossy(&response.body).into_owned())
    }

    /// In slices, so that an interrupted command stops the broker too.
    async fn redrive(&self, from: &str, to: &str, rate: u64, max: u64) -> Result<(), Status> {
        let waiting = u64::try_from(self.queue(from).await?.waiting).unwrap_or(0);
        let all = if max == 0 { waiting } else { max.min(waiting) };
        let began = rt::now();
        let mut moved = 0;
        while moved < all {
            let slice = slice(rate).min(all - moved);
            let (rate_text, slice_text) = (rate.to_string(), slice.to_string());
            let tags = [
                ("channel", from),
                ("target", to),
                ("rate", &rate_text),
                ("max", &slice_text),
            ];
            let body = self.manage("redrive-queue", &tags).await;
            let body = body.inspect_err(|_| eprintln!("{moved} of {all} moved before"))?;
            let count = moved_in(&body);
            if count == 0 {
                break;
            }
            moved += count;
            eprintln!("{moved} of {all} moved");
            let due = moved.saturating_mul(1_000).checked_div(rate);
            let due = Duration::from_millis(due.unwrap_or(0));
            if let Some(left) = due.checked_sub(rt::now().since(began)) {
                rt::sleep(left).await;
            }
        }
        answer(&format!("{moved} messages moved\n"));
        Ok(())
    }
}

const fn slice(rate: u64) -> u64 {
    if rate == 0 {
        SLICE_MAX
    } else {
        rate.saturating_mul(SLICE_SECONDS)
    }
}

/// The number in `{"moved":5}`.
fn moved_in(body: &str) -> u64 {
    let body: Option<serde_json::Value> = serde_json::from_str(body).ok();
    let moved = body.as_ref().and_then(|body| body.get("moved"));
    moved.and_then(serde_json::Value::as_u64).unwrap_or(0)
}

fn list(queues: &[QueueInfo]) -> String {
    let head = ["queue", "waiting", "messages", "bytes", "sent", "delivered"];
    let rows: Vec<_> = queues
        .iter()
        .map(|queue| {
            let bytes = u64::try_from(queue.bytes).unwrap_or(0);
            [
                queue.name.clone(),
                queue.waiting.to_string(),
                queue.messages.to_string(),
                text::bytes(bytes),
                queue.sent.to_string(),
                queue.delivered.to_string(),
            ]
        })
        .collect();
    text::table(head, &rows)
}

fn info(queue: &QueueInfo) -> String {
    let mut out = String::new();
    for (name, value) in [
        ("messages", queue.messages),
        ("waiting", queue.waiting),
        ("bytes", queue.bytes),
        ("first sequence", queue.first_sequence),
        ("last sequence", queue.last_sequence),
        ("sent", queue.sent),
        ("delivered", queue.delivered),
        ("consumers", queue.subscribers),
    ] {
        let _infallible = writeln!(out, "{name:<15} {value}");
    }
    out
}

/// A message as `peek` prints it.
#[derive(Serialize)]
struct Peeked<'a> {
    sequence: u64,
    time: String,
    receives: i32,
    #[serde(skip_serializing_if = "str::is_empty")]
    dead_letter_of: &'a str,
    id: &'a str,
    client: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    metadata: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
}

impl<'a> Peeked<'a> {
    fn of(message: &'a QueueMessage) -> Self {
        let attributes = message.attributes.as_ref();
        let body = std::str::from_utf8(&message.body).ok();
        let time_ns = attributes.map_or(0, |attributes| attributes.timestamp);
        Self {
            sequence: attributes.map_or(0, |attributes| attributes.sequence),
            time: text::time(u64::try_from(time_ns).unwrap_or(0)),
            receives: attributes.map_or(0, |attributes| attributes.receive_count),
            dead_letter_of: attributes.map_or("", |found| &found.re_routed_from_queue),
            id: &message.message_id,
            client: &message.client_id,
            metadata: &message.metadata,
            body,
            body_base64: body.is_none().then(|| text::base64(&message.body)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_leave_its_port_or_all_to_the_settings() {
        let broker = |address: Option<&str>| Broker {
            address: address.map(str::to_owned),
            token: None,
        };
        let resolved = |address, port| resolve(&broker(address), port).map(|it| it.to_string());
        assert_eq!(resolved(None, 50_001), Ok("127.0.0.1:50001".to_owned()));
        assert_eq!(resolved(Some("127.0.0.2"), 7), Ok("127.0.0.2:7".to_owned()));
        assert_eq!(resolved(Some("[::1]:9"), 7), Ok("[::1]:9".to_owned()));
        assert!(resolved(Some("127.0.0.1:port"), 7).is_err());
    }

    #[test]
    fn slices_follow_the_pace() {
        assert_eq!([0, 1, 50].map(slice), [SLICE_MAX, 2, 100]);
        assert_eq!(moved_in("{\"moved\":12}"), 12);
        assert_eq!(moved_in("nonsense"), 0);
    }

    #[test]
    fn bodies_that_are_no_text_are_printed_as_base64() {
        let mut message = QueueMessage {
            message_id: "m".into(),
            body: Bytes::from_static(b"text"),
            ..QueueMessage::default()
        };
        let json = |message: &QueueMessage| serde_json::to_string(&Peeked::of(message)).unwrap();
        assert!(json(&message).ends_with("\"client\":\"\",\"body\":\"text\"}"));
        message.body = Bytes::from_static(&[0xff, 0]);
        assert!(json(&message).ends_with("\"body_base64\":\"/wA=\"}"));
    }
}
