//! What somebody is told who has reached a limit.

use std::fmt;
use std::time::Duration;

/// A limit that was reached. Its text is what clients are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitReached {
    /// The key that sets it.
    pub limit: &'static str,
    /// When it would pass, if that is known.
    pub retry_after: Option<Duration>,
}

impl LimitReached {
    pub(super) const fn new(limit: &'static str, retry_after: Duration) -> Self {
        Self {
            limit,
            retry_after: Some(retry_after),
        }
    }

    /// The time to wait in whole milliseconds, rounded up: the value of `grpc-retry-pushback-ms`.
    #[must_use]
    pub fn retry_after_ms(&self) -> Option<u64> {
        let ms = self.retry_after?.as_nanos().div_ceil(1_000_000);
        Some(u64::try_from(ms).unwrap_or(u64::MAX))
    }

    /// The same in whole seconds, rounded up: the value of `Retry-After`.
    #[must_use]
    pub fn retry_after_seconds(&self) -> Option<u64> {
        Some(self.retry_after_ms()?.div_ceil(1_000))
    }
}

impl fmt::Display for LimitReached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "limit reached: {}", self.limit)?;
        match self.retry_after_ms() {
            Some(ms) => write!(f, "; try again in {ms} ms"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for LimitReached {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_names_the_limit_and_the_time_rounded_up() {
        let reached =
            LimitReached::new("limits.requests_per_second", Duration::from_micros(249_001));
        assert_eq!(
            reached.to_string(),
            "limit reached: limits.requests_per_second; try again in 250 ms"
        );
        assert_eq!(reached.retry_after_ms(), Some(250));
        assert_eq!(reached.retry_after_seconds(), Some(1));
    }

    #[test]
    fn without_a_time_there_is_none_in_the_text() {
        let reached = LimitReached {
            limit: "limits.subscriptions_per_client",
            retry_after: None,
        };
        assert_eq!(
            reached.to_string(),
            "limit reached: limits.subscriptions_per_client"
        );
        assert_eq!(reached.retry_after_seconds(), None);
    }
}
