//! A publisher and a subscriber, in a process of their own.

use std::cell::Cell;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use prost::Message;
use ringmq::rt::start::{Plan, start};
use ringmq::rt::{self, Notify, Queue};
use ringmq::wire::client::{CallOptions, Client, ClientSender, ClientSettings, ClientStream};
use ringmq::wire::framing;
use ringmq_proto::kubemq::subscribe::SubscribeType;
use ringmq_proto::kubemq::{Event, Subscribe};

use crate::Load;

const CHANNEL: &str = "bench.allocations";

/// Events of the warm-up: every buffer and table has its size then.
const WARM_UP: u64 = 2_000;

/// How long the clients may take for anything.
const PATIENCE: Duration = Duration::from_secs(120);

/// The process of the clients, as the broker's process sees it.
pub(crate) struct Clients {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Clients {
    pub(crate) fn start(address: SocketAddr, load: &Load, events: u64) -> Self {
        let own = std::env::current_exe().expect("a program knows where it is");
        let mut child = Command::new(own)
            .args(["clients", &address.to_string()])
            .args([load.body_bytes.to_string(), load.batch.to_string()])
            .args([load.in_flight.to_string(), events.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts as it did before");
        let orders = child.stdin.take().expect("it is piped");
        let answers = BufReader::new(child.stdout.take().expect("it is piped"));
        Self {
            child,
            orders,
            answers,
        }
    }

    /// Waits until the clients are connected and warm.
    pub(crate) fn warm_up(&mut self) {
        self.wait_for("warm");
    }

    /// Lets them send their events; all have arrived when it returns.
    pub(crate) fn run(&mut self) {
        self.orders.write_all(b"go\n").expect("they live");
        self.wait_for("done");
    }

    fn wait_for(&mut self, word: &str) {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("they live");
        assert_eq!(line.trim(), word, "the clients tell how far they are");
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        // They have said that they are done.
        let _ended_by_itself = self.child.kill();
        let _ended = self.child.wait();
    }
}

/// The orders of the clients' process.
#[derive(Clone, Copy, Debug)]
struct Orders {
    address: SocketAddr,
    body_bytes: usize,
    batch: u64,
    in_flight: u64,
    events: u64,
}

impl Orders {
    fn read<'a>(mut words: impl Iterator<Item = &'a str>) -> Option<Self> {
        Some(Self {
            address: words.next()?.parse().ok()?,
            body_bytes: words.next()?.parse().ok()?,
            batch: words.next()?.parse().ok()?,
            in_flight: words.next()?.parse().ok()?,
            events: words.next()?.parse().ok()?,
        })
    }
}

/// Is the clients' process.
pub(crate) fn serve<'a>(words: impl Iterator<Item = &'a str>) -> ExitCode {
    let Some(orders) = Orders::read(words) else {
        return ExitCode::FAILURE;
    };
    let plan = Plan {
        cpu: None,
        spin: None,
    };
    let executors = start(&[plan], vec![orders], |_, orders| run(orders));
    match executors.map(|executors| executors.wait_ended(PATIENCE)) {
        Ok(Some(ended)) if ended.panic.is_none() => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

async fn run(orders: Orders) {
    let connect = || Client::connect(orders.address, ClientSettings::default());
    let publisher = connect().await.expect("the broker listens");
    let subscriber = connect().await.expect("the broker listens");
    let options = CallOptions::default();
    let subscribe = Subscribe {
        subscribe_type_data: SubscribeType::Events.into(),
        client_id: "subscriber".into(),
        channel: CHANNEL.into(),
        ..Subscribe::default()
    };
    let subscribe = Bytes::from(subscribe.encode_to_vec());
    let mut events = subscriber
        .server_stream("/kubemq.kubemq/SubscribeToEvents", subscribe, &options)
        .expect("a live connection");
    events.headers().await.expect("the subscription is live");
    let (sender, _results) = publisher
        .bidi("/kubemq.kubemq/SendEventsStream", &options)
        .expect("a live connection");
    let received = Rc::new(Received::default());
    rt::spawn(Queue::Serve, "receive", receive(received.clone(), events));
    let mut sending = Sending {
        sender,
        batch: batch(&orders),
        sent: 0,
        received,
    };
    sending.send(&orders, WARM_UP * orders.batch).await;
    tell("warm");
    // Nothing is on its way: the executor may block.
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("an order");
    sending.send(&orders, orders.events).await;
    tell("done");
}

fn tell(word: &str) {
    let mut out = std::io::stdout();
    let told = writeln!(out, "{word}").and_then(|()| out.flush());
    told.expect("the broker's process listens");
}

/// The frames of one batch.
fn batch(orders: &Orders) -> Bytes {
    let event = Event {
        event_id: "0123456789abcdef".into(),
        client_id: "publisher".into(),
        channel: CHANNEL.into(),
        body: vec![7; orders.body_bytes].into(),
        ..Event::default()
    };
    let event = event.encode_to_vec();
    let mut frames = BytesMut::new();
    (0..orders.batch).for_each(|_| framing::frame(&event, &mut frames));
    frames.freeze()
}

#[derive(Debug, Default)]
struct Received {
    events: Cell<u64>,
    some: Notify,
}

async fn receive(received: Rc<Received>, mut stream: ClientStream) {
    while let Ok(Some(_first)) = stream.message().await {
        let mut count = 1;
        while let Ok(Some(_next)) = stream.try_message() {
            count += 1;
        }
        received.events.set(received.events.get() + count);
        received.some.raise();
    }
}

struct Sending {
    sender: ClientSender,
    batch: Bytes,
    sent: u64,
    received: Rc<Received>,
}

impl Sending {
    /// Sends whole batches and waits until all of them have arrived.
    async fn send(&mut self, orders: &Orders, events: u64) {
        let end = self.sent + events;
        while self.sent < end {
            self.wait_for(
                self.sent
                    .saturating_sub((orders.in_flight - 1) * orders.batch),
            )
            .await;
            let frames = self.batch.clone();
            self.sender.send_all(frames).await.expect("a live call");
            self.sent += orders.batch;
        }
        self.wait_for(self.sent).await;
    }

    async fn wait_for(&self, count: u64) {
        while self.received.events.get() < count {
            self.received.some.wait().await;
        }
    }
}
