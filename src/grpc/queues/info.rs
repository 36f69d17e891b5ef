//! `QueuesInfo`: what is in the queues.

use std::rc::Rc;

use bytes::Bytes;

use crate::grpc::codec::DecodeError;
use crate::grpc::codec::management::{queue_info, queues_info_response};
use crate::grpc::codec::scan::Fields;
use crate::grpc::management::answer_in_parts;
use crate::grpc::observe::Watch;
use crate::grpc::{Active, refused};
use crate::model::Kind;
use crate::model::name::{ROUTE_BYTES_MAX, check_channel};
use crate::security::Action;
use crate::shard::{ChannelList, ChannelQuestion, ListsBusy, Shard, WhichChannels};
use crate::wire::server::Call;
use crate::wire::status::Status;
use crate::wire_error::Refusal;

pub(in crate::grpc) async fn info(shard: Rc<Shard>, mut watch: Watch, call: Call, _active: Active) {
    let (mut reader, responder) = call.into_parts();
    let message = watch.gate.only_message(&shard, &mut reader).await;
    drop(reader);
    let asked = match message {
        Ok(message) => ask(&mut watch, &message)
            .await
            .map_err(|refusal| refused(&shard, refusal)),
        Err(status) => Err(status),
    };
    let (request_id, which) = match asked {
        Ok(asked) => asked,
        Err(status) => return responder.unary(Err(status)),
    };
    let listed = match which {
        Some(which) => list(&shard, which).await,
        None => Ok(ChannelList::default()),
    };
    match listed {
        Ok(list) => answer_in_parts(responder, queues_info_response(&request_id, list)).await,
        Err(status) => responder.unary(Err(status)),
    }
}

/// What is asked for, by somebody who may.
async fn ask(
    watch: &mut Watch,
    message: &Bytes,
) -> Result<(String, Option<WhichChannels>), Refusal> {
    let (request_id, which) = read(message)?;
    allow(watch, which.as_ref()).await?;
    Ok((request_id, which))
}

/// Asks whether the queues may be looked at. The request does not say whose it is.
async fn allow(watch: &mut Watch, which: Option<&WhichChannels>) -> Result<(), Refusal> {
    let identity = watch.gate.identity().clone();
    let client_id = identity.client_id.as_deref().unwrap_or_default();
    let gate = &mut watch.gate;
    match which {
        None => Ok(()),
        Some(WhichChannels::Named(names)) => {
            gate.allow_managing_all(client_id, names, Action::Read)
                .await
        }
        Some(WhichChannels::Containing(_)) => gate.allow_managing(client_id, None, Action::Read),
    }
}

async fn list(shard: &Rc<Shard>, which: WhichChannels) -> Result<ChannelList, Status> {
    let question = ChannelQuestion {
        kind: Kind::Queues,
        which,
        write: queue_info,
    };
    let listed = shard.list_channels(question).await;
    listed.map_err(|ListsBusy| refused(shard, Refusal::ListsBusy))
}

/// Reads the request's id, and which queues it asks for; `None` when it names some, and none of
/// the names could be a queue's.
fn read(message: &Bytes) -> Result<(String, Option<WhichChannels>), DecodeError> {
    let (mut request_id, mut names) = ("", "");
    for field in Fields::of_message(message)? {
        let field = field?;
        match field.number {
            1 => request_id = field.text()?,
            2 => names = field.text()?,
            _ => {}
        }
    }
    let which = match names {
        "" => Some(WhichChannels::Containing("".into())),
        names if names.len() > ROUTE_BYTES_MAX => None,
        names => {
            let mut named: Vec<Box<str>> = names
                .split(';')
                .filter(|name| check_channel(name).is_ok())
                .map(Box::from)
                .collect();
            named.sort_unstable();
            named.dedup();
            (!named.is_empty()).then_some(WhichChannels::Named(named))
        }
    };
    Ok((request_id.to_owned(), which))
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use ringmq_proto::kubemq::QueuesInfoRequest;

    use super::*;
    use crate::model::name::CHANNEL_BYTES_MAX;

    fn names(queue_name: &str) -> Option<Vec<String>> {
        let request = QueuesInfoRequest {
            request_id: "id".into(),
            queue_name: queue_name.into(),
        };
        let (id, which) = read(&request.encode_to_vec().into()).unwrap();
        assert_eq!(id, "id");
        which.map(|which| match which {
            WhichChannels::Named(names) => names.iter().map(ToString::to_string).collect(),
            WhichChannels::Containing(text) => vec![format!("all{text}")],
        })
    }

    #[test]
    fn names_are_separated_by_semicolons_and_told_once() {
        assert_eq!(names(""), Some(vec!["all".to_owned()]));
        assert_eq!(names("b;a;;b"), Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(names(";"), None);
        assert_eq!(names("a.*;>;b c"), None, "no queue has such a name");
        assert_eq!(names("a.*;a"), Some(vec!["a".to_owned()]));
        assert_eq!(names(&"x".repeat(CHANNEL_BYTES_MAX + 1)), None);
        assert_eq!(names(&"x;".repeat(ROUTE_BYTES_MAX)), None);
    }
}
