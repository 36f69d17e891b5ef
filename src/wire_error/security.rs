//! What is refused because of who asks, and because of how much.

use std::borrow::Cow;
use std::time::Duration;

use super::Refusal;
use crate::shard::Overloaded;
use crate::wire::status::Code;

impl Refusal {
    /// The text of what is refused for who asks, or how much; `None` for everything else.
    pub(super) fn security_text(&self) -> Option<Cow<'static, str>> {
        Some(match self {
            Self::Unauthenticated(reason) => reason.clone(),
            Self::AccessDenied => "Error 412: access denied to resource".into(),
            Self::ClientIdBound { id } => {
                format!("Error 412: access denied to resource, the client id must be {id:?}").into()
            }
            Self::TokenExpired => "token expired".into(),
            Self::CredentialsWithdrawn => "credentials are no longer accepted".into(),
            Self::LimitReached { limit, retry_after } => {
                format!("limit reached: {limit}{}", try_again(*retry_after)).into()
            }
            Self::Overloaded { retry_after } => format!(
                "broker overloaded: messages wait too long for their commit \
                     (limits.overload_target_ms){}",
                try_again(*retry_after)
            )
            .into(),
            _ => return None,
        })
    }

    /// The code of what is refused for who asks, or how much; `None` for everything else.
    pub(super) const fn security_code(&self) -> Option<Code> {
        Some(match self {
            Self::Unauthenticated(_) => Code::Unauthenticated,
            Self::AccessDenied | Self::ClientIdBound { .. } => Code::PermissionDenied,
            // The next try shows what is valid by then, or is told what is wrong with it.
            Self::TokenExpired | Self::CredentialsWithdrawn => Code::Unavailable,
            Self::LimitReached { .. } | Self::Overloaded { .. } => Code::ResourceExhausted,
            _ => return None,
        })
    }

    /// Whether it says nothing of the message but of who sends it, or when: the call ends with it,
    /// also where other refusals are told in an answer.
    #[must_use]
    pub const fn is_about_the_call(&self) -> bool {
        self.security_code().is_some() || matches!(self, Self::ShuttingDown | Self::NotReady)
    }

    /// When another try may succeed, if that is known.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::LimitReached { retry_after, .. } | Self::Overloaded { retry_after } => {
                *retry_after
            }
            _ => None,
        }
    }
}

impl From<Overloaded> for Refusal {
    fn from(overloaded: Overloaded) -> Self {
        Self::Overloaded {
            retry_after: Some(overloaded.retry_after),
        }
    }
}

fn try_again(after: Option<Duration>) -> String {
    match after {
        Some(after) => {
            let ms = after.as_nanos().div_ceil(1_000_000);
            format!("; try again in {ms} ms")
        }
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_and_code_is_pinned() {
        use Refusal as R;
        let later = Some(Duration::from_millis(250));
        let limit = "limits.requests_per_second";
        let reason = "Authorization token is not supplied";
        let table = [
            (
                R::Unauthenticated(reason.into()),
                Code::Unauthenticated,
                reason,
            ),
            (
                R::AccessDenied,
                Code::PermissionDenied,
                "Error 412: access denied to resource",
            ),
            (
                R::ClientIdBound { id: "alice".into() },
                Code::PermissionDenied,
                "Error 412: access denied to resource, the client id must be \"alice\"",
            ),
            (R::TokenExpired, Code::Unavailable, "token expired"),
            (
                R::CredentialsWithdrawn,
                Code::Unavailable,
                "credentials are no longer accepted",
            ),
            (
                R::LimitReached {
                    limit,
                    retry_after: later,
                },
                Code::ResourceExhausted,
                "limit reached: limits.requests_per_second; try again in 250 ms",
            ),
            (
                R::LimitReached {
                    limit,
                    retry_after: None,
                },
                Code::ResourceExhausted,
                "limit reached: limits.requests_per_second",
            ),
            (
                R::Overloaded { retry_after: later },
                Code::ResourceExhausted,
                "broker overloaded: messages wait too long for their commit \
                 (limits.overload_target_ms); try again in 250 ms",
            ),
        ];
        for (refusal, code, text) in table {
            assert_eq!((refusal.code(), &*refusal.text()), (code, text));
            assert!(refusal.is_about_the_call());
            let status = refusal.status();
            assert_eq!(status.retry_after(), refusal.retry_after());
        }
        assert!(!R::EventEmpty.is_about_the_call());
    }
}
