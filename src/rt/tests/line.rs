//! The line: long turns are cut, in order, and sockets are looked at in between.

use super::*;
use crate::rt::{Look, PlaceInLine, spawn_call, spawn_connection};

/// What each task does when it is its turn. Many of them are far more than a turn may last.
const WORK: Duration = Duration::from_micros(100);
const TASKS: usize = 300;

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
        let (stop, left) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(TASKS)));
        let all_done = Notify::new();
        let bells: Vec<Notify> = (0..TASKS).map(|_| Notify::new()).collect();
        for bell in &bells {
            let (bell, left, all_done) = (bell.clone(), left.clone(), all_done.clone());
            spawn_call("call", async move {
                bell.wait().await;
                hold_the_core(WORK);
                left.set(left.get() - 1);
                if left.get() == 0 {
                    all_done.raise();
                }
            });
        }
        // They wait before they are woken, all at once.
        sleep(Duration::from_millis(5)).await;
        let looks = count_looks(&stop);
        bells.iter().for_each(Notify::raise);
        all_done.wait().await;
        stop.set(true);
        tx.send(looks.get()).expect("somebody waits");
    });
    // Thirty milliseconds of work, of which a turn that is not cut has all.
    assert!(looks >= 5, "{looks} looks");
}

#[test]
fn the_line_is_worked_off_in_order_over_many_turns() {
    let (order, looks) = on_executor(|tx| async move {
        let stop = Rc::new(Cell::new(false));
        let order: Rc<RefCell<Vec<usize>>> = Rc::default();
        let all_done = Notify::new();
        let looks = count_looks(&stop);
        for number in 0..TASKS {
            let (order, all_done) = (order.clone(), all_done.clone());
            spawn(Queue::Serve, "in line", async move {
                let mut place = PlaceInLine::default();
                std::future::poll_fn(|cx| place.poll(cx)).await;
                hold_the_core(WORK);
                order.borrow_mut().push(number);
                if order.borrow().len() == TASKS {
                    all_done.raise();
                }
            });
        }
        all_done.wait().await;
        stop.set(true);
        tx.send((order.take(), looks.get()))
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
        let stop = Rc::new(Cell::new(false));
        let order: Rc<RefCell<Vec<usize>>> = Rc::default();
        let all_done = Notify::new();
        let bells: Vec<Notify> = (0..TASKS).map(|_| Notify::new()).collect();
        for (number, bell) in bells.iter().enumerate() {
            let (bell, order, all_done) = (bell.clone(), order.clone(), all_done.clone());
            spawn_connection(Queue::Serve, "connection", async move {
                bell.wait().await;
                hold_the_core(WORK);
                order.borrow_mut().push(number);
                if order.borrow().len() == TASKS {
                    all_done.raise();
                }
            });
        }
        sleep(Duration::from_millis(5)).await;
        let looks = count_looks(&stop);
        bells.iter().for_each(Notify::raise);
        all_done.wait().await;
        stop.set(true);
        tx.send((order.take(), looks.get()))
            .expect("somebody waits");
    });
    assert!(order.is_sorted(), "{order:?}");
    assert!(looks >= 3, "{looks} looks");
}
