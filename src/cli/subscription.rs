//! A subscription of the command line: it ends after so many messages, after a silence, or with
//! Ctrl-C, and says then how much came.

use std::time::Duration;

use bytes::Bytes;
use clap::Args;

use super::connection::{Outcome, Session};
use super::failure::Failure;
use super::{parse, text};
use crate::rt;
use crate::wire::client::ClientStream;

/// How long the broker's word that a subscription is live may take: not every server sends it
/// before the first message.
const HEADERS_PATIENCE: Duration = Duration::from_secs(1);

/// When a subscription ends by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Args)]
pub(super) struct Bounds {
    /// End after so many
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max: Option<u64>,
    /// End when nothing comes for so long
    #[arg(long, value_name = "DURATION", value_parser = parse::duration)]
    wait: Option<Duration>,
}

/// A live subscription.
#[derive(Debug)]
pub(super) struct Subscription<'a> {
    session: &'a Session,
    stream: ClientStream,
    bounds: Bounds,
    received: u64,
    began: rt::Instant,
    /// Nothing came for as long as was to be waited.
    silent: bool,
}

impl<'a> Subscription<'a> {
    /// Waits until the broker says that it is live, and says so.
    pub(super) async fn open(
        session: &'a Session,
        mut stream: ClientStream,
        channel: &str,
        bounds: Bounds,
    ) -> Result<Self, Failure> {
        session.stop.listen();
        let live = async {
            stream.headers().await?;
            Ok::<_, Failure>(true)
        };
        let quiet = async {
            rt::sleep(HEADERS_PATIENCE).await;
            Ok(false)
        };
        let live = session.stop.or(futures_lite::future::or(live, quiet)).await;
        let word = match live.transpose()? {
            Some(true) => "subscribed to",
            Some(false) | None => "waiting for",
        };
        session
            .output
            .note(&format!("{word} {channel}; Ctrl-C ends"));
        Ok(Self {
            session,
            stream,
            bounds,
            received: 0,
            began: rt::now(),
            silent: false,
        })
    }

    /// The next message; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        if self.bounds.max.is_some_and(|max| self.received >= max) {
            return Ok(None);
        }
        let wait = self.bounds.wait;
        let message = async {
            let message = self.stream.message().await?;
            Ok::<_, Failure>(message.map(Came::Message).unwrap_or(Came::End))
        };
        let silence = async {
            match wait {
                Some(wait) => rt::sleep(wait).await,
                None => std::future::pending().await,
            }
            Ok(Came::Silence)
        };
        let next = futures_lite::future::or(message, silence);
        match self.session.stop.or(next).await.transpose()? {
            Some(Came::Message(message)) => {
                self.received += 1;
                Ok(Some(message))
            }
            Some(Came::Silence) => {
                self.silent = true;
                Ok(None)
            }
            Some(Came::End) => Err(Failure::Lost(
                "the broker ended the subscription".to_owned(),
            )),
            None => Ok(None),
        }
    }

    /// Says how much of it came. Who waited and got nothing is told by the exit code.
    pub(super) fn finish(self, what: &str) -> Outcome {
        let took = rt::now().since(self.began);
        let text = format!(
            "{} in {:.1} s",
            text::counted(self.received, what),
            took.as_secs_f64()
        );
        self.session.output.note(&text);
        if self.silent && self.received == 0 {
            let wait = self.bounds.wait.unwrap_or_default();
            return Err(Failure::Nothing(format!("nothing came within {wait:?}")));
        }
        Ok(())
    }
}

enum Came {
    Message(Bytes),
    Silence,
    End,
}
