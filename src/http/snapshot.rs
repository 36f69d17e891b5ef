//! The snapshot: the broker as one document, for dashboards and tools.
//!
//! `GET /api/snapshot` answers with it in the envelope of the management port; `/api/connection` is
//! a WebSocket that sends it bare every two seconds. The shape is the reference's.
//!
//! # Costs
//! Nothing while nobody looks. All who look share one document of their core. It is made anew when
//! it is two seconds old, or twenty times as old as it took to make: with very many channels it is
//! made less often, and never for more than a twentieth of the time. Lists of channels hold the
//! [`CHANNELS_MAX`] that were used last; what is counted is counted over all.

mod document;
pub(in crate::http) mod human;
mod survey;
mod value;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};

use super::api::ALL;
use super::api::standing::Standing;
use super::api::turns::DISMISSED;
use super::body::Body;
use super::context::Context;
use super::websocket::WebSocket;
use super::{Exchange, Response};
use crate::rt::{self, Sleep};
use crate::security::Resource;
use crate::shard::ListsBusy;

/// Channels in the list of one family.
pub(in crate::http) const CHANNELS_MAX: usize = 500;

/// How old a document may be.
const AGE_MAX: Duration = Duration::from_secs(2);

/// It may be as many times as old as it took to make.
const AGE_FACTOR: u32 = 20;

/// How often a viewer is sent the document.
const PERIOD: Duration = Duration::from_secs(2);

/// How often it is looked whether the document that somebody else makes is ready.
const LOOK: Duration = Duration::from_millis(10);

/// The document of one core, shared by all who look at it there.
#[derive(Debug, Default)]
pub(crate) struct SharedSnapshot {
    last: RefCell<Option<Last>>,
    making: Cell<bool>,
    /// Time on a processor when the last one was made, and when that was.
    cpu: Cell<(u64, rt::Instant)>,
}

#[derive(Debug)]
struct Last {
    made: rt::Instant,
    took: Duration,
    document: Bytes,
}

/// Says that nobody makes a document any more, however that ends.
struct Making<'a>(&'a Cell<bool>);

impl Drop for Making<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

impl SharedSnapshot {
    fn fresh(&self) -> Option<Bytes> {
        let last = self.last.borrow();
        let last = last.as_ref()?;
        let age_max = AGE_MAX.max(last.took.saturating_mul(AGE_FACTOR));
        (rt::now().since(last.made) < age_max).then(|| last.document.clone())
    }

    /// The document, made now if the last one is too old.
    async fn get(&self, context: &Context) -> Result<Bytes, ListsBusy> {
        loop {
            if let Some(document) = self.fresh() {
                return Ok(document);
            }
            if !self.making.replace(true) {
                break;
            }
            rt::sleep(LOOK).await;
        }
        let _making = Making(&self.making);
        let began = rt::now();
        let found = survey::survey(context, &self.cpu).await?;
        let document = Bytes::from(document::write(found).await);
        let made = rt::now();
        self.last.replace(Some(Last {
            made,
            took: made.since(began),
            document: document.clone(),
        }));
        Ok(document)
    }
}

/// Answers `GET /api/snapshot`.
pub(super) async fn handle(exchange: Exchange) -> Response {
    let context = exchange.context.clone();
    let (status, body) = match context.snapshot.get(&context).await {
        Ok(document) => (StatusCode::OK, Body::stream(enveloped(document))),
        Err(busy) => {
            let text = format!("{{\"error\":true,\"error_string\":\"{busy}\",\"data\":null}}\n");
            (StatusCode::SERVICE_UNAVAILABLE, Body::full(text))
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/json; charset=UTF-8"),
    );
    response
}

/// A document in the envelope, without a copy of it.
fn enveloped(document: Bytes) -> impl FnMut(&mut std::task::Context<'_>) -> Poll<Option<Bytes>> {
    let begin = Bytes::from_static(b"{\"error\":false,\"error_string\":\"\",\"data\":");
    let pieces = [begin, document, Bytes::from_static(b"}\n")];
    let mut pieces = pieces.into_iter();
    move |_| Poll::Ready(pieces.next())
}

/// Answers the opening of `/api/connection`.
pub(super) async fn connection(exchange: Exchange) -> Response {
    let context = exchange.context.clone();
    let looks_at = (Resource::Management, ALL.to_owned());
    let standing = Standing::of(&exchange, vec![looks_at]);
    exchange.upgrade(move |socket| view(socket, context, standing))
}

/// What a viewer's socket waits for.
enum Event {
    Gone,
    Dismissed,
    Due,
}

/// Sends the document to a viewer, until it leaves or the broker ends.
async fn view(mut socket: WebSocket, context: Rc<Context>, mut standing: Standing) {
    let shutdown = context.shard.watch_shutdown();
    let mut pause = Sleep::new(Duration::ZERO);
    loop {
        let event = poll_fn(|cx| {
            socket.serve_control(cx);
            loop {
                match socket.poll_message(cx) {
                    // Whatever a viewer says, it is only shown the document.
                    Poll::Ready(Some(_)) => {}
                    Poll::Ready(None) => return Poll::Ready(Event::Gone),
                    Poll::Pending => break,
                }
            }
            if shutdown.poll(cx).is_ready() {
                return Poll::Ready(Event::Gone);
            }
            if standing.poll(cx).is_ready() {
                return Poll::Ready(Event::Dismissed);
            }
            // One who does not read what it was sent gets no more of it.
            match socket.poll_flush(cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Err(_gone)) => Poll::Ready(Event::Gone),
                Poll::Ready(Ok(())) => pause.poll(cx).map(|()| Event::Due),
            }
        })
        .await;
        match event {
            Event::Gone => break,
            Event::Dismissed => {
                let (code, reason) = DISMISSED;
                return socket.close(code, reason).await;
            }
            Event::Due => {}
        }
        if let Ok(document) = context.snapshot.get(&context).await
            && socket.send_text(document).is_err()
        {
            break;
        }
        pause.reset(PERIOD);
    }
    socket.close(1001, "").await;
}
