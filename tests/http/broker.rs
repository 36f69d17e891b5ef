//! A broker with clients for what it serves over HTTP.

#![allow(
    dead_code,
    reason = "each family of tests uses its own part of the harness"
)]

use std::ffi::OsStr;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;
use tungstenite::WebSocket;
use tungstenite::handshake::HandshakeError;
use ureq::Agent;
use ureq::http::{HeaderMap, Request};

use crate::harness::Broker;
use crate::mock::broker::Watched as _;

/// How long a test waits for what must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A response, read to its end.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    /// The text as JSON.
    pub(crate) fn json(&self) -> Value {
        let parsed = serde_json::from_str(&self.text);
        parsed.unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The data of an envelope; the answer must be a success.
    pub(crate) fn data(&self) -> Value {
        let envelope = self.json();
        assert_eq!(self.status, 200, "{self:?}");
        assert_eq!(envelope["is_error"], false, "{self:?}");
        assert_eq!(envelope["message"], "OK", "{self:?}");
        envelope["data"].clone()
    }

    /// The text of a failure of this status; it must have no data.
    pub(crate) fn failure(&self, status: u16) -> String {
        let envelope = self.json();
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(envelope["is_error"], true, "{self:?}");
        assert_eq!(envelope["data"], Value::Null, "{self:?}");
        envelope["message"].as_str().unwrap().to_owned()
    }

    /// A header, which must be there once.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next()?.to_str().unwrap();
        assert!(values.next().is_none(), "two of {name}: {self:?}");
        Some(value)
    }
}

/// A running broker with a client that keeps its connections.
#[derive(Debug)]
pub(crate) struct HttpBroker {
    pub(crate) broker: Broker,
    agent: Agent,
}

impl HttpBroker {
    /// Starts a broker with `cores` shards.
    pub(crate) fn start(cores: usize) -> Self {
        Self::start_with(cores, [""; 0])
    }

    /// Like [`start`](Self::start), with further arguments for `ringmq server`.
    pub(crate) fn start_with<A: AsRef<OsStr>>(
        cores: usize,
        args: impl IntoIterator<Item = A>,
    ) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .allow_non_standard_methods(true)
            .build();
        Self {
            broker: Broker::start_with(cores, args),
            agent: config.into(),
        }
    }

    /// Where gRPC is served.
    pub(crate) fn grpc(&self) -> SocketAddr {
        self.broker.grpc()
    }

    /// Where REST and its sockets are served.
    pub(crate) fn rest(&self) -> SocketAddr {
        self.broker.address("rest").expect("REST is served")
    }

    /// Where the management API is served.
    pub(crate) fn api(&self) -> SocketAddr {
        self.broker
            .address("api")
            .expect("the management API is served")
    }

    /// GET from the REST port.
    pub(crate) fn get(&self, path: &str) -> Answer {
        self.send(self.rest(), "GET", path, &[], b"")
    }

    /// POST of JSON to the REST port.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        self.send_json(self.rest(), "POST", path, body)
    }

    /// GET from the management port.
    pub(crate) fn api_get(&self, path: &str) -> Answer {
        self.send(self.api(), "GET", path, &[], b"")
    }

    /// POST of JSON to the management port.
    pub(crate) fn api_post(&self, path: &str, body: &Value) -> Answer {
        self.send_json(self.api(), "POST", path, body)
    }

    /// A request with a body of JSON; also GET may have one.
    pub(crate) fn send_json(
        &self,
        address: SocketAddr,
        method: &str,
        path: &str,
        body: &Value,
    ) -> Answer {
        let headers = [("Content-Type", "application/json")];
        self.send(address, method, path, &headers, body.to_string().as_bytes())
    }

    /// Any request.
    pub(crate) fn send(
        &self,
        address: SocketAddr,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://{address}{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        // Without a body, and with one that is empty, are two things to the client.
        let has_body = method == "POST" || !body.is_empty();
        let response = if has_body {
            self.agent.run(request.body(body).unwrap())
        } else {
            self.agent.run(request.body(()).unwrap())
        };
        let (head, mut body) = response
            .unwrap_or_else(|error| panic!("{method} {path}: {error}\n{}", self.broker.log()))
            .into_parts();
        Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            text: body
                .with_config()
                .limit(512 << 20)
                .read_to_string()
                .unwrap(),
        }
    }

    /// Opens a WebSocket of the REST port.
    pub(crate) fn socket(&self, path: &str) -> WebSocket<TcpStream> {
        websocket(self.rest(), path).unwrap_or_else(|answer| panic!("{path}: {answer:?}"))
    }

    /// Others are served, and the broker ends in order.
    pub(crate) fn end(self) {
        assert_eq!(self.get("/").text, "hi");
        self.broker.assert_serves();
        self.broker.end();
    }
}

/// Opens a WebSocket, or returns the response that is none.
pub(crate) fn websocket(
    address: SocketAddr,
    path: &str,
) -> Result<WebSocket<TcpStream>, Box<Answer>> {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    match tungstenite::client(format!("ws://{address}{path}"), stream) {
        Ok((socket, _response)) => Ok(socket),
        Err(HandshakeError::Failure(tungstenite::Error::Http(response))) => {
            let (head, body) = response.into_parts();
            Err(Box::new(Answer {
                status: head.status.as_u16(),
                headers: head.headers,
                text: String::from_utf8(body.unwrap_or_default()).unwrap(),
            }))
        }
        Err(error) => panic!("{path}: {error}"),
    }
}

/// Standard base64.
pub(crate) fn base64(bytes: impl AsRef<[u8]>) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// What base64 stands for.
pub(crate) fn from_base64(text: &Value) -> Vec<u8> {
    use base64::Engine as _;
    let text = text.as_str().unwrap_or_default();
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .unwrap()
}
