//! `GET /metrics`: what the broker counts, for Prometheus.
//!
//! Text 0.0.4, or OpenMetrics 1.0 when the `Accept` header asks for it. `docs/metrics.md` names
//! every family. Counters belong to cores and are summed here; nothing is added up between scrapes.
//!
//! # Bounds
//! Series of a channel are written for the `metrics.channels_max` that were used last, by classes
//! of age in which names decide, so that two scrapes show the same ones. The others are summed in
//! the series with an empty channel: the sums over all series are exact. With `?channels=0` nothing
//! of channels is written and no channel is looked at. So many scrapes are sent at a time
//! (`sending`), since each holds what it has gathered.
//!
//! # Costs
//! One walk over all channels, on each core in slices of its background queue, and a text that is
//! written while it leaves.

mod broker;
mod channels;
mod gather;
mod reference;
mod sending;
mod steps;
mod text;

use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};

use self::gather::gather;
use self::steps::Exposition;
use self::text::Format;
use super::exchange::text;
use super::{Exchange, Response};

/// Answers a scrape.
pub(super) async fn handle(exchange: Exchange) -> Response {
    let accepted = exchange.header("accept").unwrap_or_default();
    let format = Format::of(accepted);
    let max = match exchange.query("channels").as_deref() {
        None | Some("") => Some(exchange.context.config.metrics.channels_max),
        Some("0") => None,
        Some(other) => match other.parse() {
            // Fewer can be asked for; how many there may be is the operator's to say.
            Ok(max) => Some(exchange.context.config.metrics.channels_max.min(max)),
            Err(_no_number) => {
                return text(StatusCode::BAD_REQUEST, "channels must be a whole number\n");
            }
        },
    };
    if !sending::has_room() {
        let busy = "as many scrapes are being sent as may be: try again in a moment\n";
        return text(StatusCode::SERVICE_UNAVAILABLE, busy);
    }
    let scrape = match gather(&exchange.context, max).await {
        Ok(scrape) => scrape,
        Err(busy) => return text(StatusCode::SERVICE_UNAVAILABLE, format!("{busy}\n")),
    };
    let mut response = Response::new(Exposition::new(scrape, format).into_body());
    let content_type = HeaderValue::from_static(format.content_type());
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}
