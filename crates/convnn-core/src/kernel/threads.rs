//! How many threads compute.

/// Limits this process to `count` computing threads, in rayon's global pool and in that of Candle's matrix products;
/// returns whether it could.
///
/// Candle's threads wait for each other busily: with more of them than free processors, a shared machine is several times
/// slower. Both pools read environment variables when they start, so this sets `RAYON_NUM_THREADS` and
/// `CANDLE_NUM_THREADS`, which programs started later inherit. Only a process with a single thread may do that safely;
/// with more, and on systems other than Linux, nothing happens and the result is `false`.
///
/// This is a decision for the whole process, so it is up to programs, never libraries. Call it at the start of `main`.
pub fn limit(count: usize) -> bool {
    let alone = is_alone();
    if alone {
        for name in ["RAYON_NUM_THREADS", "CANDLE_NUM_THREADS"] {
            // SAFETY: no other thread exists that could read the environment.
            unsafe { std::env::set_var(name, count.to_string()) };
        }
    }
    alone
}

/// Whether this is certainly the only thread of the process.
fn is_alone() -> bool {
    cfg!(target_os = "linux") && std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() == 1)
}
