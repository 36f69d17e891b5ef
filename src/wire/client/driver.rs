//! Runs the client's end of a connection.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use h2::client::{Connection, SendRequest};

use super::ClientSettings;
use crate::rt::{self, Queue};
use crate::wire::control::ConnectionControl;
use crate::wire::cork::{Cork, Side, Transport};
use crate::wire::outlet::Chunk;
use crate::wire::vitals::Vitals;

/// Writes the opening and starts the driver.
pub(super) async fn start(
    transport: Transport,
    settings: &ClientSettings,
    control: &ConnectionControl,
) -> io::Result<SendRequest<Chunk>> {
    let cork = Cork::new(transport, Side::Client);
    let budget = usize::try_from(settings.connection_window_bytes).unwrap_or(usize::MAX);
    let mut builder = h2::client::Builder::new();
    builder
        .initial_window_size(settings.stream_window_bytes)
        .initial_connection_window_size(settings.connection_window_bytes)
        .max_frame_size(settings.frame_bytes_max)
        .max_header_list_size(64 << 10)
        .max_send_buffer_size(settings.stream_send_bytes_max)
        .enable_push(false)
        .data_frame_budget(budget);
    // Done at once: it writes into the cork.
    let opened = builder.handshake::<_, Chunk>(cork.clone()).await;
    let (requests, mut connection) = opened.map_err(io::Error::other)?;
    let pings = connection.ping_pong();
    let vitals = Vitals::new(pings, settings.keepalive_time, settings.keepalive_timeout);
    let driver = Driver {
        connection,
        cork: cork.clone(),
        control: control.clone(),
        vitals,
    };
    let control = control.clone();
    rt::spawn(Queue::Serve, "client connection", async move {
        drive(driver).await;
        control.mark_ended();
        cork.close().await;
    });
    Ok(requests)
}

struct Driver {
    connection: Connection<Cork, Chunk>,
    cork: Cork,
    control: ConnectionControl,
    vitals: Vitals,
}

/// Ends with the connection; the driver is dropped then, which tells every open call.
async fn drive(mut driver: Driver) {
    std::future::poll_fn(|cx| driver.turn(cx)).await;
}

impl Driver {
    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.control.asked().poll(cx).is_ready() {}
        let alive_at = self.cork.alive_at();
        let dead = self
            .vitals
            .before_turn(&self.control, alive_at, cx)
            .is_err();
        if dead || self.control.wants_close() {
            return Poll::Ready(());
        }
        loop {
            let ended = Pin::new(&mut self.connection).poll(cx).is_ready();
            self.vitals.after_turn(&self.control, cx);
            let flushed = self.cork.poll_flush_out(cx);
            let broken = matches!(flushed, Poll::Ready(Err(_)));
            if ended || broken || self.cork.flood().is_some() {
                return Poll::Ready(());
            }
            // As on the server's side: h2 was told to wait for room, and there is room now.
            if flushed.is_pending() || !self.cork.take_refused() {
                return Poll::Pending;
            }
        }
    }
}
