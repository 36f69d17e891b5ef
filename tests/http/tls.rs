//! The ports behind TLS: what is agreed on, who is let in, and what a socket may do there.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tempfile::TempDir;

use super::broker::{HttpBroker, PATIENCE};

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// An authority, a certificate of it for the loopback, and one for a client.
struct Identities {
    folder: TempDir,
}

impl Identities {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let issuer = CertifiedIssuer::self_signed(params, key).unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        for (name, host) in [("server", "127.0.0.1"), ("client", "a client")] {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
            let certificate = params.signed_by(&key, &issuer).unwrap();
            let path = |what: &str| folder.path().join(format!("{name}{what}.pem"));
            std::fs::write(path(""), certificate.pem()).unwrap();
            std::fs::write(path("-key"), key.serialize_pem()).unwrap();
        }
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.pem"))
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    fn connect(
        &self,
        address: SocketAddr,
        protocols: &[&str],
        certificate: bool,
    ) -> std::io::Result<Stream> {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_file(self.path("ca")).unwrap();
        roots.add(ca).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = if certificate {
            let chain = CertificateDer::from_pem_file(self.path("client")).unwrap();
            let key = PrivateKeyDer::from_pem_file(self.path("client-key")).unwrap();
            builder.with_client_auth_cert(vec![chain], key).unwrap()
        } else {
            builder.with_no_client_auth()
        };
        config.alpn_protocols = protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        let name = ServerName::from(address.ip());
        let session = ClientConnection::new(Arc::new(config), name).unwrap();
        let socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(StreamOwned::new(session, socket))
    }
}

/// One request of HTTP/1.1 whose answer ends with the connection.
fn get(stream: &mut Stream, path: &str) -> std::io::Result<String> {
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8(answer).unwrap())
}

#[test]
fn rest_speaks_what_was_agreed_on_and_the_management_port_stays_as_it_was() {
    let identities = Identities::new();
    let broker = HttpBroker::start_with(
        1,
        [
            "--set".to_owned(),
            format!(
                "security.cert.filename={}",
                identities.path("server").display()
            ),
            "--set".to_owned(),
            format!(
                "security.key.filename={}",
                identities.path("server-key").display()
            ),
        ],
    );
    for (protocols, agreed) in [
        (&["h2", "http/1.1"][..], Some(&b"h2"[..])),
        (&["http/1.1"], Some(b"http/1.1")),
        (&[], None),
    ] {
        let mut stream = identities.connect(broker.rest(), protocols, false).unwrap();
        if agreed == Some(b"h2") {
            // The opening and no settings; the broker's own settings come first.
            stream
                .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
                .unwrap();
            let mut head = [0; 9];
            stream.read_exact(&mut head).unwrap();
            assert_eq!(head[3], 4, "a SETTINGS frame");
        } else {
            let answer = get(&mut stream, "/").unwrap();
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            assert!(answer.ends_with("hi"), "{answer}");
        }
        assert_eq!(stream.conn.alpn_protocol(), agreed);
    }
    assert_eq!(broker.api_get("/health").text, "healthy");
    // Without TLS there is no answer of HTTP.
    let mut plain = TcpStream::connect(broker.rest()).unwrap();
    plain.set_read_timeout(Some(PATIENCE)).unwrap();
    plain
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    let mut answer = Vec::new();
    let _reset_or_end = plain.read_to_end(&mut answer);
    assert!(!String::from_utf8_lossy(&answer).contains("200"));
}

#[test]
fn a_socket_works_behind_tls() {
    let identities = Identities::new();
    let broker = HttpBroker::start_with(
        1,
        [
            "--set".to_owned(),
            format!("security.cert.data={}", identities.text("server")),
            "--set".to_owned(),
            format!("security.key.data={}", identities.text("server-key")),
        ],
    );
    let stream = identities
        .connect(broker.rest(), &["http/1.1"], false)
        .unwrap();
    let url = format!("ws://{}/send/stream", broker.rest());
    let (mut socket, _) = tungstenite::client(url, stream).unwrap();
    let event = r#"{"EventID":"1","ClientID":"c","Channel":"tls","Metadata":"m"}"#;
    socket.send(tungstenite::Message::text(event)).unwrap();
    let result = socket.read().unwrap();
    assert_eq!(result.to_text().unwrap(), r#"{"EventID":"1","Sent":true}"#);
    socket.close(None).unwrap();
}

#[test]
fn a_client_without_a_certificate_is_turned_away_where_one_is_required() {
    let identities = Identities::new();
    let setting = |name: &str, file: &str| {
        [
            "--set".to_owned(),
            format!(
                "security.{name}.filename={}",
                identities.path(file).display()
            ),
        ]
    };
    let arguments = [
        setting("cert", "server"),
        setting("key", "server-key"),
        setting("ca", "ca"),
    ];
    let broker = HttpBroker::start_with(1, arguments.concat());
    let mut known = identities
        .connect(broker.rest(), &["http/1.1"], true)
        .unwrap();
    assert!(get(&mut known, "/").unwrap().ends_with("hi"));
    let mut unknown = identities
        .connect(broker.rest(), &["http/1.1"], false)
        .unwrap();
    let refused = get(&mut unknown, "/").unwrap_err().to_string();
    assert!(refused.to_lowercase().contains("certificate"), "{refused}");
}
