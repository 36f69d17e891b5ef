//! What the store refuses, as clients see it.

use std::borrow::Cow;

use ringmq_storage::log::Refused;

use super::Refusal;
use crate::engine::stored::StoreRefusal;
use crate::shard::{StoreFailure, StoredRefused};

impl Refusal {
    /// The text of what the store refuses; `None` for everything else.
    pub(super) fn store_text(&self) -> Option<Cow<'static, str>> {
        Some(match self {
            Self::ReceiverLimit { max } => {
                format!("the channel has as many subscriptions as it may: {max}").into()
            }
            Self::CursorLimit { max } => {
                format!("the channel has as many durable subscriptions as it may: {max}").into()
            }
            Self::ChannelLimit { max } => not_stored(&format!(
                "there are as many channels as there may be: {max}"
            )),
            Self::MessagesLimit { max } => not_stored(&format!(
                "the channel has as many messages as it may: {max}"
            )),
            Self::BytesLimit { max } => {
                not_stored(&format!("the channel has as many bytes as it may: {max}"))
            }
            Self::StoredTooLarge { len, max } => {
                not_stored(&format!("the message has {len} bytes, it may have {max}"))
            }
            Self::StoreFull => not_stored(
                "the disk of the broker is full; free space on it or shorten the retention",
            ),
            Self::StoreBusy => not_stored("too many messages wait to be stored, try again later"),
            Self::StoreFailed => "the log has failed and takes no messages until the broker is \
                                  restarted; this one may or may not be stored"
                .into(),
            Self::ChannelDeleted => "the channel was deleted".into(),
            _ => return None,
        })
    }
}

fn not_stored(why: &str) -> Cow<'static, str> {
    format!("nothing was stored: {why}").into()
}

impl From<StoreFailure> for Refusal {
    fn from(failure: StoreFailure) -> Self {
        match failure {
            StoreFailure::Refused(refusal) => refusal.into(),
            StoreFailure::Poisoned => Self::StoreFailed,
            StoreFailure::Busy => Self::StoreBusy,
            StoreFailure::ShuttingDown => Self::ShuttingDown,
        }
    }
}

impl From<StoreRefusal> for Refusal {
    fn from(refusal: StoreRefusal) -> Self {
        match refusal {
            StoreRefusal::ChannelLimit { max } => Self::ChannelLimit { max },
            StoreRefusal::MessagesLimit { max } => Self::MessagesLimit { max },
            StoreRefusal::BytesLimit { max } => Self::BytesLimit { max },
            StoreRefusal::CursorLimit { max } => Self::CursorLimit { max },
            // Names were checked against the same bounds before.
            StoreRefusal::NameLength { .. } => Self::ChannelTooLong,
            // Deleted at this very moment: the next try creates it.
            StoreRefusal::NoChannel | StoreRefusal::Log(Refused::Busy) => Self::StoreBusy,
            // Of moves only, whose makers take it for success.
            StoreRefusal::AlreadyHere => Self::StoreBusy,
            StoreRefusal::Log(Refused::Full) => Self::StoreFull,
            StoreRefusal::Log(Refused::Poisoned) => Self::StoreFailed,
            StoreRefusal::Log(Refused::TooLarge { len, max }) => Self::StoredTooLarge {
                len: len.into(),
                max: max.into(),
            },
        }
    }
}

impl From<StoredRefused> for Refusal {
    fn from(refused: StoredRefused) -> Self {
        match refused {
            StoredRefused::ClientIdInUse => Self::ClientIdInUse,
            StoredRefused::ReceiverLimit { max } => Self::ReceiverLimit {
                max: u64::try_from(max).unwrap_or(u64::MAX),
            },
            StoredRefused::ShuttingDown => Self::ShuttingDown,
            StoredRefused::Store(failure) => failure.into(),
        }
    }
}
