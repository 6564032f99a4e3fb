//! Edits of a tensor in place.

use crate::kernel::float::Float;
use candle_core::{CpuStorage, Error, InplaceOp1, Layout, Result, Tensor};
use std::cell::Cell;

/// Calls `f` with the elements of a contiguous tensor on the CPU for editing.
///
/// Views of the tensor change with it, and gradients of graphs that contain it become wrong.
pub(crate) fn edit<T: Float, R>(tensor: &Tensor, f: impl FnOnce(&mut [T]) -> Result<R>) -> Result<R> {
    let result = Cell::new(None);
    let call = |elements: &mut [T]| -> Result<()> {
        result.set(Some(f(elements)?));
        Ok(())
    };
    tensor.inplace_op1(&Edit(Cell::new(Some(call)), std::marker::PhantomData))?;
    result.take().ok_or_else(|| Error::Msg("an in-place operation did not run".into()))
}

/// Whether the elements of `a` and `b` are in one allocation, so that reading one locks out editing the other.
pub(crate) fn share_storage(a: &Tensor, b: &Tensor) -> bool {
    let address = |tensor: &Tensor| std::ptr::from_ref(&*tensor.storage_and_layout().0).addr();
    address(a) == address(b)
}

struct Edit<F, T>(Cell<Option<F>>, std::marker::PhantomData<T>);

impl<T: Float, F: FnOnce(&mut [T]) -> Result<()>> InplaceOp1 for Edit<F, T> {
    fn name(&self) -> &'static str {
        "edit"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let Some((start, end)) = layout.contiguous_offsets() else {
            return Err(Error::RequiresContiguous { op: "edit" });
        };
        match (T::elements_mut(storage), self.0.take()) {
            (Some(elements), Some(f)) => f(&mut elements[start..end]),
            _ => Err(Error::UnexpectedDType { msg: "edit", expected: T::DTYPE, got: dtype(storage) }),
        }
    }
}

fn dtype(storage: &CpuStorage) -> candle_core::DType {
    candle_core::backend::BackendStorage::dtype(storage)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    #[test]
    fn only_the_viewed_part_changes() {
        let whole = Tensor::zeros(6, DType::F32, &Device::Cpu).unwrap();
        let part = whole.narrow(0, 2, 3).unwrap();
        let len = edit::<f32, _>(&part, |elements| {
            elements.fill(1.0);
            Ok(elements.len())
        });
        assert_eq!(len.unwrap(), 3);
        assert_eq!(whole.to_vec1::<f32>().unwrap(), [0.0, 0.0, 1.0, 1.0, 1.0, 0.0]);
    }

    #[test]
    fn other_dtypes_and_strides_are_errors() {
        let x = Tensor::zeros((2, 3), DType::F32, &Device::Cpu).unwrap();
        assert!(edit::<f64, _>(&x, |_| Ok(())).is_err());
        assert!(edit::<f32, _>(&x.t().unwrap(), |_| Ok(())).is_err());
        assert!(edit::<f32, ()>(&x, |_| Err(Error::Msg("no".into()))).unwrap_err().to_string().contains("no"));
    }
}
