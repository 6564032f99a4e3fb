//! The memory that this process may use, compared with what a run or an evaluation needs.

use crate::config::RunConfig;
use crate::expected::slots;
use crate::text::bytes;
use crate::{Error, Result};
use convnn_models::ModelConfig;

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

/// What is to be done with batches of images.
#[derive(Clone, Copy, Debug)]
struct Work {
    name: &'static str,
    /// The key or the option of the batch size.
    option: &'static str,
    batch_size: usize,
    /// Bytes that do not depend on the batch size.
    fixed: u64,
    per_image: u64,
}

impl Work {
    fn training(config: &RunConfig, images: usize) -> Result<Self> {
        let memory = config.model.memory()?;
        Ok(Self {
            name: "training",
            option: "batch_size",
            batch_size: config.batch_size.min(images),
            fixed: memory.fixed(slots(config)),
            per_image: memory.per_image(),
        })
    }

    fn evaluation(model: &ModelConfig, batch_size: usize, images: usize) -> Result<Self> {
        let memory = model.memory()?;
        Ok(Self {
            name: "evaluating",
            option: "--batch-size",
            batch_size: batch_size.min(images),
            fixed: memory.fixed_to_evaluate(),
            per_image: memory.per_image_to_evaluate(),
        })
    }

    const fn bytes(&self, batch_size: usize) -> u64 {
        self.fixed.saturating_add(self.per_image.saturating_mul(batch_size as u64))
    }
}

/// Fails if the run needs more memory than a hard limit leaves, and warns if it needs more than is free now. The images are
/// expected to be in memory already; no batch has more than the `images` of training.
///
/// # Errors
/// [`Error::Memory`], with the largest batch size that fits.
pub fn check(config: &RunConfig, images: usize) -> Result<()> {
    check_all(&Work::training(config, images)?)
}

/// The same for the evaluation of a model whose weights are in memory, in batches of `batch_size` of `images` images.
///
/// # Errors
/// As [`check`].
pub fn check_evaluation(model: &ModelConfig, batch_size: usize, images: usize) -> Result<()> {
    check_all(&Work::evaluation(model, batch_size, images)?)
}

fn check_all(work: &Work) -> Result<()> {
    for room in rooms() {
        match compare(work, room) {
            Err(error) if room.is_hard => return Err(error),
            Err(error) => tracing::warn!("{error}"),
            Ok(()) => {}
        }
    }
    Ok(())
}

/// Whether the work fits into one limit.
fn compare(work: &Work, room: Room) -> Result<()> {
    let &Work { name, option, batch_size, fixed, per_image } = work;
    let needed = work.bytes(batch_size).saturating_add(room.overhead);
    if needed <= room.left {
        return Ok(());
    }
    let for_images = room.left.saturating_sub(room.overhead).saturating_sub(fixed);
    let advice = match for_images.checked_div(per_image).unwrap_or(0) as usize {
        0 => format!(
            "even a batch of one needs {}; {}",
            bytes(work.bytes(1).saturating_add(room.overhead)),
            if name == "training" { "make the model smaller" } else { "raise the limit" }
        ),
        most => format!("`{option}` {} fits", most.min(batch_size.saturating_sub(1))),
    };
    Err(Error::Memory { work: name, needed, batch_size, left: room.left, from: room.from, advice })
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
    let group = |name: &str| read(&format!("/sys/fs/cgroup/{name}")).trim().parse::<u64>().ok();
    let room = |all: Option<u64>, used: Option<u64>, from, is_hard| {
        Some(Room { left: all?.saturating_sub(used.unwrap_or(0)), overhead: 0, from, is_hard })
    };
    let heaps = HEAP * (rayon::current_num_threads() as u64 + LOADER_THREADS);
    let addresses = room(limit, used, "the limit of `ulimit -v`", true).map(|room| Room { overhead: heaps, ..room });
    // Files that were read count as used, but make room when it is needed.
    let files = entry(&read("/sys/fs/cgroup/memory.stat"), "inactive_file");
    let in_group = group("memory.current").map(|used| used.saturating_sub(files.unwrap_or(0)));
    let all = [
        addresses,
        room(group("memory.max"), in_group, "the limit of the control group", true),
        room(kilobytes(&read("/proc/meminfo"), "MemAvailable:"), None, "the memory that is free now", false),
    ];
    all.into_iter().flatten().collect()
}

/// The soft limit in a text like /proc/self/limits.
fn address_space(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max address space"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The value of a line `NAME 123`.
fn entry(text: &str, name: &str) -> Option<u64> {
    text.lines().filter_map(|line| line.split_once(' ')).find(|(key, _)| *key == name)?.1.trim().parse().ok()
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
        assert_eq!(entry("file 1\ninactive_file 2\n", "inactive_file"), Some(2));
        assert_eq!(entry("file 1\n", "inactive_file"), None);
        assert_eq!(kilobytes("Name: x\nVmSize:\t  100 kB\n", "VmSize:"), Some(102_400));
    }

    #[test]
    fn a_batch_size_that_fits_is_named() {
        let config = RunConfig::from_preset("vit_compact").unwrap();
        let room = |left| Room { left, overhead: 0, from: "a limit", is_hard: true };
        let training = Work::training(&config, usize::MAX).unwrap();
        let evaluation = Work::evaluation(&config.model, 256, usize::MAX).unwrap();
        assert!(evaluation.bytes(256) < training.bytes(256));
        for work in [training, evaluation] {
            let Work { option, batch_size, .. } = work;
            assert!(compare(&work, room(work.bytes(batch_size))).is_ok());
            let error = compare(&work, room(work.bytes(batch_size / 2))).unwrap_err().to_string();
            assert!(error.ends_with(&format!("`{option}` {} fits", batch_size / 2)), "{error}");
            let error = compare(&work, room(1000)).unwrap_err().to_string();
            assert!(error.contains("1000 bytes") || error.contains("1 KB"), "{error}");
            assert!(error.contains("even a batch of one needs"), "{error}");
        }
    }
}
