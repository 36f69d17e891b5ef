//! Liveness and readiness.
//!
//! Healthy is a broker that no restart would mend: none of its logs has failed. Ready is one that
//! takes new messages: it is healthy, does not end, and has room for what it stores. It answers at
//! all only when its logs are recovered.

use http::StatusCode;
use serde::Serialize;

use super::super::body::Body;
use super::super::exchange::{Exchange, Response, text};
use super::{access, json};
use crate::shard::Readiness;

#[derive(Serialize)]
struct Answer {
    is_healthy: bool,
    is_ready: bool,
    /// For people; not there when all is well.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<String>,
}

pub(super) async fn health(exchange: &Exchange) -> Response {
    if readiness(exchange).await.is_healthy() {
        text(StatusCode::OK, "healthy")
    } else {
        text(StatusCode::INTERNAL_SERVER_ERROR, "not healthy")
    }
}

pub(super) async fn ready(exchange: &Exchange) -> Response {
    let readiness = readiness(exchange).await;
    let answer = Answer {
        is_healthy: readiness.is_healthy(),
        is_ready: readiness.is_ready(),
        reasons: reasons(&readiness, access::is_local(exchange.peer)),
    };
    let status = if answer.is_ready {
        StatusCode::OK
    } else {
        StatusCode::INTERNAL_SERVER_ERROR
    };
    let mut body = serde_json::to_vec(&answer).unwrap_or_default();
    body.push(b'\n');
    json(status, Body::full(body))
}

async fn readiness(exchange: &Exchange) -> Readiness {
    let shard = &exchange.context.shard;
    let answers = shard
        .ask_all(|shard| Box::pin(async move { shard.readiness() }))
        .await;
    let mut all = Readiness::default();
    answers.into_iter().for_each(|one| all.add(one));
    all
}

/// Why the broker is not ready. The whole of it, with paths, is for those who are on the machine.
fn reasons(readiness: &Readiness, whole: bool) -> Vec<String> {
    let mut reasons = Vec::new();
    for (log, reason) in &readiness.failed {
        let reason = if whole {
            reason
        } else {
            "the broker's log says why"
        };
        reasons.push(format!(
            "log {log} has failed and takes no more writes: {reason}; check the disk, then restart"
        ));
    }
    if !readiness.full.is_empty() {
        let logs: Vec<String> = readiness.full.iter().map(u16::to_string).collect();
        reasons.push(format!(
            "no space for the next segment of log {}: free space on the disk of store.store_path",
            logs.join(", ")
        ));
    }
    if readiness.draining {
        reasons.push("the broker is shutting down".to_owned());
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_trouble_has_its_reason() {
        assert!(reasons(&Readiness::default(), true).is_empty());
        let all = Readiness {
            draining: true,
            failed: vec![(2, "sync of segment 4: I/O error".to_owned())],
            full: vec![0, 1],
        };
        let reasons = reasons(&all, true);
        assert_eq!(reasons.len(), 3);
        assert!(reasons[0].contains("log 2") && reasons[0].contains("I/O error"));
        assert!(reasons[1].contains("0, 1"));
    }
}
