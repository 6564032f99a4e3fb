//! Two aggregations of the same values side by side: the hybrid of ConvNN and convolution in one op.
//!
//! The branches write the columns of one output and add to one gradient of the values, so that nothing is concatenated
//! or added up between them.

use super::{aggregate_reference, check, kernels, outputs};
use crate::Result;
use crate::error::ensure_shape;
use crate::kernel::float::Float;
use crate::kernel::op::{Backward, Gradient, Input, Op, apply3};
use crate::operator::{Neighbors, Rho, Weights};
use candle_core::{Shape, Tensor};

/// Aggregates the same values by two choices of neighbors, each with its standard kernel; the outputs lie side by side.
///
/// # Shapes
/// - `values`: (B, M, C)
/// - each branch: neighbors (B or 1, N, K) into M rows, and a weight (O₁ or O₂, C, K); (O, C, κ, κ) counts as (O, C, κ²)
/// - result: (B, N, O₁ + O₂)
///
/// Gradients reach `values` and both weights.
///
/// # Errors
/// As [`aggregate`](super::aggregate()).
pub fn aggregate_branches(values: &Tensor, branches: [(&Neighbors, &Tensor); 2]) -> Result<Tensor> {
    let mut sizes = [[0; 5]; 2];
    let mut widths = [0; 2];
    for (i, (neighbors, weight)) in branches.into_iter().enumerate() {
        sizes[i] = check(values, neighbors, &Rho::One, weight)?;
        widths[i] = outputs(weight, sizes[i][3], sizes[i][4])?;
    }
    ensure_shape(sizes[0][1] == sizes[1][1], "aggregate_branches", "neighbors", branches[1].0.index(), || {
        format!("{} tokens, as the first branch", sizes[0][1])
    })?;
    if !values.device().is_cpu() {
        return aggregate_branches_reference(values, branches);
    }
    let [(first, first_weight), (second, second_weight)] = branches;
    let op = AggregateBranches { neighbors: [first.clone(), second.clone()], sizes, widths };
    apply3(op, values, first_weight, second_weight)
}

/// The plain form of [`aggregate_branches`]: one aggregation after the other, concatenated.
pub fn aggregate_branches_reference(values: &Tensor, branches: [(&Neighbors, &Tensor); 2]) -> Result<Tensor> {
    let [first, second] = branches.map(|(neighbors, weight)| {
        aggregate_reference(values, neighbors, &Rho::One, &Weights::Standard(weight.clone()), None)
    });
    Ok(Tensor::cat(&[first?, second?], 2)?)
}

struct AggregateBranches {
    neighbors: [Neighbors; 2],
    /// B, N, M, C, K of each branch.
    sizes: [[usize; 5]; 2],
    /// O₁, O₂
    widths: [usize; 2],
}

impl AggregateBranches {
    fn branch<'a, T>(&self, i: usize, values: &'a [T], index: &'a [u32], weight: &'a [T]) -> kernels::Branch<'a, T> {
        let task = kernels::Task { values, index, rho: None, sizes: self.sizes[i] };
        kernels::Branch { task, weight, outputs: self.widths[i] }
    }
}

impl Op<3> for AggregateBranches {
    const NAME: &'static str = "aggregate_branches";
    const INPUTS: [&'static str; 3] = ["values", "first weight", "second weight"];

    fn forward<T: Float>(&self, [values, first, second]: [Input<'_, T>; 3]) -> Result<(Vec<T>, Shape)> {
        let [b, n, ..] = self.sizes[0];
        let index = [self.neighbors[0].values()?, self.neighbors[1].values()?];
        let branches = [
            self.branch(0, values.values, &index[0], first.values),
            self.branch(1, values.values, &index[1], second.values),
        ];
        Ok((kernels::standard(&branches, None), Shape::from((b, n, self.widths[0] + self.widths[1]))))
    }

    /// As [`aggregate`](super::aggregate()), each branch with its columns of dy.
    fn backward<T: Float>(&self, pass: Backward<'_, T, 3>) -> Result<[Gradient<T>; 3]> {
        let ([values, first, second], dy) = (pass.inputs, pass.gradient);
        let index = [self.neighbors[0].values()?, self.neighbors[1].values()?];
        let branches = [
            self.branch(0, values.values, &index[0], first.values),
            self.branch(1, values.values, &index[1], second.values),
        ];
        let columns: usize = self.widths.iter().sum();
        let weight_gradient = |i: usize| {
            let start = if i == 0 { 0 } else { self.widths[0] };
            kernels::standard_weight_gradient(&branches[i].task, dy, columns, start, self.widths[i])
        };
        let (dfirst, dsecond) = (weight_gradient(0), weight_gradient(1));
        let dv = Gradient::when(pass.wanted[0], || kernels::standard_input_gradients(&branches, dy).0);
        Ok([dv, Gradient::Values(dfirst), Gradient::Values(dsecond)])
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::Grid;
    use crate::operator::stencil;
    use crate::testing;
    use crate::testing::kernels::{DTYPES, agree, output_and_gradient_bits, same_for_threads, variable};
    use candle_core::{DType, Device, Var};

    fn case(dtype: DType, [b, side, c, k, first, second]: [usize; 6]) -> (Vec<Var>, [Neighbors; 2]) {
        let n = side * side;
        let rows: Vec<u32> = (0..b * n * k).map(|i| (i * 7 % (n + 1)) as u32).collect();
        let index = Neighbors::new(&Tensor::from_vec(rows, (b, n, k), &Device::Cpu).unwrap(), n).unwrap();
        let stencil = stencil(Grid::new(side, side), 3, &Device::Cpu).unwrap();
        let inputs = vec![
            variable((b, n, c), dtype, 1),
            variable((first, c, k), dtype, 2),
            variable((second, c, 3, 3), dtype, 3),
        ];
        (inputs, [index, stencil])
    }

    const CASES: [[usize; 6]; 4] =
        [[1, 1, 1, 1, 1, 1], [2, 3, 4, 5, 3, 6], [3, 9, 70, 9, 33, 17], [37, 4, 20, 9, 5, 8]];

    #[test]
    fn equals_the_reference() {
        for (dtype, tolerance) in DTYPES {
            for sizes in CASES {
                let (x, [first, second]) = case(dtype, sizes);
                agree(
                    &format!("{dtype:?} {sizes:?}"),
                    &x,
                    10.0 * tolerance,
                    || aggregate_branches(&x[0], [(&first, &x[1]), (&second, &x[2])]),
                    || aggregate_branches_reference(&x[0], [(&first, &x[1]), (&second, &x[2])]),
                );
            }
        }
    }

    #[test]
    fn gradients_are_exact() {
        let (x, [first, second]) = case(DType::F64, [2, 2, 3, 3, 2, 3]);
        let f = || aggregate_branches(&x[0], [(&first, &x[1]), (&second, &x[2])]);
        testing::gradients("branches", &x, f, 1e-7).unwrap();
    }

    #[test]
    fn threads_change_nothing() {
        for sizes in CASES {
            let (x, [first, second]) = case(DType::F32, sizes);
            let f = || aggregate_branches(&x[0], [(&first, &x[1]), (&second, &x[2])]);
            same_for_threads("branches", || output_and_gradient_bits(&x, f));
        }
    }
}
