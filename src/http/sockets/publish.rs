//! Events over a socket, each with its result.

use ringmq_proto::kubemq::{Event, Result as EventResult};

use super::pump::{Dialogue, Rules};
use crate::http::json;

/// Events in, results out: one for each frame, whatever the frame holds.
pub(super) struct Events;

impl Dialogue for Events {
    type Said = Event;
    type Told = EventResult;
    const RULES: Rules = Rules {
        listens: true,
        answers_each: true,
        ends_in_order: true,
    };

    fn flaw(frame: &[u8], flaw: String) -> Option<EventResult> {
        Some(EventResult {
            event_id: event_id(frame),
            sent: false,
            error: flaw,
        })
    }
}

/// The id of an event that cannot be read as a whole, where it can be read.
fn event_id(frame: &[u8]) -> String {
    // A result has the event's id under the same name, and nothing else that an event has.
    let readable = json::decode::<EventResult>(frame);
    readable.map_or_else(|_| String::new(), |result| result.event_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_read_where_the_rest_cannot_be() {
        let table: [(&[u8], &str); 5] = [
            (br#"{"EventID":"e1","Body":"no base64!"}"#, "e1"),
            (br#"{"eventid":"e2","Tags":7}"#, "e2"),
            (br#"{"EventID":"e3","#, ""),
            (br#"{"EventID":7}"#, ""),
            (&[0xff, 0x00], ""),
        ];
        for (frame, id) in table {
            assert_eq!(event_id(frame), id, "{frame:?}");
        }
    }
}
