//! The memory that this process may use, compared with what a run needs.

use crate::config::RunConfig;
use crate::expected::slots;
use crate::text::bytes;
use crate::{Error, Result};

/// A limit on memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// What is left of it.
    pub left: u64,
    /// What the process takes of it besides.
    pub overhead: u64,
    /// Where it comes from.
    pub from: &'static str,
    /// Whether exceeding it ends the process; other processes may still give memory back.
    pub is_hard: bool,
}

/// Fails if the run needs more memory than a hard limit leaves, and warns if it needs more than is free now. The images are
/// expected to be in memory already; no batch has more than the `images` of training.
///
/// # Errors
/// [`Error::Memory`], with the largest batch size that fits.
pub fn check(config: &RunConfig, images: usize) -> Result<()> {
    for room in rooms() {
        match compare(config, config.batch_size.min(images), room) {
            Err(error) if room.is_hard => return Err(error),
            Err(error) => tracing::warn!("{error}"),
            Ok(()) => {}
        }
    }
    Ok(())
}

/// Whether the run fits into one limit.
fn compare(config: &RunConfig, batch_size: usize, room: Room) -> Result<()> {
    let (memory, slots) = (config.model.memory()?, slots(config));
    let needed = memory.training(batch_size, slots).saturating_add(room.overhead);
    if needed <= room.left {
        return Ok(());
    }
    let advice = match memory.largest_batch(room.left.saturating_sub(room.overhead), slots) {
        0 => format!(
            "even a batch of one needs {}; make the model smaller",
            bytes(memory.training(1, slots) + room.overhead)
        ),
        most => format!("`batch_size` {} fits", most.min(batch_size - 1)),
    };
    let (needed, left) = (bytes(needed), bytes(room.left));
    Err(Error::Memory { needed, batch_size, left, from: room.from, advice })
}

/// Addresses that glibc reserves for the heap of a thread, in bytes.
const HEAP: u64 = 64 << 20;

/// Threads that prepare batches and write checkpoints.
const LOADER_THREADS: u64 = 5;

/// The limits of this process on Linux; none elsewhere.
fn rooms() -> Vec<Room> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let limit = address_space(&read("/proc/self/limits"));
    let used = kilobytes(&read("/proc/self/status"), "VmSize:");
    let group = |name: &str| read(&format!("/sys/fs/cgroup/{name}")).trim().parse().ok();
    let room = |all: Option<u64>, used: Option<u64>, from, is_hard| {
        Some(Room { left: all?.saturating_sub(used.unwrap_or(0)), overhead: 0, from, is_hard })
    };
    let heaps = HEAP * (rayon::current_num_threads() as u64 + LOADER_THREADS);
    let addresses = room(limit, used, "the limit of `ulimit -v`", true).map(|room| Room { overhead: heaps, ..room });
    let all = [
        addresses,
        room(group("memory.max"), group("memory.current"), "the limit of the control group", true),
        room(kilobytes(&read("/proc/meminfo"), "MemAvailable:"), None, "the memory that is free now", false),
    ];
    all.into_iter().flatten().collect()
}

/// The soft limit in a text like /proc/self/limits.
fn address_space(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max address space"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The value of a line `NAME   123 kB`, in bytes.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|number| number * 1024)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max address space         2000000000           unlimited            bytes     \n";
        assert_eq!(address_space(limits), Some(2_000_000_000));
        assert_eq!(address_space(&limits.replace("2000000000", "unlimited ")), None);
        assert_eq!(kilobytes("Name: x\nVmSize:\t  100 kB\n", "VmSize:"), Some(102_400));
    }

    #[test]
    fn a_batch_size_that_fits_is_named() {
        let config = RunConfig::from_preset("vit_compact").unwrap();
        let (memory, slots) = (config.model.memory().unwrap(), slots(&config));
        let room = |left| Room { left, overhead: 0, from: "a limit", is_hard: true };
        assert!(compare(&config, config.batch_size, room(memory.training(config.batch_size, slots))).is_ok());
        let half = memory.training(config.batch_size / 2, slots);
        let error = compare(&config, config.batch_size, room(half)).unwrap_err().to_string();
        assert!(error.ends_with(&format!("`batch_size` {} fits", config.batch_size / 2)), "{error}");
        let error = compare(&config, config.batch_size, room(1000)).unwrap_err().to_string();
        assert!(error.contains("1000 bytes") || error.contains("1 KB"), "{error}");
        assert!(error.contains("even a batch of one needs"), "{error}");
    }
}
