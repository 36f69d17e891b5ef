//! Records of accesses as events of the contract.

use bytes::BytesMut;

use crate::grpc::codec::event::{
    EventView, encode_event_receive, event_receive_frame, event_receive_frame_len,
    event_receive_len,
};
use crate::grpc::codec::id;
use crate::grpc::subscription::to_channel_at;
use crate::notifications::{Encoding, ReportEvent};
use crate::shard::ChannelAt;

/// How records become what subscribers get, and what is stored.
#[must_use]
pub fn report_encoding() -> Encoding {
    Encoding {
        frame_len: |report| event_receive_frame_len(&view(report), report.id, report.now_ns, 0),
        frame,
        stored_len: |report| event_receive_len(&view(report), report.id),
        stored: |report, out| encode_event_receive(&view(report), report.id, out),
        id: |fill_random| id::generate(fill_random).into(),
    }
}

fn frame(report: &ReportEvent<'_>, out: &mut BytesMut) -> ChannelAt {
    to_channel_at(event_receive_frame(
        &view(report),
        report.id,
        report.now_ns,
        0,
        out,
    ))
}

fn view<'a>(report: &ReportEvent<'a>) -> EventView<'a> {
    EventView::of_broker(report.channel, report.body)
}
