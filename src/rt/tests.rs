//! The guards of the seam, each against the hazard it is for.

mod blocking;
mod file;
mod line;
mod sockets;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::mpsc;
use std::task::Poll;
use std::time::Duration;

use super::heartbeat::Heartbeat;
use super::inbox::{InboxSender, inbox};
use super::start::{Plan, start};
use super::{Notify, Queue, mesh, now, reactor_yield, sleep, spawn, task_stats};
use crate::rt;

const UNPINNED: Plan = Plan {
    cpu: None,
    spin: None,
};
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs `main` on an executor of its own and gives back what it sends.
fn on_executor<T, F>(main: impl Fn(mpsc::Sender<T>) -> F + Clone + Send + 'static) -> T
where
    T: Send + 'static,
    F: std::future::Future<Output = ()> + 'static,
{
    let (tx, rx) = mpsc::channel();
    let executors = start(&[UNPINNED], vec![tx], move |_, tx| main(tx)).expect("an executor");
    let value = rx.recv_timeout(PATIENCE).expect("the executor answers");
    executors.join();
    value
}

#[test]
fn a_panic_ends_its_task_and_nothing_else() {
    let stats = on_executor(|tx| async move {
        let before = task_stats();
        spawn(Queue::Serve, "doomed", async {
            panic!("a bug in one call")
        });
        let after = Notify::new();
        let survivor = after.clone();
        spawn(Queue::Serve, "survivor", async move { survivor.raise() });
        after.wait().await;
        while task_stats().live > before.live {
            reactor_yield().await;
        }
        tx.send((before, task_stats())).expect("somebody waits");
    });
    assert_eq!(stats.1.panics, stats.0.panics + 1);
    assert_eq!(stats.1.live, stats.0.live);
}

#[test]
fn an_executor_that_panics_is_reported_with_its_text() {
    let executors = start(&[UNPINNED], vec![()], |_, ()| async {
        panic!("the executor's own bug")
    })
    .expect("an executor");
    let ended = executors
        .wait_ended(PATIENCE)
        .expect("its supervisor is told");
    assert_eq!(ended.shard, 0);
    assert!(ended.panic.is_some());
}

#[test]
fn a_busy_task_that_yields_through_the_reactor_does_not_starve_timers() {
    let late = on_executor(|tx| async move {
        let stop = Rc::new(Cell::new(false));
        let busy = stop.clone();
        spawn(Queue::Serve, "busy", async move {
            while !busy.get() {
                let until = now().after(Duration::from_micros(200));
                while now() < until {
                    std::hint::spin_loop();
                }
                reactor_yield().await;
            }
        });
        let mut worst = Duration::ZERO;
        for _ in 0..50 {
            let began = now();
            sleep(Duration::from_millis(1)).await;
            worst = worst.max(now().since(began));
        }
        stop.set(true);
        tx.send(worst).expect("somebody waits");
    });
    // With a self-waking task it would be the preempt timer's second for each of the fifty.
    assert!(
        late < Duration::from_millis(900),
        "a timer of 1 ms took {late:?}"
    );
}

#[test]
fn the_heartbeat_makes_executors_turn_and_the_watchdog_sees_a_stall() {
    let (sender, receiver) = inbox::<()>().expect("a socket pair");
    let (done_tx, done_rx) = mpsc::channel();
    let executors = start(&[UNPINNED], vec![receiver], move |_, receiver| {
        let done = done_tx.clone();
        async move {
            let end = Notify::new();
            let raised = end.clone();
            let mut seen = 0;
            spawn(
                Queue::Serve,
                "inbox",
                receiver.run(move |()| {
                    seen += 1;
                    if seen == 1 {
                        // Holds the executor: what a task that blocks would do.
                        let until = now().after(Duration::from_millis(300));
                        while now() < until {
                            std::hint::spin_loop();
                        }
                    } else {
                        raised.raise();
                    }
                }),
            );
            end.wait().await;
            done.send(()).expect("somebody waits");
        }
    })
    .expect("an executor");
    let heartbeat = Heartbeat::start(vec![sender.clone()], [std::sync::Arc::default()].into())
        .expect("a thread");
    wait_for_turns(&sender, 20);
    sender.send(()).expect("the executor lives");
    let turns = sender.turns();
    wait_for_turns(&sender, turns + 10);
    let watch = heartbeat.watches()[0].clone();
    let stalled = watch.stalls.load(std::sync::atomic::Ordering::Relaxed);
    let longest = watch.longest_us.load(std::sync::atomic::Ordering::Relaxed);
    // A paused machine hides a stall; then it was counted as a pause.
    let paused = watch.paused.load(std::sync::atomic::Ordering::Relaxed);
    assert!(
        stalled + paused >= 1,
        "the stall of 300 ms was not seen; longest {longest} us"
    );
    sender.send(()).expect("the executor lives");
    done_rx
        .recv_timeout(PATIENCE)
        .expect("the executor goes on");
    drop(heartbeat);
    executors.join();
}

fn wait_for_turns(sender: &InboxSender<()>, turns: u64) {
    let until = now().after(PATIENCE);
    while sender.turns() < turns {
        assert!(now() < until, "the executor does not turn");
        std::thread::yield_now();
    }
}

#[test]
fn items_of_other_threads_arrive_in_order() {
    let (sender, receiver) = inbox::<u32>().expect("a socket pair");
    let (tx, rx) = mpsc::channel();
    let executors = start(&[UNPINNED], vec![receiver], move |_, receiver| {
        let tx = tx.clone();
        async move {
            receiver
                .run(move |item| tx.send(item).expect("somebody waits"))
                .await;
        }
    })
    .expect("an executor");
    for item in 0..1000 {
        sender.send(item).expect("the executor lives");
    }
    let got: Vec<u32> = (0..1000)
        .map(|_| rx.recv_timeout(PATIENCE).expect("arrives"))
        .collect();
    assert!(got.iter().copied().eq(0..1000));
    // The last bell rings when the last sender goes: the receiver ends.
    sender.ring();
    drop(sender);
    executors.join();
}

#[test]
fn the_mesh_connects_more_executors_than_there_are_cores() {
    const COUNT: u32 = 6;
    const EACH: u32 = 500;
    let (tx, rx) = mpsc::channel();
    let count = usize::try_from(COUNT).expect("small");
    let plans = vec![UNPINNED; count];
    let executors = start(&plans, mesh::seats::<u32>(count, 4), move |_, seat| {
        let tx = tx.clone();
        async move {
            let (outgoing, incoming) = seat.connect().await;
            let sent = Rc::new(Cell::new(0));
            for outgoing in outgoing.into_iter().flatten() {
                let sent = sent.clone();
                spawn(Queue::Serve, "send", async move {
                    for item in 0..EACH {
                        assert!(outgoing.send(item).await);
                    }
                    sent.set(sent.get() + 1);
                });
            }
            for incoming in incoming.into_iter().flatten() {
                for expected in 0..EACH {
                    assert_eq!(incoming.receive().await, Some(expected));
                }
            }
            // An executor ends with its main: not before its senders have.
            while sent.get() < COUNT - 1 {
                sleep(Duration::from_millis(1)).await;
            }
            tx.send(()).expect("somebody waits");
        }
    })
    .expect("executors");
    for _ in 0..COUNT {
        rx.recv_timeout(PATIENCE)
            .expect("every executor got everything in order");
    }
    executors.join();
}

#[test]
fn tasks_that_end_leave_no_count_behind() {
    let live = on_executor(|tx| async move {
        let before = task_stats().live;
        for _ in 0..10_000 {
            spawn(Queue::Serve, "short", async {});
        }
        while task_stats().live > before {
            reactor_yield().await;
        }
        tx.send(task_stats().live - before).expect("somebody waits");
    });
    assert_eq!(live, 0);
}

/// Keeps the core for a while, as a task that does too much at once.
fn hold_the_core(held: Duration) {
    let until = now().after(held);
    while now() < until {
        std::hint::spin_loop();
    }
}

#[test]
fn every_turn_is_heard_with_the_time_that_its_tasks_took() {
    const HELD: Duration = Duration::from_millis(3);
    // Long enough that nobody finds it over at once.
    const PAUSE: Duration = Duration::from_millis(20);
    let (apart, together, busy_ns) = on_executor(|tx| async move {
        let heard: Rc<RefCell<Vec<Duration>>> = Rc::default();
        let hearing = heard.clone();
        rt::on_turn(move |turn| hearing.borrow_mut().push(turn));
        let done = Notify::new();
        let one = done.clone();
        spawn(Queue::Serve, "in two turns", async move {
            hold_the_core(HELD);
            sleep(PAUSE).await;
            hold_the_core(HELD);
            sleep(PAUSE).await;
            one.raise();
        });
        done.wait().await;
        let apart = heard.take();
        for queue in [Queue::Serve, Queue::Append] {
            let one = done.clone();
            spawn(queue, "in one turn", async move {
                hold_the_core(HELD);
                sleep(PAUSE).await;
                one.raise();
            });
        }
        done.wait().await;
        // A task that is polled finds the turn before it.
        let one = done.clone();
        spawn(Queue::Serve, "after", async move {
            sleep(PAUSE).await;
            one.raise();
        });
        done.wait().await;
        let figures = (apart, heard.take(), rt::busy_ns());
        tx.send(figures).expect("somebody waits");
    });
    let long = |turns: &[Duration], least| turns.iter().filter(|turn| **turn >= least).count();
    assert!(long(&apart, HELD) >= 2, "{apart:?}");
    assert!(long(&together, 2 * HELD) >= 1, "{together:?}");
    assert!(busy_ns >= 12_000_000, "{busy_ns}");
}
