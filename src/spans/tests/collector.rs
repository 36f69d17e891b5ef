//! Collectors: one that speaks OTLP/gRPC by our own server, one that speaks OTLP/HTTP by hand.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use ringmq_proto::otlp::EXPORT;
use ringmq_proto::otlp::collector::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use rustls::pki_types::PrivatePkcs8KeyDer;

use crate::rt::{self, Conn, Queue};
use crate::wire::server::{Call, ConnectionControl, Service, serve};

/// What a gRPC collector was sent.
#[derive(Clone, Debug)]
pub(super) struct Exported {
    pub(super) request: ExportTraceServiceRequest,
    pub(super) token: Option<String>,
}

type AllExported = Rc<RefCell<Vec<Exported>>>;

/// A collector on the executor of the test.
pub(super) struct GrpcCollector {
    address: SocketAddr,
    exported: AllExported,
}

struct TraceService(AllExported);

impl Service for TraceService {
    fn call(&self, call: Call) {
        assert_eq!(call.path(), EXPORT);
        let exported = Rc::clone(&self.0);
        let token = call.metadata("x-token").map(str::to_owned);
        let (mut reader, responder) = call.into_parts();
        rt::spawn(Queue::Serve, "export", async move {
            let message = reader.only_message().await;
            let answered = message.map(|message| {
                let request = ExportTraceServiceRequest::decode(message).unwrap();
                exported.borrow_mut().push(Exported { request, token });
                Bytes::new()
            });
            responder.unary(answered);
        });
    }
}

impl GrpcCollector {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let exported = AllExported::default();
        let service = Rc::new(TraceService(Rc::clone(&exported)));
        rt::spawn(Queue::Serve, "collector", async move {
            loop {
                match listener.accept() {
                    Ok((stream, peer)) => {
                        let conn = Conn::from_std(stream).unwrap();
                        let (settings, control) = (Rc::default(), ConnectionControl::new());
                        let serving = serve(conn, peer, service.clone(), settings, control);
                        rt::spawn(Queue::Serve, "collector connection", async move {
                            let _ended = serving.await;
                        });
                        return;
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        rt::sleep(Duration::from_millis(1)).await;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        });
        Self { address, exported }
    }

    pub(super) fn endpoint(&self) -> String {
        self.address.to_string()
    }

    pub(super) fn requests(&self) -> Vec<Exported> {
        self.exported.borrow().clone()
    }
}

/// How an HTTP collector answers.
#[derive(Clone, Copy, Debug)]
pub(super) enum Answer {
    Ok,
    /// 503; it may be asked again at once.
    Busy,
    /// 400.
    Refuse,
    /// The connection ends without an answer.
    Cut,
    /// All but so many.
    Partial(i64),
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) path: String,
    headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Seen {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name)?;
        Some(&found.1)
    }

    pub(super) fn request(&self) -> ExportTraceServiceRequest {
        let mut plain = Vec::new();
        let body = if self.header("content-encoding").is_some() {
            flate2::read::GzDecoder::new(&self.body[..])
                .read_to_end(&mut plain)
                .unwrap();
            &plain
        } else {
            &self.body
        };
        ExportTraceServiceRequest::decode(&body[..]).unwrap()
    }
}

/// A collector on threads of its own.
pub(super) struct HttpCollector {
    address: SocketAddr,
    received: mpsc::Receiver<Seen>,
    all: RefCell<Vec<Seen>>,
    connections: Arc<AtomicUsize>,
}

impl HttpCollector {
    /// Answers as told, then with `Ok` for ever.
    pub(super) fn start(answers: &[Answer]) -> Self {
        Self::start_over(answers, |stream| Box::new(stream))
    }

    /// Behind TLS that offers HTTP/1.1 only; also gives the file of its authority.
    pub(super) fn start_tls() -> (Self, tempfile::TempPath) {
        let names = vec!["collector.test".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(made.cert.pem().as_bytes()).unwrap();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.into())
            .unwrap();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let config = Arc::new(config);
        let collector = Self::start_over(&[], move |stream| {
            let session = rustls::ServerConnection::new(config.clone()).unwrap();
            Box::new(rustls::StreamOwned::new(session, stream))
        });
        (collector, file.into_temp_path())
    }

    fn start_over(
        answers: &[Answer],
        over: impl Fn(TcpStream) -> Box<dyn Stream> + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, received) = mpsc::channel();
        let mut answers: VecDeque<Answer> = answers.iter().copied().collect();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                counted.fetch_add(1, Ordering::Relaxed);
                let mut stream = BufReader::new(over(stream.unwrap()));
                // One connection at a time: the exporter has no more.
                while let Some(seen) = read(&mut stream) {
                    let answer = answers.pop_front().unwrap_or(Answer::Ok);
                    if sender.send(seen).is_err() {
                        return;
                    }
                    if !respond(stream.get_mut(), answer) {
                        break;
                    }
                }
            }
        });
        Self {
            address,
            received,
            all: RefCell::default(),
            connections,
        }
    }

    pub(super) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        let mut all = self.all.borrow_mut();
        all.extend(self.received.try_iter());
        all.clone()
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

pub(super) trait Stream: Read + Write {}

impl<T: Read + Write> Stream for T {}

/// Reads a request with a length; `None` at the end.
fn read(stream: &mut BufReader<Box<dyn Stream>>) -> Option<Seen> {
    let mut line = String::new();
    if !matches!(stream.read_line(&mut line), Ok(count) if count > 0) {
        return None;
    }
    let path = line.split(' ').nth(1).unwrap().to_owned();
    assert!(line.starts_with("POST "), "{line}");
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        let Some((key, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        headers.push((key.to_ascii_lowercase(), value.to_owned()));
    }
    let mut seen = Seen {
        path,
        headers,
        body: Vec::new(),
    };
    let length = seen.header("content-length").unwrap().parse().unwrap();
    seen.body.resize(length, 0);
    stream.read_exact(&mut seen.body).unwrap();
    Some(seen)
}

/// Answers; false when that is the end of the connection.
fn respond(stream: &mut dyn Stream, answer: Answer) -> bool {
    let partial = |rejected_spans| ExportTraceServiceResponse {
        partial_success: Some(ExportTracePartialSuccess {
            rejected_spans,
            error_message: "too old".to_owned(),
        }),
    };
    let (head, body) = match answer {
        Answer::Ok => ("200 OK", Vec::new()),
        Answer::Busy => ("503 Service Unavailable\r\nRetry-After: 0", Vec::new()),
        Answer::Refuse => ("400 Bad Request", Vec::new()),
        Answer::Partial(rejected) => ("200 OK", partial(rejected).encode_to_vec()),
        Answer::Cut => return false,
    };
    let length = body.len();
    let head = format!("HTTP/1.1 {head}\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&body).unwrap();
    stream.flush().unwrap();
    true
}
