//! Pictures of training as SVG: curves over epochs ([`curves`]), means with error bars
//! ([`means`]) and confusion matrices ([`matrix`]).

mod curves;
mod labels;
mod matrix;
mod means;
mod style;

pub use curves::{Line, Panel, curves};
pub use matrix::{Matrix, matrix};
pub use means::{Group, Means, Point, means};
pub use style::Medium;

/// A picture that cannot be drawn.
#[derive(Debug, thiserror::Error)]
#[error("cannot draw the picture: {0}")]
pub struct Error(String);

/// The result type of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl<E: std::error::Error + Send + Sync> From<plotters::drawing::DrawingAreaErrorKind<E>> for Error {
    fn from(error: plotters::drawing::DrawingAreaErrorKind<E>) -> Self {
        Self(error.to_string())
    }
}
