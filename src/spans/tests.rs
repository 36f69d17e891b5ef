//! Spans against collectors, on one executor.

mod collector;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ringmq_proto::otlp::collector::ExportTraceServiceRequest;
use ringmq_proto::otlp::trace::Span as OtlpSpan;

use super::setup::tests::wanted;
use super::setup::{Protocol, Wanted};
use super::{Carried, Fate, Operation, Setup, Spans, WAITING_MAX};
use crate::model::Kind;
use crate::rt;
use crate::rt::start::{Plan, start};
use crate::wire::tls::{ClientTls, ClientTlsSettings, Protocol as TlsProtocol};
use collector::{Answer, GrpcCollector, HttpCollector};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// Runs a test on an executor; its panic is the test's.
fn on_executor<F: Future<Output = ()> + 'static>(test: impl FnOnce() -> F + Send + 'static) {
    let plan = Plan {
        cpu: None,
        spin: None,
    };
    let executors = start(&[plan], vec![Once(test)], |_, Once(test)| test()).unwrap();
    let ended = executors.wait_ended(Duration::from_secs(120));
    if let Some(text) = ended.expect("the test ends in time").panic {
        panic!("{text}");
    }
    executors.join();
}

struct Once<T>(T);

async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let started = rt::now();
    while !condition() {
        let waited = rt::now().since(started);
        assert!(
            waited < Duration::from_secs(30),
            "waited in vain until {what}"
        );
        rt::sleep(Duration::from_millis(2)).await;
    }
}

/// What became of the spans.
#[derive(Clone, Default)]
struct Fates(Rc<RefCell<Vec<(Fate, u64)>>>);

impl Fates {
    fn of(&self, fate: Fate) -> u64 {
        let fates = self.0.borrow();
        fates
            .iter()
            .filter(|(other, _)| *other == fate)
            .map(|(_, count)| count)
            .sum()
    }

    fn total(&self) -> u64 {
        self.0.borrow().iter().map(|(_, count)| count).sum()
    }
}

fn begin(setup: Setup) -> (Rc<Spans>, Fates) {
    let fates = Fates::default();
    let (told, state) = (fates.clone(), Cell::new(1_u64));
    let random = move |bytes: &mut [u8]| {
        for byte in bytes {
            let next = state
                .get()
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            state.set(next);
            *byte = next.to_be_bytes()[0];
        }
    };
    let spans = Spans::start(Arc::new(setup), random, move |fate, count| {
        told.0.borrow_mut().push((fate, count));
    });
    (spans, fates)
}

fn end_some(spans: &Spans, count: usize) {
    let parent = Carried::read(Some(PARENT), Some("vendor=1")).unwrap();
    for number in 0..count {
        let mut span = spans.begin(Operation::Send, Some(&parent)).unwrap();
        span.channel(Kind::Queues, "orders")
            .message(&format!("m-{number}"), 3);
        spans.end(span);
    }
}

fn spans_of(request: &ExportTraceServiceRequest) -> Vec<OtlpSpan> {
    let scopes = request
        .resource_spans
        .iter()
        .flat_map(|resource| &resource.scope_spans);
    scopes.flat_map(|scope| scope.spans.clone()).collect()
}

/// Every span of the parent's trace, each with an id of its own.
fn check(spans: &[OtlpSpan], count: usize) {
    assert_eq!(spans.len(), count);
    let trace = Carried::read(Some(PARENT), None).unwrap().context.trace_id;
    for span in spans {
        assert_eq!(&span.trace_id[..], trace.bytes());
        assert_eq!(span.trace_state, "vendor=1");
        assert_eq!(span.name, "send orders");
    }
    let mut ids: Vec<_> = spans.iter().map(|span| span.span_id.clone()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), count);
}

#[test]
fn grpc_collector_gets_every_span_with_its_headers() {
    for gzip in [false, true] {
        on_executor(move || async move {
            let collector = GrpcCollector::start();
            let headers = [("x-token".to_owned(), "secret".to_owned())];
            let endpoint = collector.endpoint();
            let wanted = Wanted {
                gzip,
                headers: &headers,
                ..wanted(&endpoint)
            };
            let (spans, fates) = begin(Setup::new(&wanted).unwrap());
            end_some(&spans, 1_000);
            spans.finish(Duration::from_secs(30)).await;
            assert_eq!((fates.of(Fate::Exported), fates.total()), (1_000, 1_000));
            let requests = collector.requests();
            assert!(
                requests.len() >= 2,
                "batches are bounded: {}",
                requests.len()
            );
            let all: Vec<_> = requests
                .iter()
                .flat_map(|seen| spans_of(&seen.request))
                .collect();
            check(&all, 1_000);
            for seen in &requests {
                assert_eq!(seen.token.as_deref(), Some("secret"));
            }
        });
    }
}

#[test]
fn http_collector_gets_every_span_with_its_headers() {
    for gzip in [false, true] {
        on_executor(move || async move {
            let collector = HttpCollector::start(&[]);
            let headers = [("X-Token".to_owned(), "secret".to_owned())];
            let endpoint = collector.endpoint();
            let wanted = Wanted {
                gzip,
                headers: &headers,
                protocol: Protocol::Http,
                ..wanted(&endpoint)
            };
            let (spans, fates) = begin(Setup::new(&wanted).unwrap());
            end_some(&spans, 600);
            eventually("all are there", || fates.of(Fate::Exported) == 600).await;
            let seen = collector.seen();
            let all: Vec<_> = seen
                .iter()
                .flat_map(|seen| spans_of(&seen.request()))
                .collect();
            check(&all, 600);
            for seen in &seen {
                assert_eq!(seen.path, "/v1/traces");
                assert_eq!(seen.header("x-token"), Some("secret"));
                assert_eq!(seen.header("content-type"), Some("application/x-protobuf"));
                assert_eq!(seen.header("content-encoding"), gzip.then_some("gzip"));
            }
            assert_eq!(collector.connections(), 1, "the connection is kept");
            spans.finish(Duration::from_secs(30)).await;
        });
    }
}

#[test]
fn https_collector_is_spoken_to_in_http_1() {
    on_executor(|| async {
        let (collector, authority) = HttpCollector::start_tls();
        let endpoint = collector.endpoint();
        let mut setup = Setup::new(&Wanted {
            protocol: Protocol::Http,
            ..wanted(&endpoint)
        })
        .unwrap();
        let settings = ClientTlsSettings {
            ca: Some(authority.to_path_buf()),
            protocol: TlsProtocol::Http1,
            ..ClientTlsSettings::new("collector.test")
        };
        setup.target.tls = Some(Arc::new(ClientTls::load(&settings).unwrap()));
        let (spans, fates) = begin(setup);
        end_some(&spans, 10);
        spans.finish(Duration::from_secs(30)).await;
        assert_eq!((fates.of(Fate::Exported), fates.total()), (10, 10));
        check(&spans_of(&collector.seen()[0].request()), 10);
    });
}

#[test]
fn busy_collector_is_asked_again_and_a_refusal_is_final() {
    on_executor(|| async {
        let answers = [Answer::Busy, Answer::Cut, Answer::Ok, Answer::Refuse];
        let collector = HttpCollector::start(&answers);
        let endpoint = collector.endpoint();
        let wanted = Wanted {
            protocol: Protocol::Http,
            ..wanted(&endpoint)
        };
        let (spans, fates) = begin(Setup::new(&wanted).unwrap());
        end_some(&spans, 5);
        eventually("they are taken", || fates.of(Fate::Exported) == 5).await;
        let bodies: Vec<_> = collector.seen().into_iter().map(|seen| seen.body).collect();
        assert_eq!(bodies.len(), 3);
        assert!(
            bodies.iter().all(|body| *body == bodies[0]),
            "the same batch each time"
        );
        end_some(&spans, 4);
        eventually("they are refused", || fates.of(Fate::Refused) == 4).await;
        spans.finish(Duration::from_secs(30)).await;
        assert_eq!(fates.total(), 9);
    });
}

#[test]
fn collector_says_how_many_it_did_not_take() {
    on_executor(|| async {
        let collector = HttpCollector::start(&[Answer::Partial(2)]);
        let endpoint = collector.endpoint();
        let wanted = Wanted {
            protocol: Protocol::Http,
            ..wanted(&endpoint)
        };
        let (spans, fates) = begin(Setup::new(&wanted).unwrap());
        end_some(&spans, 5);
        spans.finish(Duration::from_secs(30)).await;
        assert_eq!((fates.of(Fate::Exported), fates.of(Fate::Refused)), (3, 2));
    });
}

#[test]
fn without_a_collector_the_ring_fills_and_every_span_is_counted() {
    on_executor(|| async {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = closed.local_addr().unwrap().to_string();
        drop(closed);
        for protocol in [Protocol::Grpc, Protocol::Http] {
            let wanted = Wanted {
                protocol,
                ..wanted(&endpoint)
            };
            let (spans, fates) = begin(Setup::new(&wanted).unwrap());
            end_some(&spans, WAITING_MAX + 100);
            assert_eq!(fates.of(Fate::QueueFull), 100);
            spans.finish(Duration::from_millis(50)).await;
            assert_eq!(fates.of(Fate::Exported), 0);
            let total = u64::try_from(WAITING_MAX).unwrap() + 100;
            assert_eq!(fates.total(), total, "{protocol:?}");
        }
    });
}

#[test]
fn collector_that_never_answers_holds_nobody_up() {
    on_executor(|| async {
        // Accepted by the kernel, and never read.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = silent.local_addr().unwrap().to_string();
        for protocol in [Protocol::Grpc, Protocol::Http] {
            let wanted = Wanted {
                protocol,
                ..wanted(&endpoint)
            };
            let (spans, fates) = begin(Setup::new(&wanted).unwrap());
            end_some(&spans, 600);
            rt::sleep(Duration::from_millis(20)).await;
            end_some(&spans, 10);
            spans.finish(Duration::from_millis(100)).await;
            assert_eq!((fates.of(Fate::Shutdown), fates.total()), (610, 610));
        }
    });
}

#[test]
fn what_is_not_sampled_is_no_span() {
    on_executor(|| async {
        let wanted = Wanted {
            sampler: "parentbased_always_off",
            ..wanted("127.0.0.1:1")
        };
        let (spans, _) = begin(Setup::new(&wanted).unwrap());
        let quiet = PARENT.replace("-01", "-00");
        let quiet = Carried::read(Some(&quiet), None).unwrap();
        assert!(spans.begin(Operation::Send, None).is_none());
        assert!(spans.begin(Operation::Send, Some(&quiet)).is_none());
        let parent = Carried::read(Some(PARENT), Some("broken")).unwrap();
        assert_eq!(parent.tracestate, "");
        let span = spans.begin(Operation::Send, Some(&parent)).unwrap();
        assert_eq!(span.context().trace_id, parent.context.trace_id);
        assert_ne!(span.context().span_id, parent.context.span_id);
        spans.finish(Duration::ZERO).await;
    });
}
