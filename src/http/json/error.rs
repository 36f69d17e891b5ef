//! Why a document is no message: the texts of the reference's decoder, as clients see them.

use std::borrow::Cow;
use std::fmt;

use crate::wire_error::{BATCH_MESSAGES_MAX, Refusal};

/// A flaw of a document. Its text is the message of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum JsonError {
    /// The text is no JSON.
    Syntax {
        /// Bytes up to and with the one that does not fit.
        offset: usize,
        /// What is wrong.
        error: String,
    },
    /// The text ends in the middle of a value.
    Incomplete,
    /// The text is white space only.
    Blank,
    /// A value has the wrong type, or is a number out of the type's range.
    Type(Box<TypeError>),
    /// A body is no base64.
    Base64 {
        /// The first byte of the body that does not fit.
        offset: usize,
    },
    /// The text is not UTF-8: what it holds could not travel in the contract's strings.
    NotUtf8,
    /// What the document holds would be far longer than its text, or has too many tags.
    TooManyEntries,
    /// A list has more messages than a batch may have.
    TooManyMessages,
}

/// A value that does not fit its field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TypeError {
    /// The type of the field.
    pub(crate) expected: &'static str,
    /// The kind of the value; with the number itself, if it is one that does not fit.
    pub(crate) got: Cow<'static, str>,
    /// The path of names that leads to the field; empty for the document itself.
    pub(crate) field: String,
    /// The type that has the field.
    pub(crate) parent: &'static str,
    /// Bytes up to the end of the value; of an object or a list, up to its opening bracket.
    pub(crate) offset: usize,
}

impl JsonError {
    /// Notes that the error is inside the value of a field.
    pub(super) fn within(
        mut self,
        parent: &'static str,
        name: &str,
        enumeration: Option<&'static str>,
    ) -> Self {
        if let Self::Type(error) = &mut self {
            if error.field.is_empty() {
                error.parent = parent;
                error.field = name.to_owned();
                error.expected = enumeration.unwrap_or(error.expected);
            } else {
                error.field = format!("{name}.{}", error.field);
            }
        }
        self
    }
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::TooManyMessages {
            // As the call refuses them that comes over gRPC.
            let max = BATCH_MESSAGES_MAX;
            return f.write_str(&Refusal::BatchTooLarge { max }.text());
        }
        f.write_str("code=400, message=")?;
        match self {
            Self::Syntax { offset, error } => write!(
                f,
                "Syntax error: offset={offset}, error={error}, internal={error}"
            ),
            Self::Incomplete => f.write_str("unexpected EOF, internal=unexpected EOF"),
            Self::Blank => f.write_str("EOF, internal=EOF"),
            Self::Type(error) => {
                let TypeError {
                    expected,
                    got,
                    field,
                    parent,
                    offset,
                } = &**error;
                write!(
                    f,
                    "Unmarshal type error: expected={expected}, got={got}, field={field}, \
                     offset={offset}, internal=json: cannot unmarshal {got} into Go "
                )?;
                if field.is_empty() {
                    return write!(f, "value of type {expected}");
                }
                let parent = parent.strip_prefix("kubemq.").unwrap_or(parent);
                write!(f, "struct field {parent}.{field} of type {expected}")
            }
            Self::Base64 { offset } => {
                let error = format!("illegal base64 data at input byte {offset}");
                write!(f, "{error}, internal={error}")
            }
            Self::NotUtf8 => f.write_str(
                "string field contains invalid UTF-8, internal=string field contains invalid UTF-8",
            ),
            Self::TooManyEntries => f.write_str(
                "too many messages and tags for their size, \
                 internal=too many messages and tags for their size",
            ),
            Self::TooManyMessages => Ok(()),
        }
    }
}

impl std::error::Error for JsonError {}
