//! What goes wrong: with the settings at the start, with a peer later.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rustls::pki_types::pem;
use rustls::{AlertDescription, CertificateError, InvalidMessage};

/// Why TLS cannot be used as it is set.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// A file cannot be read, or is no PEM.
    #[error("cannot read {what} from {}: {reason}", path.display())]
    File {
        /// What is looked for in it.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: pem::Error,
    },
    /// A file holds no certificate.
    #[error("no certificate in {}: expected PEM", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// A certificate of an authority is malformed.
    #[error("unusable CA certificate in {}: {reason}", path.display())]
    BadAuthority {
        /// The file.
        path: PathBuf,
        /// What rustls says.
        reason: rustls::Error,
    },
    /// A certificate and its key do not go together, or are malformed.
    #[error(
        "certificate of {} and key of {} cannot be used together: {reason}",
        certificate.display(),
        key.display()
    )]
    BadIdentity {
        /// The file with the certificates.
        certificate: PathBuf,
        /// The file with the key.
        key: PathBuf,
        /// What rustls says.
        reason: rustls::Error,
    },
    /// A file holds no list of revoked certificates.
    #[error("no list of revoked certificates in {}: expected PEM (X509 CRL)", path.display())]
    NoRevocations {
        /// The file.
        path: PathBuf,
    },
    /// A list of revoked certificates is malformed.
    #[error("unusable list of revoked certificates in {}: {reason}", path.display())]
    BadRevocations {
        /// The file.
        path: PathBuf,
        /// What rustls says.
        reason: String,
    },
    /// There is no randomness for the keys of tickets.
    #[error("no keys for the resumption of TLS sessions: {reason}")]
    NoTickets {
        /// What rustls says.
        reason: rustls::Error,
    },
    /// A key without its certificate.
    #[error("key {} is given without its certificate", path.display())]
    KeyWithoutCertificate {
        /// The file with the key.
        path: PathBuf,
    },
    /// The machine has no list of authorities.
    #[error("this machine has no list of certificate authorities: name a CA file")]
    NoRoots,
    /// The server's name is none.
    #[error("server name {name:?} is neither a host name nor an address")]
    ServerName {
        /// As it was given.
        name: String,
    },
}

/// Why there is no TLS connection with a peer, or no longer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The certificate's time is over.
    #[error("certificate of {peer} expired {} ago", span(*since))]
    Expired {
        /// Whose.
        peer: String,
        /// For how long.
        since: Duration,
    },
    /// The certificate's time has not come, or a clock is wrong.
    #[error("certificate of {peer} becomes valid in {}: is a clock wrong?", span(*until))]
    NotYetValid {
        /// Whose.
        peer: String,
        /// In how long.
        until: Duration,
    },
    /// The certificate is for somebody else.
    #[error("certificate is not for {peer}, it is for {}", names(presented))]
    WrongName {
        /// Who was asked for.
        peer: String,
        /// The names that the certificate has.
        presented: Vec<String>,
    },
    /// No authority that is believed has issued the certificate.
    #[error("certificate of {peer} is from an unknown CA: name the file of the CA that issued it")]
    UnknownAuthority {
        /// Whose.
        peer: String,
    },
    /// The certificate of an authority is used by a peer itself.
    #[error("certificate of {peer} is that of a CA itself: issue one for {peer} with it")]
    AuthorityAsPeer {
        /// Whose.
        peer: String,
    },
    /// The authority that issued the certificate has taken it back.
    #[error("certificate of {peer} is revoked")]
    Revoked {
        /// Whose.
        peer: String,
    },
    /// No list says whether the certificate is revoked.
    #[error(
        "no list of revoked certificates tells of the certificate of {peer}, or of one between it \
         and its authority: each authority in the chain needs its list"
    )]
    UnknownRevocation {
        /// Whose.
        peer: String,
    },
    /// The list that says whether the certificate is revoked is out of date.
    #[error(
        "the list of revoked certificates that tells of the certificate of {peer} is out of date: \
         fetch a new one from the authority"
    )]
    StaleRevocations {
        /// Whose.
        peer: String,
    },
    /// The certificate is for something else, as for a server when a client shows it.
    #[error("certificate of {peer} is not made for this use: its extended key usage excludes it")]
    WrongPurpose {
        /// Whose.
        peer: String,
    },
    /// Another fault of the certificate.
    #[error("certificate of {peer} is not accepted: {reason}")]
    BadCertificate {
        /// Whose.
        peer: String,
        /// What rustls says.
        reason: CertificateError,
    },
    /// No certificate came although one is required.
    #[error("{peer} shows no certificate, and one is required")]
    NoCertificate {
        /// Who.
        peer: String,
    },
    /// The peer requires a certificate of us.
    #[error("{peer} requires a certificate of us")]
    CertificateRequired {
        /// Who.
        peer: String,
    },
    /// The two sides agreed on no HTTP/2.
    #[error("{peer} speaks TLS but does not agree on HTTP/2 (ALPN h2)")]
    NoHttp2 {
        /// Who.
        peer: String,
    },
    /// The peer does not speak TLS.
    #[error("{peer} does not speak TLS on this port")]
    NotTls {
        /// Who.
        peer: String,
    },
    /// The peer refuses, by an alert.
    #[error("{peer} refuses the TLS connection: {alert:?}")]
    Refused {
        /// Who.
        peer: String,
        /// The reason that it gives.
        alert: AlertDescription,
    },
    /// The peer ends the connection in the middle of the handshake.
    #[error("{peer} closed the connection during the TLS handshake: does it speak TLS here?")]
    Closed {
        /// Who.
        peer: String,
    },
    /// The server ends the connection before it has said anything. Some do that, without an alert,
    /// when they do not like the client's certificate.
    #[error(
        "{peer} closed the connection right after the TLS handshake: does it require a certificate \
         of us, or another one?"
    )]
    ClosedUnheard {
        /// Who.
        peer: String,
    },
    /// Too many handshakes were under way, and this peer had been slow.
    #[error("{peer} was slow in its TLS handshake while others waited for a place")]
    PutOut {
        /// Who.
        peer: String,
    },
    /// A handshake failed in our own code.
    #[error("the TLS handshake with {peer} was abandoned")]
    Abandoned {
        /// Who.
        peer: String,
    },
    /// The handshake takes too long.
    #[error("no TLS handshake with {peer} within {after:?}")]
    Timeout {
        /// Who.
        peer: String,
        /// The limit.
        after: Duration,
    },
    /// Another fault of the protocol.
    #[error("TLS with {peer}: {reason}")]
    Protocol {
        /// Who.
        peer: String,
        /// What rustls says.
        reason: rustls::Error,
    },
    /// The socket fails.
    #[error("TLS with {peer}: {reason}")]
    Io {
        /// Who.
        peer: String,
        /// What the socket answers.
        #[source]
        reason: io::Error,
    },
}

impl Error {
    pub(crate) fn from_rustls(error: rustls::Error, peer: &str) -> Self {
        let peer = peer.to_owned();
        match error {
            rustls::Error::InvalidCertificate(reason) => Self::from_certificate(reason, peer),
            rustls::Error::NoCertificatesPresented => Self::NoCertificate { peer },
            rustls::Error::NoApplicationProtocol
            | rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol) => {
                Self::NoHttp2 { peer }
            }
            rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
                Self::CertificateRequired { peer }
            }
            rustls::Error::AlertReceived(alert) => Self::Refused { peer, alert },
            rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
                Self::NotTls { peer }
            }
            reason => Self::Protocol { peer, reason },
        }
    }

    fn from_certificate(reason: CertificateError, peer: String) -> Self {
        match reason {
            CertificateError::ExpiredContext { time, not_after } => {
                let seconds = time.as_secs().saturating_sub(not_after.as_secs());
                let since = Duration::from_secs(seconds);
                Self::Expired { peer, since }
            }
            CertificateError::NotValidYetContext { time, not_before } => {
                let seconds = not_before.as_secs().saturating_sub(time.as_secs());
                let until = Duration::from_secs(seconds);
                Self::NotYetValid { peer, until }
            }
            CertificateError::NotValidForNameContext { presented, .. } => {
                Self::WrongName { peer, presented }
            }
            CertificateError::UnknownIssuer => Self::UnknownAuthority { peer },
            CertificateError::Revoked => Self::Revoked { peer },
            CertificateError::UnknownRevocationStatus => Self::UnknownRevocation { peer },
            CertificateError::ExpiredRevocationList
            | CertificateError::ExpiredRevocationListContext { .. } => {
                Self::StaleRevocations { peer }
            }
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                Self::WrongPurpose { peer }
            }
            // rustls has no variant for it, and it is what everybody meets who makes a
            // certificate in one command.
            CertificateError::Other(other) if other.0.to_string() == CA_AS_PEER => {
                Self::AuthorityAsPeer { peer }
            }
            reason => Self::BadCertificate { peer, reason },
        }
    }

    /// Whether the peer was turned away for who it is: for its certificate, or for none.
    #[must_use]
    pub const fn is_of_certificate(&self) -> bool {
        matches!(
            self,
            Self::Expired { .. }
                | Self::NotYetValid { .. }
                | Self::WrongName { .. }
                | Self::UnknownAuthority { .. }
                | Self::AuthorityAsPeer { .. }
                | Self::Revoked { .. }
                | Self::UnknownRevocation { .. }
                | Self::StaleRevocations { .. }
                | Self::WrongPurpose { .. }
                | Self::BadCertificate { .. }
                | Self::NoCertificate { .. }
        )
    }

    /// The kind that an I/O error made of this has.
    pub(crate) fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Timeout { .. } | Self::PutOut { .. } => io::ErrorKind::TimedOut,
            Self::Closed { .. } | Self::ClosedUnheard { .. } => io::ErrorKind::UnexpectedEof,
            Self::Io { reason, .. } => reason.kind(),
            Self::Refused { .. } | Self::CertificateRequired { .. } => {
                io::ErrorKind::PermissionDenied
            }
            _ => io::ErrorKind::InvalidData,
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(error.kind(), error)
    }
}

const CA_AS_PEER: &str = "CaUsedAsEndEntity";

/// A time that people read: days, or what is less than one.
fn span(duration: Duration) -> String {
    const DAY_SECONDS: u64 = 86_400;
    match duration.as_secs() {
        seconds if seconds >= 2 * DAY_SECONDS => format!("{} days", seconds / DAY_SECONDS),
        seconds if seconds >= 7_200 => format!("{} hours", seconds / 3_600),
        seconds => format!("{seconds} s"),
    }
}

fn names(presented: &[String]) -> String {
    if presented.is_empty() {
        return "no name at all (it has no subject alternative name)".to_owned();
    }
    // They come as `DnsName("localhost")` and `IpAddress(127.0.0.1)`.
    let bare = presented.iter().map(|name| {
        let inner = name
            .split_once('(')
            .and_then(|(_, rest)| rest.strip_suffix(')'));
        inner.unwrap_or(name).trim_matches('"')
    });
    bare.collect::<Vec<_>>().join(", ")
}
