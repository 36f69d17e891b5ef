//! Starting executors and watching over their threads.

use std::future::Future;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use glommio::{LocalExecutorBuilder, Placement, PoolPlacement};

/// The preempt timer. Never small: each firing before the first task queue ran can park the
/// executor for good (see [`crate::rt::heartbeat`]).
const PREEMPT: Duration = Duration::from_secs(1);

/// Submission queue entries of each of the executor's rings.
const RING_DEPTH: usize = 1024;

/// Registered buffers of an executor; we use none, this is the runtime's minimum.
const IO_MEMORY_BYTES: usize = 64 << 10;

/// Threads for what may block, of each executor: a reader's page faults do not wait behind the
/// making of a segment. They are not pinned: where a core is idle, the executor keeps its own.
const BLOCKING_THREADS: usize = 2;

/// How one executor is set up.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Pins the executor to this processor; `None` leaves it to the kernel.
    pub cpu: Option<usize>,
    /// How long it looks at its sockets before it sleeps, when that pays: lower latency for some
    /// of a core's time. `None`: not at all.
    pub spin: Option<Duration>,
}

/// Why the executors did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A thread could not be made.
    #[error("cannot start the thread of shard {shard}")]
    Thread {
        /// The shard.
        shard: usize,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The runtime refused.
    #[error("the runtime refuses to start shard {shard}: {reason}")]
    Executor {
        /// The shard.
        shard: usize,
        /// Why, in the runtime's words.
        reason: String,
    },
}

/// An executor thread that has ended.
#[derive(Debug)]
pub struct Ended {
    /// The shard.
    pub shard: usize,
    /// The panic's text, if it was one.
    pub panic: Option<String>,
}

/// The running executors.
#[derive(Debug)]
pub struct Executors {
    threads: Vec<JoinHandle<()>>,
    ended: mpsc::Receiver<Ended>,
}

/// Starts one executor for each plan; `main` runs on each of them, with its shard and seed. The
/// executor ends when its `main` does.
///
/// # Errors
/// When one of them cannot start; those that did are ended by the process then.
pub fn start<S, M, F>(plans: &[Plan], seeds: Vec<S>, main: M) -> Result<Executors, Error>
where
    S: Send + 'static,
    M: Fn(usize, S) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + 'static,
{
    glommio::early_init();
    let (ended_tx, ended) = mpsc::channel();
    let mut threads = Vec::with_capacity(plans.len());
    let (ready_tx, ready_rx) = mpsc::channel::<Result<(), Error>>();
    for ((shard, plan), seed) in plans.iter().copied().enumerate().zip(seeds) {
        let (main, ended_tx, ready_tx) = (main.clone(), ended_tx.clone(), ready_tx.clone());
        let thread = std::thread::Builder::new()
            .name(format!("shard-{shard}"))
            .spawn(move || {
                let run = || run_one(shard, plan, &ready_tx, move || main(shard, seed));
                let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
                let panic = outcome
                    .err()
                    .map(|e| super::task::panic_text(e.as_ref()).to_owned());
                let _nobody_listens_at_exit = ended_tx.send(Ended { shard, panic });
            })
            .map_err(|source| Error::Thread { shard, source })?;
        threads.push(thread);
    }
    drop(ready_tx);
    // Every sender sends once; a thread that died before shows as a missing one.
    for result in ready_rx.iter().take(threads.len()) {
        result?;
    }
    Ok(Executors { threads, ended })
}

fn run_one<F: Future<Output = ()> + 'static>(
    shard: usize,
    plan: Plan,
    ready: &mpsc::Sender<Result<(), Error>>,
    main: impl FnOnce() -> F,
) {
    let placement = plan.cpu.map_or(Placement::Unbound, Placement::Fixed);
    let builder = LocalExecutorBuilder::new(placement)
        .name(&format!("shard-{shard}"))
        .io_memory(IO_MEMORY_BYTES)
        .ring_depth(RING_DEPTH)
        .blocking_thread_pool_placement(PoolPlacement::Unbound(BLOCKING_THREADS))
        .preempt_timer(PREEMPT);
    let executor = match builder.make() {
        Ok(executor) => executor,
        Err(error) => {
            let refusal = Error::Executor {
                shard,
                reason: error.to_string(),
            };
            let _nobody_listens_at_exit = ready.send(Err(refusal));
            return;
        }
    };
    let ready = ready.clone();
    executor.run(async move {
        super::task::install_queues();
        let installed = super::poller::install(plan.spin.unwrap_or_default());
        let installed = installed.and_then(|()| super::line::install());
        let refusal = installed.err().map(|error| Error::Executor {
            shard,
            reason: error.to_string(),
        });
        let refused = refusal.is_some();
        let _nobody_listens_at_exit = ready.send(refusal.map_or(Ok(()), Err));
        if !refused {
            main().await;
        }
    });
}

impl Executors {
    /// Waits until an executor ends, or until `timeout`; `None` on timeout.
    #[must_use]
    pub fn wait_ended(&self, timeout: Duration) -> Option<Ended> {
        self.ended.recv_timeout(timeout).ok()
    }

    /// Waits for every thread.
    pub fn join(self) {
        for thread in self.threads {
            let _told_by_ended = thread.join();
        }
    }
}
