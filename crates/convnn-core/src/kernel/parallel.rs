//! Splitting of work into tasks by shape alone, so that results do not depend on the number of threads.

use rayon::prelude::*;
use std::mem::MaybeUninit;

/// Elements per task: three f32 arrays of this length fit in an L2 cache of 256 KiB.
pub(crate) const TASK: usize = 16 * 1024;

/// Elements of a task of whole rows of `width` elements: at least one row, about [`TASK`] elements.
pub(crate) fn task_of_rows(width: usize) -> usize {
    (TASK / width.max(1)).max(1) * width.max(1)
}

/// A vector of `len` elements filled by tasks of `task` elements each, and the results of the tasks in order.
///
/// `fill` gets the index of its first element and the elements to write.
///
/// # Safety
/// `fill` must write every element that it gets.
pub(crate) unsafe fn fill_tasks<T: Send, R: Send>(
    len: usize,
    task: usize,
    fill: impl Fn(usize, &mut [MaybeUninit<T>]) -> R + Sync,
) -> (Vec<T>, Vec<R>) {
    let mut out = Vec::with_capacity(len);
    let spare = &mut out.spare_capacity_mut()[..len];
    let results = if len <= task {
        // A single task is not worth a trip to the thread pool.
        vec![fill(0, spare)]
    } else {
        spare.par_chunks_mut(task).enumerate().map(|(i, chunk)| fill(i * task, chunk)).collect()
    };
    // SAFETY: the tasks cover all `len` elements, and the caller promises that each task writes all of its own.
    unsafe { out.set_len(len) };
    (out, results)
}

/// Maps slices of one length to a vector of that length by tasks of `task` elements.
///
/// `map` gets the index of its first element, its inputs and the elements to write.
///
/// # Safety
/// `map` must write every element that it gets.
pub(crate) unsafe fn map_tasks<T: Copy + Send + Sync, R: Send, const N: usize>(
    inputs: [&[T]; N],
    task: usize,
    map: impl Fn(usize, [&[T]; N], &mut [MaybeUninit<T>]) -> R + Sync,
) -> (Vec<T>, Vec<R>) {
    let len = inputs[0].len();
    assert!(inputs.iter().all(|x| x.len() == len), "inputs of one length");
    // SAFETY: `map` writes every element, as the caller promises.
    unsafe { fill_tasks(len, task, |start, out| map(start, inputs.map(|x| &x[start..start + out.len()]), out)) }
}

/// The results of `f` for each task of `task` elements of slices of one length, in order.
pub(crate) fn reduce_tasks<T: Copy + Send + Sync, R: Send, const N: usize>(
    inputs: [&[T]; N],
    task: usize,
    f: impl Fn([&[T]; N]) -> R + Sync,
) -> Vec<R> {
    let len = inputs[0].len();
    assert!(inputs.iter().all(|x| x.len() == len), "inputs of one length");
    if len <= task {
        return vec![f(inputs)];
    }
    (0..len.div_ceil(task)).into_par_iter().map(|i| f(inputs.map(|x| &x[i * task..len.min((i + 1) * task)]))).collect()
}

/// Runs `f` in parallel for each i with the i-th chunk of every array; each array has its own chunk length.
///
/// An array with chunk length 0 contributes empty chunks.
pub(crate) fn fill_groups<T: Send, const N: usize>(
    arrays: [(&mut [T], usize); N],
    f: impl Fn(usize, [&mut [T]; N]) + Sync,
) {
    let groups = arrays.iter().map(|(array, len)| array.len().div_ceil((*len).max(1))).max().unwrap_or(0);
    let mut chunks = arrays.map(|(array, len)| array.chunks_mut(len.max(1)));
    let groups: Vec<[&mut [T]; N]> =
        (0..groups).map(|_| chunks.each_mut().map(|chunks| chunks.next().unwrap_or_default())).collect();
    groups.into_par_iter().enumerate().for_each(|(i, group)| f(i, group));
}
