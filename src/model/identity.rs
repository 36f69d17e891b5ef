//! Who speaks: what was verified of a peer, whatever it says of itself.

/// How somebody was recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Proof {
    /// Not at all: nobody asked, or nothing was shown.
    None,
    /// By a token that an authority has signed.
    Token,
    /// By an API key.
    ApiKey,
    /// By the certificate of its connection.
    Certificate,
    /// By a session of the management port.
    Session,
    /// By a port that asks nobody, and knows why: somebody on the broker's own machine.
    Vouched,
}

impl Proof {
    /// A word for records.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Token => "token",
            Self::ApiKey => "api_key",
            Self::Certificate => "certificate",
            Self::Session => "session",
            Self::Vouched => "vouched",
        }
    }
}

/// Somebody, as far as it was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// How.
    pub proof: Proof,
    /// The subject of a token, the name of a key or a certificate; empty without proof.
    pub name: Box<str>,
    /// The only client id that it may use, when ids are bound to identities.
    pub client_id: Option<Box<str>>,
    /// What rules may refer to besides its client id.
    pub roles: Box<[Box<str>]>,
    /// When the proof ends, the grace included: nanoseconds since 1970. `None`: never.
    pub expires_at_ns: Option<i64>,
}

impl Identity {
    /// Somebody of whom nothing is known.
    #[must_use]
    pub fn anonymous() -> Self {
        Self {
            proof: Proof::None,
            name: Box::default(),
            client_id: None,
            roles: Box::default(),
            expires_at_ns: None,
        }
    }

    /// Whether the proof has ended.
    #[must_use]
    pub fn is_expired(&self, now_ns: i64) -> bool {
        self.expires_at_ns.is_some_and(|at| at <= now_ns)
    }
}

/// The names in a certificate that a peer has proved to be its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateNames {
    /// The whole subject, as RFC 4514 writes it.
    pub subject: Box<str>,
    /// The last common name of the subject; empty without one.
    pub common_name: Box<str>,
    /// Host names.
    pub dns: Vec<Box<str>>,
    /// Identifiers, such as those of SPIFFE.
    pub uris: Vec<Box<str>>,
    /// Mail addresses.
    pub emails: Vec<Box<str>>,
    /// When the certificate ends: nanoseconds since 1970.
    pub expires_at_ns: i64,
}
