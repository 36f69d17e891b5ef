//! Work beside the tasks.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::mpsc;
use std::task::Poll;

use super::{PATIENCE, on_executor};
use crate::rt::{self, Notify, Queue, reactor_yield, spawn};

/// Asks for work, and waits for nothing; whether the answer is not there yet.
async fn begins(work: &mut (impl Future + Unpin)) -> bool {
    std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut *work).poll(cx).is_pending())).await
}

#[test]
fn blocking_work_does_not_wait_for_other_blocking_work() {
    let ran = on_executor(|tx| async move {
        let (release, released) = mpsc::channel();
        let first = rt::blocking(move || released.recv_timeout(PATIENCE).is_ok());
        let (done, first_done) = (Notify::new(), Rc::new(Cell::new(None)));
        let (raise, result) = (done.clone(), first_done.clone());
        spawn(Queue::Serve, "first", async move {
            result.set(first.await);
            raise.raise();
        });
        // Behind the first one, which waits for this one to have run.
        let sent = rt::blocking(move || release.send(()).is_ok()).await;
        done.wait().await;
        tx.send((sent, first_done.get())).expect("somebody waits");
    });
    assert_eq!(ran, (Some(true), Some(true)));
}

#[test]
fn blocking_work_whose_waiter_is_gone_holds_the_end_until_it_is_done() {
    let done = on_executor(|tx| async move {
        let (release, released) = mpsc::channel();
        let mut abandoned = Box::pin(rt::blocking(move || released.recv_timeout(PATIENCE)));
        let waits = begins(&mut abandoned).await;
        drop(abandoned);
        let released = waits && release.send(()).is_ok();
        rt::blocking_ended().await;
        tx.send(released).expect("somebody waits");
    });
    assert!(done);
}

/// Tells on which thread it was dropped.
struct Dropped(mpsc::Sender<std::thread::ThreadId>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _nobody_asks = self.0.send(std::thread::current().id());
    }
}

#[test]
fn what_a_task_lets_go_of_is_dropped_beside_the_executor() {
    let (aside, kept) = on_executor(|tx| async move {
        let (tell, told) = mpsc::channel();
        let kept = Rc::new(());
        let (value, with) = (Dropped(tell), kept.clone());
        spawn(
            Queue::Serve,
            "lets go",
            async move { rt::let_go(value, with) },
        );
        while Rc::strong_count(&kept) > 1 {
            reactor_yield().await;
        }
        let dropped_on = told.try_recv().expect("dropped before what stays with it");
        let aside = dropped_on != std::thread::current().id();
        tx.send((aside, Rc::strong_count(&kept)))
            .expect("somebody waits");
    });
    assert_eq!((aside, kept), (true, 1));
}

#[test]
fn what_is_let_go_of_outside_a_task_is_dropped_at_once() {
    let (tell, told) = mpsc::channel();
    rt::let_go(Dropped(tell), ());
    assert_eq!(told.try_recv(), Ok(std::thread::current().id()));
}

#[test]
fn blocking_threads_give_way_and_executors_do_not() {
    let nice = || rustix::process::getpriority_process(None).expect("one's own");
    let before = nice();
    let (executor, first, second) = on_executor(move |tx| async move {
        let first = rt::blocking(nice).await.expect("no panic");
        let second = rt::blocking(nice).await.expect("no panic");
        tx.send((nice(), first, second)).expect("somebody waits");
    });
    assert_eq!(executor, before);
    // Once for each thread, not once for each piece of work; 19 is the end of the scale.
    let lowered = (before + crate::rt::blocking::BLOCKING_NICE).min(19);
    assert_eq!((first, second), (lowered, lowered));
}

#[test]
fn heavy_work_is_done_one_at_a_time_in_order_and_leaves_a_thread_to_what_blocks() {
    let (order, beside) = on_executor(|tx| async move {
        let (release, released) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel();
        let first = tell.clone();
        let mut first = Box::pin(rt::heavy(move || {
            released.recv_timeout(PATIENCE).expect("it is released");
            first.send(1).expect("somebody listens");
        }));
        let mut second = Box::pin(rt::heavy(move || tell.send(2).expect("somebody listens")));
        assert!(begins(&mut first).await && begins(&mut second).await);
        // Both threads would be taken if the second had begun.
        let beside = rt::blocking(|| ()).await.is_some();
        release.send(()).expect("the first one waits for it");
        assert_eq!((second.await, first.await), (Some(()), Some(())));
        tx.send((told.try_iter().collect::<Vec<_>>(), beside))
            .expect("somebody waits");
    });
    assert_eq!((order, beside), (vec![1, 2], true));
}

#[test]
fn heavy_work_that_nobody_waits_for_any_more_is_not_begun() {
    let done = on_executor(|tx| async move {
        let (release, released) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel();
        let mut first = Box::pin(rt::heavy(move || {
            released.recv_timeout(PATIENCE).expect("it is released");
        }));
        let abandoned = tell.clone();
        let mut left = Box::pin(rt::heavy(move || abandoned.send(2).expect("a listener")));
        let mut third = Box::pin(rt::heavy(move || tell.send(3).expect("a listener")));
        assert!(begins(&mut first).await && begins(&mut left).await && begins(&mut third).await);
        drop(left);
        release.send(()).expect("the first one waits for it");
        assert_eq!(third.await, Some(()));
        rt::blocking_ended().await;
        tx.send(told.try_iter().collect::<Vec<_>>())
            .expect("somebody waits");
    });
    assert_eq!(done, [3]);
}

#[test]
fn heavy_work_that_panics_lets_the_next_one_in() {
    let answers = on_executor(|tx| async move {
        let broken: Option<()> = rt::heavy(|| panic!("a bug in one body")).await;
        let sound = rt::heavy(|| 7).await;
        tx.send((broken, sound)).expect("somebody waits");
    });
    assert_eq!(answers, (None, Some(7)));
}
