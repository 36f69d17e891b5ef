//! The line: long turns are cut, in order, and sockets are looked at in between.

use super::*;
use crate::rt::{Look, PlaceInLine, spawn_call, spawn_connection};

/// What each task does when it is its turn. Many of them are far more than a turn may last.
const WORK: Duration = Duration::from_micros(100);
const TASKS: usize = 300;

/// Where tasks do their work, and leave their numbers in the order in which they do.
#[derive(Clone, Default)]
struct Work {
    order: Rc<RefCell<Vec<usize>>>,
    all_done: Notify,
}

impl Work {
    fn of(&self, number: usize) {
        hold_the_core(WORK);
        self.order.borrow_mut().push(number);
        if self.order.borrow().len() == TASKS {
            self.all_done.raise();
        }
    }
}

/// Counts looks at the sockets until it is told to stop.
fn count_looks(stop: &Rc<Cell<bool>>) -> Rc<Cell<usize>> {
    let looks = Rc::new(Cell::new(0));
    let (counted, stop) = (looks.clone(), stop.clone());
    spawn(Queue::Serve, "looks", async move {
        let mut look = Look::default();
        while !stop.get() {
            std::future::poll_fn(|cx| look.poll(cx)).await;
            counted.set(counted.get() + 1);
        }
    });
    looks
}

#[test]
fn calls_that_are_woken_together_do_not_run_in_one_turn() {
    let looks = on_executor(|tx| async move {
        let (stop, work) = (Rc::new(Cell::new(false)), Work::default());
        let bells: Vec<Notify> = (0..TASKS).map(|_| Notify::new()).collect();
        for (number, bell) in bells.iter().enumerate() {
            let (bell, work) = (bell.clone(), work.clone());
            spawn_call("call", async move {
                bell.wait().await;
                work.of(number);
            });
        }
        // They wait before they are woken, all at once.
        sleep(Duration::from_millis(5)).await;
        let looks = count_looks(&stop);
        bells.iter().for_each(Notify::raise);
        work.all_done.wait().await;
        stop.set(true);
        tx.send(looks.get()).expect("somebody waits");
    });
    // Thirty milliseconds of work, of which a turn that is not cut has all.
    assert!(looks >= 5, "{looks} looks");
}

#[test]
fn the_line_is_worked_off_in_order_over_many_turns() {
    let (order, looks) = on_executor(|tx| async move {
        let (stop, work) = (Rc::new(Cell::new(false)), Work::default());
        let looks = count_looks(&stop);
        for number in 0..TASKS {
            let work = work.clone();
            spawn(Queue::Serve, "in line", async move {
                let mut place = PlaceInLine::default();
                std::future::poll_fn(|cx| place.poll(cx)).await;
                work.of(number);
            });
        }
        work.all_done.wait().await;
        stop.set(true);
        tx.send((work.order.take(), looks.get()))
            .expect("somebody waits");
    });
    assert!(order.is_sorted(), "{order:?}");
    assert!(looks >= 20, "{looks} looks");
}

#[test]
fn a_place_whose_task_is_gone_holds_nobody_up() {
    let reached = on_executor(|tx| async move {
        for _ in 0..TASKS {
            spawn(Queue::Serve, "leaves", async {
                let mut place = PlaceInLine::default();
                std::future::poll_fn(|cx| Poll::Ready(place.poll(cx).is_pending())).await;
            });
        }
        let mut place = PlaceInLine::default();
        for _ in 0..3 {
            std::future::poll_fn(|cx| place.poll(cx)).await;
        }
        tx.send(true).expect("somebody waits");
    });
    assert!(reached);
}

#[test]
fn connections_that_are_woken_together_go_on_in_order_over_many_turns() {
    let (order, looks) = on_executor(|tx| async move {
        let (stop, work) = (Rc::new(Cell::new(false)), Work::default());
        let bells: Vec<Notify> = (0..TASKS).map(|_| Notify::new()).collect();
        for (number, bell) in bells.iter().enumerate() {
            let (bell, work) = (bell.clone(), work.clone());
            spawn_connection(Queue::Serve, "connection", async move {
                bell.wait().await;
                work.of(number);
            });
        }
        sleep(Duration::from_millis(5)).await;
        let looks = count_looks(&stop);
        bells.iter().for_each(Notify::raise);
        work.all_done.wait().await;
        stop.set(true);
        tx.send((work.order.take(), looks.get()))
            .expect("somebody waits");
    });
    assert!(order.is_sorted(), "{order:?}");
    assert!(looks >= 3, "{looks} looks");
}
