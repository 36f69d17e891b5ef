//! Commands and queries, asked and answered.

use ringmq_proto::{kubemq, method};

use super::super::input::Input;
use super::super::{Asker, show};
use super::{Done, Outcome, call};
use crate::rt;

/// Asks, and waits for the answer. One who leaves meanwhile has given up.
pub(super) async fn ask(asker: &Asker, input: &Input) -> Outcome {
    use kubemq::request::RequestType;
    let channel = input.required("channel", "channel")?;
    let body = input.required_body()?;
    let tags = input.tags()?;
    let seconds = input.number("timeout")?;
    if seconds <= 0 {
        return Err("timeout must be greater than 0".to_owned());
    }
    let request_type = if input.flag("isCommands")? {
        RequestType::Command
    } else {
        RequestType::Query
    };
    let request = kubemq::Request {
        request_id: input.text("requestId")?.to_owned(),
        request_type_data: request_type.into(),
        client_id: asker.client_id.clone(),
        channel: channel.to_owned(),
        metadata: input.text("metadata")?.to_owned(),
        body,
        timeout: seconds.saturating_mul(1_000),
        tags,
        ..kubemq::Request::default()
    };
    let answer: kubemq::Response = call(asker, method::SEND_REQUEST, &request).await?;
    Ok(Done::with(&show::Response::new(answer, rt::unix_ns())))
}

/// Answers one that a subscription has shown.
pub(super) async fn respond(asker: &Asker, input: &Input) -> Outcome {
    let response = kubemq::Response {
        client_id: asker.client_id.clone(),
        request_id: input.text("requestId")?.to_owned(),
        reply_channel: input.required("replyChannel", "reply channel")?.to_owned(),
        metadata: input.text("metadata")?.to_owned(),
        // Who fails has nothing to say but the error.
        body: input.body()?.unwrap_or_default(),
        timestamp: rt::unix_ns(),
        executed: input.flag("executed")?,
        error: input.text("error")?.to_owned(),
        tags: input.tags()?,
        ..kubemq::Response::default()
    };
    let _empty: kubemq::Empty = call(asker, method::SEND_RESPONSE, &response).await?;
    Ok(Done::nothing())
}
