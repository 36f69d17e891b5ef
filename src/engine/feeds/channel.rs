//! What the feeds know of a stored channel.

use std::collections::HashMap;
use std::rc::Rc;

use foldhash::fast::RandomState;
use ringmq_storage::{ChannelKey, CursorId, Sequence};

use crate::engine::arena::Key;

/// A stored channel that has feeds.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) key: ChannelKey,
    /// The last sequence that can be read.
    pub(super) last: Sequence,
    /// Everything up to here is gone.
    pub(super) trimmed: Sequence,
    /// The feed of each cursor.
    pub(super) feeds: HashMap<CursorId, u32, RandomState>,
    /// The live receiver of each client id.
    pub(super) clients: HashMap<Rc<str>, Key, RandomState>,
    /// Feeds with credit that have read everything; in no order.
    pub(super) idle: Vec<u32>,
}

impl Channel {
    pub(super) fn new(key: ChannelKey) -> Self {
        Self {
            key,
            last: Sequence::default(),
            trimmed: Sequence::default(),
            feeds: HashMap::default(),
            clients: HashMap::default(),
            idle: Vec::new(),
        }
    }
}
