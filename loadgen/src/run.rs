//! One run: the executors started, told when to begin, listened to, and their findings put
//! together.

mod gather;
mod validity;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{OnceLock, mpsc};
use std::time::Duration;

use anyhow::{Context, bail};
use ringmq::rt::start::{Executors, Plan, start};
use ringmq::rt::{self, probe};

use crate::clock::ns_of;
use crate::outcome::{Outcome, Progress};
use crate::scenario::{Pattern, Scenario};
use crate::target::Target;
use crate::worker::{self, CLOSING, News, Orders, Task};

use gather::Gathered;

/// How runs are made, whatever they run.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// One executor for each, on this processor if it says one.
    pub cpus: Vec<Option<usize>>,
    /// How long an executor looks for work before it sleeps.
    pub spin: Option<Duration>,
    /// Whether bodies carry a checksum that is verified.
    pub checksum: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cpus: vec![None],
            spin: None,
            checksum: true,
        }
    }
}

/// From the moment at which all cores are ready to the beginning of the warm-up.
const RUN_UP: Duration = Duration::from_millis(50);

/// How often the main thread looks around.
const LOOK: Duration = Duration::from_millis(50);

/// How much longer than it may take the end of a run is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs a scenario; blocks until it is over. `watch` is called several times a second.
///
/// An interrupt (`SIGINT`, `SIGTERM`) ends the run early, with what it has. A second one ends the
/// process.
///
/// # Errors
/// When the server cannot be reached, refuses a subscription, or an executor cannot run. What
/// fails later is part of the outcome.
pub(crate) fn run(
    scenario: &Scenario,
    target: &Target,
    options: &Options,
    watch: &mut dyn FnMut(&Progress),
) -> anyhow::Result<Outcome> {
    probe::probe().context("this machine's kernel refuses io_uring")?;
    let interrupted = interrupts()?;
    let mut scenario = scenario.clone();
    if scenario.pattern == Pattern::Echo {
        // An echo's producers are its consumers.
        scenario.consumers = scenario.producers;
    }
    anyhow::ensure!(
        scenario.channels > 0 && scenario.producers > 0,
        "a run needs a channel and a producer"
    );
    let scenario = Arc::new(scenario);
    let mut running = Running::start(&scenario, target, options)?;
    let result = running.listen(interrupted, watch);
    running.orders.stop.store(true, Ordering::Relaxed);
    if running.executors.is_some() && running.all_ended() {
        running.join();
    }
    result?;
    Ok(running.gathered.outcome(target))
}

/// The flag that an interrupt raises. A second interrupt does what it does without us.
fn interrupts() -> anyhow::Result<&'static Arc<AtomicBool>> {
    static FLAG: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    if let Some(flag) = FLAG.get() {
        return Ok(flag);
    }
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // In this order: the first signal finds the flag lowered and raises it.
        signal_hook::flag::register_conditional_default(signal, flag.clone())
            .and_then(|_| signal_hook::flag::register(signal, flag.clone()))
            .context("cannot listen for interrupts")?;
    }
    Ok(FLAG.get_or_init(|| flag))
}

/// A run that was interrupted: those who run several end with it.
pub(crate) fn was_interrupted() -> bool {
    interrupts().is_ok_and(|flag| flag.load(Ordering::Relaxed))
}

/// The executors of a run and what they have told so far.
#[derive(Debug)]
struct Running {
    orders: Arc<Orders>,
    executors: Option<Executors>,
    news: mpsc::Receiver<News>,
    workers: usize,
    ready: usize,
    /// Ended, well or not.
    ended: usize,
    gathered: Gathered,
    deadline_ns: u64,
}

impl Running {
    fn start(scenario: &Arc<Scenario>, target: &Target, options: &Options) -> anyhow::Result<Self> {
        let channels = usize::try_from(scenario.channels).unwrap_or(usize::MAX);
        let workers = options.cpus.len().clamp(1, channels.max(1));
        if workers < options.cpus.len() {
            let unused = options.cpus.len() - workers;
            eprintln!("{unused} cores are not used: a channel lives on one core");
        }
        let plans = (0..workers).map(|worker| Plan {
            cpu: options.cpus.get(worker).copied().flatten(),
            spin: options.spin,
        });
        let plans: Vec<_> = plans.collect();
        let gathered = Gathered::new(scenario, target.pid, workers);
        let orders = Arc::new(Orders::default());
        let target = Arc::new(target.clone());
        let run = run_number();
        let tasks = (0..workers).map(|number| Task {
            scenario: scenario.clone(),
            target: target.clone(),
            orders: orders.clone(),
            run,
            checksum: options.checksum,
            number: u32::try_from(number).unwrap_or(u32::MAX),
            workers: u32::try_from(workers).unwrap_or(u32::MAX),
        });
        let (tx, news) = mpsc::channel();
        let executors = start(&plans, tasks.collect(), move |_, task| {
            worker::run(task, tx.clone())
        })?;
        Ok(Self {
            orders,
            executors: Some(executors),
            news,
            workers,
            ready: 0,
            ended: 0,
            gathered,
            deadline_ns: u64::MAX,
        })
    }

    const fn all_ended(&self) -> bool {
        self.ended == self.workers
    }

    fn join(&mut self) {
        if let Some(executors) = self.executors.take() {
            executors.join();
        }
    }

    /// Listens until every core has said its last. The first problem is the result; the cores are
    /// told to stop then, and waited for.
    fn listen(
        &mut self,
        interrupted: &AtomicBool,
        watch: &mut dyn FnMut(&Progress),
    ) -> anyhow::Result<()> {
        let mut problem = None;
        while !self.all_ended() {
            match self.news.recv_timeout(self.gathered.wait(LOOK)) {
                Ok(news) => self.take(news, &mut problem),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                // Every executor has dropped its end: those that said nothing panicked.
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    problem.get_or_insert_with(|| anyhow::anyhow!("{}", self.panic()));
                    break;
                }
            }
            self.gathered.look();
            self.gathered.show(watch);
            if interrupted.load(Ordering::Relaxed) {
                self.stop();
            }
            if rt::now().as_ns() > self.deadline_ns {
                bail!("a core of the generator does not end");
            }
        }
        self.gathered.close();
        problem.map_or(Ok(()), Err)
    }

    fn take(&mut self, news: News, problem: &mut Option<anyhow::Error>) {
        match news {
            News::Ready => {
                self.ready += 1;
                if self.ready == self.workers {
                    self.begin();
                }
            }
            News::Tick(tick) => self.gathered.tick(&tick),
            News::Last(last) => {
                self.ended += 1;
                self.gathered.last(*last);
            }
            News::Failed(error) => {
                self.ended += 1;
                problem.get_or_insert(error);
                self.stop();
            }
        }
    }

    fn begin(&mut self) {
        let begin_ns = rt::now().after(RUN_UP).as_ns();
        self.deadline_ns = self.gathered.begin(begin_ns).saturating_add(after_end_ns());
        self.orders.begin_ns.store(begin_ns, Ordering::Release);
    }

    fn stop(&mut self) {
        if !self.orders.stop.swap(true, Ordering::Relaxed) {
            self.gathered.end_at(rt::now().as_ns());
            let drain_ns = ns_of(self.gathered.scenario().drain);
            let until_ns = rt::now().as_ns() + drain_ns + after_end_ns();
            self.deadline_ns = self.deadline_ns.min(until_ns);
        }
    }

    /// Why an executor ended without a word.
    fn panic(&mut self) -> String {
        let ended = self
            .executors
            .as_ref()
            .and_then(|executors| executors.wait_ended(Duration::ZERO));
        let reason = ended.and_then(|ended| ended.panic);
        format!(
            "a core of the generator ended: {}",
            reason.unwrap_or_else(|| "no reason is known".into())
        )
    }
}

/// How long a core may take after its drain.
fn after_end_ns() -> u64 {
    u64::try_from((CLOSING + PATIENCE).as_nanos()).unwrap_or(u64::MAX)
}

/// A number that no other run has: in channel names, so that runs do not meet, and in each body.
fn run_number() -> u64 {
    let time = rt::unix_ns().unsigned_abs();
    // Nanoseconds of two processes may be alike; their ids are not.
    time ^ u64::from(std::process::id()) << 44
}

#[cfg(test)]
mod tests;
