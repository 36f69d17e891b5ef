//! A server of events that makes mistakes on purpose.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use prost::Message;
use ringmq::rt::inbox::{Inbox, inbox};
use ringmq::rt::start::{Plan, start};
use ringmq::rt::{self, Conn, Notify, Queue};
use ringmq::wire::framing;
use ringmq::wire::server::{Call, ConnectionControl, Service, Settings, serve};
use ringmq::wire::status::{Code, Status};
use ringmq_proto::kubemq::{self, Event, EventReceive, Subscribe};

/// What the server does wrong. Numbers: with every n-th message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    Loses(u64),
    Repeats(u64),
    /// Two messages change places.
    Swaps(u64),
    /// A bit of a body.
    Damages(u64),
    /// It ends streams of publishers after so many messages.
    EndsPublishing(u64),
    /// It ends subscriptions after so many messages.
    EndsSubscriptions(u64),
    RefusesSubscriptions,
    /// Stored messages are taken and never confirmed.
    ConfirmsNothing,
    /// Stored messages are refused.
    RefusesMessages,
}

struct Relay {
    fault: Fault,
    subscribers: RefCell<HashMap<String, Vec<Rc<Subscriber>>>>,
    count: Cell<u64>,
    held: RefCell<Option<Event>>,
}

#[derive(Default)]
struct Subscriber {
    frames: RefCell<BytesMut>,
    more: Notify,
    ended: Cell<bool>,
}

struct Calls(Rc<Relay>);

impl Service for Calls {
    fn call(&self, call: Call) {
        let relay = self.0.clone();
        match call.path() {
            "/kubemq.kubemq/SubscribeToEvents" => {
                rt::spawn(Queue::Serve, "subscribe", relay.subscribe(call));
            }
            "/kubemq.kubemq/SendEventsStream" => {
                rt::spawn(Queue::Serve, "publish", relay.publish(call));
            }
            _ => call
                .into_parts()
                .1
                .refuse(Status::new(Code::Unimplemented, "unknown method")),
        }
    }
}

impl Relay {
    async fn subscribe(self: Rc<Self>, call: Call) {
        let (mut reader, responder) = call.into_parts();
        if self.fault == Fault::RefusesSubscriptions {
            return responder.refuse(Status::new(Code::PermissionDenied, "not you"));
        }
        let Ok(message) = reader.only_message().await else {
            return;
        };
        let channel = Subscribe::decode(message).unwrap().channel;
        let Ok(mut out) = responder.start() else {
            return;
        };
        let subscriber = Rc::new(Subscriber::default());
        self.enter(channel, subscriber.clone());
        loop {
            subscriber.more.wait().await;
            let frames = subscriber.frames.borrow_mut().split().freeze();
            if out.send_all(frames).await.is_err() {
                return;
            }
            if subscriber.ended.get() {
                return out.finish(Status::new(Code::Aborted, "enough"));
            }
        }
    }

    fn enter(&self, channel: String, subscriber: Rc<Subscriber>) {
        let mut subscribers = self.subscribers.borrow_mut();
        subscribers.entry(channel).or_default().push(subscriber);
    }

    async fn publish(self: Rc<Self>, call: Call) {
        let (mut reader, responder) = call.into_parts();
        let Ok(mut out) = responder.start() else {
            return;
        };
        while let Ok(Some(message)) = reader.message().await {
            let event = Event::decode(message).unwrap();
            if event.store && self.fault != Fault::ConfirmsNothing {
                let refused = self.fault == Fault::RefusesMessages;
                let result = kubemq::Result {
                    event_id: event.event_id.clone(),
                    sent: !refused,
                    error: if refused {
                        "no room".into()
                    } else {
                        String::new()
                    },
                };
                let mut frame = BytesMut::new();
                framing::frame(&result.encode_to_vec(), &mut frame);
                if out.send_all(frame.freeze()).await.is_err() {
                    return;
                }
                if refused {
                    continue;
                }
            }
            self.take(event);
            if matches!(self.fault, Fault::EndsPublishing(count) if self.count.get() >= count) {
                return out.finish(Status::new(Code::Aborted, "enough"));
            }
        }
    }

    fn take(&self, mut event: Event) {
        let number = self.count.replace(self.count.get() + 1);
        let every = |n: u64| number % n == n - 1;
        match self.fault {
            Fault::Loses(n) if every(n) => return,
            Fault::Repeats(n) if every(n) => self.forward(&event),
            Fault::Swaps(n) if every(n) => {
                *self.held.borrow_mut() = Some(event);
                return;
            }
            Fault::Damages(n) if every(n) => {
                let mut body = event.body.to_vec();
                *body.last_mut().unwrap() ^= 1;
                event.body = Bytes::from(body);
            }
            _ => {}
        }
        self.forward(&event);
        let held = self.held.borrow_mut().take();
        if let Some(held) = held {
            self.forward(&held);
        }
    }

    fn forward(&self, event: &Event) {
        let subscribers = self.subscribers.borrow();
        let message = EventReceive {
            event_id: event.event_id.clone(),
            channel: event.channel.clone(),
            body: event.body.clone(),
            ..EventReceive::default()
        };
        let message = message.encode_to_vec();
        let ends =
            matches!(self.fault, Fault::EndsSubscriptions(count) if self.count.get() >= count);
        for subscriber in subscribers.get(&event.channel).into_iter().flatten() {
            framing::frame(&message, &mut subscriber.frames.borrow_mut());
            subscriber.ended.set(ends);
            subscriber.more.raise();
        }
    }
}

/// Starts the server; it ends with the process.
pub(super) fn serve_with(fault: Fault) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, receiver) = inbox::<(TcpStream, SocketAddr)>().unwrap();
    let plan = Plan {
        cpu: None,
        spin: None,
    };
    let _ends_with_the_process = start(&[plan], vec![receiver], move |_, receiver: Inbox<_>| {
        let relay = Relay {
            fault,
            subscribers: RefCell::default(),
            count: Cell::new(0),
            held: RefCell::default(),
        };
        let (calls, settings) = (Rc::new(Calls(Rc::new(relay))), Rc::new(Settings::default()));
        receiver.run(move |(stream, peer)| {
            let Ok(conn) = Conn::from_std(stream) else {
                return;
            };
            let control = ConnectionControl::new();
            let serving = serve(conn, peer, calls.clone(), settings.clone(), control);
            rt::spawn(Queue::Serve, "connection", async move {
                serving.await;
            });
        })
    })
    .unwrap();
    std::thread::spawn(move || {
        while let Ok(accepted) = listener.accept() {
            if sender.send(accepted).is_err() {
                return;
            }
        }
    });
    address
}
