//! Settings that are one word of several.

use super::{Key, Setting};

/// Declares an enum whose variants are the words of a setting; what follows `|` is understood too.
macro_rules! words {
    (
        $(#[$meta:meta])*
        $name:ident {
            $( $(#[$variant_meta:meta])* $variant:ident = $word:literal $(| $alias:literal)* ),+
            $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $( $(#[$variant_meta])* $variant, )+ }

        impl $name {
            /// The words of the configuration.
            pub(in crate::config) const WORDS: &'static [&'static str] = &[$($word),+];

            /// The word of the configuration.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $( Self::$variant => $word, )+ }
            }

            /// Reads a word, whatever its case.
            pub(in crate::config) fn from_word(text: &str) -> Option<Self> {
                match text.to_ascii_lowercase().as_str() {
                    $( $word $(| $alias)* => Some(Self::$variant), )+
                    _ => None,
                }
            }
        }

        impl Setting for $name {
            fn parse(text: &str, _key: &Key) -> Option<Self> {
                Self::from_word(text)
            }

            fn spell(&self, _text: &str) -> String {
                self.word().to_owned()
            }
        }
    };
}

pub(super) mod protection;

words! {
    /// When a stored message is acknowledged.
    Sync {
        /// After the group commit that holds it has reached the disk.
        Strict = "strict",
        /// After it was appended: safe against a killed process, not against a power cut.
        Interval = "interval",
    }
}

words! {
    /// What happens to a new message when its channel is at a limit.
    WhenFull {
        /// It is refused, and its sender learns why.
        Reject = "reject",
        /// The oldest messages of the channel are removed to make room.
        DropOldest = "drop-oldest" | "drop_oldest",
    }
}

words! {
    /// Where a message goes whose delivery failed.
    Redelivery {
        /// Behind the others, with a new sequence: it does not block them.
        Tail = "tail",
        /// Where it was, with its sequence: strict order.
        InPlace = "in-place" | "in_place",
    }
}

words! {
    /// The least serious log line that is written. The numbers are those of the commercial image.
    LogLevel {
        /// Steps inside a request; compiled out of release builds.
        Trace = "trace" | "0",
        /// Requests.
        Debug = "debug" | "1",
        /// Changes of state that an operator asks about.
        Info = "info" | "2",
        /// Degraded, but running.
        Warn = "warn" | "warning" | "3",
        /// A person must look.
        Error = "error" | "fatal" | "4" | "5",
    }
}

impl LogLevel {
    /// The level as the log takes it.
    #[must_use]
    pub const fn filter(self) -> tracing::level_filters::LevelFilter {
        use tracing::level_filters::LevelFilter;
        match self {
            Self::Trace => LevelFilter::TRACE,
            Self::Debug => LevelFilter::DEBUG,
            Self::Info => LevelFilter::INFO,
            Self::Warn => LevelFilter::WARN,
            Self::Error => LevelFilter::ERROR,
        }
    }
}

words! {
    /// How log lines look.
    LogFormat {
        /// One line of text.
        Text = "text",
        /// One JSON object a line.
        Json = "json",
    }
}

words! {
    /// How spans are sent.
    ExportProtocol {
        /// OTLP over gRPC.
        Grpc = "grpc",
        /// OTLP over HTTP, as protobuf.
        Http = "http" | "http/protobuf" | "httpprotobuf",
    }
}

words! {
    /// How what is exported is compressed.
    Compression {
        /// Not at all.
        None = "none",
        /// By gzip.
        Gzip = "gzip",
    }
}

words! {
    /// Which traces are exported.
    Sampler {
        /// All.
        AlwaysOn = "always_on" | "always",
        /// None.
        AlwaysOff = "always_off" | "never",
        /// A share of them.
        Ratio = "traceidratio" | "ratio",
        /// Those that the sender samples; of those without a sender all.
        ParentAlwaysOn = "parentbased_always_on",
        /// Those that the sender samples; of those without a sender none.
        ParentAlwaysOff = "parentbased_always_off",
        /// Those that the sender samples; of those without a sender a share.
        ParentRatio = "parentbased_traceidratio",
    }
}
