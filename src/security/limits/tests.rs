use std::sync::mpsc;

use super::*;
use crate::rt::start::{Plan, start};

const PATIENCE: Duration = Duration::from_secs(30);

fn named(name: &str) -> Identity {
    Identity {
        proof: Proof::Token,
        name: name.into(),
        ..Identity::anonymous()
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Two executors of a broker.
fn two(settings: Settings) -> [Rc<Limits>; 2] {
    let shared = Arc::new(Shared::default());
    [(); 2].map(|()| Limits::new(settings, shared.clone()))
}

fn requests(requests_per_second: u64, requests_burst: u64) -> Settings {
    Settings {
        requests_per_second,
        requests_burst,
        ..Settings::default()
    }
}

fn passing(limits: &Limits, identity: &Identity, peer: IpAddr) -> usize {
    let tries = (0..50).map(|_| limits.admit(identity, peer, 0));
    tries.filter(Result::is_ok).count()
}

#[test]
fn without_a_limit_everything_passes() {
    let limits = Limits::default();
    let (somebody, here) = (Identity::anonymous(), address("::1"));
    for _ in 0..10_000 {
        limits.admit(&somebody, here, usize::MAX).unwrap();
    }
    let holds: Vec<_> = (0..1_000).map(|_| limits.subscription("a")).collect();
    assert!(holds.iter().all(Result::is_ok));
}

#[test]
fn somebody_has_one_allowance_on_all_executors() {
    // One a day: nothing is earned while the test runs.
    let [a, b] = two(requests(1, 10));
    let (somebody, here) = (named("a"), address("10.0.0.1"));
    let passed = passing(&a, &somebody, here) + passing(&b, &somebody, address("10.0.0.2"));
    assert!((10..20).contains(&passed), "{passed}");
    assert!(passing(&b, &named("b"), here) >= 10);
}

#[test]
fn without_proof_the_address_counts_and_of_ipv6_its_network() {
    let [limits, _] = two(requests(1, 10));
    let nobody = Identity::anonymous();
    let tried = |peer| passing(&limits, &nobody, address(peer));
    assert!(tried("192.0.2.1") >= 10);
    assert!(tried("::ffff:192.0.2.1") < 10, "the same in another form");
    assert!(tried("192.0.2.2") >= 10);
    assert!(tried("2001:db8::1") >= 10);
    assert!(tried("2001:db8::ffff:2") < 10, "the same network");
    assert!(tried("2001:db8:0:1::1") >= 10);
    // A name that looks like an address is somebody else.
    assert!(passing(&limits, &named("192.0.2.1"), address("192.0.2.1")) >= 10);
}

#[test]
fn refusal_names_the_limit_and_the_time() {
    let [limits, _] = two(Settings {
        bytes_per_second: 1_000,
        ..requests(1_000, 1)
    });
    let (somebody, here) = (named("a"), address("10.0.0.1"));
    let told = Rc::new(RefCell::new(Vec::new()));
    let hears = told.clone();
    limits.on_reached(move |did| hears.borrow_mut().push(did));
    // Until one is refused: a slow machine may earn some on the way.
    let refused = |bytes| {
        let mut tries = std::iter::repeat_with(|| limits.admit(&somebody, here, bytes));
        tries.find_map(Result::err).unwrap()
    };
    let reached = refused(500);
    assert!(reached.limit.starts_with("limits."), "{reached}");
    told.borrow_mut().clear();
    let reached = refused(0);
    assert_eq!(reached.limit, "limits.requests_per_second");
    assert!(reached.retry_after.unwrap() <= Duration::from_millis(1));
    assert_eq!(*told.borrow(), [Did::RefusedRequest]);
    limits.set(Settings {
        bytes_per_second: 1_000,
        ..Settings::default()
    });
    told.borrow_mut().clear();
    let reached = refused(1_000);
    assert_eq!(reached.limit, "limits.bytes_per_second");
    assert!(reached.retry_after.unwrap() <= Duration::from_secs(1));
    assert_eq!(*told.borrow(), [Did::RefusedBytes]);
}

#[test]
fn a_batch_counts_as_many_requests_as_it_holds() {
    let [limits, other] = two(requests(1, 10));
    let here = address("10.0.0.1");
    // More than the burst passes a full bucket, and is paid for.
    let first = named("first");
    limits.admit(&first, here, 0).unwrap();
    limits.admit_more(&first, here, 99_999).unwrap();
    let reached = other.admit(&first, here, 0).unwrap_err();
    assert!(reached.retry_after.unwrap() > Duration::from_secs(3_600));
    // One that comes upon an empty bucket is refused, and takes nothing more.
    let second = named("second");
    while limits.admit(&second, here, 0).is_ok() {}
    let reached = limits.admit_more(&second, here, 99).unwrap_err();
    assert_eq!(reached.limit, "limits.requests_per_second");
    let wait = reached.retry_after.unwrap();
    assert!(wait <= Duration::from_secs(10), "{wait:?}");
    let refused = limits.admit(&second, here, 0).err();
    let wait = refused.map_or(Duration::ZERO, |reached| reached.retry_after.unwrap());
    assert!(wait <= Duration::from_secs(1), "{wait:?}");
}

#[test]
fn a_batch_as_large_as_the_burst_passes_a_full_bucket() {
    let [limits, _] = two(Settings::default());
    let here = address("10.0.0.1");
    for rate in 1..20 {
        for burst in 1..8 {
            limits.set(requests(rate, burst));
            let somebody = named(&format!("{rate} {burst}"));
            limits.admit(&somebody, here, 0).unwrap();
            let more = usize::try_from(burst).unwrap() - 1;
            assert_eq!(limits.admit_more(&somebody, here, more), Ok(()));
        }
    }
}

#[test]
fn a_request_of_a_stream_counts_as_many_as_it_holds() {
    let [limits, _] = two(requests(1, 10));
    let (somebody, here) = (named("a"), address("10.0.0.1"));
    let mut meter = limits.meter(&somebody, here);
    let mut nobody = Context::from_waker(std::task::Waker::noop());
    let admitted = limits.poll_admit_many(&mut meter, &mut nobody, 0, 100_000);
    assert!(admitted.is_ready(), "the bucket was full");
    let reached = limits.admit(&somebody, here, 0).unwrap_err();
    assert!(reached.retry_after.unwrap() > Duration::from_secs(3_600));
}

#[test]
fn subscriptions_of_a_client_are_bounded_on_all_executors_together() {
    let [a, b] = two(Settings {
        subscriptions_per_client: 2,
        ..Settings::default()
    });
    let first = a.subscription("client").unwrap();
    let _second = b.subscription("client").unwrap();
    let refused = b.subscription("client").unwrap_err();
    assert_eq!(
        refused.to_string(),
        "limit reached: limits.subscriptions_per_client"
    );
    assert!(a.subscription("another").is_ok());
    drop(first);
    assert!(b.subscription("client").is_ok());
}

#[test]
fn a_stream_over_its_rate_waits_and_goes_on() {
    let (tx, rx) = mpsc::channel();
    let plan = Plan {
        cpu: None,
        spin: None,
    };
    let executors = start(&[plan], vec![tx], |_, tx: mpsc::Sender<_>| async move {
        let limits = Limits::new(requests(200, 20), Arc::default());
        let slowed = Rc::new(Cell::new(0));
        let counts = slowed.clone();
        limits.on_reached(move |_| counts.set(counts.get() + 1));
        let mut meter = limits.meter(&named("a"), address("::1"));
        let began = rt::now();
        for _ in 0..60 {
            std::future::poll_fn(|cx| limits.poll_admit(&mut meter, cx, 100)).await;
        }
        tx.send((rt::now().since(began), slowed.get())).unwrap();
    });
    let executors = executors.expect("an executor");
    let (took, slowed) = rx.recv_timeout(PATIENCE).expect("the stream goes on");
    executors.join();
    // Twenty at once, the others in a fifth of a second.
    assert!(took >= Duration::from_millis(190), "{took:?}");
    assert!(slowed <= 40, "{slowed}");
}

#[test]
fn limits_change_while_the_broker_runs() {
    let limits = Limits::default();
    let (somebody, here) = (named("a"), address("::1"));
    assert_eq!(passing(&limits, &somebody, here), 50);
    limits.set(requests(1, 1));
    assert!(passing(&limits, &somebody, here) < 50);
    limits.set(Settings::default());
    assert_eq!(passing(&limits, &somebody, here), 50);
}
