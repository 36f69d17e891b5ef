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
use crate::model::name::{CHANNEL_BYTES_MAX, ROUTE_BYTES_MAX};
use crate::security::Action;
use crate::shard::{ChannelList, ChannelQuestion, ListsBusy, Shard, WhichChannels};
use crate::wire::server::Call;
use crate::wire::status::Status;
use crate::wire_error::Refusal;

pub(in crate::grpc) async fn info(shard: Rc<Shard>, mut watch: Watch, call: Call, _active: Active) {
    let (mut reader, responder) = call.into_parts();
    let message = watch.gate.only_message(&shard, &mut reader).await;
    drop(reader);
    let asked = message.and_then(|message| {
        let asked = read(&message).map_err(Refusal::from);
        let allowed = asked.and_then(|asked| allow(&mut watch, &asked.1).map(|()| asked));
        allowed.map_err(|refusal| refused(&shard, refusal))
    });
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

/// Asks whether the queues may be looked at. The request does not say whose it is.
fn allow(watch: &mut Watch, which: &Option<WhichChannels>) -> Result<(), Refusal> {
    let identity = watch.gate.identity().clone();
    let client_id = identity.client_id.as_deref().unwrap_or_default();
    let mut allow = |queue| watch.gate.allow_managing(client_id, queue, Action::Read);
    match which {
        None => Ok(()),
        Some(WhichChannels::Named(names)) => names.iter().try_for_each(|name| allow(Some(name))),
        Some(WhichChannels::Containing(_)) => allow(None),
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
                .filter(|name| !name.is_empty() && name.len() <= CHANNEL_BYTES_MAX)
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
        assert_eq!(names(&"x".repeat(CHANNEL_BYTES_MAX + 1)), None);
        assert_eq!(names(&"x;".repeat(ROUTE_BYTES_MAX)), None);
    }
}
