//! Which processors serve the interrupts of network cards.
//!
//! The numbers of a card's interrupts stand under its device in `/sys`, where the bus tells them;
//! else an interrupt is the card's when its name in `/proc/interrupts` says so. One that never came
//! serves nothing worth avoiding: drivers ask for more than they use.

use std::fs;
use std::path::Path;

use crate::config::cpus::CpuList;

/// A card's device: how its interrupts are named, and their numbers where these are told.
struct Card {
    names: Vec<String>,
    numbers: Vec<u32>,
}

/// The processors on which a network card has interrupted, in the file system at `root`; ascending.
pub(super) fn network_cpus(root: &Path) -> Vec<usize> {
    let cards = cards(root);
    let table = fs::read_to_string(root.join("proc/interrupts")).unwrap_or_default();
    let came = table.lines().filter_map(parse_line);
    let came = came.filter(|(number, name)| cards.iter().any(|card| card.owns(*number, name)));
    let mut cpus: Vec<usize> = came
        .filter_map(|(number, _)| {
            let path = root.join(format!("proc/irq/{number}/effective_affinity_list"));
            CpuList::parse(fs::read_to_string(path).ok()?.trim())
        })
        .flat_map(|list| list.as_slice().to_vec())
        .collect();
    cpus.sort_unstable();
    cpus.dedup();
    cpus
}

/// Interfaces that are devices; loops and bridges are not.
fn cards(root: &Path) -> Vec<Card> {
    let Ok(interfaces) = fs::read_dir(root.join("sys/class/net")) else {
        return Vec::new();
    };
    let interfaces = interfaces.flatten().map(|interface| interface.path());
    interfaces.filter_map(|path| Card::read(&path)).collect()
}

impl Card {
    fn read(interface: &Path) -> Option<Self> {
        let device = fs::canonicalize(interface.join("device")).ok()?;
        let names = [interface, &device].map(file_name);
        let mut numbers = numbers_in(&device.join("msi_irqs"));
        // A virtual device is plugged into one that the bus knows.
        if let Some(parent) = device.parent()
            && file_name(&device).starts_with("virtio")
        {
            numbers.extend(numbers_in(&parent.join("msi_irqs")));
        }
        let names = names.into_iter().filter(|name| !name.is_empty());
        Some(Self {
            names: names.collect(),
            numbers,
        })
    }

    fn owns(&self, number: u32, name: &str) -> bool {
        let named = |own: &String| {
            // `eth0-rx-1`, but not `eth01`.
            let rest = name.strip_prefix(own.as_str());
            rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric()))
        };
        self.numbers.contains(&number) || self.names.iter().any(named)
    }
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// The numbers that are the names of a directory's entries.
fn numbers_in(directory: &Path) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let names = entries.flatten().map(|entry| entry.file_name());
    names
        .filter_map(|name| name.to_str()?.parse().ok())
        .collect()
}

/// Number and name of an interrupt that came at least once, from a line as
/// ` 38:  0  31257  PCI-MSIX-0000:00:03.0  1-edge  virtio2-input.0`.
fn parse_line(line: &str) -> Option<(u32, &str)> {
    let (number, rest) = line.split_once(':')?;
    let number = number.trim().parse().ok()?;
    let mut counts = rest.split_whitespace().map_while(|n| n.parse::<u64>().ok());
    let came = counts.any(|count| count > 0);
    came.then(|| (number, rest.split_whitespace().last().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
           CPU0       CPU1       CPU2       CPU3
 25:          0          1          0          0  IO-APIC   6-edge      ACPI:Ged
 36:          0    7223615          0          0  PCI-MSIX-0000:00:02.0 1-edge      virtio1-req.0
 37:          0          0          0          0  PCI-MSIX-0000:00:03.0 0-edge      virtio2-config
 38:          0          0      31257          0  PCI-MSIX-0000:00:03.0 1-edge      virtio2-input.0
 51:          9          0          0          0  PCI-MSIX-0000:00:09.0 1-edge      mlx5_comp0@pci:0
 60:          0          0          0          7  IO-APIC   9-edge      eth01-tx
LOC:   10120238   11376328          1          1  Local timer interrupts
";

    /// A machine of files: `eth0` a virtio card, `eth1` one on the bus, `lo` none.
    fn machine() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        let write = |path: &str, text: &str| {
            fs::create_dir_all(at(path).parent().unwrap()).unwrap();
            fs::write(at(path), text).unwrap();
        };
        write("proc/interrupts", TABLE);
        for (number, cpu) in [(36, "1"), (37, "3"), (38, "2"), (51, "0"), (60, "3")] {
            let path = format!("proc/irq/{number}/effective_affinity_list");
            write(&path, &format!("{cpu}\n"));
        }
        write("sys/devices/0000:00:03.0/msi_irqs/37", "msix\n");
        write("sys/devices/0000:00:09.0/msi_irqs/51", "msix\n");
        let devices = [("eth0", "0000:00:03.0/virtio2"), ("eth1", "0000:00:09.0")];
        for (interface, device) in devices {
            let device = at("sys/devices").join(device);
            fs::create_dir_all(&device).unwrap();
            let interface = at("sys/class/net").join(interface);
            fs::create_dir_all(&interface).unwrap();
            std::os::unix::fs::symlink(&device, interface.join("device")).unwrap();
        }
        fs::create_dir_all(at("sys/class/net/lo")).unwrap();
        root
    }

    #[test]
    fn processors_of_cards_that_interrupt_are_found_by_number_and_by_name() {
        assert_eq!(network_cpus(machine().path()), [0, 2]);
    }

    #[test]
    fn machine_that_tells_nothing_has_none() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(network_cpus(root.path()), [0; 0]);
        assert!(parse_line("LOC: 1 2 Local timer").is_none());
        assert!(parse_line("no table").is_none());
    }
}
