//! One downstream: gets what is there, acknowledges it, and gets more.

use std::rc::Rc;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use ringmq::rt::{self, Queue};
use ringmq::wire::client::{CallOptions, Client, ClientSender, ClientStream};
use ringmq_proto::kubemq::{
    QueuesDownstreamRequest, QueuesDownstreamRequestType, QueuesDownstreamResponse,
};

use super::{DOWNSTREAM, Totals};

/// What a consumer asks for.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    pub channel: String,
    /// Messages of one Get.
    pub items: i32,
    pub auto_ack: bool,
}

/// Starts a consumer on a connection; `take` gets each response that has messages.
pub(super) fn start(
    client: &Client,
    wish: Wish,
    totals: &Rc<Totals>,
    take: impl FnMut(&QueuesDownstreamResponse) + 'static,
) -> anyhow::Result<()> {
    let (sender, responses) = client.bidi(DOWNSTREAM, &CallOptions::default())?;
    let totals = totals.clone();
    rt::spawn(Queue::Serve, "consume", async move {
        consume(sender, responses, wish, &totals, take).await;
    });
    Ok(())
}

async fn consume(
    mut sender: ClientSender,
    mut responses: ClientStream,
    wish: Wish,
    totals: &Totals,
    mut take: impl FnMut(&QueuesDownstreamResponse),
) {
    let get = QueuesDownstreamRequest {
        request_id: "get".into(),
        client_id: "loadgen-consumer".into(),
        request_type_data: QueuesDownstreamRequestType::Get.into(),
        channel: wish.channel,
        max_items: wish.items,
        wait_timeout: 5_000,
        auto_ack: wish.auto_ack,
        ..QueuesDownstreamRequest::default()
    };
    let get = framed(&get);
    let mut next = BytesMut::from(&get[..]);
    loop {
        if sender.send_all(next.split().freeze()).await.is_err() {
            return totals.violation("the downstream ended");
        }
        let message = match responses.message().await {
            Ok(Some(message)) => message,
            end => return totals.violation(&format!("downstream: {end:?}")),
        };
        let Ok(response) = QueuesDownstreamResponse::decode(message) else {
            return totals.violation("no response");
        };
        if response.is_error {
            return totals.violation(&response.error);
        }
        if !response.messages.is_empty() {
            take(&response);
            let count = u64::try_from(response.messages.len()).unwrap_or(0);
            totals.received.set(totals.received.get() + count);
            totals.moved.raise();
            if !wish.auto_ack {
                let ack = QueuesDownstreamRequest {
                    request_id: "ack".into(),
                    client_id: "loadgen-consumer".into(),
                    request_type_data: QueuesDownstreamRequestType::AckAll.into(),
                    ref_transaction_id: response.transaction_id,
                    ..QueuesDownstreamRequest::default()
                };
                next.extend_from_slice(&framed(&ack));
            }
        }
        next.extend_from_slice(&get);
    }
}

fn framed(request: &QueuesDownstreamRequest) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(request.encoded_len()).unwrap_or(u32::MAX));
    frame.extend_from_slice(&request.encode_to_vec());
    frame.freeze()
}
