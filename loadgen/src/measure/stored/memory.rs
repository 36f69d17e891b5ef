//! The server's memory while a scenario runs.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use ringmq::rt::{self, Queue};

use crate::outcome::number;
use crate::server::{Memory, memory};

/// How often the kernel is asked. Reading it takes some ten microseconds.
const PERIOD: Duration = Duration::from_millis(50);

/// Samples a process until it is told to end.
#[derive(Debug)]
pub(crate) struct Sampler {
    pid: Option<u32>,
    most: Rc<RefCell<Memory>>,
    stop: Rc<Cell<bool>>,
}

impl Sampler {
    pub(crate) fn start(pid: Option<u32>) -> Self {
        let sampler = Self {
            pid,
            most: Rc::default(),
            stop: Rc::default(),
        };
        if let Some(pid) = pid {
            let (most, stop) = (sampler.most.clone(), sampler.stop.clone());
            rt::spawn(Queue::Background, "memory", async move {
                while !stop.get() {
                    raise(&mut most.borrow_mut(), memory(pid).unwrap_or_default());
                    rt::sleep(PERIOD).await;
                }
            });
        }
        sampler
    }

    /// The most that was seen of each kind, and what it is now, in MiB.
    pub(crate) fn end(self) -> Vec<(String, f64)> {
        self.stop.set(true);
        let Some(now) = self.pid.and_then(memory) else {
            return Vec::new();
        };
        let mut most = self.most.borrow_mut();
        raise(&mut most, now);
        let mib = |bytes: u64| number(bytes) / 1024.0 / 1024.0;
        vec![
            ("MiB resident, most".into(), mib(most.resident)),
            ("MiB anonymous, most".into(), mib(most.anonymous)),
            ("MiB of files, most".into(), mib(most.file)),
            ("MiB resident, at the end".into(), mib(now.resident)),
            ("MiB anonymous, at the end".into(), mib(now.anonymous)),
            ("MiB of files, at the end".into(), mib(now.file)),
        ]
    }
}

fn raise(most: &mut Memory, seen: Memory) {
    most.resident = most.resident.max(seen.resident);
    most.anonymous = most.anonymous.max(seen.anonymous);
    most.file = most.file.max(seen.file);
}
