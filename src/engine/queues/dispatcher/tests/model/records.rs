//! What is written, committed, and lost.

use super::*;

impl Model {
    /// Writes what is pending; at times the log has no room for all of it.
    pub(super) fn flush(&mut self) {
        while let Some((key, pending)) = self.dispatcher.next_pending() {
            if self.random.once_in(10) {
                self.dispatcher.put_pending_back(key, pending);
                return;
            }
            let queue = usize::try_from(key.channel.get()).unwrap();
            let record = match pending {
                Pending::Move(operation) => {
                    let sequence = operation.sequence.get();
                    let model = &mut self.queues[queue];
                    let body = model.body_at(sequence).unwrap();
                    assert_eq!(model.messages[&body].at, At::Moving);
                    assert_eq!(operation.len, LEN);
                    model.moves.push(body);
                    Record::MoveBegun(sequence)
                }
                other => Record::Operation(other),
            };
            self.log.push_back((queue, record));
        }
    }

    pub(super) fn commit(&mut self) {
        let part = u64::try_from(self.log.len()).unwrap();
        let part = self.random.below(part + 1);
        for _ in 0..part {
            let (queue, record) = self.log.pop_front().unwrap();
            self.apply(queue, record);
        }
        self.told();
    }

    fn told(&mut self) {
        for number in 0..QUEUES {
            let now_ns = self.now_ns();
            let queue = &mut self.queues[number];
            let last = queue.state.last();
            if last.get() > queue.known {
                queue.known = last.get();
                let key = queue_key(number);
                self.dispatcher.stored(key, last, &queue.state, now_ns);
            }
        }
    }

    fn apply(&mut self, number: usize, record: Record) {
        let now_ms = self.now_ms;
        let queue = &mut self.queues[number];
        match record {
            Record::Store(head) => {
                let sequence = queue.state.last().next();
                queue.state.store(sequence, &head, LEN);
                let visible_ms = head.visible_at_ns / MS;
                let at = if visible_ms > now_ms {
                    At::Delayed
                } else {
                    At::Ready
                };
                let message = Message {
                    sequence: sequence.get(),
                    place: (sequence.get(), false, 0),
                    visible_ms,
                    expires_ms: head.expires_at_ns / MS,
                    receives: 0,
                    is_counted: false,
                    at,
                };
                queue.messages.insert(sequence.get(), message);
            }
            Record::Operation(Pending::Settle {
                reason,
                bytes,
                runs,
            }) => {
                queue.state.settle(reason, bytes, runs.iter().copied());
                for sequence in runs.iter().flat_map(|run| run.first.get()..=run.last.get()) {
                    let body = queue.body_at(sequence).expect("settled once");
                    assert_eq!(queue.message(body).at, At::Leaving, "{sequence}");
                    queue.messages.remove(&body);
                }
            }
            Record::Operation(Pending::Requeue(entries)) => {
                for entry in entries {
                    let body = queue.state.body_of(entry.old).get();
                    assert_eq!(queue.requeued.pop_front(), Some(body), "in their order");
                    queue.state.requeue(&entry);
                    let sequence = queue.state.last().get();
                    let message = queue.message(body);
                    assert_eq!(
                        (message.at, message.receives),
                        (At::Leaving, entry.receives)
                    );
                    message.at = At::Ready;
                    message.sequence = sequence;
                    message.place = (sequence, false, 0);
                    message.visible_ms = 0;
                }
            }
            Record::Operation(Pending::Count(entries)) => {
                entries.iter().for_each(|entry| queue.state.count(entry));
            }
            Record::Operation(Pending::Move(_)) => unreachable!("written as begun"),
            record => self.apply_move(number, &record),
        }
    }

    fn apply_move(&mut self, number: usize, record: &Record) {
        let now_ms = self.now_ms;
        let queue = &mut self.queues[number];
        let key = queue_key(number);
        match *record {
            Record::MoveBegun(sequence) => {
                let open = OpenMove {
                    reason: MoveReason::Resend,
                    target: "elsewhere".into(),
                };
                assert!(queue.state.begin_move(s(sequence), open));
            }
            Record::MoveDone(sequence) => {
                let run = Run {
                    first: s(sequence),
                    last: s(sequence),
                };
                let reason = SettleReason::Moved;
                queue.state.settle(reason, LEN.into(), std::iter::once(run));
                let body = queue.body_at(sequence).unwrap();
                queue.messages.remove(&body);
            }
            Record::MoveCancelled(sequence) => {
                assert!(queue.state.cancel_move(s(sequence)));
                let body = queue.body_at(sequence).unwrap();
                let message = queue.message(body);
                assert_eq!(message.at, At::Moving);
                message.at = At::Ready;
                if message.expires_ms != 0 && message.expires_ms <= now_ms {
                    queue.expire(body);
                }
                let (state, now_ns) = (&queue.state, now_ms * MS);
                self.dispatcher
                    .move_cancelled(key, s(sequence), state, now_ns);
            }
            Record::Store(_) | Record::Operation(_) => unreachable!("no part of a move"),
        }
    }

    pub(super) fn end_move(&mut self, number: usize) {
        let queue = &mut self.queues[number];
        if queue.moves.is_empty() {
            return;
        }
        let body = queue.moves.remove(0);
        let sequence = queue.message(body).sequence;
        let key = queue_key(number);
        let record = if self.random.once_in(2) {
            queue.message(body).at = At::Leaving;
            self.dispatcher.move_done(key, s(sequence), LEN);
            Record::MoveDone(sequence)
        } else {
            Record::MoveCancelled(sequence)
        };
        self.log.push_back((number, record));
    }

    /// What is committed stays; the model learns from it what was lost.
    pub(super) fn restart(&mut self) {
        self.log.clear();
        self.deliveries.clear();
        // Numbers of deliveries are not used again.
        let first = self.dispatcher.next_delivery;
        self.dispatcher = Dispatcher::new(first, self.now_ns());
        for number in 0..QUEUES {
            let (now_ns, now_ms) = (self.now_ns(), self.now_ms);
            let queue = &mut self.queues[number];
            queue.waiters.clear();
            queue.requeued.clear();
            queue.moves.clear();
            (queue.expired, queue.delivered) = (0, 0);
            queue.known = queue.state.last().get();
            let state = &queue.state;
            let mut overdue = Vec::new();
            for (body, message) in &mut queue.messages {
                let sequence = s(message.sequence);
                assert!(
                    state.is_live(sequence),
                    "only a committed settlement ends a message"
                );
                assert_eq!(state.body_of(sequence), s(*body));
                message.receives = state.receives(sequence);
                message.place = (message.sequence, false, 0);
                message.at = if state.open_move(sequence).is_some() {
                    queue.moves.push(*body);
                    At::Moving
                } else if message.visible_ms > now_ms {
                    At::Delayed
                } else {
                    At::Ready
                };
                if message.visible_ms != 0 && message.at != At::Delayed {
                    overdue.push((message.visible_ms, message.sequence, *body));
                }
            }
            overdue.sort_unstable();
            let mut after = 0;
            for (visible_ms, sequence, body) in overdue {
                after = after.max(sequence);
                queue.message(body).place = (after, true, visible_ms);
            }
            let key = queue_key(number);
            self.dispatcher
                .restore(key, &self.queues[number].state, now_ns);
        }
        self.configure();
    }
}
