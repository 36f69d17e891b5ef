//! The bare echo: the broker's transport with nothing behind it. What the broker costs on top of
//! this is its own.

#![forbid(unsafe_code)]

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use ringmq::rt::inbox::inbox;
use ringmq::rt::start::{Plan, start};
use ringmq::rt::{self, Conn, Queue};
use ringmq::wire::framing;
use ringmq::wire::server::{Call, ConnectionControl, Service, Settings, serve};
use ringmq::wire::status::{Code, Status};

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Messages of a stream are gathered up to this size, as the broker's outboxes do.
const CHUNK_BYTES: usize = 16 << 10;

struct Echo;

impl Service for Echo {
    fn call(&self, call: Call) {
        match call.path() {
            "/ringmq.bench.Echo/Unary" => rt::spawn(Queue::Serve, "unary", unary(call)),
            "/ringmq.bench.Echo/Stream" => rt::spawn(Queue::Serve, "stream", stream(call)),
            _ => call
                .into_parts()
                .1
                .refuse(Status::new(Code::Unimplemented, "unknown method")),
        }
    }
}

async fn unary(call: Call) {
    let (mut reader, responder) = call.into_parts();
    responder.unary(reader.only_message().await);
}

async fn stream(call: Call) {
    let (mut reader, responder) = call.into_parts();
    let Ok(mut out) = responder.start() else {
        return;
    };
    let mut chunk = BytesMut::new();
    while let Ok(Some(first)) = reader.message().await {
        let mut next = Some(first);
        while let Some(message) = next {
            let full = !chunk.is_empty() && chunk.len() + message.len() > CHUNK_BYTES;
            if full && out.send_all(chunk.split().freeze()).await.is_err() {
                return;
            }
            if chunk.capacity() < CHUNK_BYTES {
                chunk = BytesMut::with_capacity(CHUNK_BYTES);
            }
            framing::frame(&message, &mut chunk);
            next = reader.try_message().unwrap_or(None);
        }
        if out.send_all(chunk.split().freeze()).await.is_err() {
            return;
        }
    }
    out.finish(Status::new(Code::Ok, ""));
}

/// How long it looks for work before it sleeps, in microseconds: as the broker does by default.
const SPIN_US: u64 = 25;

/// Usage: `ringmq-echo [ADDRESS] [CPU] [SPIN_US]`. Prints the address it listens on.
fn main() -> std::io::Result<()> {
    let mut args = std::env::args().skip(1);
    let address = args.next().unwrap_or_else(|| "127.0.0.1:0".into());
    let cpu = args.next().and_then(|cpu| cpu.parse().ok());
    let listener = TcpListener::bind(address)?;
    eprintln!("{}", listener.local_addr()?);
    let (sender, receiver) = inbox::<(TcpStream, SocketAddr)>()?;
    let spin_us = args.next().and_then(|spin_us| spin_us.parse().ok());
    let spin = Some(Duration::from_micros(spin_us.unwrap_or(SPIN_US)));
    let plan = Plan { cpu, spin };
    let _executors = start(
        &[plan],
        vec![receiver],
        |_, receiver: rt::inbox::Inbox<_>| {
            let (echo, settings) = (Rc::new(Echo), Rc::new(Settings::default()));
            receiver.run(move |(stream, peer)| {
                let Ok(conn) = Conn::from_std(stream) else {
                    return;
                };
                let control = ConnectionControl::new();
                let serving = serve(conn, peer, echo.clone(), settings.clone(), control);
                rt::spawn(Queue::Serve, "connection", async move {
                    serving.await;
                });
            })
        },
    )
    .map_err(std::io::Error::other)?;
    loop {
        let accepted = listener.accept()?;
        if sender.send(accepted).is_err() {
            return Ok(());
        }
    }
}
