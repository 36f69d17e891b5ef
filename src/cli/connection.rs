//! The connection of a command to a broker: the flags that name it, and the calls over it.
//!
//! A command is an asynchronous function over a [`Session`]. It runs on an executor of its own
//! thread; the main thread waits for its outcome, so that the process can end while a blocking
//! thread still waits for the next line of the standard input.

use std::fmt::Display;
use std::future::Future;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use prost::Message;
use ringmq_proto::kubemq::request::RequestType;
use ringmq_proto::kubemq::{Request, Response};
use ringmq_proto::method;

use super::failure::Failure;
use super::output::Output;
use super::parse;
use super::stop::Stop;
use crate::rt::start::{Plan, start as start_executors};
use crate::telemetry::with_sources;
use crate::wire::client::{CallOptions, Client, ClientSender, ClientSettings, ClientStream};
use crate::wire::status::{Code, Status};
use crate::wire::tls::{ClientTls, ClientTlsSettings};

const MANAGEMENT_CHANNEL: &str = "kubemq.cluster.internal.requests";

/// The name under which we send and ask, unless the user says another.
const CLIENT_ID: &str = "ringmq-cli";

/// How long an answer may take, unless the user says otherwise.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long connecting may take at most.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// How the broker is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Connection")]
pub(super) struct ConnectionArgs {
    /// Host, or host and port of the gRPC service [default: 127.0.0.1 and the setting grpc.port]
    /// [env: RINGMQ_ADDRESS]
    #[arg(long, global = true, value_name = "HOST[:PORT]")]
    address: Option<String>,
    /// Host, or host and port of the management service [default: the host above and the setting
    /// api.port] [env: RINGMQ_API]
    #[arg(long, global = true, value_name = "HOST[:PORT]")]
    api: Option<String>,
    /// Token, if the broker asks for one [env: RINGMQ_TOKEN]
    #[arg(long, global = true)]
    token: Option<String>,
    /// The name that the broker knows us by [default: ringmq-cli; random for events-store receive]
    #[arg(long, global = true, value_name = "NAME")]
    client_id: Option<String>,
    /// Encrypt the connection, and believe the authorities of this machine
    #[arg(long, global = true)]
    tls: bool,
    /// PEM file of the authorities to believe instead; means --tls
    #[arg(long, global = true, value_name = "PATH")]
    ca: Option<PathBuf>,
    /// PEM file of the certificate to show; means --tls
    #[arg(long, global = true, value_name = "PATH")]
    cert: Option<PathBuf>,
    /// PEM file of its key [default: it is in the file of the certificate]
    #[arg(long, global = true, value_name = "PATH")]
    key: Option<PathBuf>,
    /// How long an answer may take, as 500ms, 30s or 5m [default: 30s]
    #[arg(long, global = true, value_name = "DURATION", value_parser = parse::duration)]
    timeout: Option<Duration>,
}

/// The ports of a broker whose address leaves them out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ports {
    pub(super) grpc: u16,
    pub(super) api: u16,
}

impl Ports {
    /// The contract's.
    pub(super) const USUAL: Self = Self {
        grpc: 50_000,
        api: 8_080,
    };
}

/// A broker, with all that is known before connecting. Names are resolved: executors never wait
/// for that.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// As the user named it.
    name: String,
    addresses: Vec<SocketAddr>,
    /// Host and port of the management service.
    api: String,
    token: Option<String>,
    client_id: Option<String>,
    tls: Option<Arc<ClientTls>>,
    timeout: Option<Duration>,
}

impl ConnectionArgs {
    /// Whether the address leaves a port to the settings.
    pub(super) fn wants_ports(&self) -> bool {
        self.named_address()
            .is_none_or(|address| !has_port(&address))
    }

    fn named_address(&self) -> Option<String> {
        let variable = || std::env::var("RINGMQ_ADDRESS").ok();
        self.address.clone().or_else(variable)
    }

    /// Resolves names and reads certificates.
    pub(super) fn target(&self, ports: Ports) -> Result<Target, Failure> {
        let named = self.named_address();
        let host = named.as_deref().unwrap_or("127.0.0.1");
        let name = with_port(host, ports.grpc);
        let api = self
            .api
            .clone()
            .or_else(|| std::env::var("RINGMQ_API").ok());
        let api = api.unwrap_or_else(|| without_port(host).to_owned());
        Ok(Target {
            addresses: resolve(&name)?,
            api: with_port(&api, ports.api),
            token: self
                .token
                .clone()
                .or_else(|| std::env::var("RINGMQ_TOKEN").ok()),
            client_id: self.client_id.clone(),
            tls: self.encryption(without_port(host))?,
            timeout: self.timeout,
            name,
        })
    }

    fn encryption(&self, host: &str) -> Result<Option<Arc<ClientTls>>, Failure> {
        if !self.tls && self.ca.is_none() && self.cert.is_none() && self.key.is_none() {
            return Ok(None);
        }
        let settings = ClientTlsSettings {
            ca: self.ca.clone(),
            certificate: self.cert.clone(),
            key: self.key.clone(),
            ..ClientTlsSettings::new(host)
        };
        let tls = ClientTls::load(&settings);
        let tls = tls.map_err(|error| Failure::Usage(with_sources(&error)))?;
        Ok(Some(Arc::new(tls)))
    }
}

/// Splits `host:port`. An address of IPv6 has a port only behind brackets.
fn split(address: &str) -> (&str, Option<&str>) {
    match address.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
        _ => (address, None),
    }
}

fn has_port(address: &str) -> bool {
    split(address).1.is_some()
}

fn without_port(address: &str) -> &str {
    split(address).0
}

fn with_port(address: &str, port: u16) -> String {
    match split(address) {
        (_, Some(_)) => address.to_owned(),
        (host, None) if host.contains(':') && !host.starts_with('[') => format!("[{host}]:{port}"),
        (host, None) => format!("{host}:{port}"),
    }
}

/// The addresses of a `host:port`.
pub(super) fn resolve(name: &str) -> Result<Vec<SocketAddr>, Failure> {
    let wrong = |reason: &dyn Display| Failure::Usage(format!("{name:?} is no address: {reason}"));
    let found = name.to_socket_addrs().map_err(|error| wrong(&error))?;
    let found: Vec<_> = found.collect();
    if found.is_empty() {
        return Err(wrong(&"the name has none"));
    }
    Ok(found)
}

impl Target {
    /// Host and port of the management service.
    pub(super) fn api(&self) -> &str {
        &self.api
    }

    /// How the user named the gRPC service.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    async fn connect(&self) -> Result<Client, Failure> {
        let patience = self
            .timeout
            .unwrap_or(CONNECT_PATIENCE)
            .min(CONNECT_PATIENCE);
        let settings = ClientSettings {
            connect_timeout: patience,
            keepalive_time: Some(Duration::from_secs(30)),
            tls: self.tls.clone(),
            ..ClientSettings::default()
        };
        let mut reason = "it has no address".to_owned();
        for address in &self.addresses {
            match Client::connect(*address, settings.clone()).await {
                Ok(client) => return Ok(client),
                Err(error) => reason = unreachable_reason(&error, patience),
            }
        }
        Err(Failure::Unreachable {
            address: self.name.clone(),
            reason,
        })
    }
}

/// Why nobody answers, in words that are no system call's.
pub(super) fn unreachable_reason(error: &std::io::Error, patience: Duration) -> String {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        ErrorKind::TimedOut | ErrorKind::WouldBlock => format!("no answer within {patience:?}"),
        _ => with_sources(error),
    }
}

/// Starts a command; its outcome comes over the channel.
pub(super) fn start<T, F>(target: Target, output: Output, task: T) -> mpsc::Receiver<Outcome>
where
    T: FnOnce(Session) -> F + Send + 'static,
    F: Future<Output = Outcome> + 'static,
{
    let (tx, rx) = mpsc::channel();
    let plan = Plan {
        cpu: None,
        spin: None,
    };
    let failed = tx.clone();
    let seed = (target, output, task);
    let started = start_executors(&[plan], vec![seed], move |_, (target, output, task)| {
        let tx = tx.clone();
        async move {
            let outcome = match target.connect().await {
                Ok(client) => task(Session::new(client, target, output)).await,
                Err(failure) => Err(failure),
            };
            let _main_waits = tx.send(outcome);
        }
    });
    if let Err(error) = started {
        let _we_receive = failed.send(Err(Failure::Lost(with_sources(&error))));
    }
    rx
}

/// Runs a command to its end.
pub(super) fn run<T, F>(target: Target, output: Output, task: T) -> Outcome
where
    T: FnOnce(Session) -> F + Send + 'static,
    F: Future<Output = Outcome> + 'static,
{
    let ended = |_| Failure::Lost("the command ended early".to_owned());
    start(target, output, task).recv().map_err(ended)?
}

/// How a command ended.
pub(super) type Outcome = Result<(), Failure>;

/// A connection to the broker, on the executor of the command. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Session {
    client: Client,
    target: Target,
    /// Where answers go.
    pub(super) output: Output,
    /// Ctrl-C.
    pub(super) stop: Stop,
}

impl Session {
    fn new(client: Client, target: Target, output: Output) -> Self {
        Self {
            client,
            target,
            output,
            stop: Stop::start(),
        }
    }

    /// The name that the broker knows us by.
    pub(super) fn client_id(&self) -> String {
        self.target
            .client_id
            .clone()
            .unwrap_or_else(|| CLIENT_ID.to_owned())
    }

    /// The same, or one that nobody else has: what the broker remembers of it counts for nobody.
    pub(super) fn client_id_or_random(&self) -> String {
        self.target.client_id.clone().unwrap_or_else(|| {
            let number = getrandom::u64().unwrap_or_default();
            format!("{CLIENT_ID}-{number:016x}")
        })
    }

    /// The broker, as the user named it.
    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// How long an answer may take.
    pub(super) fn patience(&self) -> Duration {
        self.target.timeout.unwrap_or(PATIENCE)
    }

    fn options(&self, timeout: Option<Duration>) -> CallOptions {
        let options = CallOptions {
            timeout,
            ..CallOptions::default()
        };
        match &self.target.token {
            Some(token) => options.metadata("authorization", token),
            None => options,
        }
    }

    /// Makes a call with one message each way.
    pub(super) async fn call<M: Message + Default>(
        &self,
        method: &'static str,
        message: &impl Message,
    ) -> Result<M, Failure> {
        self.call_within(method, message, self.patience()).await
    }

    /// The same with a bound of its own, for what waits at the broker.
    pub(super) async fn call_within<M: Message + Default>(
        &self,
        method: &'static str,
        message: &impl Message,
        timeout: Duration,
    ) -> Result<M, Failure> {
        let options = self.options(Some(timeout));
        let answer = self.client.unary(method, encode(message), &options).await?;
        decode(answer)
    }

    /// Makes a call with one message out and a stream of them in.
    pub(super) fn subscribe(
        &self,
        method: &'static str,
        message: &impl Message,
    ) -> Result<ClientStream, Failure> {
        let options = self.options(None);
        Ok(self
            .client
            .server_stream(method, encode(message), &options)?)
    }

    /// Makes a call with a stream of messages each way.
    pub(super) fn bidi(
        &self,
        method: &'static str,
    ) -> Result<(ClientSender, ClientStream), Failure> {
        Ok(self.client.bidi(method, &self.options(None))?)
    }

    /// Asks the broker to do something with channels; gives the body of its answer.
    pub(super) async fn manage(
        &self,
        operation: &str,
        tags: &[(&str, &str)],
        timeout: Duration,
    ) -> Result<Bytes, Failure> {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let mut tags: std::collections::HashMap<_, _> = tags.iter().map(owned).collect();
        tags.insert("client_id".to_owned(), self.client_id());
        let request = Request {
            request_type_data: RequestType::Query.into(),
            client_id: self.client_id(),
            channel: MANAGEMENT_CHANNEL.to_owned(),
            metadata: operation.to_owned(),
            timeout: i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX),
            tags,
            ..Request::default()
        };
        let response: Response = self
            .call_within(method::SEND_REQUEST, &request, timeout)
            .await?;
        if !response.executed {
            return Err(Failure::refused(response.error));
        }
        Ok(response.body)
    }
}

/// The bytes of a message.
pub(super) fn encode(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

/// A message of bytes that a server sent.
pub(super) fn decode<M: Message + Default>(bytes: Bytes) -> Result<M, Failure> {
    let wrong = |error| Status::new(Code::Internal, format!("the answer is no message: {error}"));
    Ok(M::decode(bytes).map_err(wrong)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(address: &str, api: Option<&str>) -> Result<Target, Failure> {
        let args = ConnectionArgs {
            address: Some(address.to_owned()),
            api: api.map(str::to_owned),
            ..ConnectionArgs::default()
        };
        args.target(Ports::USUAL)
    }

    #[test]
    fn an_address_may_leave_its_port_to_the_settings() {
        let resolved = |address| {
            let target = target(address, None).unwrap();
            (target.addresses[0].to_string(), target.api)
        };
        let expected = |grpc: &str, api: &str| (grpc.to_owned(), api.to_owned());
        assert_eq!(
            resolved("127.0.0.2"),
            expected("127.0.0.2:50000", "127.0.0.2:8080")
        );
        assert_eq!(
            resolved("127.0.0.2:7"),
            expected("127.0.0.2:7", "127.0.0.2:8080")
        );
        assert_eq!(resolved("[::1]:9"), expected("[::1]:9", "[::1]:8080"));
        assert_eq!(resolved("::1"), expected("[::1]:50000", "[::1]:8080"));
        assert_eq!(target("::1", Some("h:1")).unwrap().api, "h:1");
        assert_eq!(target("127.0.0.1:port", None).unwrap_err().code(), 64);
    }

    #[test]
    fn a_certificate_that_cannot_be_read_is_named() {
        let args = ConnectionArgs {
            ca: Some("/nowhere/ca.pem".into()),
            ..ConnectionArgs::default()
        };
        let failure = args.target(Ports::USUAL).unwrap_err();
        assert_eq!(failure.code(), 64);
        assert!(failure.to_string().contains("/nowhere/ca.pem"), "{failure}");
    }
}
