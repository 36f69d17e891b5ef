//! Statistics of the management port: channels and clients, as lists.
//!
//! The shapes are the reference's, the counts are exact. Without parameters a list is whole, by
//! name. With `page` or `per_page` it is one page, in any order, of what `search` and `kind` ask
//! for; its sums are those of everything that was asked for.
//!
//! # Costs
//! Every list is one walk over all channels on all cores, in slices of the background queue. A page
//! keeps only what it may show; a whole list is written piece by piece while it leaves.

mod channels;
mod clients;
mod page;
mod queues;
mod stream;
pub(in crate::http) mod write;

use std::borrow::Cow;

use http::StatusCode;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, VARY};

use self::page::{Asked, BadParameter, CHANNEL_SORTS, CLIENT_SORTS, Page};
use self::stream::{List, gzip};
use self::write::{put, put_member, put_string};
use super::body::Body;
use super::exchange::text;
use super::{Exchange, Response};
use crate::model::Kind;
use crate::shard::ListsBusy;

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Parameter(#[from] BadParameter),
    #[error(transparent)]
    Busy(#[from] ListsBusy),
}

/// Answers what is asked below `/v1/stats/`.
pub(super) async fn handle(exchange: Exchange) -> Response {
    let sorts = match exchange.path() {
        "/v1/stats/clients" => CLIENT_SORTS,
        _ => CHANNEL_SORTS,
    };
    let asked = Asked::read(sorts, |name| exchange.query(name).map(Cow::into_owned));
    let asked = match asked {
        Ok(asked) => asked,
        Err(error) => return refuse(&error.into()),
    };
    let context = &*exchange.context;
    let list = match exchange.path() {
        "/v1/stats/queues" => queues::list(context, Kind::Queues, asked).await,
        "/v1/stats/events_stores" => queues::list(context, Kind::EventsStore, asked).await,
        "/v1/stats/channels" => channels::list(context, asked).await,
        "/v1/stats/clients" => Ok(clients::list(context, &asked).await),
        _ => return text(StatusCode::NOT_FOUND, "code=404, message=Not Found"),
    };
    match list {
        Ok(list) => answer(&exchange, list).await,
        Err(busy) => refuse(&busy.into()),
    }
}

async fn answer(exchange: &Exchange, list: List) -> Response {
    let packed = exchange.header("accept-encoding").is_some_and(takes_gzip);
    let body = if packed {
        gzip(list).await.into_body()
    } else {
        list.into_body()
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, JSON);
    headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    if packed {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=UTF-8");

fn refuse(refused: &Refused) -> Response {
    let mut text = Vec::new();
    put("{\"error\":true,\"error_string\":", &mut text);
    put_string(&refused.to_string(), &mut text);
    put(",\"data\":null}\n", &mut text);
    let mut response = Response::new(Body::full(text));
    *response.status_mut() = match refused {
        Refused::Parameter(_) => StatusCode::BAD_REQUEST,
        Refused::Busy(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

/// Whether an `Accept-Encoding` takes gzip: by its name, or with all others.
fn takes_gzip(accepted: &str) -> bool {
    let mut any = false;
    for coding in accepted.split(',') {
        let mut parts = coding.split(';');
        let name = parts.next().unwrap_or_default().trim();
        let refused = parts.any(|part| {
            let weight = part.trim().strip_prefix("q=");
            weight.is_some_and(|weight| weight.parse().is_ok_and(|weight: f32| weight <= 0.0))
        });
        match name {
            "gzip" | "x-gzip" => return !refused,
            "*" => any = !refused,
            _ => {}
        }
    }
    any
}

/// Begins an answer without an error.
fn put_begin(out: &mut Vec<u8>) {
    put("{\"error\":false,\"error_string\":\"\",\"data\":{", out);
}

/// Ends it: what belongs to a page, and all braces.
fn put_end(page: Option<Page>, total: u64, out: &mut Vec<u8>) {
    if let Some(Page { number, size }) = page {
        let size = to_u64(size);
        put_member("page", to_u64(number), out);
        put_member("per_page", size, out);
        put_member("pages", total.div_ceil(size.max(1)), out);
        put_member("total", total, out);
    }
    put("}}\n", out);
}

fn to_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_taken_by_name_and_refused_by_weight() {
        for accepted in [
            "gzip",
            "deflate, gzip;q=0.5",
            "*",
            "br;q=1.0, *;q=0.1",
            "x-gzip",
        ] {
            assert!(takes_gzip(accepted), "{accepted}");
        }
        for accepted in ["", "identity", "gzip;q=0", "gzip; q=0.0, *", "br"] {
            assert!(!takes_gzip(accepted), "{accepted}");
        }
    }

    #[test]
    fn a_page_says_where_it_stands() {
        let mut out = Vec::new();
        put_end(
            Some(Page {
                number: 2,
                size: 10,
            }),
            21,
            &mut out,
        );
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text,
            ",\"page\":2,\"per_page\":10,\"pages\":3,\"total\":21}}\n"
        );
    }
}
