//! What can go wrong in a command that talks to a broker, and the exit code that says so.

use std::io;

use super::exit;
use crate::wire::status::{Code, Status};

/// Why a command ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The command line asks for something that makes no sense.
    #[error("{0}")]
    Usage(String),
    /// A body cannot be read.
    #[error("cannot read {what}: {source}")]
    Input {
        what: String,
        #[source]
        source: io::Error,
    },
    /// The broker said no.
    #[error("{0}")]
    Refused(String),
    /// All went well, and there was nothing.
    #[error("{0}")]
    Nothing(String),
    /// Nobody answers at the address.
    #[error("cannot reach {address}: {reason}; is the broker running? `ringmq server` starts one")]
    Unreachable { address: String, reason: String },
    /// The connection ended in the middle.
    #[error("the connection to the broker was lost: {0}")]
    Lost(String),
    /// No answer came in time.
    #[error("{0}")]
    TimedOut(String),
    /// The broker wants to know who asks, or does not let them.
    #[error("{0}; a token is given by --token or RINGMQ_TOKEN")]
    Forbidden(String),
    /// The answer cannot be written.
    #[error("cannot write to the standard output: {0}")]
    Output(#[source] io::Error),
    /// Who read our output has closed it: that is no failure.
    #[error("the standard output is closed")]
    Closed,
}

impl Failure {
    /// The code to exit with.
    pub(super) const fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => exit::USAGE,
            Self::Input { .. } => exit::NO_INPUT,
            Self::Refused(_) | Self::Nothing(_) => exit::REFUSED,
            Self::Unreachable { .. } | Self::Lost(_) => exit::UNAVAILABLE,
            Self::TimedOut(_) => exit::TIMED_OUT,
            Self::Forbidden(_) => exit::FORBIDDEN,
            Self::Output(_) => exit::IO,
            Self::Closed => 0,
        }
    }

    /// A broker's refusal in its own words. The text of a request that nobody answered in time is
    /// the contract's, whatever the code is.
    pub(super) fn refused(text: impl Into<String>) -> Self {
        let text = text.into();
        if text.starts_with("Error 301:") {
            Self::TimedOut(text)
        } else {
            Self::Refused(text)
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let text = status.message().to_owned();
        match status.code() {
            Code::Unavailable => Self::Lost(text),
            Code::DeadlineExceeded => Self::TimedOut("no answer came in time".to_owned()),
            Code::Unauthenticated | Code::PermissionDenied => Self::Forbidden(text),
            Code::Unimplemented => {
                Self::Refused(format!("the server does not know this call: {text}"))
            }
            _ => Self::refused(text),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::Closed
        } else {
            Self::Output(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(code: Code, text: &'static str) -> u8 {
        Failure::from(Status::new(code, text)).code()
    }

    #[test]
    fn each_status_has_its_exit_code() {
        assert_eq!(code(Code::Internal, "Error 102: invalid channel"), 1);
        assert_eq!(code(Code::Internal, "Error 301: timeout"), 75);
        assert_eq!(code(Code::DeadlineExceeded, ""), 75);
        assert_eq!(code(Code::Unavailable, "broken pipe"), 69);
        assert_eq!(code(Code::Unauthenticated, ""), 77);
        assert_eq!(code(Code::PermissionDenied, ""), 77);
        assert_eq!(code(Code::Unimplemented, ""), 1);
    }

    #[test]
    fn closed_output_is_no_failure() {
        let closed = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(closed.code(), 0);
        let full = Failure::from(io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(full.code(), 74);
    }
}
