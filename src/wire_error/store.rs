//! What the store refuses, as clients see it.

use ringmq_storage::log::Refused;

use super::Refusal;
use crate::engine::events_store::StoreRefusal;
use crate::shard::{StoreFailure, StoredRefused};

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
