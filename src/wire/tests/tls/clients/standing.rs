//! For how long clients are let in: as long as their certificates last, and the settings want them.

use rcgen::date_time_ymd;

use super::*;

static VERSIONS: [&SupportedProtocolVersion; 2] =
    [&rustls::version::TLS12, &rustls::version::TLS13];

/// A certificate of a client that ends soon, and when: nanoseconds since 1970. A slow machine has
/// ten seconds to make use of it.
fn ending(ca: &Authority) -> (Files, i64) {
    let last = u64::try_from(rt::unix_ns() / 1_000_000_000).unwrap() + 10;
    let files = ca.issue_as("client.test", |params| {
        params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(last);
    });
    // It is good up to and including the second that it names.
    (files, i64::try_from(last + 1).unwrap() * 1_000_000_000)
}

async fn sleep_until(unix_ns: i64) {
    while rt::unix_ns() <= unix_ns {
        rt::sleep(Duration::from_millis(20)).await;
    }
}

/// A socket that the server has taken and whose peer may say nothing for long.
fn connect_silent(tls: &Arc<ServerTls>) -> Taken {
    connect_with(
        tls,
        Settings {
            handshake_timeout: Duration::from_secs(50),
            ..Settings::default()
        },
    )
}

#[test]
fn a_connection_ends_with_the_certificate_that_it_stands_on() {
    on_executor(|| async {
        let ca = Authority::new();
        let server = load(&asking(&ca));
        let taken = connect(&server);
        let ended = taken.ended.clone();
        let address = taken.socket.peer_addr().unwrap();
        let conn = Conn::from_std(taken.socket).unwrap();
        let (files, ends_at_ns) = ending(&ca);
        let settings = client_settings(&shows(&ca, &files));
        let client = Client::over(conn, address, settings).await.unwrap();
        echoes(&client, noise(10)).await;
        while ended.borrow().is_none() && rt::unix_ns() < ends_at_ns {
            rt::sleep(Duration::from_millis(20)).await;
        }
        eventually("the connection ends", || ended.borrow().is_some()).await;
        assert_eq!(label(&ended), Some("drained"));
        assert!(rt::unix_ns() >= ends_at_ns, "it was good until then");
    });
}

#[test]
fn a_session_is_not_resumed_into_a_certificate_that_has_ended() {
    on_executor(|| async {
        let ca = Authority::new();
        let server = load(&asking(&ca));
        let (files, ends_at_ns) = ending(&ca);
        let configs = VERSIONS.map(|version| bare_client(&ca, &[version], Some(&files)));
        for config in &configs {
            let taken = connect(&server);
            assert_eq!(taken.visited(config).await, Ok(HandshakeKind::Full));
        }
        sleep_until(ends_at_ns).await;
        for config in &configs {
            let taken = connect(&server);
            let visited = taken.visited(config).await;
            assert!(visited.is_err(), "{visited:?}");
            let refused = taken.refused().await;
            assert!(
                refused.contains("certificate of the client expired"),
                "{refused}"
            );
        }
    });
}

#[test]
fn those_that_would_not_be_let_in_again_are_told_to_go() {
    on_executor(|| async {
        let ca = Authority::new();
        let settings = asking(&ca);
        let server = load(&settings);
        let mut taken = Vec::new();
        for number in [1, 2, 3] {
            let one = connect(&server);
            let config = bare_client(&ca, rustls::ALL_VERSIONS, Some(&numbered(&ca, number)));
            assert_eq!(one.visited(&config).await, Ok(HandshakeKind::Full));
            taken.push(one);
        }
        let again = load(&ServerTlsSettings {
            revocations: list(&ca, &[2], 2120),
            ..settings
        });
        again.verify_clients_again();
        assert_eq!(taken[1].refused().await, "closed by us");
        for other in [0, 2] {
            assert!(taken[other].ended.borrow().is_none());
        }
    });
}

#[test]
fn a_handshake_that_began_before_a_reload_ends_by_the_new_settings() {
    on_executor(|| async {
        let ca = Authority::new();
        let settings = asking(&ca);
        let server = load(&settings);
        let mut begun = Vec::new();
        for version in VERSIONS {
            for number in [1, 2] {
                let files = numbered(&ca, number);
                // One has no session to resume, the other has.
                let config = bare_client(&ca, &[version], Some(&files));
                begun.push((number, HandshakeKind::Full, config));
                let config = bare_client(&ca, &[version], Some(&files));
                let visited = connect(&server).visited(&config).await;
                assert_eq!(visited, Ok(HandshakeKind::Full));
                begun.push((number, HandshakeKind::Resumed, config));
            }
        }
        let silent: Vec<_> = begun.iter().map(|_| connect_silent(&server)).collect();
        let again = load(&ServerTlsSettings {
            revocations: list(&ca, &[2], 2120),
            ..settings
        });
        again.verify_clients_again();
        for ((number, kind, config), taken) in begun.into_iter().zip(silent) {
            let visited = taken.visited(&config).await;
            if number == 1 {
                assert_eq!(visited, Ok(kind));
                continue;
            }
            assert!(visited.is_err(), "{visited:?}");
            let refused = taken.refused().await;
            assert!(refused.contains("is revoked"), "{refused}");
            assert!(taken.service.calls.borrow().is_empty());
        }
    });
}

#[test]
fn those_without_a_certificate_go_when_one_is_required() {
    on_executor(|| async {
        let ca = Authority::new();
        let requested = ServerTlsSettings {
            client_certificates: ClientCertificates::Requested,
            ..asking(&ca)
        };
        let requested = load(&requested);
        let not_asked = load(&server_settings(&ca.issue("broker.test")));
        let nobody = || bare_client(&ca, rustls::ALL_VERSIONS, None);
        let somebody = bare_client(&ca, rustls::ALL_VERSIONS, Some(&ca.issue("client.test")));
        let stays = connect(&requested);
        assert_eq!(stays.visited(&somebody).await, Ok(HandshakeKind::Full));
        let mut nameless = Vec::new();
        for server in [&requested, &not_asked] {
            let taken = connect(server);
            assert_eq!(taken.visited(&nobody()).await, Ok(HandshakeKind::Full));
            nameless.push(taken);
        }

        requested.verify_clients_again();
        let taken = connect(&not_asked);
        assert_eq!(taken.visited(&nobody()).await, Ok(HandshakeKind::Full));
        nameless.push(taken);
        for taken in &nameless {
            assert!(taken.ended.borrow().is_none(), "it may be nameless still");
        }

        let silent = [&requested, &not_asked].map(connect_silent);
        load(&asking(&ca)).verify_clients_again();
        for taken in nameless {
            assert_eq!(taken.refused().await, "closed by us");
        }
        for taken in silent {
            let visited = taken.visited(&nobody()).await;
            assert!(visited.is_err(), "{visited:?}");
            let refused = taken.refused().await;
            assert!(refused.contains("shows no certificate"), "{refused}");
        }
        assert!(stays.ended.borrow().is_none(), "it shows one");
    });
}
