//! `ringmq commands send` and `ringmq queries send`.

use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use ringmq_proto::kubemq::request::RequestType;
use ringmq_proto::kubemq::{Request, Response};
use ringmq_proto::method;

use crate::cli::connection::{Outcome, Session};
use crate::cli::failure::Failure;
use crate::cli::input::{BodyArgs, ExtraArgs};
use crate::cli::output::{BodyStyle, Shown};
use crate::cli::parse;
use crate::rt;

/// What the broker may need beside the time that the responder has.
const SLACK: Duration = Duration::from_secs(5);

/// What is asked. How long the answer may take says --timeout.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(in crate::cli) struct SendArgs {
    /// The channel
    channel: String,
    #[command(flatten)]
    body: BodyArgs,
    #[command(flatten)]
    extra: ExtraArgs,
    /// Its id [default: the broker makes one]
    #[arg(long, default_value = "", hide_default_value = true)]
    id: String,
    #[command(flatten)]
    style: BodyStyle,
}

/// What is asked, and whether a kept answer will do.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(in crate::cli) struct QueryArgs {
    #[command(flatten)]
    pub(super) common: SendArgs,
    /// Take the answer that is kept under this key, or keep it there
    #[arg(
        long,
        value_name = "KEY",
        default_value = "",
        hide_default_value = true
    )]
    cache_key: String,
    /// How long it is kept
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = parse::seconds)]
    cache_duration: i32,
}

impl SendArgs {
    /// Reads what is asked.
    pub(super) fn body(&self) -> Result<Bytes, Failure> {
        self.body.read_with(&self.extra)
    }

    /// The request.
    pub(super) fn request(&self, session: &Session, kind: RequestType, body: Bytes) -> Request {
        Request {
            request_id: self.id.clone(),
            request_type_data: kind.into(),
            client_id: session.client_id(),
            channel: self.channel.clone(),
            metadata: self.extra.metadata.clone(),
            body,
            timeout: i32::try_from(session.patience().as_millis()).unwrap_or(i32::MAX),
            tags: self.extra.tags.iter().cloned().collect(),
            ..Request::default()
        }
    }
}

impl QueryArgs {
    /// The request.
    pub(super) fn request(&self, session: &Session, body: Bytes) -> Request {
        let request = self.common.request(session, RequestType::Query, body);
        if self.cache_key.is_empty() {
            return request;
        }
        Request {
            cache_key: self.cache_key.clone(),
            cache_ttl: self.cache_duration,
            ..request
        }
    }
}

/// Asks, and writes the answer. One that says that it was not executed is a refusal.
pub(super) async fn run(session: &Session, args: &SendArgs, request: Request) -> Outcome {
    let patience = session.patience() + SLACK;
    let began = rt::now();
    let response: Response = session
        .call_within(method::SEND_REQUEST, &request, patience)
        .await?;
    let took = rt::now().since(began);
    let shown = Shown::response(&response, took);
    if response.executed {
        return session.output.message(args.style, &shown);
    }
    if session.output.is_json() {
        session.output.json(&shown)?;
    }
    let error = match response.error.as_str() {
        "" => "the responder did not say why".to_owned(),
        error => error.to_owned(),
    };
    Err(Failure::Refused(format!("not executed: {error}")))
}
