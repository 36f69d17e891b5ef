//! Who may connect, who is it, what may they do, and how much of it.

use std::path::PathBuf;
use std::time::Duration;

use super::{BOOL, GIB};
use crate::config::fold::Fold;
use crate::config::key::{
    Allowed, CertificateField, ClientCertificates, ClientIdBinding, Key, ListOf, SignatureType,
    TlsVersion, TokenSource, Unit,
};
use crate::config::protection::PolicyData;
use crate::config::secret::Secret;
use crate::config::security::PemText;

settings! {
    /// TLS: with a certificate and its key the ports of clients speak nothing else.
    pub Security {
        /// PEM file of the certificate of the broker, with those between it and its authority. With
        /// it the gRPC and the REST port speak TLS only.
        cert_filename: Option<PathBuf> = "" {
            key: "security.cert.filename",
            env: ["SECURITY_CERT_FILENAME"],
            allowed: Allowed::OptionalPath,
            live: true,
        }
        /// The same certificates as PEM, or as PEM in base64; counts more than the file.
        cert_data: PemText = "" {
            key: "security.cert.data",
            env: ["SECURITY_CERT_DATA"],
            allowed: Allowed::Pem,
            live: true,
        }
        /// PEM file of the key of that certificate.
        key_filename: Option<PathBuf> = "" {
            key: "security.key.filename",
            env: ["SECURITY_KEY_FILENAME"],
            allowed: Allowed::OptionalPath,
            live: true,
        }
        /// The same key as PEM, or as PEM in base64; counts more than the file.
        key_data: PemText = "" {
            key: "security.key.data",
            env: ["SECURITY_KEY_DATA"],
            allowed: Allowed::Pem,
            live: true,
            secret: true,
        }
        /// PEM file of the authorities of clients. With it every client has to show a certificate
        /// that one of them has issued.
        ca_filename: Option<PathBuf> = "" {
            key: "security.ca.filename",
            env: ["SECURITY_CA_FILENAME"],
            allowed: Allowed::OptionalPath,
            live: true,
        }
        /// The same authorities as PEM, or as PEM in base64; counts more than the file.
        ca_data: PemText = "" {
            key: "security.ca.data",
            env: ["SECURITY_CA_DATA"],
            allowed: Allowed::Pem,
            live: true,
        }
        /// PEM file of the revocation lists of these authorities. A client whose certificate is on
        /// one of them is turned away.
        crl_filename: Option<PathBuf> = "" {
            key: "security.crl.filename",
            env: ["SECURITY_CRL_FILENAME"],
            allowed: Allowed::OptionalPath,
            live: true,
        }
        /// The same lists as PEM, or as PEM in base64; counts more than the file.
        crl_data: PemText = "" {
            key: "security.crl.data",
            env: ["SECURITY_CRL_DATA"],
            allowed: Allowed::Pem,
            live: true,
        }
        /// Whether a client must show a certificate, when there are authorities of clients:
        /// `requested` lets those in too that show none; a certificate that is shown is verified.
        client_certificates: ClientCertificates = "required" {
            key: "security.client_certificates",
            env: ["SECURITY_CLIENT_CERTIFICATES"],
            allowed: Allowed::OneOf(ClientCertificates::WORDS),
            live: true,
        }
        /// The oldest version of TLS that is spoken.
        min_version: TlsVersion = "1.2" {
            key: "security.min_version",
            env: ["SECURITY_MIN_VERSION"],
            allowed: Allowed::OneOf(TlsVersion::WORDS),
            live: true,
        }
        /// How often it is looked whether the files of certificates, keys and revocation lists have
        /// changed. New ones that are bad are refused, and those before stay. 0: only at a reload.
        reload_seconds: u64 = "60" {
            key: "security.reload_seconds",
            env: ["SECURITY_RELOAD_SECONDS"],
            allowed: Allowed::Range(0, 86_400),
            unit: Unit::Seconds,
            live: true,
        }
        /// Handshakes that may be under way at a time, over all ports. Further connections wait
        /// with theirs, within the time that `grpc.handshake_timeout_seconds` gives them.
        handshakes_max: usize = "256" {
            key: "security.handshakes_max",
            env: ["SECURITY_HANDSHAKES_MAX"],
            allowed: Allowed::Range(1, 1_000_000),
            unit: Unit::Count("handshakes"),
        }
    }

    /// Who is it.
    pub Authentication {
        /// Whether clients have to say who they are, on every port.
        enable: bool = "false" {
            key: "authentication.enable",
            env: ["AUTHENTICATION_ENABLE"],
            allowed: BOOL,
            live: true,
        }
        /// Which of the sources below counts: `jwt` is `authentication.jwt_config`, `local` and
        /// `oidc` are forms of `authentication.config`, `jwks` and `api_keys` are the settings of
        /// these names. Empty: all that are set.
        source: Option<TokenSource> = "" {
            key: "authentication.type",
            env: ["AUTHENTICATION_TYPE"],
            allowed: Allowed::OptionalOneOf(TokenSource::WORDS),
            live: true,
        }
        /// The reference's other form, as JSON or YAML: `method` and `key` for `local`; `issuer`
        /// and `clientID` for `oidc`.
        config: Secret = "" {
            key: "authentication.config",
            env: ["AUTHENTICATION_CONFIG"],
            allowed: Allowed::Text,
            live: true,
            secret: true,
        }
        /// The key that tokens are verified with: the secret itself for HS256, HS384 and HS512,
        /// else the public key as PEM. Counts more than the file.
        jwt_key: Secret = "" {
            key: "authentication.jwt_config.key",
            env: ["AUTHENTICATION_JWT_CONFIG_KEY"],
            allowed: Allowed::Text,
            live: true,
            secret: true,
        }
        /// File with that key. Empty: none.
        jwt_file_path: Option<PathBuf> = "" {
            key: "authentication.jwt_config.file_path",
            env: ["AUTHENTICATION_JWT_CONFIG_FILE_PATH"],
            allowed: Allowed::OptionalPath,
            live: true,
        }
        /// How tokens of that key are signed. A token that says otherwise is refused.
        jwt_signature_type: Option<SignatureType> = "" {
            key: "authentication.jwt_config.signature_type",
            env: ["AUTHENTICATION_JWT_CONFIG_SIGNATURE_TYPE"],
            allowed: Allowed::OptionalOneOf(SignatureType::WORDS),
            live: true,
        }
        /// File with the public keys of tokens as a JSON Web Key Set. Empty: none.
        jwks_file: Option<PathBuf> = "" {
            key: "authentication.jwks_file",
            env: ["AUTHENTICATION_JWKS_FILE"],
            allowed: Allowed::OptionalPath,
            live: true,
        }
        /// Address of such a set, fetched at the start, again and again, and when a token names a
        /// key that is not in it. Empty: none.
        jwks_url: Option<String> = "" {
            key: "authentication.jwks_url",
            env: ["AUTHENTICATION_JWKS_URL"],
            allowed: Allowed::OptionalUrl,
            live: true,
        }
        /// Address of an OpenID provider, which says by discovery where its keys are. Its tokens
        /// must name it as their issuer. Empty: none.
        oidc_issuer: Option<String> = "" {
            key: "authentication.oidc_issuer",
            env: ["AUTHENTICATION_OIDC_ISSUER"],
            allowed: Allowed::OptionalUrl,
            live: true,
        }
        /// Issuer that every token must name. Empty: any, but for those of `oidc_issuer`.
        issuer: Option<String> = "" {
            key: "authentication.issuer",
            env: ["AUTHENTICATION_ISSUER"],
            allowed: Allowed::OptionalWord,
            live: true,
        }
        /// Audiences of which every token must name one. Empty: any.
        audience: Vec<String> = "" {
            key: "authentication.audience",
            env: ["AUTHENTICATION_AUDIENCE"],
            allowed: Allowed::List(ListOf::Words, 0),
            live: true,
        }
        /// By how much the clock of who signs tokens may differ from ours.
        leeway: Duration = "0" {
            key: "authentication.leeway_seconds",
            env: ["AUTHENTICATION_LEEWAY_SECONDS"],
            allowed: Allowed::Range(0, 3_600),
            unit: Unit::Seconds,
            live: true,
        }
        /// Whether a token without an end is refused. Else it counts for ever, which is warned of.
        require_exp: bool = "false" {
            key: "authentication.require_exp",
            env: ["AUTHENTICATION_REQUIRE_EXP"],
            allowed: BOOL,
            live: true,
        }
        /// How long a stream goes on after the end of the token that opened it.
        expiry_grace: Duration = "0" {
            key: "authentication.expiry_grace_seconds",
            env: ["AUTHENTICATION_EXPIRY_GRACE_SECONDS"],
            allowed: Allowed::Range(0, 86_400),
            unit: Unit::Seconds,
            live: true,
        }
        /// How often keys are fetched again from their address, and files of keys looked at.
        refresh: Duration = "300" {
            key: "authentication.refresh_seconds",
            env: ["AUTHENTICATION_REFRESH_SECONDS"],
            allowed: Allowed::Range(1, 86_400),
            unit: Unit::Seconds,
            live: true,
        }
        /// The claim of a token with the roles of its owner: a list, or words separated by blanks.
        roles_claim: String = "roles" {
            key: "authentication.roles_claim",
            env: ["AUTHENTICATION_ROLES_CLAIM"],
            allowed: Allowed::Word,
            live: true,
        }
        /// The claim of a token with the client id of its owner.
        client_id_claim: String = "sub" {
            key: "authentication.client_id_claim",
            env: ["AUTHENTICATION_CLIENT_ID_CLAIM"],
            allowed: Allowed::Word,
            live: true,
        }
        /// The field of a client's certificate that is its client id.
        certificate_field: CertificateField = "common_name" {
            key: "authentication.certificate_field",
            env: ["AUTHENTICATION_CERTIFICATE_FIELD"],
            allowed: Allowed::OneOf(CertificateField::WORDS),
            live: true,
        }
        /// How the client ids of messages are tied to who sends them: `off` not at all; `checked`
        /// refuses another one than the sender's, and fills in a missing one; `forced` replaces it.
        client_id_binding: ClientIdBinding = "off" {
            key: "authentication.client_id_binding",
            env: ["AUTHENTICATION_CLIENT_ID_BINDING"],
            allowed: Allowed::OneOf(ClientIdBinding::WORDS),
            live: true,
        }
        /// File with the hashes of API keys, one a line; `ringmq auth key create` makes them.
        /// Empty: none.
        api_keys_file: Option<PathBuf> = "" {
            key: "authentication.api_keys_file",
            env: ["AUTHENTICATION_API_KEYS_FILE"],
            allowed: Allowed::OptionalPath,
            live: true,
        }
        /// Whether a verified certificate of the client says who it is, without a token.
        accept_certificates: bool = "false" {
            key: "authentication.accept_certificates",
            env: ["AUTHENTICATION_ACCEPT_CERTIFICATES"],
            allowed: BOOL,
            live: true,
        }
    }

    /// What may they do.
    pub Authorization {
        /// Whether a client may do only what the policy allows.
        enable: bool = "false" {
            key: "authorization.enable",
            env: ["AUTHORIZATION_ENABLE"],
            allowed: BOOL,
            live: true,
        }
        /// The policy itself: a JSON array of rules. Counts more than the file and the address.
        policy_data: PolicyData = "" {
            key: "authorization.policy_data",
            env: ["AUTHORIZATION_POLICY_DATA"],
            allowed: Allowed::JsonArray,
            live: true,
        }
        /// File with the policy; counts more than the address. Empty: none.
        file_path: Option<PathBuf> = "" {
            key: "authorization.file_path",
            env: ["AUTHORIZATION_FILE_PATH"],
            allowed: Allowed::OptionalPath,
            live: true,
        }
        /// Address to fetch the policy from. Empty: none.
        url: Option<String> = "" {
            key: "authorization.url",
            env: ["AUTHORIZATION_URL"],
            allowed: Allowed::OptionalUrl,
            live: true,
        }
        /// How often it is looked whether the file, or what the address gives, has changed. A new
        /// policy that is bad is refused, and the one before stays. 0: never.
        auto_reload: Option<Duration> = "0" {
            key: "authorization.auto_reload",
            env: ["AUTHORIZATION_AUTO_RELOAD"],
            allowed: Allowed::Range(0, 86_400),
            unit: Unit::Seconds,
            live: true,
        }
        /// Whether an expression of a rule that matches a part of a name is enough, as with the
        /// reference: `alice` then allows `malice` too. For old policies only.
        unanchored: bool = "false" {
            key: "authorization.unanchored",
            env: ["AUTHORIZATION_UNANCHORED"],
            allowed: BOOL,
            live: true,
        }
    }

    /// How much of it. What is recognised has its own share, whoever is not that of its address.
    pub Limits {
        /// Connections that one address may have open, over all ports. Further ones are closed at
        /// once. 0: any number.
        connections_per_address: usize = "0" {
            key: "limits.connections_per_address",
            env: ["LIMITS_CONNECTIONS_PER_ADDRESS"],
            allowed: Allowed::Range(0, 10_000_000),
            unit: Unit::Count("connections per address"),
            live: true,
        }
        /// New connections of one address that are taken within a second. Further ones are closed
        /// at once. 0: any number.
        handshakes_per_address: u32 = "0" {
            key: "limits.handshakes_per_address",
            env: ["LIMITS_HANDSHAKES_PER_ADDRESS"],
            allowed: Allowed::Range(0, 1_000_000),
            unit: Unit::Count("connections per second"),
            live: true,
        }
        /// Requests and messages that one client may send within a second. A further request is
        /// refused, and says when to try again; a stream is read more slowly. 0: any number.
        requests_per_second: u32 = "0" {
            key: "limits.requests_per_second",
            env: ["LIMITS_REQUESTS_PER_SECOND"],
            allowed: Allowed::Range(0, 100_000_000),
            unit: Unit::Count("requests per second"),
            live: true,
        }
        /// Requests that a client may send at once after a pause. 0: those of one second.
        requests_burst: u32 = "0" {
            key: "limits.requests_burst",
            env: ["LIMITS_REQUESTS_BURST"],
            allowed: Allowed::Range(0, 100_000_000),
            unit: Unit::Count("requests"),
            live: true,
        }
        /// Bytes of messages that one client may send within a second. 0: any number.
        bytes_per_second: u64 = "0" {
            key: "limits.bytes_per_second",
            env: ["LIMITS_BYTES_PER_SECOND"],
            allowed: Allowed::Range(0, 1024 * GIB),
            unit: Unit::Bytes,
            live: true,
        }
        /// Bytes that a client may send at once after a pause. 0: those of one second.
        bytes_burst: u64 = "0" {
            key: "limits.bytes_burst",
            env: ["LIMITS_BYTES_BURST"],
            allowed: Allowed::Range(0, 1024 * GIB),
            unit: Unit::Bytes,
            live: true,
        }
        /// Subscriptions that one client id may have open. A further one is refused. 0: any number.
        subscriptions_per_client: usize = "0" {
            key: "limits.subscriptions_per_client",
            env: ["LIMITS_SUBSCRIPTIONS_PER_CLIENT"],
            allowed: Allowed::Range(0, 10_000_000),
            unit: Unit::Count("subscriptions per client"),
            live: true,
        }
        /// Memory that what waits on one connection may take, both ways together. 0: as much as
        /// the windows and buffers of its calls.
        connection_memory_bytes: usize = "0" {
            key: "limits.connection_memory_bytes",
            env: ["LIMITS_CONNECTION_MEMORY_BYTES"],
            allowed: Allowed::Range(0, 1024 * GIB),
            unit: Unit::Bytes,
            live: true,
        }
        /// How long accepted work may stand in line on a core, always and not only at times, until
        /// further requests are refused. 0: none is refused for that.
        overload_target: Option<Duration> = "50" {
            key: "limits.overload_target_ms",
            env: ["LIMITS_OVERLOAD_TARGET_MS"],
            allowed: Allowed::Range(0, 60_000),
            unit: Unit::Milliseconds,
            live: true,
        }
    }
}
