//! Server and client against each other, and against hand-made frames, on one executor.

mod calls;
mod lifecycle;
mod limits;
mod local;
mod raw;
mod tls;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::rt::start::{Plan, start};
use crate::rt::{self, Conn, Queue};
use crate::wire::client::{Client, ClientSettings};
use crate::wire::framing::frame;
use crate::wire::server::{
    Call, ConnectionControl, Ended, MessageReader, Responder, Service, Settings, serve, serve_tls,
};
use crate::wire::status::{Code, Status};
use crate::wire::tls::ServerTls;

/// Runs a test on an executor; its panic is the test's.
pub(super) fn on_executor<F: Future<Output = ()> + 'static>(
    test: impl FnOnce() -> F + Send + 'static,
) {
    let plan = Plan {
        cpu: None,
        spin: None,
    };
    let executors = start(&[plan], vec![Once(test)], |_, Once(test)| test()).unwrap();
    let ended = executors
        .wait_ended(Duration::from_secs(60))
        .expect("the test ends in time");
    if let Some(text) = ended.panic {
        panic!("{text}");
    }
    executors.join();
}

struct Once<T>(T);

/// Waits until `condition` holds, ten seconds at most.
async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let started = rt::now();
    while !condition() {
        assert!(
            rt::now().since(started) < Duration::from_secs(10),
            "waited in vain until {what}"
        );
        rt::sleep(Duration::from_millis(1)).await;
    }
}

/// The end of a connection, once it has come.
type EndedSlot = Rc<RefCell<Option<Ended>>>;

/// A served connection and its client's socket.
struct Pair {
    conn: Conn,
    address: SocketAddr,
    control: ConnectionControl,
    ended: EndedSlot,
    service: Rc<TestService>,
}

async fn pair(settings: Settings) -> Pair {
    pair_over(settings, None).await
}

async fn pair_over(settings: Settings, tls: Option<Arc<ServerTls>>) -> Pair {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let conn = Conn::connect(address, Duration::from_secs(5))
        .await
        .unwrap();
    let (accepted, peer) = listener.accept().unwrap();
    let control = ConnectionControl::new();
    let service = Rc::new(TestService::default());
    let ended = EndedSlot::default();
    let accepted = Conn::from_std(accepted).unwrap();
    let served = Rc::new(Served(Rc::clone(&service)));
    let settings = Rc::new(settings);
    let slot = Rc::clone(&ended);
    let serve_control = control.clone();
    rt::spawn(Queue::Serve, "test connection", async move {
        let ended = match tls {
            None => serve(accepted, peer, served, settings, serve_control).await,
            Some(tls) => serve_tls(accepted, tls, peer, served, settings, serve_control).await,
        };
        *slot.borrow_mut() = Some(ended);
    });
    Pair {
        conn,
        address,
        control,
        ended,
        service,
    }
}

impl Pair {
    async fn client(self) -> (Client, ConnectionControl, EndedSlot, Rc<TestService>) {
        self.client_with(ClientSettings::default()).await
    }

    async fn client_with(
        self,
        settings: ClientSettings,
    ) -> (Client, ConnectionControl, EndedSlot, Rc<TestService>) {
        let client = Client::over(self.conn, self.address, settings)
            .await
            .unwrap();
        (client, self.control, self.ended, self.service)
    }
}

fn label(ended: &EndedSlot) -> Option<&'static str> {
    ended.borrow().as_ref().map(Ended::label)
}

/// What calls of the tests leave behind for them.
#[derive(Default)]
struct TestService {
    calls: Cell<usize>,
    messages: Cell<usize>,
    readers_cancelled: Rc<Cell<usize>>,
    responders_reset: Rc<Cell<usize>>,
    deadline: Cell<Option<rt::Instant>>,
    buffered_max: Rc<Cell<usize>>,
    written: Rc<Cell<u64>>,
    seen: RefCell<Option<String>>,
    held: RefCell<Vec<(MessageReader, Responder)>>,
    answered_in_full: Rc<Cell<Option<bool>>>,
}

struct Served(Rc<TestService>);

impl Service for Served {
    fn call(&self, call: Call) {
        let service = Rc::clone(&self.0);
        service.calls.set(service.calls.get() + 1);
        service.deadline.set(call.deadline());
        *service.seen.borrow_mut() = call.metadata("x-seen").map(str::to_owned);
        let path = call.path().to_owned();
        let (reader, responder) = call.into_parts();
        match path.as_str() {
            "/t/Unary" => spawn(unary(reader, responder)),
            "/t/Bidi" => spawn(bidi(reader, responder)),
            "/t/Batch" => spawn(batch(service, reader, responder)),
            "/t/Refuse" => {
                responder.refuse(Status::new(Code::NotFound, "nothing here: 100 % gone"));
            }
            "/t/Hold" => service.held.borrow_mut().push((reader, responder)),
            "/t/Flood" => spawn(flood(service, responder)),
            "/t/Wait" => spawn(wait(service, reader, responder)),
            "/t/InFull" => spawn(in_full(service, reader, responder)),
            "/t/Drop" => drop(responder),
            "/t/Panic" => spawn(async move {
                let _held = responder;
                panic!("on purpose");
            }),
            _ => responder.refuse(Status::new(Code::Unimplemented, "unknown method")),
        }
    }
}

fn spawn(future: impl Future<Output = ()> + 'static) {
    rt::spawn(Queue::Serve, "test call", future);
}

async fn unary(mut reader: MessageReader, responder: Responder) {
    responder.unary(reader.only_message().await);
}

/// Answers with what came, and notes whether all of it went on.
async fn in_full(service: Rc<TestService>, mut reader: MessageReader, responder: Responder) {
    let message = reader.only_message().await.unwrap();
    let mut stream = responder.start_unary().unwrap();
    stream.send_message(message).unwrap();
    let sent = stream.finish_in_full(Status::OK).await;
    service.answered_in_full.set(Some(sent.is_ok()));
}

async fn bidi(mut reader: MessageReader, responder: Responder) {
    let Ok(mut stream) = responder.start() else {
        return;
    };
    let mut out = BytesMut::new();
    loop {
        match reader.message().await {
            Ok(Some(message)) => frame(&message, &mut out),
            Ok(None) => return stream.finish(Status::OK),
            Err(status) => return stream.finish(status),
        }
        while let Ok(Some(message)) = reader.try_message() {
            frame(&message, &mut out);
        }
        if stream.send_all(out.split().freeze()).await.is_err() {
            return;
        }
    }
}

/// Counts messages, taking what is there at once; answers how many there were.
async fn batch(service: Rc<TestService>, mut reader: MessageReader, responder: Responder) {
    loop {
        match reader.message().await {
            Ok(Some(_)) => service.messages.set(service.messages.get() + 1),
            Ok(None) => break,
            Err(status) => return responder.refuse(status),
        }
        while let Ok(Some(_)) = reader.try_message() {
            service.messages.set(service.messages.get() + 1);
        }
    }
    responder.unary(Ok(Bytes::from(service.messages.get().to_string())));
}

/// Sends without end, as much as the stream admits.
async fn flood(service: Rc<TestService>, responder: Responder) {
    let mut stream = responder.start().unwrap();
    let mut out = BytesMut::new();
    frame(&[7; 1000], &mut out);
    let message = out.freeze();
    loop {
        let granted = std::future::poll_fn(|cx| stream.poll_send_capacity(message.len(), cx));
        if granted.await.is_err() {
            service
                .responders_reset
                .set(service.responders_reset.get() + 1);
            return stream.finish(Status::OK);
        }
        if stream.send_frames(message.clone()).is_err() {
            service
                .responders_reset
                .set(service.responders_reset.get() + 1);
            return stream.finish(Status::OK);
        }
        let buffered = service.buffered_max.get().max(stream.buffered());
        service.buffered_max.set(buffered);
        service.written.set(stream.written());
        assert_eq!(stream.sent(), stream.written() + stream.buffered() as u64);
    }
}

/// Waits for the end of the call on both halves.
async fn wait(service: Rc<TestService>, mut reader: MessageReader, mut responder: Responder) {
    let cancelled = Rc::clone(&service.readers_cancelled);
    spawn(async move {
        while let Ok(Some(_)) = reader.message().await {}
        if reader
            .message()
            .await
            .is_err_and(|status| status.code() == Code::Cancelled)
        {
            cancelled.set(cancelled.get() + 1);
        }
    });
    std::future::poll_fn(|cx| responder.poll_reset(cx)).await;
    service
        .responders_reset
        .set(service.responders_reset.get() + 1);
}

/// Polls once, to see whether it is ready.
async fn is_pending<T>(mut poll: impl FnMut(&mut std::task::Context<'_>) -> Poll<T>) -> bool {
    std::future::poll_fn(|cx| Poll::Ready(poll(cx).is_pending())).await
}
