//! The layers of this crate, built from the options of a case.

use super::{Case, Error, Result, Subject};
use crate::{Branching2d, Branching2dAttention, ConvNn1d, ConvNn2d, ConvNn2dAttention, ConvNnAttention, Parameters};
use serde_json::Value;

/// The kinds that [`layer`] builds.
pub const LAYERS: [&str; 6] =
    ["conv_nn_1d", "conv_nn_2d", "conv_nn_2d_attention", "branching_2d", "branching_2d_attention", "conv_nn_attention"];

/// Builds the layer of a case, for [`check`](super::check).
///
/// # Errors
/// For another kind than those of [`LAYERS`], and for options that do not make a layer.
pub fn layer(case: &Case, parameters: &Parameters) -> Result<Subject> {
    let candidates = case.candidates()?;
    macro_rules! layer {
        ($layer:ident, $input:expr) => {{
            let config = case.options(&[], |words| serde_json::from_value(Value::Object(words)))?;
            let layer = $layer::new(&config, parameters.builder())?;
            let layer = match candidates {
                Some(candidates) => layer.with_candidates(candidates),
                None => layer,
            };
            Subject::layer(move |x, pass| layer.forward(x, pass), $input)
        }};
    }
    let channels = || case.size("in_channels").map(Some);
    Ok(match case.layer.as_str() {
        "conv_nn_1d" => layer!(ConvNn1d, vec![None, channels()?, None]),
        "conv_nn_2d" => layer!(ConvNn2d, vec![None, channels()?, None, None]),
        "conv_nn_2d_attention" => layer!(ConvNn2dAttention, vec![None, channels()?, None, None]),
        "branching_2d" => layer!(Branching2d, vec![None, channels()?, None, None]),
        "branching_2d_attention" => layer!(Branching2dAttention, vec![None, channels()?, None, None]),
        "conv_nn_attention" => layer!(ConvNnAttention, vec![None, None, Some(case.size("dim")?)]),
        other => {
            let expected = LAYERS.join(", ");
            return Err(Error::new(format!("the metadata `layer` is `{other}`; expected one of {expected}")));
        }
    })
}
