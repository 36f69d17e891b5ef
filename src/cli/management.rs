//! The management service of a broker, as a client: questions over HTTP, and live views over
//! WebSockets. It has no TLS. Plain threads and blocking sockets will do here.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::connection::{resolve, unreachable_reason};
use super::failure::Failure;

/// The largest answer that is read.
const ANSWER_BYTES_MAX: u64 = 512 << 20;

/// What was answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// The body as JSON; what stands under `data`, where it is wrapped in an envelope.
    pub(super) fn data(&self) -> Option<serde_json::Value> {
        let mut value: serde_json::Value = serde_json::from_slice(&self.body).ok()?;
        match value.get_mut("data") {
            Some(data) => Some(data.take()),
            None => Some(value),
        }
    }
}

fn unreachable(api: &str, reason: String) -> Failure {
    Failure::Unreachable {
        address: format!("the management service at {api}"),
        reason,
    }
}

/// Connects; reading and writing wait no longer than `patience`.
pub(super) fn connect(api: &str, patience: Duration) -> Result<TcpStream, Failure> {
    let mut reason = String::new();
    for address in resolve(api)? {
        let connected = TcpStream::connect_timeout(&address, patience).and_then(|stream| {
            stream.set_read_timeout(Some(patience))?;
            stream.set_write_timeout(Some(patience))?;
            Ok(stream)
        });
        match connected {
            Ok(stream) => return Ok(stream),
            Err(error) => reason = unreachable_reason(&error, patience),
        }
    }
    Err(unreachable(api, reason))
}

/// Asks a question. HTTP/1.0: the answer ends with the connection, and has no chunks.
pub(super) fn get(api: &str, path: &str, patience: Duration) -> Result<Answer, Failure> {
    let mut stream = connect(api, patience)?;
    let lost = |error: std::io::Error| unreachable(api, unreachable_reason(&error, patience));
    let request = format!("GET {path} HTTP/1.0\r\nHost: {api}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(lost)?;
    let mut bytes = Vec::new();
    stream
        .take(ANSWER_BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(lost)?;
    read_answer(&bytes).ok_or_else(|| unreachable(api, "the answer is not HTTP".to_owned()))
}

fn read_answer(bytes: &[u8]) -> Option<Answer> {
    let at = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let (head, body) = bytes.split_at_checked(at)?;
    let head = std::str::from_utf8(head).ok()?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?;
    Some(Answer {
        status: status.parse().ok()?,
        body: body.get(4..)?.to_vec(),
    })
}

/// A value of a query string.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out += &format!("%{byte:02X}"),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_with_and_without_envelope() {
        let answer = read_answer(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n{\"data\":{\"x\":1}}").unwrap();
        assert_eq!(answer.status, 200);
        assert_eq!(answer.data().unwrap()["x"], 1);
        let answer = read_answer(b"HTTP/1.0 500 No\r\n\r\n{\"is_ready\":false}").unwrap();
        assert_eq!(answer.status, 500);
        assert_eq!(answer.data().unwrap()["is_ready"], false);
        assert!(read_answer(b"SSH-2.0\r\n\r\n").is_none());
    }

    #[test]
    fn names_are_escaped() {
        assert_eq!(escaped("a.b-1/ü&"), "a.b-1%2F%C3%BC%26");
    }
}
