//! The element types of kernels, and access to the elements of a tensor.

use candle_core::{CpuStorage, DType, Device, Error, Layout, Result, Shape, Storage, Tensor, WithDType};
use std::ops::Neg;

/// f32 or f64, with functions that compile to vector instructions.
///
/// `FMA`: whether the surrounding [`kernel!`](crate::kernel::simd) is compiled with fused multiply-add.
pub trait Float: WithDType + Default + Neg<Output = Self> {
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// −∞.
    const NEG_INFINITY: Self;
    /// `value` rounded to this type.
    fn narrow(value: f64) -> Self;
    /// The value in f64, exactly.
    fn widen(self) -> f64;
    /// self · factor + addend.
    fn fma<const FMA: bool>(self, factor: Self, addend: Self) -> Self;
    /// Square root.
    fn sqrt(self) -> Self;
    /// The next smaller value.
    fn next_down(self) -> Self;
    /// Natural exponential; in f32 accurate to 2 ulp, with results below 2⁻¹²⁴ flushed to 0. NaN stays NaN.
    fn exp<const FMA: bool>(self) -> Self;
    /// Error function; in f32 accurate to 2 ulp. NaN stays NaN.
    fn erf<const FMA: bool>(self) -> Self;
    /// The elements of a storage, if they are of this type.
    fn elements_mut(storage: &mut CpuStorage) -> Option<&mut [Self]>;
}

impl Float for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const NEG_INFINITY: Self = Self::NEG_INFINITY;

    fn elements_mut(storage: &mut CpuStorage) -> Option<&mut [Self]> {
        if let CpuStorage::F32(values) = storage { Some(values) } else { None }
    }

    #[inline(always)]
    fn narrow(value: f64) -> Self {
        value as Self
    }

    #[inline(always)]
    fn widen(self) -> f64 {
        f64::from(self)
    }

    #[inline(always)]
    fn fma<const FMA: bool>(self, factor: Self, addend: Self) -> Self {
        // Without the instruction, `f32::mul_add` is a slow library call.
        if FMA { Self::mul_add(self, factor, addend) } else { self * factor + addend }
    }

    #[inline(always)]
    fn next_down(self) -> Self {
        Self::next_down(self)
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        Self::sqrt(self)
    }

    /// exp(x) = 2ⁿ · exp(r), n = round(x / ln 2); exp(r) by the polynomial of Cephes' `expf`.
    #[inline(always)]
    fn exp<const FMA: bool>(self) -> Self {
        const LOWEST: f32 = -86.6;
        const HIGHEST: f32 = 88.722_83;
        // Adding 1.5 · 2²³ rounds to an integer, which is then in the low bits.
        const ROUND: f32 = 12_582_912.0;
        // ln 2 in two parts, the first with so few bits that n · LN2_HIGH is exact.
        const LN2_HIGH: f32 = 0.693_359_4;
        const LN2_LOW: f32 = -2.121_944_4e-4;
        // NaN fails both comparisons and passes through.
        let x = if self < LOWEST { LOWEST } else { self };
        let x = if x > HIGHEST { HIGHEST } else { x };
        let shifted = x.fma::<FMA>(std::f32::consts::LOG2_E, ROUND);
        let n = shifted - ROUND;
        let r = n.fma::<FMA>(-LN2_LOW, n.fma::<FMA>(-LN2_HIGH, x));
        let p = 1.987_569_1e-4f32
            .fma::<FMA>(r, 1.398_199_9e-3)
            .fma::<FMA>(r, 8.333_452e-3)
            .fma::<FMA>(r, 4.166_579_6e-2)
            .fma::<FMA>(r, 1.666_666_5e-1)
            .fma::<FMA>(r, 0.5)
            .fma::<FMA>(r * r, r)
            + 1.0;
        // 2ⁿ⁻¹ times a doubled p, because 2¹²⁸ does not fit in f32.
        let y = (p + p) * Self::from_bits((shifted.to_bits() << 23).wrapping_add(126 << 23));
        let y = if self < LOWEST { 0.0 } else { y };
        if self > HIGHEST { Self::INFINITY } else { y }
    }

    /// Two minimax polynomials, below and above 0.9277 (N. Juffa's `erff`).
    #[inline(always)]
    fn erf<const FMA: bool>(self) -> Self {
        let (t, s) = (self.abs(), self * self);
        let u = (-3.883_964_4e-3f32).fma::<FMA>(t, 2.425_462_2e-2);
        let r = (-1.728_534_7e-5f32)
            .fma::<FMA>(t, 3.831_972e-4)
            .fma::<FMA>(s, u)
            .fma::<FMA>(t, -1.067_778_8e-1)
            .fma::<FMA>(t, -6.348_467e-1)
            .fma::<FMA>(t, -1.287_175_1e-1)
            .fma::<FMA>(t, -t);
        let far = (1.0 - Float::exp::<FMA>(r)).copysign(self);
        let near = (-5.967_617e-4f32)
            .fma::<FMA>(s, 4.991_194_2e-3)
            .fma::<FMA>(s, -2.676_813_5e-2)
            .fma::<FMA>(s, 1.128_199_25e-1)
            .fma::<FMA>(s, -3.761_253_4e-1)
            .fma::<FMA>(s, 1.283_791_7e-1)
            .fma::<FMA>(self, self);
        if t > 0.927_734_4 { far } else { near }
    }
}

impl Float for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const NEG_INFINITY: Self = Self::NEG_INFINITY;

    fn elements_mut(storage: &mut CpuStorage) -> Option<&mut [Self]> {
        if let CpuStorage::F64(values) = storage { Some(values) } else { None }
    }

    #[inline(always)]
    fn narrow(value: f64) -> Self {
        value
    }

    #[inline(always)]
    fn widen(self) -> f64 {
        self
    }

    #[inline(always)]
    fn fma<const FMA: bool>(self, factor: Self, addend: Self) -> Self {
        if FMA { Self::mul_add(self, factor, addend) } else { self * factor + addend }
    }

    #[inline(always)]
    fn next_down(self) -> Self {
        Self::next_down(self)
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        Self::sqrt(self)
    }

    // f64 is for gradient checks, which need accuracy rather than speed.
    #[inline(always)]
    fn exp<const FMA: bool>(self) -> Self {
        Self::exp(self)
    }

    #[inline(always)]
    fn erf<const FMA: bool>(self) -> Self {
        candle_core::cpu::erf::erf_f64(self)
    }
}

/// Whether a tensor is on the CPU and f32 or f64.
pub(crate) fn has_kernel(tensor: &Tensor) -> bool {
    tensor.device().is_cpu() && matches!(tensor.dtype(), DType::F32 | DType::F64)
}

/// The elements of a contiguous tensor on the CPU.
pub(crate) fn values<'a, T: Float>(storage: &'a Storage, layout: &Layout) -> Result<&'a [T]> {
    match storage {
        Storage::Cpu(storage) => cpu_values(storage, layout),
        _ => Err(Error::Msg("a CPU kernel got a tensor of another device".into())),
    }
}

/// The elements of a contiguous tensor, given as to a custom op.
pub(crate) fn cpu_values<'a, T: Float>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [T]> {
    let all = T::cpu_storage_as_slice(storage)?;
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&all[start..end]),
        None => Err(Error::RequiresContiguous { op: "fused kernel" }),
    }
}

/// A tensor of the given numbers. It is built in `dtype` from the start if that is f64, otherwise by way of f32, because
/// not every device has f64.
pub(crate) fn tensor_of(numbers: Vec<f64>, shape: &Shape, dtype: DType, device: &Device) -> Result<Tensor> {
    if dtype == DType::F64 {
        return Tensor::from_vec(numbers, shape, device);
    }
    Tensor::from_vec(numbers.into_iter().map(|v| v as f32).collect::<Vec<_>>(), shape, device)?.to_dtype(dtype)
}

/// Evaluates an expression in which `T` is the element type, f32 or f64.
macro_rules! with_float {
    ($dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            candle_core::DType::F32 => {
                type $T = f32;
                $body
            }
            candle_core::DType::F64 => {
                type $T = f64;
                $body
            }
            dtype => Err(candle_core::Error::UnsupportedDTypeForOp(dtype, "fused kernel")),
        }
    };
}
pub(crate) use with_float;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::simd::kernel;

    kernel! {
        fn exp_all<const FMA: bool, T>(x: &[T], y: &mut [T]) {
            for (y, &x) in y.iter_mut().zip(x) {
                *y = x.exp::<FMA>();
            }
        }
    }

    kernel! {
        fn erf_all<const FMA: bool, T>(x: &[T], y: &mut [T]) {
            for (y, &x) in y.iter_mut().zip(x) {
                *y = x.erf::<FMA>();
            }
        }
    }

    fn largest_relative_error(x: &[f32], y: &[f32], exact: impl Fn(f64) -> f64) -> f64 {
        x.iter().zip(y).fold(0.0, |worst, (&x, &y)| {
            let exact = exact(x.into());
            let error = (f64::from(y) - exact).abs() / exact.abs().max(f64::from(f32::MIN_POSITIVE));
            assert!(error.is_finite(), "at {x}: {y}, expected {exact}");
            error.max(worst)
        })
    }

    #[test]
    fn exp_is_accurate_over_its_range() {
        let x: Vec<f32> = (0..400_000).map(|i| -86.5 + i as f32 * (175.2 / 400_000.0)).collect();
        let mut y = vec![0.0; x.len()];
        exp_all(&x, &mut y);
        let error = largest_relative_error(&x, &y, f64::exp);
        assert!(error < 2e-7, "{error:e}");
        let baseline: Vec<f32> = x.iter().map(|&x| Float::exp::<false>(x)).collect();
        let error = largest_relative_error(&x, &baseline, f64::exp);
        assert!(error < 2e-7, "{error:e}");
    }

    #[test]
    fn exp_of_special_values() {
        let x = [f32::NEG_INFINITY, -1e30, -200.0, 0.0, -0.0, 89.0, f32::INFINITY, f32::NAN];
        let mut y = [7.0; 8];
        exp_all(&x, &mut y);
        assert_eq!(y[..7], [0.0, 0.0, 0.0, 1.0, 1.0, f32::INFINITY, f32::INFINITY]);
        assert!(y[7].is_nan());
    }

    #[test]
    fn erf_is_accurate_over_its_range() {
        let x: Vec<f32> = (0..400_000).map(|i| (i as f32 - 200_000.0) * (6.0 / 200_000.0)).collect();
        let mut y = vec![0.0; x.len()];
        erf_all(&x, &mut y);
        let error = largest_relative_error(&x, &y, candle_core::cpu::erf::erf_f64);
        assert!(error < 2e-7, "{error:e}");
        let baseline: Vec<f32> = x.iter().map(|&x| Float::erf::<false>(x)).collect();
        let error = largest_relative_error(&x, &baseline, candle_core::cpu::erf::erf_f64);
        assert!(error < 4e-7, "{error:e}");
        erf_all(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY], &mut y);
        assert!(y[0].is_nan());
        assert_eq!(y[1..3], [1.0, -1.0]);
    }
}
