//! The ports of the broker: which are open, and who accepts on them.

mod early;

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;

use serde::Serialize;

use super::executor::{Control, Port};
use super::{Failed, exit};
use crate::config::Config;
use crate::http;
use crate::net::{Acceptor, Addresses as PeerAddresses, Loads};
use crate::rt::inbox::InboxSender;
use crate::wire::tls::ServerTls;

use early::Early;

/// Where the broker listens, as `server.addresses_file` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Addresses {
    /// The gRPC service.
    pub grpc: SocketAddr,
    /// REST and WebSocket, if it is served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rest: Option<SocketAddr>,
    /// The management port, if it is served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api: Option<SocketAddr>,
}

/// Connections that the management port may have: those of people and of a few programs.
const API_CONNECTIONS_MAX: usize = 1024;

/// The connections of each port, so that a flood of one leaves room on the others.
#[derive(Clone, Debug)]
pub(super) struct PortLoads {
    grpc: Loads,
    rest: Loads,
    api: Loads,
    addresses: PeerAddresses,
}

impl PortLoads {
    /// `addresses` counts the connections of each address over all ports.
    pub(super) fn new(executors: usize, config: &Config, addresses: PeerAddresses) -> Self {
        let of_port = |max| Loads::new(executors, max).with_addresses(addresses.clone());
        Self {
            grpc: of_port(config.grpc.max_connections),
            rest: of_port(config.rest.max_connections),
            api: of_port(API_CONNECTIONS_MAX),
            addresses,
        }
    }

    /// Connections that are open.
    pub(super) fn total(&self) -> usize {
        self.all().map(Loads::total).sum()
    }

    /// Connections that were refused because their port or their address had as many as it may.
    pub(super) fn refused(&self) -> u64 {
        self.all().map(Loads::refused).sum::<u64>() + self.addresses.refused()
    }

    fn all(&self) -> impl Iterator<Item = &Loads> {
        [&self.grpc, &self.rest, &self.api].into_iter()
    }

    const fn of(&self, port: Port) -> &Loads {
        match port {
            Port::Grpc => &self.grpc,
            Port::Http(http::Port::Rest) => &self.rest,
            Port::Http(http::Port::Api) => &self.api,
        }
    }
}

/// Ports that are bound and on which nobody accepts yet: who connects, waits.
pub(super) struct Ports(Vec<(Port, TcpListener, SocketAddr)>);

/// Binds every port that is served.
pub(super) fn bind(config: &Config) -> Result<Ports, Failed> {
    let everywhere = config.server.bind;
    let (rest, api) = (&config.rest, &config.api);
    let wanted = [
        (Port::Grpc, true, everywhere, config.grpc.port),
        (
            Port::Http(http::Port::Rest),
            rest.enable,
            rest.bind.unwrap_or(everywhere),
            rest.port,
        ),
        (
            Port::Http(http::Port::Api),
            api.enable,
            api.bind.unwrap_or(everywhere),
            api.port,
        ),
    ];
    let wanted = wanted.into_iter().filter(|(_, served, ..)| *served);
    let bound = wanted.map(|(port, _, address, number)| {
        let (listener, address) = bind_one(port, address, number)?;
        Ok((port, listener, address))
    });
    Ok(Ports(bound.collect::<Result<_, _>>()?))
}

fn bind_one(port: Port, address: IpAddr, number: u16) -> Result<(TcpListener, SocketAddr), Failed> {
    Acceptor::bind(SocketAddr::new(address, number)).map_err(|error| {
        let (flag, variable) = match port {
            Port::Grpc => ("--grpc-port", "GRPC_PORT"),
            Port::Http(http::Port::Rest) => ("--rest-port", "REST_PORT"),
            Port::Http(http::Port::Api) => ("--api-port", "API_PORT"),
        };
        Failed::new(exit::UNAVAILABLE, &error).with_remedy(&format!(
            "Another process holds the port (ss -ltnp); stop it or choose another with {flag} or \
             {variable}."
        ))
    })
}

impl Ports {
    /// Where they are.
    pub(super) fn addresses(&self) -> Addresses {
        let find = |wanted| {
            let found = self.0.iter().find(|(port, ..)| *port == wanted);
            found.map(|(_, _, address)| *address)
        };
        let unspecified = SocketAddr::new(IpAddr::from([0, 0, 0, 0]), 0);
        Addresses {
            grpc: find(Port::Grpc).unwrap_or(unspecified),
            rest: find(Port::Http(http::Port::Rest)),
            api: find(Port::Http(http::Port::Api)),
        }
    }

    /// Tells those who watch the broker that it is not ready, until the answer is dropped.
    pub(super) fn answer_early(
        &self,
        tls: Option<Arc<ServerTls>>,
    ) -> Result<Option<Early>, Failed> {
        let api = Port::Http(http::Port::Api);
        let found = self.0.iter().find(|(port, ..)| *port == api);
        let started = found.map(|(_, listener, _)| Early::start(listener, tls));
        let started = started.transpose();
        started.map_err(|error| Failed::new(exit::UNAVAILABLE, &error))
    }

    /// Starts to accept: connections go to the executor that has the fewest of that port.
    pub(super) fn accept(
        self,
        inboxes: &[InboxSender<Control>],
        loads: &PortLoads,
    ) -> Result<Vec<Acceptor>, Failed> {
        let started = self.0.into_iter().map(|(port, listener, _)| {
            let targets = inboxes.to_vec();
            let started = Acceptor::start(
                listener,
                loads.of(port).clone(),
                move |executor, stream, peer, load| {
                    let accepted = Control::Accepted {
                        port,
                        stream,
                        peer,
                        load,
                    };
                    targets
                        .get(executor)
                        .is_some_and(|inbox| inbox.send(accepted).is_ok())
                },
            );
            started.map_err(|error| Failed::new(exit::UNAVAILABLE, &error))
        });
        started.collect()
    }
}
