//! What the ops over neighbors share: reading an index, and the plain gather.

use crate::Result;
use candle_core::{CpuStorage, DType, Storage, Tensor};

/// The rows of a contiguous u32 index in main memory.
pub(super) fn index_values(index: &Tensor) -> candle_core::Result<Vec<u32>> {
    // A copy: it is small beside the values, and frees the caller from the lock.
    index.flatten_all()?.to_vec1::<u32>()
}

/// Fails unless every row of `index` is at most `rows`, the number that means the zero token.
pub(super) fn check_index(index: &Tensor, rows: usize) -> Result<()> {
    let (storage, layout) = index.storage_and_layout();
    let largest = match (&*storage, layout.contiguous_offsets()) {
        (Storage::Cpu(CpuStorage::U32(all)), Some((start, end))) => all[start..end].iter().copied().max().unwrap_or(0),
        _ => {
            drop(storage);
            index.to_dtype(DType::U32)?.flatten_all()?.to_vec1::<u32>()?.into_iter().max().unwrap_or(0)
        }
    };
    if largest as usize > rows {
        return Err(crate::Error::Option {
            layer: "aggregate".into(),
            option: "index",
            found: largest.to_string(),
            expected: format!("rows 0 to {rows}, the last meaning the zero token"),
        });
    }
    Ok(())
}

/// The chosen rows of `values` (B, M, C): `index` (B or 1, N, K) gives (B, N, K, C), row M being 0.
pub(super) fn gather_reference(values: &Tensor, index: &Tensor) -> Result<Tensor> {
    let (b, m, c) = values.dims3()?;
    let (_, n, k) = index.dims3()?;
    let device = values.device();
    let zero = Tensor::zeros((b, 1, c), values.dtype(), device)?;
    let rows = Tensor::cat(&[values, &zero], 1)?.reshape((b * (m + 1), c))?;
    let first: Vec<u32> = (0..b as u32).map(|image| image * (m as u32 + 1)).collect();
    let index = index.broadcast_add(&Tensor::from_vec(first, (b, 1, 1), device)?)?.flatten_all()?;
    Ok(rows.index_select(&index, 0)?.reshape((b, n, k, c))?)
}
