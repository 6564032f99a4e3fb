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
/// For a kind that is not one of [`LAYERS`], and for options that do not make a layer.
pub fn layer(case: &Case, parameters: &Parameters) -> Result<Subject> {
    let candidates = case.candidates()?;
    // The sizes, which are arguments of the constructors, are in the config of the case too.
    macro_rules! layer {
        ($layer:ident($($size:literal),*), [$($side:expr),*]) => {{
            let options = case.options(&[$($size),*], |options| serde_json::from_value(Value::Object(options)))?;
            let layer = $layer::new($(case.size($size)?,)* &options, parameters.builder())?;
            let layer = match candidates {
                Some(candidates) => layer.with_candidates(candidates),
                None => layer,
            };
            Subject::layer(move |x, pass| layer.forward_t(x, pass), vec![$($side),*])
        }};
    }
    let channels = || case.size("in_channels").map(Some);
    Ok(match case.layer.as_str() {
        "conv_nn_1d" => layer!(ConvNn1d("in_channels", "out_channels"), [None, channels()?, None]),
        "conv_nn_2d" => layer!(ConvNn2d("in_channels", "out_channels"), [None, channels()?, None, None]),
        "conv_nn_2d_attention" => {
            layer!(ConvNn2dAttention("in_channels", "out_channels"), [None, channels()?, None, None])
        }
        "branching_2d" => layer!(Branching2d("in_channels", "out_channels"), [None, channels()?, None, None]),
        "branching_2d_attention" => {
            layer!(Branching2dAttention("in_channels", "out_channels"), [None, channels()?, None, None])
        }
        "conv_nn_attention" => layer!(ConvNnAttention("dim"), [None, None, Some(case.size("dim")?)]),
        other => {
            let expected = LAYERS.join(", ");
            return Err(Error::new(format!("the metadata `layer` is `{other}`; expected one of {expected}")));
        }
    })
}
