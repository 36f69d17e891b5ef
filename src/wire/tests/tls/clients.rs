//! Clients of a server: which are let in, whom they are, and for how long.

mod standing;

use rcgen::{
    ExtendedKeyUsagePurpose, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519,
    SanType, SerialNumber,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned,
    SupportedProtocolVersion,
};

use super::authority::{Authority, Files};
use super::*;
use crate::model::identity::CertificateNames;
use crate::wire::tls::{ClientCertificates, OldestVersion};

type Names = Option<Rc<CertificateNames>>;

/// Answers with what came, and notes by whom.
#[derive(Default)]
struct Named {
    calls: RefCell<Vec<Names>>,
}

impl Service for Named {
    fn call(&self, call: Call) {
        self.calls.borrow_mut().push(call.certificate().cloned());
        let (reader, responder) = call.into_parts();
        spawn(unary(reader, responder));
    }
}

/// A client's socket to a server that has taken it, and what the server knows of it.
struct Taken {
    socket: TcpStream,
    service: Rc<Named>,
    ended: EndedSlot,
}

fn connect(tls: &Arc<ServerTls>) -> Taken {
    connect_with(tls, Settings::default())
}

fn connect_with(tls: &Arc<ServerTls>, settings: Settings) -> Taken {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (accepted, peer) = listener.accept().unwrap();
    let service = Rc::new(Named::default());
    let ended = EndedSlot::default();
    let conn = Conn::from_std(accepted).unwrap();
    let control = ConnectionControl::new();
    let (slot, named, tls) = (ended.clone(), service.clone(), tls.clone());
    spawn(async move {
        let settings = Rc::new(settings);
        let end = serve_tls(conn, tls, peer, named, settings, control).await;
        *slot.borrow_mut() = Some(end);
    });
    Taken {
        socket,
        service,
        ended,
    }
}

impl Taken {
    /// The names that the server has seen of a client that calls once.
    async fn names(self, client: &ClientTlsSettings) -> Names {
        let address = self.socket.peer_addr().unwrap();
        let conn = Conn::from_std(self.socket).unwrap();
        let client = Client::over(conn, address, client_settings(client))
            .await
            .unwrap();
        echoes(&client, noise(10)).await;
        self.service.calls.borrow_mut().pop().unwrap()
    }

    /// What becomes of a client of another make.
    async fn visited(&self, config: &Arc<ClientConfig>) -> Result<HandshakeKind, String> {
        let socket = self.socket.try_clone().unwrap();
        let config = config.clone();
        let visiting = rt::blocking(move || visit(socket, config));
        visiting.await.expect("it does not panic")
    }

    async fn refused(&self) -> String {
        eventually("the server ends it", || self.ended.borrow().is_some()).await;
        self.ended.borrow().as_ref().unwrap().to_string()
    }
}

/// Opens HTTP/2 and waits for the server's settings, which come behind all of its handshake.
fn visit(socket: TcpStream, config: Arc<ClientConfig>) -> Result<HandshakeKind, String> {
    socket
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let name = ServerName::try_from("broker.test").unwrap();
    let session = ClientConnection::new(config, name).unwrap();
    let mut stream = StreamOwned::new(session, socket);
    let text = |error: std::io::Error| error.to_string();
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .map_err(text)?;
    let mut head = [0; 9];
    stream.read_exact(&mut head).map_err(text)?;
    assert_eq!(head[3], 4, "a SETTINGS frame");
    Ok(stream.conn.handshake_kind().unwrap())
}

/// A client of another make, which shows what is in `files`.
fn bare_client(
    ca: &Authority,
    versions: &[&'static SupportedProtocolVersion],
    files: Option<&Files>,
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(ca.file()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match files {
        None => builder.with_no_client_auth(),
        Some(files) => {
            let chain = CertificateDer::from_pem_file(files.certificate()).unwrap();
            let key = PrivateKeyDer::from_pem_file(files.key()).unwrap();
            builder.with_client_auth_cert(vec![chain], key).unwrap()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

fn shows(ca: &Authority, files: &Files) -> ClientTlsSettings {
    ClientTlsSettings {
        certificate: Some(files.certificate()),
        key: Some(files.key()),
        ..believing(ca, "broker.test")
    }
}

fn asking(ca: &Authority) -> ServerTlsSettings {
    ServerTlsSettings {
        client_ca: Some(ca.file().into()),
        ..server_settings(&ca.issue("broker.test"))
    }
}

fn numbered(ca: &Authority, number: u8) -> Files {
    ca.issue_as("client.test", |params| {
        params.serial_number = Some(SerialNumber::from_slice(&[number]));
    })
}

fn list(ca: &Authority, numbers: &[u8], until: i32) -> Option<Pem> {
    Some(Pem::Text {
        name: "the test's list",
        text: ca.revokes(numbers, until),
    })
}

#[test]
fn names_of_a_certificate_come_with_each_call() {
    on_executor(|| async {
        let ca = Authority::new();
        let server = load(&asking(&ca));
        let files = ca.issue_as("alice.test", |params| {
            let uri = SanType::URI("spiffe://test/alice".try_into().unwrap());
            params.subject_alt_names.push(uri);
        });
        let names = connect(&server).names(&shows(&ca, &files)).await.unwrap();
        assert_eq!(names.dns, ["alice.test".into()]);
        assert_eq!(names.uris, ["spiffe://test/alice".into()]);
        assert_eq!(&*names.common_name, "rcgen self signed cert");
    });
}

#[test]
fn a_certificate_may_be_asked_for_and_not_required() {
    on_executor(|| async {
        let ca = Authority::new();
        let server = load(&ServerTlsSettings {
            client_certificates: ClientCertificates::Requested,
            ..asking(&ca)
        });
        let nobody = believing(&ca, "broker.test");
        assert_eq!(connect(&server).names(&nobody).await, None);
        let files = ca.issue("client.test");
        let somebody = shows(&ca, &files);
        assert!(connect(&server).names(&somebody).await.is_some());

        let stranger = Authority::new().issue("client.test");
        let config = bare_client(&ca, rustls::ALL_VERSIONS, Some(&stranger));
        let taken = connect(&server);
        let told = taken.visited(&config).await.unwrap_err();
        assert!(told.contains("UnknownCA"), "{told}");
        assert!(taken.refused().await.contains("unknown CA"));
    });
}

#[test]
fn a_certificate_for_another_use_is_refused() {
    on_executor(|| async {
        let ca = Authority::new();
        let files = ca.issue_as("client.test", |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        });
        let taken = connect(&load(&asking(&ca)));
        let config = bare_client(&ca, rustls::ALL_VERSIONS, Some(&files));
        let told = taken.visited(&config).await.unwrap_err();
        assert!(told.contains("UnsupportedCertificate"), "{told}");
        assert!(taken.refused().await.contains("extended key usage"));
    });
}

#[test]
fn revoked_certificates_and_those_no_list_tells_of_are_refused() {
    on_executor(|| async {
        let ca = Authority::new();
        let stranger = Authority::new();
        let files = numbered(&ca, 7);
        let config = bare_client(&ca, rustls::ALL_VERSIONS, Some(&files));
        for (revocations, says, told) in [
            (list(&ca, &[8], 2120), None, None),
            (
                list(&ca, &[7, 8], 2120),
                Some("is revoked"),
                Some("CertificateRevoked"),
            ),
            (
                list(&stranger, &[8], 2120),
                Some("each authority in the chain needs its list"),
                Some("UnknownCA"),
            ),
            (
                list(&ca, &[8], 2021),
                Some("is out of date"),
                Some("UnknownCA"),
            ),
        ] {
            let server = load(&ServerTlsSettings {
                revocations,
                ..asking(&ca)
            });
            let taken = connect(&server);
            let visited = taken.visited(&config).await;
            let Some((says, told)) = says.zip(told) else {
                assert_eq!(visited, Ok(HandshakeKind::Full));
                continue;
            };
            let visited = visited.unwrap_err();
            assert!(visited.contains(told), "{visited}");
            let refused = taken.refused().await;
            assert!(refused.contains(says), "{refused}");
        }
    });
}

#[test]
fn lists_that_hold_none_are_refused_at_the_start() {
    let ca = Authority::new();
    let handshakes = Handshakes::start(1, 1).unwrap();
    let load = |revocations: Pem| {
        let settings = ServerTlsSettings {
            revocations: Some(revocations),
            ..asking(&ca)
        };
        ServerTls::load(&settings, &handshakes).unwrap_err()
    };
    let error = load(ca.file().into());
    assert!(matches!(error, SettingsError::NoRevocations { .. }));
    let name = "security.crl.data";
    let text = b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n".to_vec();
    let error = load(Pem::Text { name, text }).to_string();
    assert!(
        error.starts_with("unusable list of revoked certificates in security.crl.data"),
        "{error}"
    );
}

#[test]
fn older_versions_are_refused_where_only_the_newest_is_spoken() {
    on_executor(|| async {
        let ca = Authority::new();
        let settings = server_settings(&ca.issue("broker.test"));
        let old = bare_client(&ca, &[&rustls::version::TLS12], None);
        let taken = connect(&load(&settings));
        assert_eq!(taken.visited(&old).await, Ok(HandshakeKind::Full));
        let newest = load(&ServerTlsSettings {
            oldest_version: OldestVersion::Tls13,
            ..settings
        });
        let taken = connect(&newest);
        let told = taken.visited(&old).await.unwrap_err();
        assert!(told.contains("ProtocolVersion"), "{told}");
        assert!(taken.refused().await.contains("TLS with the client"));
        let new = bare_client(&ca, &[&rustls::version::TLS13], None);
        assert_eq!(
            connect(&newest).visited(&new).await,
            Ok(HandshakeKind::Full)
        );
    });
}

#[test]
fn sessions_are_resumed_by_tickets_until_the_settings_are_read_again() {
    on_executor(|| async {
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let ca = Authority::new();
            let settings = asking(&ca);
            let server = load(&settings);
            let files = ca.issue("client.test");
            let config = bare_client(&ca, &[version], Some(&files));
            let taken = connect(&server);
            assert_eq!(taken.visited(&config).await, Ok(HandshakeKind::Full));
            let taken = connect(&server);
            assert_eq!(taken.visited(&config).await, Ok(HandshakeKind::Resumed));
            let again = load(&settings);
            let taken = connect(&again);
            assert_eq!(taken.visited(&config).await, Ok(HandshakeKind::Full));
        }
    });
}

#[test]
fn keys_of_every_kind_serve_and_are_taken() {
    on_executor(|| async {
        let ca = Authority::new();
        for kind in [
            &PKCS_ECDSA_P256_SHA256,
            &PKCS_ECDSA_P384_SHA384,
            &PKCS_ED25519,
        ] {
            let issue = |name: &str| {
                let key = KeyPair::generate_for(kind).unwrap();
                ca.issue_with_key(name, &key, |_| {})
            };
            let server = load(&ServerTlsSettings {
                client_ca: Some(ca.file().into()),
                ..server_settings(&issue("broker.test"))
            });
            let files = issue("client.test");
            let client = shows(&ca, &files);
            assert!(connect(&server).names(&client).await.is_some());
        }
    });
}

#[test]
fn one_that_stops_half_way_makes_room_for_the_next() {
    on_executor(|| async {
        let ca = Authority::new();
        let settings = server_settings(&ca.issue("broker.test"));
        let handshakes = Handshakes::start(1, 1).unwrap();
        let server = Arc::new(ServerTls::load(&settings, &handshakes).unwrap());
        let mut stuck = Vec::new();
        for _ in 0..3 {
            let mut one = connect(&server);
            // The head of a record, and none of it.
            one.socket.write_all(&[22, 3, 1, 2, 0]).unwrap();
            stuck.push(one);
        }
        let silent = connect(&server);
        let taken = connect(&server);
        let config = bare_client(&ca, rustls::ALL_VERSIONS, None);
        assert_eq!(taken.visited(&config).await, Ok(HandshakeKind::Full));
        for one in stuck {
            let refused = one.refused().await;
            assert!(refused.contains("slow in its TLS handshake"), "{refused}");
        }
        assert!(silent.ended.borrow().is_none(), "it holds no place");
    });
}

#[test]
fn handshakes_may_dribble_and_garbage_is_refused() {
    on_executor(|| async {
        let ca = Authority::new();
        let server = load(&server_settings(&ca.issue("broker.test")));
        let config = bare_client(&ca, rustls::ALL_VERSIONS, None);
        let hello = {
            let name = ServerName::try_from("broker.test").unwrap();
            let mut session = ClientConnection::new(config, name).unwrap();
            let mut hello = Vec::new();
            session.write_tls(&mut hello).unwrap();
            hello
        };
        let taken = connect(&server);
        let mut socket = taken.socket.try_clone().unwrap();
        let sent = hello.clone();
        let answered = rt::blocking(move || {
            socket.set_nodelay(true).unwrap();
            for byte in sent {
                socket.write_all(&[byte]).unwrap();
            }
            let mut head = [0; 5];
            socket.read_exact(&mut head).map(|()| head)
        });
        let head = answered.await.unwrap().unwrap();
        assert_eq!(head[..2], [22, 3], "the server's hello");

        let too_large = [&[22, 3, 1, 0xff, 0xff][..], &vec![0; 70_000]].concat();
        let endless = [
            &[22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff][..],
            &vec![0; 200_000],
        ]
        .concat();
        let mut changed = hello.clone();
        changed[9] ^= 0xff;
        for garbage in [
            too_large,
            endless,
            changed,
            vec![22, 3, 1, 0, 0],
            vec![0x16, 2],
        ] {
            let taken = connect_with(
                &server,
                Settings {
                    handshake_timeout: Duration::from_secs(1),
                    ..Settings::default()
                },
            );
            let mut socket = taken.socket.try_clone().unwrap();
            rt::blocking(move || socket.write_all(&garbage)).await;
            let label = {
                taken.refused().await;
                label(&taken.ended)
            };
            assert!(
                matches!(label, Some("tls" | "handshake_timeout")),
                "{label:?}"
            );
        }
        let taken = connect(&server);
        let config = bare_client(&ca, rustls::ALL_VERSIONS, None);
        assert_eq!(taken.visited(&config).await, Ok(HandshakeKind::Full));
    });
}
