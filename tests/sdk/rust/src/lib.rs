//! What the tests of the official Rust SDK share: clients of the broker at `RINGMQ_ADDRESS`, names
//! of their own, and subscriptions that are active when they are returned.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use kubemq::{
    Command, CommandReceive, CommandReplyBuilder, ErrorCode, Event, EventReceive, EventStore,
    EventStoreReceive, EventsStoreSubscription, KubemqClient, KubemqError, Query, QueryReceive,
    QueryReplyBuilder, Subscription,
};

/// Within this time whatever must happen has happened, on a slow and busy machine too.
pub const DEADLINE: Duration = Duration::from_secs(40);

/// By how much an answer with a fixed time may be late. It may never be early.
pub const LATE: Duration = Duration::from_millis(1500);

/// The body of events and requests that only find out whether a subscription is active.
const WARM_UP: &[u8] = b"warm up";

type Done = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Connects to the broker.
pub async fn client(id: &str) -> KubemqClient {
    let address = std::env::var("RINGMQ_ADDRESS").expect("RINGMQ_ADDRESS names a running broker");
    let (host, port) = address
        .rsplit_once(':')
        .expect("RINGMQ_ADDRESS is host:port");
    KubemqClient::builder()
        .host(host)
        .port(port.parse().expect("a port"))
        .client_id(id)
        .check_connection(true)
        .build()
        .await
        .expect("the broker answers")
}

/// Makes a channel name that no other test uses.
pub fn channel(label: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .expect("after 1970");
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!(
        "rust-{:x}-{}-{count}-{label}",
        now.as_nanos(),
        std::process::id()
    )
}

/// Polls a condition until it gives a value.
pub async fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let polling = async {
        loop {
            if let Some(value) = condition() {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(DEADLINE, polling)
        .await
        .unwrap_or_else(|_| panic!("not in time: {what}"))
}

/// What a callback of the SDK has seen, in order.
#[derive(Debug)]
pub struct Seen<T>(Arc<Mutex<Vec<T>>>);

impl<T> Clone for Seen<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Seen<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: Clone> Seen<T> {
    /// Adds what has arrived.
    pub fn push(&self, value: T) {
        self.0.lock().expect("no panic while locked").push(value);
    }

    /// Returns all that has arrived.
    pub fn all(&self) -> Vec<T> {
        self.0.lock().expect("no panic while locked").clone()
    }

    /// Returns how many have arrived.
    pub fn count(&self) -> usize {
        self.0.lock().expect("no panic while locked").len()
    }

    /// Waits until `count` have arrived, and returns all.
    pub async fn wait(&self, count: usize) -> Vec<T> {
        eventually(&format!("{count} messages"), || {
            (self.count() >= count).then(|| self.all())
        })
        .await
    }
}

/// A subscription with what it has received. Dropping it ends the subscription.
#[derive(Debug)]
pub struct Subscribed<T> {
    /// What has arrived.
    pub seen: Seen<T>,
    /// The errors that the SDK has reported.
    pub errors: Seen<String>,
    /// The SDK's handle.
    pub handle: Subscription,
}

/// Subscribes to events; active on return. `probe` is a channel that the subscription matches.
pub async fn events(
    client: &KubemqClient,
    pattern: &str,
    group: &str,
    probe: &str,
) -> Subscribed<EventReceive> {
    let (seen, warm, errors) = (Seen::default(), Seen::default(), Seen::default());
    let (take, took, failed) = (seen.clone(), warm.clone(), errors.clone());
    let handle = client
        .subscribe_to_events(
            pattern,
            group,
            move |event: EventReceive| {
                if event.body == WARM_UP {
                    took.push(())
                } else {
                    take.push(event)
                }
                done()
            },
            Some(Box::new(move |error: KubemqError| {
                failed.push(error.to_string());
                done()
            })),
        )
        .await
        .expect("subscribed");
    // The SDK does not say when the subscription is active: events tell.
    let polling = async {
        while warm.count() == 0 {
            let event = Event::builder().channel(probe).body(WARM_UP).build();
            client.send_event(event).await.expect("sent");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, polling)
        .await
        .expect("the subscription becomes active");
    Subscribed {
        seen,
        errors,
        handle,
    }
}

/// Subscribes to stored events. Whether it is active yet is not known when this returns: what is
/// stored waits for it, unless it asks for new events only.
pub async fn stored(
    client: &KubemqClient,
    channel: &str,
    group: &str,
    start: EventsStoreSubscription,
) -> Subscribed<EventStoreReceive> {
    let (seen, errors) = (Seen::default(), Seen::default());
    let (take, failed) = (seen.clone(), errors.clone());
    let handle = client
        .subscribe_to_events_store(
            channel,
            group,
            start,
            move |event: EventStoreReceive| {
                take.push(event);
                done()
            },
            Some(Box::new(move |error: KubemqError| {
                failed.push(error.to_string());
                done()
            })),
        )
        .await
        .expect("subscribed");
    Subscribed {
        seen,
        errors,
        handle,
    }
}

/// Stores events one by one.
pub async fn store(client: &KubemqClient, channel: &str, bodies: impl IntoIterator<Item = String>) {
    for body in bodies {
        let event = EventStore::builder().channel(channel).body(body).build();
        let result = client.send_event_store(event).await.expect("answered");
        assert!(result.sent, "{}", result.error);
    }
}

/// Answers the commands of a channel as `reply` says; active on return.
pub async fn commands(
    client: &KubemqClient,
    channel: &str,
    group: &str,
    reply: impl Fn(&CommandReceive) -> CommandReplyBuilder + Send + Sync + 'static,
) -> Subscribed<CommandReceive> {
    let (seen, errors) = (Seen::default(), Seen::default());
    let (take, failed, responder) = (seen.clone(), errors.clone(), client.clone());
    let handle = client
        .subscribe_to_commands(
            channel,
            group,
            move |command: CommandReceive| {
                let reply = reply(&command)
                    .request_id(&command.id)
                    .response_to(&command.response_to);
                let (responder, failed) = (responder.clone(), failed.clone());
                if command.body != WARM_UP {
                    take.push(command);
                }
                Box::pin(async move {
                    if let Err(error) = responder.send_command_response(reply.build()).await {
                        failed.push(error.to_string());
                    }
                })
            },
            None,
        )
        .await
        .expect("subscribed");
    warm_up(|| client.send_command_simple(channel, WARM_UP, Duration::from_millis(500))).await;
    Subscribed {
        seen,
        errors,
        handle,
    }
}

/// Answers the queries of a channel as `reply` says; active on return.
pub async fn queries(
    client: &KubemqClient,
    channel: &str,
    group: &str,
    reply: impl Fn(&QueryReceive) -> QueryReplyBuilder + Send + Sync + 'static,
) -> Subscribed<QueryReceive> {
    let (seen, errors) = (Seen::default(), Seen::default());
    let (take, failed, responder) = (seen.clone(), errors.clone(), client.clone());
    let handle = client
        .subscribe_to_queries(
            channel,
            group,
            move |query: QueryReceive| {
                let reply = reply(&query)
                    .request_id(&query.id)
                    .response_to(&query.response_to);
                let (responder, failed) = (responder.clone(), failed.clone());
                if query.body != WARM_UP {
                    take.push(query);
                }
                Box::pin(async move {
                    if let Err(error) = responder.send_query_response(reply.build()).await {
                        failed.push(error.to_string());
                    }
                })
            },
            None,
        )
        .await
        .expect("subscribed");
    warm_up(|| client.send_query_simple(channel, WARM_UP, Duration::from_millis(500))).await;
    Subscribed {
        seen,
        errors,
        handle,
    }
}

/// Sends until somebody answers: the SDK does not say when a responder is subscribed.
async fn warm_up<T, F: Future<Output = kubemq::Result<T>>>(send: impl Fn() -> F) {
    let polling = async {
        while let Err(error) = send().await {
            assert_timeout(&error);
        }
    };
    tokio::time::timeout(DEADLINE, polling)
        .await
        .expect("the responder becomes active");
}

/// Checks that an error is the broker's timeout of a request.
pub fn assert_timeout(error: &KubemqError) {
    assert_eq!(
        error.to_string(),
        "fatal error: Error 301: timeout for request message"
    );
    assert_eq!(error.code(), ErrorCode::Fatal);
    assert!(!error.is_retryable());
}

/// Returns a query with a body.
pub fn query(channel: &str, body: &[u8]) -> kubemq::QueryBuilder {
    Query::builder()
        .channel(channel)
        .body(body)
        .timeout(Duration::from_secs(20))
}

/// Returns a command with a body.
pub fn command(channel: &str, body: &[u8]) -> kubemq::CommandBuilder {
    Command::builder()
        .channel(channel)
        .body(body)
        .timeout(Duration::from_secs(20))
}

fn done() -> Done {
    Box::pin(std::future::ready(()))
}
