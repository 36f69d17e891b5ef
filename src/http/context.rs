//! What the handlers of one executor work with.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use super::snapshot::SharedSnapshot;
use crate::config::Config;
use crate::model::identity::CertificateNames;
use crate::rt::heartbeat::Watch;
use crate::security::Security;
use crate::shard::Shard;
use crate::wire::server::{ConnectionControl, Service, Settings};

/// Facts of the process that do not change.
#[derive(Clone, Debug)]
pub struct Process {
    /// The node's name as `Ping` tells it.
    pub host: Arc<str>,
    /// The machine's host name.
    pub machine: Arc<str>,
    /// When the broker was started: nanoseconds since 1970.
    pub started_at_ns: i64,
    /// Executors, and so shards.
    pub executors: u16,
    /// What the heartbeat has seen of each executor, in their order.
    pub watches: Arc<[Arc<Watch>]>,
}

/// What handlers work with; one for each executor and configuration, shared there by `Rc`.
#[derive(Clone)]
pub struct Context {
    /// The shard of this executor.
    pub shard: Rc<Shard>,
    /// The service whose calls REST and the sockets make.
    pub service: Rc<dyn Service>,
    /// Who may do what; the same as the service goes by.
    pub security: Rc<Security>,
    /// The configuration that counts now.
    pub config: Arc<Config>,
    /// Facts of the process.
    pub process: Process,
    /// Bounds of calls inside the process.
    pub wire: Rc<Settings>,
    /// The document that all viewers of this core share.
    pub(crate) snapshot: Rc<SharedSnapshot>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("shard", &self.shard)
            .finish_non_exhaustive()
    }
}

/// The context of an executor, which a reload replaces. A request goes by the one that it began
/// with.
#[derive(Debug)]
pub struct Contexts {
    current: RefCell<Rc<Context>>,
}

impl Contexts {
    /// Begins with this one.
    #[must_use]
    pub fn new(context: Context) -> Self {
        Self {
            current: RefCell::new(Rc::new(context)),
        }
    }

    /// The one that counts now.
    #[must_use]
    pub fn current(&self) -> Rc<Context> {
        self.current.borrow().clone()
    }

    /// Lets requests that come from now on go by another configuration.
    pub fn reconfigure(&self, config: &Arc<Config>) {
        let mut context = Context::clone(&self.current.borrow());
        context.config = config.clone();
        *self.current.borrow_mut() = Rc::new(context);
    }
}

impl Context {
    /// A client for what this peer asks.
    pub(crate) fn client(
        &self,
        peer: SocketAddr,
        certificate: Option<Rc<CertificateNames>>,
        control: ConnectionControl,
    ) -> crate::wire::local::LocalClient {
        let (service, wire) = (self.service.clone(), self.wire.clone());
        crate::wire::local::LocalClient::certified(service, peer, certificate, wire, control)
    }
}
