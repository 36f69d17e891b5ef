//! Which processor runs what: one for each executor, the rest for everything beside them.

use super::Machine;
use crate::config::settings::Engine;

/// Where executors run, and what is left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuPlacement {
    /// The processor of each executor; `None` leaves it to the kernel.
    pub executors: Vec<Option<usize>>,
    /// Processors without an executor, for the threads that may block. Empty when there is none,
    /// or when executors are not pinned.
    pub others: Vec<usize>,
    /// Processors of executors that serve interrupts of network cards.
    pub interrupted: Vec<usize>,
}

impl Machine {
    /// Gives each executor a processor when they are to be pinned and there are enough: those
    /// that the settings list, else those that serve no network card, as far as they go.
    #[must_use]
    pub fn place(&self, engine: &Engine) -> CpuPlacement {
        let serves_card = |cpu: &usize| self.interrupt_cpus.contains(cpu);
        let mut cpus = engine.cpus.as_slice().to_vec();
        if cpus.is_empty() {
            cpus.clone_from(&self.cpus);
            // Stable: the order among equals stays.
            cpus.sort_by_key(serves_card);
        }
        if !engine.pin.unwrap_or(true) || engine.cores > cpus.len() {
            return CpuPlacement {
                executors: vec![None; engine.cores],
                ..CpuPlacement::default()
            };
        }
        cpus.truncate(engine.cores);
        let others = self.cpus.iter().filter(|cpu| !cpus.contains(cpu));
        CpuPlacement {
            others: others.copied().collect(),
            interrupted: cpus.iter().copied().filter(serves_card).collect(),
            executors: cpus.into_iter().map(Some).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, CpuList};

    fn place(cpus: usize, interrupted: &[usize], change: impl Fn(&mut Engine)) -> CpuPlacement {
        let machine = Machine {
            cpus: (0..cpus).collect(),
            interrupt_cpus: interrupted.to_vec(),
            ..Machine::default()
        };
        let mut engine = Config::default().engine;
        change(&mut engine);
        machine.place(&engine)
    }

    fn on(cpus: &[usize]) -> Vec<Option<usize>> {
        cpus.iter().copied().map(Some).collect()
    }

    #[test]
    fn executors_avoid_the_processors_that_serve_network_cards() {
        let placed = place(4, &[0, 2], |engine| engine.cores = 2);
        assert_eq!((placed.executors, placed.others), (on(&[1, 3]), vec![0, 2]));
        assert_eq!(placed.interrupted, [0; 0]);
    }

    #[test]
    fn executors_take_what_there_is_when_none_is_to_spare() {
        let placed = place(3, &[0, 1], |engine| engine.cores = 3);
        assert_eq!((placed.executors, placed.others), (on(&[2, 0, 1]), vec![]));
        assert_eq!(placed.interrupted, [0, 1]);
        let placed = place(2, &[0, 1], |engine| engine.cores = 1);
        assert_eq!((placed.executors, placed.others), (on(&[0]), vec![1]));
    }

    #[test]
    fn listed_processors_are_taken_as_they_are() {
        let placed = place(8, &[6], |engine| {
            engine.cores = 3;
            engine.cpus = CpuList::parse("6,2-3").unwrap();
        });
        assert_eq!(placed.executors, on(&[6, 2, 3]));
        assert_eq!(
            (placed.others, placed.interrupted),
            (vec![0, 1, 4, 5, 7], vec![6])
        );
    }

    #[test]
    fn nothing_is_pinned_when_asked_or_when_processors_are_short() {
        let placed = place(4, &[], |engine| {
            (engine.cores, engine.pin) = (2, Some(false));
        });
        assert_eq!((placed.executors, placed.others), (vec![None; 2], vec![]));
        let placed = place(1, &[], |engine| engine.cores = 2);
        assert_eq!((placed.executors, placed.others), (vec![None; 2], vec![]));
    }
}
