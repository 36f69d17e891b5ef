//! A list of processors, as the kernel writes one: `2-5,8`.

use std::fmt;

use super::key::{Key, Setting};

/// The highest processor that may be named.
const CPU_MAX: usize = 4_095;

/// Processors, each once, in the order in which they were named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuList(Vec<usize>);

impl CpuList {
    /// Reads a list; `None` when it is none. An empty text is an empty list.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut cpus = Vec::new();
        for part in text.split(',').map(str::trim) {
            if part.is_empty() && text.trim().is_empty() {
                break;
            }
            let (first, last) = match part.split_once('-') {
                Some((first, last)) => (number(first)?, number(last)?),
                None => (number(part)?, number(part)?),
            };
            if first > last {
                return None;
            }
            for cpu in first..=last {
                if cpus.contains(&cpu) {
                    return None;
                }
                cpus.push(cpu);
            }
        }
        Some(Self(cpus))
    }

    /// The processors.
    #[must_use]
    pub fn as_slice(&self) -> &[usize] {
        &self.0
    }
}

impl FromIterator<usize> for CpuList {
    fn from_iter<I: IntoIterator<Item = usize>>(cpus: I) -> Self {
        Self(cpus.into_iter().collect())
    }
}

fn number(text: &str) -> Option<usize> {
    text.trim().parse().ok().filter(|cpu| *cpu <= CPU_MAX)
}

impl fmt::Display for CpuList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_slice();
        while let Some((&first, others)) = rest.split_first() {
            let next = others.iter().zip(first + 1..);
            let run = next.take_while(|(cpu, next)| *cpu == next).count();
            if rest.len() < self.0.len() {
                f.write_str(",")?;
            }
            match run {
                0 => write!(f, "{first}")?,
                _ => write!(f, "{first}-{}", first + run)?,
            }
            rest = others.get(run..).unwrap_or_default();
        }
        Ok(())
    }
}

/// Empty is none.
impl Setting for CpuList {
    fn parse(text: &str, _key: &Key) -> Option<Self> {
        Self::parse(text)
    }

    fn spell(&self, _text: &str) -> String {
        self.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_the_kernel_writes_them_and_written_back() {
        let read = |text| CpuList::parse(text).map(|list| list.as_slice().to_vec());
        assert_eq!(read(""), Some(vec![]));
        assert_eq!(read("3"), Some(vec![3]));
        assert_eq!(read(" 2-5, 8,0 "), Some(vec![2, 3, 4, 5, 8, 0]));
        for wrong in [
            ",",
            "1,",
            "5-2",
            "1,1",
            "0-3,2",
            "x",
            "-1",
            "1-",
            "4096",
            "0-99999999",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        for text in ["", "0", "0-1", "2-5,8,0", "7,9-10"] {
            assert_eq!(CpuList::parse(text).unwrap().to_string(), text);
        }
    }
}
