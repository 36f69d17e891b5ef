//! TLS: what goes through it, and what each refusal says.

mod authority;
mod clients;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread::JoinHandle;

use super::*;
use crate::wire::client::CallOptions;
use crate::wire::tls::{
    ClientTls, ClientTlsSettings, Handshakes, Pem, ServerTlsSettings, SettingsError,
};
use authority::{Authority, Files};

fn options() -> CallOptions {
    CallOptions::default()
}

fn noise(length: usize) -> Bytes {
    let mut state = 1_u64;
    let bytes = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005) + 1;
        state.to_be_bytes()[0]
    });
    bytes.take(length).collect()
}

fn server(files: &Files, client_ca: Option<&Authority>) -> Arc<ServerTls> {
    load(&ServerTlsSettings {
        client_ca: client_ca.map(|ca| ca.file().into()),
        ..server_settings(files)
    })
}

fn server_settings(files: &Files) -> ServerTlsSettings {
    // As text, so that they may outlive the files.
    let text = |path: std::path::PathBuf| Pem::Text {
        name: "a setting of the test",
        text: std::fs::read(path).unwrap(),
    };
    ServerTlsSettings::new(text(files.certificate()), text(files.key()))
}

fn load(settings: &ServerTlsSettings) -> Arc<ServerTls> {
    let handshakes = Handshakes::start(16, 1).unwrap();
    Arc::new(ServerTls::load(settings, &handshakes).unwrap())
}

fn believing(ca: &Authority, name: &str) -> ClientTlsSettings {
    ClientTlsSettings {
        ca: Some(ca.file()),
        ..ClientTlsSettings::new(name)
    }
}

fn client_settings(tls: &ClientTlsSettings) -> ClientSettings {
    ClientSettings {
        tls: Some(Arc::new(ClientTls::load(tls).unwrap())),
        ..ClientSettings::default()
    }
}

/// What the client is told when it connects; and how the connection ended for the server.
async fn refusal(server: Arc<ServerTls>, client: &ClientTlsSettings) -> (String, &'static str) {
    let pair = pair_over(Settings::default(), Some(server)).await;
    let refused = Client::over(pair.conn, pair.address, client_settings(client)).await;
    eventually("the server notices", || label(&pair.ended).is_some()).await;
    let text = refused.expect_err("it is refused").to_string();
    (text, label(&pair.ended).unwrap())
}

async fn echoes(client: &Client, message: Bytes) {
    let answer = client.unary("/t/Unary", message.clone(), &options()).await;
    assert!(answer.unwrap() == message, "{} bytes", message.len());
}

#[test]
fn unary_calls_echo_every_size() {
    on_executor(|| async {
        let ca = Authority::new();
        let server = server(&ca.issue("broker.test"), None);
        let pair = pair_over(Settings::default(), Some(server)).await;
        let settings = client_settings(&believing(&ca, "broker.test"));
        let (client, ..) = pair.client_with(settings).await;
        for size in [0, 1, 1024, 4_091, 4_096, 16_384, 65_536, (20 << 20) + 3] {
            echoes(&client, noise(size)).await;
        }
    });
}

#[test]
fn streams_keep_every_message_and_their_order() {
    on_executor(|| async {
        let ca = Authority::new();
        let server = server(&ca.issue("broker.test"), None);
        let pair = pair_over(Settings::default(), Some(server)).await;
        let settings = client_settings(&believing(&ca, "broker.test"));
        let (client, ..) = pair.client_with(settings).await;
        let (mut sender, mut stream) = client.bidi("/t/Bidi", &options()).unwrap();
        spawn(async move {
            let mut out = BytesMut::new();
            for number in 0..20_000_u32 {
                let mut message = number.to_be_bytes().to_vec();
                message.resize(4 + number as usize % 3_000, 7);
                frame(&message, &mut out);
                if out.len() > 60_000 {
                    sender.send_all(out.split().freeze()).await.unwrap();
                }
            }
            sender.send_all(out.freeze()).await.unwrap();
        });
        let mut next = 0_u32;
        while let Some(message) = stream.message().await.unwrap() {
            assert_eq!(message[..4], next.to_be_bytes());
            assert_eq!(message.len(), 4 + next as usize % 3_000);
            next += 1;
        }
        assert_eq!(next, 20_000);
    });
}

#[test]
fn records_may_come_in_pieces_of_any_size() {
    on_executor(|| async {
        let ca = Authority::new();
        let server = server(&ca.issue("broker.test"), None);
        for piece in [1, 7, 4_097] {
            let address = serve_in_pieces(Arc::clone(&server), piece);
            let settings = client_settings(&believing(&ca, "broker.test"));
            let client = Client::connect(address, settings).await.unwrap();
            echoes(&client, noise(piece * 3_000)).await;
        }
    });
}

#[test]
fn refusals_of_a_certificate_say_what_is_wrong_with_it() {
    on_executor(|| async {
        let ca = Authority::new();
        let good = server(&ca.issue("broker.test"), None);
        let (text, ended) = refusal(Arc::clone(&good), &believing(&ca, "other.test")).await;
        assert_eq!(
            text,
            "certificate is not for other.test, it is for broker.test"
        );
        assert_eq!(ended, "tls");

        let stranger = Authority::new();
        let (text, ended) = refusal(good, &believing(&stranger, "broker.test")).await;
        assert!(text.contains("certificate of broker.test is from an unknown CA"));
        assert_eq!(ended, "tls");

        let old = server(&ca.issue_for_years("broker.test", 2001, 2002), None);
        let (text, _) = refusal(old, &believing(&ca, "broker.test")).await;
        assert!(text.contains("certificate of broker.test expired") && text.contains("days ago"));

        let early = server(&ca.issue_for_years("broker.test", 2090, 2091), None);
        let (text, _) = refusal(early, &believing(&ca, "broker.test")).await;
        assert!(text.contains("is a clock wrong?"), "{text}");

        let itself = server(&ca.as_files(), None);
        let (text, _) = refusal(itself, &believing(&ca, "broker.test")).await;
        assert!(text.contains("is that of a CA itself"), "{text}");
    });
}

#[test]
fn insecure_clients_connect_to_anyone() {
    on_executor(|| async {
        let server = server(&Authority::new().issue("somebody.test"), None);
        let pair = pair_over(Settings::default(), Some(server)).await;
        let tls = ClientTlsSettings {
            insecure: true,
            ..ClientTlsSettings::new("127.0.0.1")
        };
        assert!(ClientTls::load(&tls).unwrap().is_insecure());
        let (client, ..) = pair.client_with(client_settings(&tls)).await;
        echoes(&client, noise(100)).await;
    });
}

#[test]
fn servers_that_want_certificates_take_theirs_and_no_others() {
    on_executor(|| async {
        let ca = Authority::new();
        let server = server(&ca.issue("broker.test"), Some(&ca));
        let shows = |files: &Files| ClientTlsSettings {
            certificate: Some(files.certificate()),
            key: Some(files.key()),
            ..believing(&ca, "broker.test")
        };
        let known = ca.issue("client.test");
        let pair = pair_over(Settings::default(), Some(Arc::clone(&server))).await;
        let (client, ..) = pair.client_with(client_settings(&shows(&known))).await;
        echoes(&client, noise(100)).await;

        let stranger = Authority::new().issue("client.test");
        for (tls, says) in [
            (
                believing(&ca, "broker.test"),
                "requires a certificate of us",
            ),
            (shows(&stranger), "refuses the TLS connection: UnknownCA"),
        ] {
            let pair = pair_over(Settings::default(), Some(Arc::clone(&server))).await;
            let (client, _, ended, _) = pair.client_with(client_settings(&tls)).await;
            let status = client.unary("/t/Unary", noise(9), &options()).await;
            let status = status.expect_err("it is refused");
            assert_eq!(status.code(), Code::Unavailable);
            assert!(status.message().contains(says), "{status:?}");
            eventually("the server ends it", || label(&ended).is_some()).await;
            assert_eq!(label(&ended), Some("tls"));
        }
    });
}

#[test]
fn silent_peers_are_given_up() {
    on_executor(|| async {
        let ca = Authority::new();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let tls = ClientTlsSettings {
            handshake_timeout: Duration::from_millis(50),
            ..believing(&ca, "broker.test")
        };
        let address = listener.local_addr().unwrap();
        let refused = Client::connect(address, client_settings(&tls)).await;
        let refused = refused.expect_err("nobody answers");
        assert_eq!(refused.kind(), std::io::ErrorKind::TimedOut);
        let text = refused.to_string();
        assert_eq!(text, "no TLS handshake with broker.test within 50ms");

        let settings = Settings {
            handshake_timeout: Duration::from_millis(50),
            ..Settings::default()
        };
        let server = server(&ca.issue("broker.test"), None);
        let pair = pair_over(settings, Some(server)).await;
        eventually("the server gives up", || label(&pair.ended).is_some()).await;
        assert_eq!(label(&pair.ended), Some("handshake_timeout"));
        assert!(pair.control.has_ended());
    });
}

#[test]
fn clear_text_on_either_side_is_noticed() {
    on_executor(|| async {
        let ca = Authority::new();
        let plain = pair(Settings::default()).await;
        let settings = client_settings(&believing(&ca, "broker.test"));
        let refused = Client::over(plain.conn, plain.address, settings).await;
        let text = refused.expect_err("no TLS").to_string();
        assert!(text.contains("speak TLS"), "{text}");

        let server = server(&ca.issue("broker.test"), None);
        let pair = pair_over(Settings::default(), Some(server)).await;
        let (client, _, ended, _) = pair.client().await;
        let status = client.unary("/t/Unary", noise(9), &options()).await;
        assert_eq!(status.unwrap_err().code(), Code::Unavailable);
        eventually("the server ends it", || label(&ended).is_some()).await;
        assert_eq!(label(&ended), Some("tls"));
    });
}

#[test]
fn servers_without_http2_are_refused() {
    on_executor(|| async {
        let ca = Authority::new();
        let (address, server) = bare_server(&ca.issue("broker.test"), &[]);
        let settings = client_settings(&believing(&ca, "broker.test"));
        let refused = Client::connect(address, settings).await;
        let text = refused.expect_err("no HTTP/2").to_string();
        assert!(
            text.contains("does not agree on HTTP/2 (ALPN h2)"),
            "{text}"
        );
        drop(server);
    });
}

#[test]
fn servers_that_hang_up_without_a_word_may_want_a_certificate() {
    on_executor(|| async {
        let ca = Authority::new();
        let config = Arc::new(ca.issue("broker.test").bare_server_config(&[b"h2"]));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut session = rustls::ServerConnection::new(config).unwrap();
            while session.is_handshaking() {
                session.complete_io(&mut socket).unwrap();
            }
        });
        let settings = client_settings(&believing(&ca, "broker.test"));
        let client = Client::connect(address, settings).await.unwrap();
        let status = client.unary("/t/Unary", noise(9), &options()).await;
        let status = status.expect_err("nobody is there");
        assert!(
            status.message().contains("does it require a certificate"),
            "{status:?}"
        );
    });
}

#[test]
fn goodbye_is_said_before_the_socket_ends() {
    on_executor(|| async {
        let ca = Authority::new();
        let (address, server) = bare_server(&ca.issue("broker.test"), &[b"h2"]);
        let settings = client_settings(&believing(&ca, "broker.test"));
        let client = Client::connect(address, settings).await.unwrap();
        client.close();
        drop(client);
        let said = rt::blocking(move || server.join().unwrap()).await.unwrap();
        assert!(said.unwrap().starts_with(b"PRI * HTTP/2.0"));
    });
}

#[test]
fn settings_name_the_file_at_fault() {
    let ca = Authority::new();
    let files = ca.issue("broker.test");
    let base = believing(&ca, "broker.test");
    let fails = |settings: ClientTlsSettings| ClientTls::load(&settings).unwrap_err();

    let missing = std::path::PathBuf::from("/nowhere/ca.pem");
    let text = fails(ClientTlsSettings {
        ca: Some(missing),
        ..base.clone()
    });
    assert!(text.to_string().contains("from /nowhere/ca.pem"), "{text}");

    let error = fails(ClientTlsSettings {
        ca: Some(files.key()),
        ..base.clone()
    });
    assert!(matches!(error, SettingsError::NoCertificate { .. }));

    let error = fails(ClientTlsSettings {
        key: Some(files.key()),
        ..base.clone()
    });
    assert!(matches!(error, SettingsError::KeyWithoutCertificate { .. }));

    let error = fails(ClientTlsSettings {
        certificate: Some(files.certificate()),
        key: Some(ca.issue("another.test").key()),
        ..base.clone()
    });
    assert!(matches!(error, SettingsError::BadIdentity { .. }));

    let error = fails(ClientTlsSettings::new("not a name"));
    assert!(matches!(error, SettingsError::ServerName { .. }));
}

#[test]
fn addresses_of_version_six_are_names_too() {
    let ca = Authority::new();
    let tls = ClientTls::load(&believing(&ca, "[::1]")).unwrap();
    assert_eq!(tls.server_name(), "::1");
    assert_eq!(tls.authority(50_000), "[::1]:50000");
    let tls = ClientTls::load(&believing(&ca, "broker.test")).unwrap();
    assert_eq!(tls.authority(443), "broker.test:443");
}

/// A server of another make: rustls over a blocking socket. Gives what it has read, or the error
/// with which the connection ended, as one without a goodbye is.
fn bare_server(
    files: &Files,
    protocols: &[&[u8]],
) -> (SocketAddr, JoinHandle<std::io::Result<Vec<u8>>>) {
    let config = Arc::new(files.bare_server_config(protocols));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept()?;
        let mut session = rustls::ServerConnection::new(config).unwrap();
        let mut read = Vec::new();
        rustls::Stream::new(&mut session, &mut socket).read_to_end(&mut read)?;
        Ok(read)
    });
    (address, server)
}

/// Serves one connection whose bytes come and go in pieces of `piece` bytes; the address is the
/// client's.
fn serve_in_pieces(tls: Arc<ServerTls>, piece: usize) -> SocketAddr {
    let back = TcpListener::bind("127.0.0.1:0").unwrap();
    let front = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = front.local_addr().unwrap();
    let back_address = back.local_addr().unwrap();
    std::thread::spawn(move || {
        let (client, _) = front.accept().unwrap();
        let server = TcpStream::connect(back_address).unwrap();
        let answers = (server.try_clone().unwrap(), client.try_clone().unwrap());
        std::thread::spawn(move || copy_in_pieces(client, server, piece));
        copy_in_pieces(answers.0, answers.1, piece);
    });
    spawn(async move {
        let accepted = rt::blocking(move || back.accept()).await;
        let (socket, peer) = accepted.unwrap().unwrap();
        let service = Rc::new(Served(Rc::default()));
        let settings = Rc::new(Settings::default());
        let control = ConnectionControl::new();
        let conn = Conn::from_std(socket).unwrap();
        serve_tls(conn, tls, peer, service, settings, control).await;
    });
    address
}

/// Each piece with a system call of its own.
fn copy_in_pieces(mut from: TcpStream, mut to: TcpStream, piece: usize) {
    to.set_nodelay(true).unwrap();
    let mut buffer = vec![0; piece];
    while let Ok(count) = from.read(&mut buffer)
        && count > 0
        && to.write_all(&buffer[..count]).is_ok()
    {}
    let _peer_may_be_gone = to.shutdown(std::net::Shutdown::Write);
}
