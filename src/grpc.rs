//! The gRPC service: one file for each family of methods; contract to model and back.
//!
//! Nothing below this module knows the contract. A call is decoded by scanning its bytes, checked,
//! handed to the shard, and answered with bytes that were encoded once. Refusals become the texts
//! that clients know in [`crate::wire_error`].

pub mod codec;
mod event_stream;
mod events;
mod gate;
pub mod health;
mod management;
mod observe;
mod queues;
pub mod reflection;
mod requests;
mod routed;
mod stored_subscription;
mod subscription;
mod system;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

pub use codec::queue::{QueueLimits, queue_framing};
pub use observe::report_encoding;

use crate::notifications::Notifications;
use crate::rt;
use crate::security::Security;
use crate::shard::{Framing, Shard};
use crate::spans::Spans;
use crate::wire::server::{Call, Service};
use crate::wire::status::{Code, Status};
use crate::wire_error::Refusal;

use gate::{Gate, Lives};
use observe::{Observer, Watch};
use reflection::Reflection;
use stored_subscription::Pacer;

/// What the broker tells of itself.
#[derive(Clone, Debug)]
pub struct ServerInfo {
    /// The node's name.
    pub host: String,
    /// When the broker was started: seconds since 1970, as the SDKs expect.
    pub started_at_seconds: i64,
}

/// How stored events become what their subscribers get.
#[must_use]
pub fn stored_framing() -> Framing {
    use codec::event::{append_event_suffix, begin_stored_event_frame};
    Framing {
        before: |stored_bytes, timestamp_ns, sequence, out| {
            begin_stored_event_frame(stored_bytes, timestamp_ns.cast_signed(), sequence, out);
        },
        after: |timestamp_ns, sequence, out| {
            append_event_suffix(timestamp_ns.cast_signed(), sequence, out);
        },
    }
}

/// The service of one executor.
pub struct GrpcService {
    shard: Rc<Shard>,
    info: Rc<ServerInfo>,
    reflection: Rc<Reflection>,
    active: Rc<Cell<usize>>,
    pacer: Rc<Pacer>,
    queue_limits: RefCell<Rc<QueueLimits>>,
    notifications: Option<Rc<Notifications>>,
    spans: Option<Rc<Spans>>,
    observer: Rc<Observer>,
    security: Rc<Security>,
}

impl std::fmt::Debug for GrpcService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GrpcService")
            .field("shard", &self.shard)
            .finish_non_exhaustive()
    }
}

impl GrpcService {
    /// Makes the service of a shard's executor.
    #[must_use]
    pub fn new(shard: Rc<Shard>, info: ServerInfo) -> Self {
        Self {
            observer: Rc::new(Observer::new(shard.clone(), None, None)),
            shard,
            info: Rc::new(info),
            reflection: Rc::new(Reflection::new(ringmq_proto::FILE_DESCRIPTOR_SET)),
            active: Rc::default(),
            pacer: Rc::default(),
            queue_limits: RefCell::default(),
            notifications: None,
            spans: None,
            security: Rc::default(),
        }
    }

    /// Sets the rules that every call goes by; otherwise there are none.
    #[must_use]
    pub fn with_security(mut self, security: Rc<Security>) -> Self {
        self.security = security;
        self
    }

    /// Sets what the contract bounds; otherwise it is what clients know as defaults.
    #[must_use]
    pub fn with_queue_limits(self, limits: QueueLimits) -> Self {
        self.set_queue_limits(limits);
        self
    }

    /// Sets what the calls that come from now on are bounded by.
    pub fn set_queue_limits(&self, limits: QueueLimits) {
        *self.queue_limits.borrow_mut() = Rc::new(limits);
    }

    /// Sets where the records of accesses go; otherwise none are made.
    #[must_use]
    pub fn with_notifications(mut self, notifications: Rc<Notifications>) -> Self {
        self.notifications = Some(notifications);
        self.observed()
    }

    /// Sets where spans go; otherwise none are made.
    #[must_use]
    pub fn with_spans(mut self, spans: Option<Rc<Spans>>) -> Self {
        self.spans = spans;
        self.observed()
    }

    fn observed(mut self) -> Self {
        let (notifications, spans) = (self.notifications.clone(), self.spans.clone());
        self.observer = Rc::new(Observer::new(self.shard.clone(), notifications, spans));
        self
    }

    /// Work that a drain waits for: unary calls, streams whose events are being stored, and
    /// stored events whose way to the client is not confirmed.
    #[must_use]
    pub fn active_calls(&self) -> usize {
        self.active.get()
    }

    fn begin(&self) -> Active {
        Active::new(&self.active)
    }

    fn busy(&self) -> Busy {
        Busy {
            active: self.active.clone(),
            held: None,
        }
    }

    fn kubemq(&self, method: &str, call: Call) {
        let (shard, limits) = (self.shard.clone(), self.queue_limits.borrow().clone());
        if method == "Ping" {
            let ping = system::ping(shard, self.info.clone(), call, self.begin());
            return rt::spawn_call("Ping", ping);
        }
        let gate = match Gate::open(&self.security, &call, lives(method)) {
            Ok(gate) => gate,
            Err(refusal) => return refuse(&shard, call, refusal),
        };
        let watch = self.observer.watch(&call, gate);
        match method {
            "SendEvent" => {
                let send = events::send_event(shard, limits, watch, call, self.begin());
                rt::spawn_call("SendEvent", send);
            }
            "SendEventsStream" => {
                let stream =
                    event_stream::send_events_stream(shard, limits, watch, self.busy(), call);
                rt::spawn_call("SendEventsStream", stream);
            }
            "SubscribeToEvents" => {
                let (pacer, busy) = (self.pacer.clone(), self.busy());
                let subscription = events::subscribe(shard, pacer, watch, busy, call);
                rt::spawn_call("SubscribeToEvents", subscription);
            }
            "SubscribeToRequests" => {
                let subscription =
                    subscription::take(shard, watch, call, requests::check_subscribe);
                rt::spawn_call("SubscribeToRequests", subscription);
            }
            "SendRequest" => {
                let request = requests::send_request(shard, watch, call, self.begin());
                rt::spawn_call("SendRequest", request);
            }
            "SendResponse" => {
                let response = requests::send_response(shard, watch, call, self.begin());
                rt::spawn_call("SendResponse", response);
            }
            method => self.queues(method, watch, call),
        }
    }

    fn queues(&self, method: &str, watch: Watch, call: Call) {
        let (shard, limits) = (self.shard.clone(), self.queue_limits.borrow().clone());
        match method {
            "SendQueueMessage" => {
                let send = queues::send_message(shard, limits, watch, call, self.begin());
                rt::spawn_call("SendQueueMessage", send);
            }
            "SendQueueMessagesBatch" => {
                let send = queues::send_batch(shard, limits, watch, call, self.begin());
                rt::spawn_call("SendQueueMessagesBatch", send);
            }
            "ReceiveQueueMessages" => {
                let receive = queues::receive(shard, limits, watch, call, self.begin());
                rt::spawn_call("ReceiveQueueMessages", receive);
            }
            "AckAllQueueMessages" => {
                let ack_all = queues::ack_all(shard, limits, watch, call, self.begin());
                rt::spawn_call("AckAllQueueMessages", ack_all);
            }
            "QueuesUpstream" => {
                let upstream = queues::upstream(shard, limits, watch, self.busy(), call);
                rt::spawn_call("QueuesUpstream", upstream);
            }
            "QueuesDownstream" => {
                let downstream = queues::queues_downstream(shard, watch, self.busy(), call);
                rt::spawn_call("QueuesDownstream", downstream);
            }
            "StreamQueueMessage" => {
                let stream = queues::stream_queue_message(shard, limits, watch, self.busy(), call);
                rt::spawn_call("StreamQueueMessage", stream);
            }
            "QueuesInfo" => {
                let info = queues::info(shard, watch, call, self.begin());
                rt::spawn_call("QueuesInfo", info);
            }
            method => refuse(&self.shard, call, unknown_method("kubemq.kubemq", method)),
        }
    }
}

impl Service for GrpcService {
    fn call(&self, call: Call) {
        self.shard.counters.streams_opened.increment();
        let path = call.path().to_owned();
        let Some((service, method)) = path.strip_prefix('/').and_then(|p| p.rsplit_once('/'))
        else {
            let path = path.into();
            return refuse(&self.shard, call, Refusal::MalformedMethod { path });
        };
        match service {
            "kubemq.kubemq" => self.kubemq(method, call),
            "grpc.health.v1.Health" => system::health(&self.shard, method, call),
            "grpc.reflection.v1.ServerReflection" | "grpc.reflection.v1alpha.ServerReflection" => {
                match Gate::open(&self.security, &call, Lives::On) {
                    Ok(gate) => {
                        let reflection = self.reflection.clone();
                        system::reflection(&self.shard, gate, reflection, service, method, call);
                    }
                    Err(refusal) => refuse(&self.shard, call, refusal),
                }
            }
            service => {
                let service = service.into();
                refuse(&self.shard, call, Refusal::UnknownService { service });
            }
        }
    }
}

/// Which calls go on for as long as their callers like.
fn lives(method: &str) -> Lives {
    match method {
        "SendEventsStream"
        | "SubscribeToEvents"
        | "SubscribeToRequests"
        | "QueuesUpstream"
        | "QueuesDownstream"
        | "StreamQueueMessage"
        // It may wait for an hour.
        | "ReceiveQueueMessages" => Lives::On,
        _ => Lives::Briefly,
    }
}

/// Refuses a call before it began.
fn refuse(shard: &Shard, call: Call, refusal: Refusal) {
    let (_, responder) = call.into_parts();
    responder.refuse(refused(shard, refusal));
}

/// Counts a refusal and makes it a status.
fn refused(shard: &Shard, refusal: Refusal) -> Status {
    let counters = &shard.counters;
    let counter = match refusal {
        Refusal::MeshFull | Refusal::BuffersFull => &counters.refusals_mesh_full,
        Refusal::ClientIdInUse => &counters.refusals_client_id,
        Refusal::StoredTooLarge { .. } => &counters.refusals_too_large,
        Refusal::ReceiverLimit { .. }
        | Refusal::ChannelLimit { .. }
        | Refusal::MessagesLimit { .. }
        | Refusal::BytesLimit { .. }
        | Refusal::CursorLimit { .. } => &counters.refusals_store_limit,
        Refusal::StoreBusy => &counters.refusals_store_busy,
        Refusal::StoreFull => &counters.refusals_disk_full,
        Refusal::StoreFailed => &counters.refusals_log_failed,
        Refusal::PendingRequestsFull => &counters.refusals_pending_full,
        Refusal::ShuttingDown | Refusal::NotReady => &counters.refusals_shutdown,
        Refusal::Unauthenticated(_) | Refusal::TokenExpired | Refusal::CredentialsWithdrawn => {
            &counters.refusals_unauthenticated
        }
        Refusal::AccessDenied | Refusal::ClientIdBound { .. } => &counters.refusals_denied,
        Refusal::LimitReached { .. } => &counters.refusals_limit,
        Refusal::Overloaded { .. } => &counters.refusals_overload,
        _ if refusal.code() == Code::Unimplemented => &counters.refusals_unimplemented,
        _ => &counters.refusals_invalid,
    };
    counter.increment();
    refusal.into()
}

/// The status of a stream that the broker ends. The broker's own end is no refusal.
fn ended(shard: &Shard, refusal: Refusal) -> Status {
    match refusal {
        Refusal::ShuttingDown | Refusal::ChannelDeleted => refusal.into(),
        refusal => refused(shard, refusal),
    }
}

fn unknown_method(service: &str, method: &str) -> Refusal {
    Refusal::UnknownMethod {
        service: service.into(),
        method: method.into(),
    }
}

/// Work in progress: a unary call, or what a stream has to finish.
struct Active(Rc<Cell<usize>>);

impl Active {
    fn new(active: &Rc<Cell<usize>>) -> Self {
        active.set(active.get() + 1);
        Self(active.clone())
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

/// Whether a stream has work that a drain waits for; at first it has none.
struct Busy {
    active: Rc<Cell<usize>>,
    held: Option<Active>,
}

impl Busy {
    fn set(&mut self, busy: bool) {
        if busy != self.held.is_some() {
            self.held = busy.then(|| Active::new(&self.active));
        }
    }
}
