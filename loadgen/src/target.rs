//! The server, and how it is reached.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, ensure};
use ringmq::wire::client::{CallOptions, ClientSettings};
use ringmq::wire::tls::{ClientTls, ClientTlsSettings};

/// A server that speaks the contract.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Where it listens; connections are spread over these. Never empty.
    pub addresses: Vec<SocketAddr>,
    /// As the user named it.
    pub name: String,
    /// Certificates and names, read once. `None`: without encryption.
    pub tls: Option<Arc<ClientTls>>,
    /// Goes with each call.
    pub token: Option<String>,
    /// Its process, when it runs on this machine: CPU time and memory are read.
    pub pid: Option<u32>,
}

/// How a connection is encrypted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tls {
    /// Certificates that are trusted; `None`: those of the system.
    pub ca: Option<PathBuf>,
    /// What the generator shows, with its key.
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// The name in the server's certificate; `None`: the host as given.
    pub server_name: Option<String>,
    /// Any certificate is taken.
    pub insecure: bool,
}

impl Target {
    /// A server by the names of its addresses, `host:port` each. Names are resolved here, once:
    /// executors never wait for that.
    pub(crate) fn resolve(names: &[String]) -> anyhow::Result<Self> {
        ensure!(!names.is_empty(), "--address: at least one is needed");
        let mut addresses = Vec::new();
        for name in names {
            let found = name.to_socket_addrs().with_context(|| {
                format!("--address {name}: neither an address nor a known name, as host:port")
            })?;
            // Of a name with several addresses the first one: each given name is one server.
            let first = found.into_iter().next();
            addresses.push(first.with_context(|| format!("--address {name}: no address found"))?);
        }
        Ok(Self {
            addresses,
            name: names.join(","),
            tls: None,
            token: None,
            pid: None,
        })
    }

    /// The same server over encrypted connections. Reads the files; executors never wait for that.
    ///
    /// # Errors
    /// Which file or name is at fault.
    pub(crate) fn encrypted(mut self, tls: Tls) -> anyhow::Result<Self> {
        let first = self.name.split(',').next().unwrap_or_default();
        let host = first.rsplit_once(':').map_or(first, |(host, _port)| host);
        let settings = ClientTlsSettings {
            ca: tls.ca,
            certificate: tls.certificate,
            key: tls.key,
            insecure: tls.insecure,
            ..ClientTlsSettings::new(tls.server_name.as_deref().unwrap_or(host))
        };
        let tls = ClientTls::load(&settings).context("tls")?;
        if tls.is_insecure() {
            // The name is in the head of every report.
            self.name.push_str(" (certificate not verified)");
        }
        self.tls = Some(Arc::new(tls));
        Ok(self)
    }

    /// What each connection is made with.
    pub(crate) fn client_settings(&self) -> anyhow::Result<ClientSettings> {
        Ok(ClientSettings {
            tls: self.tls.clone(),
            ..ClientSettings::default()
        })
    }

    /// What goes with each call: the token.
    pub(crate) fn call_options(&self) -> CallOptions {
        let options = CallOptions::default();
        match &self.token {
            Some(token) => options.metadata("authorization", token),
            None => options,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Target;

    fn resolve(name: &str) -> anyhow::Result<Target> {
        Target::resolve(&[name.to_owned()])
    }

    #[test]
    fn addresses_and_names_are_resolved() {
        let target = resolve("127.0.0.1:50000").unwrap();
        assert_eq!(target.addresses, ["127.0.0.1:50000".parse().unwrap()]);
        assert_eq!(target.name, "127.0.0.1:50000");
        assert_eq!(resolve("[::1]:1").unwrap().addresses.len(), 1);
        assert!(
            resolve("localhost:50000").unwrap().addresses[0]
                .ip()
                .is_loopback()
        );
    }

    #[test]
    fn an_address_without_a_port_says_what_is_missing() {
        let error = resolve("127.0.0.1").unwrap_err();
        assert!(format!("{error:#}").contains("host:port"), "{error:#}");
        assert!(Target::resolve(&[]).is_err());
    }

    #[test]
    fn the_token_goes_with_each_call() {
        let mut target = resolve("127.0.0.1:1").unwrap();
        assert!(target.call_options().metadata.is_empty());
        target.token = Some("a-token".into());
        assert_eq!(target.call_options().metadata["authorization"], "a-token");
    }
}
