//! What the operator wants of queues.

use std::sync::Arc;
use std::time::Duration;

use super::super::Shard;

/// What becomes of the messages of one queue, by its name.
#[derive(Clone, Debug)]
pub struct QueuePolicy {
    /// A message whose delivery failed goes back to its place; otherwise to the tail.
    pub in_place: bool,
    /// How long a message is its consumer's when nobody says; `None`: as long as it is there.
    pub visibility: Option<Duration>,
    /// The longest time that a consumer may ask for.
    pub visibility_max: Duration,
    /// How often a message may be received that does not say itself, at least 1.
    pub receives_max: u32,
    /// The queue of dead letters that name none; `None`: they are dropped.
    pub dead_letter: Option<Arc<str>>,
}

/// As with the reference.
impl Default for QueuePolicy {
    fn default() -> Self {
        Self {
            in_place: false,
            visibility: None,
            visibility_max: Duration::from_secs(43_200),
            receives_max: 1_024,
            dead_letter: None,
        }
    }
}

impl QueuePolicy {
    /// How long messages are a consumer's who asks for `asked`; zero is not asked. Never longer
    /// than the operator allows; `None`: as long as the consumer is there.
    #[must_use]
    pub fn visibility(&self, asked: Option<Duration>) -> Option<Duration> {
        let asked = asked.filter(|asked| !asked.is_zero());
        let wanted = asked.or(self.visibility)?;
        Some(wanted.min(self.visibility_max))
    }
}

impl Shard {
    /// How long messages of a queue are a consumer's who asks for `asked`, by the operator's
    /// settings; `None`: as long as the consumer is there.
    #[must_use]
    pub fn queue_visibility(&self, channel: &str, asked: Option<Duration>) -> Option<Duration> {
        let policy = (self.stored.settings.policy)(channel);
        policy.queue.visibility(asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consumers_get_the_time_they_ask_for_up_to_the_bound() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        let mut policy = QueuePolicy {
            visibility_max: Duration::from_secs(60),
            ..QueuePolicy::default()
        };
        assert_eq!(policy.visibility(None), None);
        assert_eq!(policy.visibility(seconds(0)), None);
        assert_eq!(policy.visibility(seconds(5)), seconds(5));
        assert_eq!(policy.visibility(seconds(61)), seconds(60));
        policy.visibility = seconds(30);
        assert_eq!(policy.visibility(None), seconds(30));
        assert_eq!(policy.visibility(seconds(5)), seconds(5));
        assert_eq!(policy.visibility(seconds(40)), seconds(40));
    }
}
