//! Choice of the instruction set at run time.
//!
//! The crate is built for baseline x86-64, where loops compile to SSE2. A function declared with [`kernel!`] is also
//! compiled for AVX2 and AVX-512, and each call runs the best version that the processor supports.

use std::sync::OnceLock;

/// Accumulators of a reduction: two AVX-512 registers of f32.
///
/// Sums are folded in the same order on every processor; only fused multiply-add differs between instruction sets.
pub(crate) const LANES: usize = 32;

/// Levels of the x86-64 instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// Supported by every processor.
    Baseline,
    /// AVX2 and fused multiply-add.
    V3,
    /// The AVX-512 extensions common to server processors.
    V4,
}

/// The best level that this processor supports.
#[inline]
pub(crate) fn level() -> Level {
    static LEVEL: OnceLock<Level> = OnceLock::new();
    *LEVEL.get_or_init(detect)
}

/// The instruction set that the kernels run on, such as `x86_64 avx512`. Fused multiply-add rounds differently, so that
/// equal inputs may give other last bits on another one.
pub fn instruction_set() -> String {
    let level = match level() {
        Level::Baseline => "baseline",
        Level::V3 => "avx2",
        Level::V4 => "avx512",
    };
    format!("{} {level}", std::env::consts::ARCH)
}

#[cfg(target_arch = "x86_64")]
fn detect() -> Level {
    let v3 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    let v4 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl");
    match (v3, v4) {
        (true, true) => Level::V4,
        (true, false) => Level::V3,
        _ => Level::Baseline,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn detect() -> Level {
    Level::Baseline
}

/// Declares a function over a [`Float`](crate::kernel::float::Float) type that is compiled once for each [`Level`].
///
/// The first const parameter tells the body whether fused multiply-add is available; callers do not pass it. Functions
/// called by the body must be `#[inline(always)]`, or they stay compiled for the baseline.
macro_rules! kernel {
    (
        $(#[$attribute:meta])*
        $visibility:vis fn $name:ident<const $fma:ident: bool, $T:ident $(, const $N:ident: usize)* $(; $M:ident: $bound:ident)?>(
            $($argument:ident: $type:ty),* $(,)?
        ) $(-> $output:ty)? $body:block
    ) => {
        $(#[$attribute])*
        #[allow(unsafe_code, clippy::too_many_arguments)]
        $visibility fn $name<$T: $crate::kernel::float::Float $(, const $N: usize)* $(, $M: $bound)?>(
            $($argument: $type),*
        ) $(-> $output)? {
            #[inline(always)]
            fn body<const $fma: bool, $T: $crate::kernel::float::Float $(, const $N: usize)* $(, $M: $bound)?>(
                $($argument: $type),*
            ) $(-> $output)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn v3<$T: $crate::kernel::float::Float $(, const $N: usize)* $(, $M: $bound)?>($($argument: $type),*) $(-> $output)? {
                    body::<true, $T $(, $N)* $(, $M)?>($($argument),*)
                }
                #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
                fn v4<$T: $crate::kernel::float::Float $(, const $N: usize)* $(, $M: $bound)?>($($argument: $type),*) $(-> $output)? {
                    body::<true, $T $(, $N)* $(, $M)?>($($argument),*)
                }
                match $crate::kernel::simd::level() {
                    // SAFETY: `level` has detected the features that `v4` is compiled for.
                    $crate::kernel::simd::Level::V4 => return unsafe { v4::<$T $(, $N)* $(, $M)?>($($argument),*) },
                    // SAFETY: `level` has detected the features that `v3` is compiled for.
                    $crate::kernel::simd::Level::V3 => return unsafe { v3::<$T $(, $N)* $(, $M)?>($($argument),*) },
                    $crate::kernel::simd::Level::Baseline => {}
                }
            }
            body::<{ cfg!(target_arch = "aarch64") }, $T $(, $N)* $(, $M)?>($($argument),*)
        }
    };
}
pub(crate) use kernel;

/// All lanes combined into one, folded in halves.
#[inline(always)]
pub(crate) fn fold_lanes<T: Copy>(mut lanes: [T; LANES], combine: impl Fn(T, T) -> T) -> T {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] = combine(lanes[i], lanes[i + width]);
        }
        width /= 2;
    }
    lanes[0]
}

/// The sum of the lanes.
#[inline(always)]
pub(crate) fn sum_lanes<T: crate::kernel::float::Float>(lanes: [T; LANES]) -> T {
    fold_lanes(
        lanes,
        #[inline(always)]
        |a, b| a + b,
    )
}

/// Σ f(x₁, x₂, …) over slices of one length, in an order that depends only on the length.
///
/// A closure with more than plain arithmetic must be `#[inline(always)]`, like everything that a kernel calls.
#[inline(always)]
pub(crate) fn sum_of<T: crate::kernel::float::Float, const N: usize>(slices: [&[T]; N], f: impl Fn([T; N]) -> T) -> T {
    let [sum] = sums_of(
        slices,
        #[inline(always)]
        |x| [f(x)],
    );
    sum
}

/// Several sums in one pass, one for each result of f; see [`sum_of`].
#[inline(always)]
pub(crate) fn sums_of<T: crate::kernel::float::Float, const N: usize, const M: usize>(
    slices: [&[T]; N],
    f: impl Fn([T; N]) -> [T; M],
) -> [T; M] {
    let len = slices[0].len();
    if len < LANES {
        // Folding empty lanes would cost more than the sums themselves.
        let mut sums = [T::ZERO; M];
        for i in 0..len {
            let terms = f(slices.map(|s| s[i]));
            for m in 0..M {
                sums[m] += terms[m];
            }
        }
        return sums;
    }
    let mut lanes = [[T::ZERO; LANES]; M];
    let parts = slices.map(|s| s.as_chunks::<LANES>());
    for block in 0..len / LANES {
        let blocks = parts.map(|(blocks, _)| &blocks[block]);
        for l in 0..LANES {
            let terms = f(blocks.map(|b| b[l]));
            for m in 0..M {
                lanes[m][l] += terms[m];
            }
        }
    }
    for l in 0..len % LANES {
        let terms = f(parts.map(|(_, rest)| rest[l]));
        for m in 0..M {
            lanes[m][l] += terms[m];
        }
    }
    lanes.map(sum_lanes)
}
