//! Benchmarks of the tensor operations on the shapes of VGG-11 at batch 128 and ViT-Tiny at batch 32.
//!
//! `cargo bench -p convnn-core -- NAME` runs those whose name holds NAME. Before an operation is timed, its kernel is
//! compared with its reference. `forward` is the operation alone, `both` the operation and its gradients.

mod groups;

criterion::criterion_main!(
    groups::activations::benches,
    groups::attention::benches,
    groups::linear::benches,
    groups::neighbors::benches,
    groups::norms::benches,
    groups::optimizers::benches,
    groups::pooling::benches,
);
