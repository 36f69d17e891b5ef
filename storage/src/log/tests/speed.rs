//! Figures, not checks: `cargo test --release -p ringmq-storage speed -- --ignored --nocapture`.

use super::*;
use crate::cipher::Keyring;
use crate::fs::{Fs, RealFs};

/// Processor time of this thread: the machine may be busy with other things.
fn cpu_ns() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split(' ').next().unwrap().parse().unwrap()
}

struct Figures {
    fs: Arc<dyn Fs>,
    log: Log,
    count: u64,
}

/// Applies nothing: what is measured is the log.
struct Nothing;

impl Apply for Nothing {
    fn restore(&mut self, _: &Section) -> Result<(), Divergence> {
        Ok(())
    }

    fn apply(&mut self, _: &Frame<'_>) -> Result<(), Divergence> {
        Ok(())
    }
}

impl Figures {
    fn jobs(&mut self) {
        while let Some(job) = self.log.next_job() {
            let done = job.run(&*self.fs);
            self.log.done(done);
        }
    }

    fn append(&mut self, key: ChannelKey, payload: &[u8]) -> Result<(), Refused> {
        let head = RecordHead {
            kind: RecordKind::Message,
            encoding: 1,
            channel: key.channel,
            sequence: seq(self.count + 1),
            time_delta_ns: 0,
            payload_len: u32::try_from(payload.len()).unwrap(),
        };
        let now_ns = 1_000_000_000 + self.count * 1000;
        self.log
            .append(key.slot, now_ns, head, Class::Message, &mut |out| {
                out.extend_from_slice(payload);
            })?;
        self.count += 1;
        Ok(())
    }
}

/// Processor time spent in the parts.
#[derive(Debug, Default)]
struct Spent {
    append: u64,
    close: u64,
    commit: u64,
    read: u64,
    warm: u64,
}

/// Fills the log with 150 MiB.
fn fill(figures: &mut Figures, key: ChannelKey, body: &[u8], batch_records: u64) -> Spent {
    let mut spent = Spent::default();
    let total = (150 << 20) / u64::try_from(body.len() + 32).unwrap();
    while figures.count < total {
        let began = cpu_ns();
        for _ in 0..batch_records {
            if figures.append(key, body).is_err() {
                break;
            }
        }
        let appended = cpu_ns();
        spent.append += appended - began;
        while let Some(batch) = figures.log.take_batch() {
            spent.close += cpu_ns() - appended;
            let path = figures.log.segment_path(batch.segment).unwrap();
            let mut file = figures.fs.open(&path).unwrap();
            let offset = u64::from(batch.offset);
            file.write_at(offset, &batch.bytes).unwrap();
            figures.log.written(batch.end);
            figures.log.synced(batch.end);
            let began = cpu_ns();
            figures.log.commit(batch.end, &mut Nothing).unwrap();
            spent.commit += cpu_ns() - began;
        }
        figures.jobs();
    }
    spent
}

fn read(figures: &mut Figures, key: ChannelKey, spent: &mut Spent) {
    let mut cursor = ReadCursor::default();
    let (mut from, mut sum) = (seq(1), 0_u64);
    let upto = seq(u64::MAX);
    let began = cpu_ns();
    loop {
        let log = &figures.log;
        let end = log.read(key, from, upto, &mut cursor, 64 << 10, &mut |stored| {
            sum += u64::from(stored.payload.first().copied().unwrap_or(0));
            from = stored.sequence.next();
        });
        match end {
            ReadEnd::CaughtUp => break,
            ReadEnd::Cold(warm) => {
                let began = cpu_ns();
                figures.log.warmed(warm.run(), &mut cursor);
                spent.warm += cpu_ns() - began;
            }
            _ => {}
        }
    }
    spent.read = cpu_ns() - began - spent.warm;
    assert!(sum > 0);
}

/// Reads single messages of what is hot, each with a new cursor; nanoseconds for one.
fn read_singly(figures: &Figures, key: ChannelKey, len: usize) -> u64 {
    const READS: u64 = 50_000;
    let hot = (32 << 20) / u64::try_from(len + 32).unwrap();
    let mut random = crate::sim::Random::new(1);
    let mut found = 0;
    let began = cpu_ns();
    for _ in 0..READS {
        let behind = u64::try_from(random.below(usize::try_from(hot).unwrap())).unwrap();
        let at = seq(figures.count - behind);
        let mut cursor = ReadCursor::default();
        let end = figures
            .log
            .read(key, at, at, &mut cursor, 1, &mut |stored| {
                found += u64::from(stored.sequence == at);
            });
        assert!(matches!(end, ReadEnd::CaughtUp), "{end:?}");
    }
    let spent = cpu_ns() - began;
    assert_eq!(found, READS);
    spent / READS
}

fn measure(batch_records: u64, len: usize, keyring: Keyring) {
    let directory = tempfile::tempdir().unwrap();
    let fs: Arc<dyn Fs> = Arc::new(RealFs);
    let mut options = options();
    let how = keyring.writing().map_or("plain", |_| "encrypted");
    options.keyring = keyring;
    options.directory = directory.path().join("log");
    options.segment_bytes = 64 * MIB;
    options.segment_bytes_first = 64 * MIB;
    let opened = Log::open(fs.clone(), options.clone(), &mut Nothing).unwrap();
    let mut figures = Figures {
        fs: fs.clone(),
        log: opened.log,
        count: 0,
    };
    let key = key(0, 1);
    let body = payload(key, 1, len);
    let _busy = figures.append(key, &body);
    figures.jobs();
    let mut spent = fill(&mut figures, key, &body, batch_records);
    read(&mut figures, key, &mut spent);
    let singly = read_singly(&figures, key, len);
    let (count, stats) = (figures.count, figures.log.stats());
    drop(figures);
    let began = cpu_ns();
    let opened = Log::open(fs, options, &mut Nothing).unwrap();
    let open = cpu_ns() - began;
    println!(
        "{how}: {len} bytes, {batch_records} a batch, {count} records, ns a record: append {}, close {}, \
         commit {}, read {}, warm {}, open and replay {}; one read {singly}; index {} bytes",
        spent.append / count,
        spent.close / count,
        spent.commit / count,
        spent.read / count,
        spent.warm / count,
        open / count,
        stats.index_bytes,
    );
    assert_eq!(opened.report.damaged, vec![]);
}

#[test]
#[ignore = "figures"]
fn speed() {
    for (records, len) in [
        (1, 1024),
        (64, 1024),
        (1000, 1024),
        (1000, 100),
        (4000, 40),
        (64, 64 << 10),
    ] {
        let key = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
        for keyring in [Keyring::default(), Keyring::parse(key).unwrap()] {
            measure(records, len, keyring);
        }
    }
}
