//! Of each row the K largest values, minus infinity in place of the others.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, D, Device, Layout, Shape, Tensor};
use convnn_core::Result;
use rayon::prelude::*;
use std::cmp::Ordering;

/// (…, N) → (…, N). Among equal values those of lower index are kept; the gradient of those kept passes unchanged.
///
/// # Errors
/// Those of Candle.
pub(super) fn keep_largest(x: &Tensor, k: usize) -> Result<Tensor> {
    let mask = match x.device() {
        Device::Cpu => x.detach().contiguous()?.apply_op1_no_bwd(&LargestMask { k })?,
        _ => sorted_mask(&x.detach(), k)?,
    };
    Ok((x + mask)?)
}

/// 0 at the K largest values of each row, minus infinity elsewhere, by sorting: the plain reference.
fn sorted_mask(x: &Tensor, k: usize) -> Result<Tensor> {
    let largest = x.contiguous()?.arg_sort_last_dim(false)?.narrow(D::Minus1, 0, k)?.contiguous()?;
    let kept = Tensor::ones(largest.shape(), x.dtype(), x.device())?;
    let kept = Tensor::zeros(x.shape(), x.dtype(), x.device())?.scatter_add(&largest, &kept, D::Minus1)?;
    Ok(kept.log()?)
}

/// The same by selection, which needs no order among the values kept.
struct LargestMask {
    k: usize,
}

impl CustomOp1 for LargestMask {
    fn name(&self) -> &'static str {
        "keep_largest"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let Some((start, end)) = layout.contiguous_offsets() else {
            candle_core::bail!("keep_largest: the input is not contiguous");
        };
        let width = layout.dims().last().copied().unwrap_or(1);
        let k = self.k;
        // Adding zero makes one value of the two zeros.
        let storage = match storage {
            CpuStorage::F32(values) => {
                let order = |a: f32, b: f32| (a + 0.0).total_cmp(&(b + 0.0));
                CpuStorage::F32(masks(&values[start..end], width, k, f32::NEG_INFINITY, order))
            }
            CpuStorage::F64(values) => {
                let order = |a: f64, b: f64| (a + 0.0).total_cmp(&(b + 0.0));
                CpuStorage::F64(masks(&values[start..end], width, k, f64::NEG_INFINITY, order))
            }
            other => return Err(candle_core::Error::UnsupportedDTypeForOp(other.dtype(), self.name()).bt()),
        };
        Ok((storage, layout.shape().clone()))
    }
}

fn masks<T>(values: &[T], width: usize, k: usize, minus_infinity: T, order: impl Fn(T, T) -> Ordering + Sync) -> Vec<T>
where
    T: Copy + Default + Send + Sync,
{
    let mut mask = vec![minus_infinity; values.len()];
    let rows = mask.par_chunks_mut(width).zip(values.par_chunks(width));
    rows.for_each_init(Vec::new, |indices: &mut Vec<u32>, (mask, row)| {
        indices.clear();
        indices.extend(0..row.len() as u32);
        // Falling value, then rising index.
        let closer = |&a: &u32, &b: &u32| order(row[b as usize], row[a as usize]).then(a.cmp(&b));
        if k < indices.len() {
            indices.select_nth_unstable_by(k, closer);
        }
        for &kept in indices.iter().take(k) {
            mask[kept as usize] = T::default();
        }
    });
    mask
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn ties_keep_the_lower_index() {
        let x = Tensor::new(&[[1f32, 3., 3., -0., 0.], [5., 5., 5., 5., 5.]], &Device::Cpu).unwrap();
        let inf = f32::NEG_INFINITY;
        let rows = |k| keep_largest(&x, k).unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(rows(1), [[inf, 3., inf, inf, inf], [5., inf, inf, inf, inf]]);
        assert_eq!(rows(4), [[1., 3., 3., 0., inf], [5., 5., 5., 5., inf]]);
        assert_eq!(rows(5)[1], [5.; 5]);
    }

    #[test]
    fn selection_equals_sorting() {
        for (width, k) in [(1, 1), (7, 3), (64, 64), (197, 100)] {
            let x = Tensor::rand(0f32, 1., (3, 5, width), &Device::Cpu).unwrap();
            let bits = |t: Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let selected = x.apply_op1_no_bwd(&LargestMask { k }).unwrap();
            assert_eq!(bits(selected), bits(sorted_mask(&x, k).unwrap()), "{width} {k}");
        }
    }
}
