//! Which tensor of a file is at fault where a case differs.
//!
//! A wrong value among the stored results shows there and nowhere else. A wrong value among what the case starts from,
//! the input, `grad_output` or a parameter, shows in everything that depends on it, and none of that is wrong. So each
//! of these tensors is asked whether another number in one of its places would explain every difference. Only where no
//! single number does, the differences stand for themselves.

use super::fixture::Fixture;
use super::subject::Subject;
use super::{Difference, TOLERANCE, Tensors, compare};
use crate::Result;
use candle_core::{DType, Tensor, Var};
use convnn_core::backward;

/// Places of a tensor that are tried, by their share in the error; the largest value is tried besides.
const PLACES: usize = 8;

/// The tensors that differ, the one at fault first.
///
/// # Errors
/// Those of the layer.
pub(super) fn first(fixture: &Fixture, errors: &[Difference]) -> Result<Vec<Difference>> {
    let mut differences: Vec<_> = errors.iter().filter(|one| one.differs()).cloned().collect();
    // Values that are not finite say nothing about where they come from.
    if differences.iter().all(|one| one.error.is_finite()) {
        let case = Case::new(fixture)?;
        if !case.is_one_result(&differences)? {
            differences.splice(0..0, case.given_at_fault(&differences)?);
        }
    }
    Ok(differences)
}

struct Case<'a> {
    fixture: &'a Fixture,
    subject: Subject,
    given: Tensors,
    actual: Tensors,
}

/// A number in one place of a given tensor.
struct Place<'a> {
    tensor: &'a str,
    index: usize,
}

impl<'a> Case<'a> {
    fn new(fixture: &'a Fixture) -> Result<Self> {
        let subject = Subject::new(fixture, DType::F64)?;
        let given = subject.given(fixture)?;
        let actual = subject.compute(&given)?;
        Ok(Self { fixture, subject, given, actual })
    }

    /// Whether a single number of a single result differs.
    fn is_one_result(&self, differences: &[Difference]) -> Result<bool> {
        let [only] = differences else { return Ok(false) };
        let expected = values(&self.fixture.tensors[&only.tensor])?;
        let tolerance = TOLERANCE * largest(&expected).max(1.0);
        let actual = values(&self.actual[&only.tensor])?;
        Ok(actual.iter().zip(&expected).filter(|(a, b)| (*a - *b).abs() > tolerance).count() == 1)
    }

    /// The given tensor in which one other number leaves the smallest errors, if that is all within the tolerance.
    fn given_at_fault(&self, differences: &[Difference]) -> Result<Option<Difference>> {
        let output_differs = differences.iter().any(|one| one.tensor == "output");
        let scores = if output_differs { self.shares_of_output()? } else { self.share_of_cotangent()? };
        let results: Vec<&str> = match output_differs {
            true => vec!["output"],
            false => differences.iter().map(|one| one.tensor.as_str()).collect(),
        };
        let mut best: Option<(f64, Difference)> = None;
        for (tensor, scores) in &scores {
            for index in places(scores, &values(&self.given[tensor])?) {
                let Some((remaining, difference)) = self.explain(&Place { tensor, index }, &results)? else { continue };
                if best.as_ref().is_none_or(|(least, _)| remaining < *least) {
                    best = Some((remaining, difference));
                }
            }
        }
        Ok(best.map(|(_, difference)| difference))
    }

    /// How the squared error of the output moves with each number of the input and the parameters.
    fn shares_of_output(&self) -> Result<Vec<(String, Vec<f64>)>> {
        let input = Var::from_tensor(&self.given["input"])?;
        let output = self.subject.output(&self.given, &input)?;
        let error = (&output - self.fixture.tensors["output"].to_dtype(DType::F64)?)?;
        let gradients = backward(&error.sqr()?.sum_all()?)?;
        let mut shares = Vec::new();
        for (name, var) in self.subject.vars().into_iter().chain([("input".to_owned(), input)]) {
            if let Some(gradient) = gradients.get(&var) {
                shares.push((name, values(gradient)?));
            }
        }
        Ok(shares)
    }

    /// How the error of the input's gradient moves with each number of `grad_output`.
    fn share_of_cotangent(&self) -> Result<Vec<(String, Vec<f64>)>> {
        let (Some(actual), Some(expected)) = (self.actual.get("grad.input"), self.fixture.tensors.get("grad.input"))
        else {
            return Ok(Vec::new());
        };
        // The gradient is linear in the cotangent, and its transpose is the derivative along the error.
        let error = (actual - expected.to_dtype(DType::F64)?)?;
        let step = 1e-6 / largest(&values(&error)?).max(f64::MIN_POSITIVE);
        let moved = Var::from_tensor(&(&self.given["input"] + (error * step)?)?)?;
        let share = (self.subject.output(&self.given, &moved)? - &self.actual["output"])?;
        Ok(vec![("grad_output".to_owned(), values(&share)?)])
    }

    /// The number at `place` that explains the errors of `results`, and the largest error it leaves anywhere.
    fn explain(&self, place: &Place<'_>, results: &[&str]) -> Result<Option<(f64, Difference)>> {
        let stored = values(&self.given[place.tensor])?;
        let start = stored[place.index];
        let errors = |actual: &Tensors| self.errors(actual, results);
        let at_start = errors(&self.actual)?;
        let mut number = start + 1e-4 * start.abs().max(1.0);
        for _ in 0..3 {
            // The line through the errors at the stored number and at the last one tried.
            let there = errors(&self.with(place, number)?)?;
            let slope: Vec<f64> = there.iter().zip(&at_start).map(|(a, b)| (a - b) / (number - start)).collect();
            let along = dot(&slope, &at_start);
            let alike = along * along / (dot(&slope, &slope) * dot(&at_start, &at_start));
            if alike.is_nan() || alike < 0.9 {
                return Ok(None);
            }
            number = start - along / dot(&slope, &slope);
        }
        let remaining = compare(self.fixture, &self.with(place, number)?)?;
        if remaining.iter().any(Difference::differs) {
            return Ok(None);
        }
        let left = remaining.iter().fold(0.0, |largest: f64, one| largest.max(one.error));
        let error = (number - start).abs() / largest(&stored).max(1.0);
        Ok(Some((left, Difference { tensor: place.tensor.to_owned(), error })))
    }

    /// What comes of the case with `number` at `place`.
    fn with(&self, place: &Place<'_>, number: f64) -> Result<Tensors> {
        let tensor = &self.given[place.tensor];
        let mut changed = values(tensor)?;
        changed[place.index] = number;
        let mut given = self.given.clone();
        given.insert(place.tensor.to_owned(), Tensor::from_vec(changed, tensor.dims(), tensor.device())?);
        self.subject.compute(&given)
    }

    fn errors(&self, actual: &Tensors, results: &[&str]) -> Result<Vec<f64>> {
        let mut errors = Vec::new();
        for &name in results {
            let expected = values(&self.fixture.tensors[name])?;
            errors.extend(values(&actual[name])?.iter().zip(expected).map(|(a, b)| a - b));
        }
        Ok(errors)
    }
}

/// The places with the largest scores, and that of the largest value, which a relative error moves most.
fn places(scores: &[f64], values: &[f64]) -> Vec<usize> {
    let by = |size: &[f64]| {
        let mut order: Vec<usize> = (0..size.len()).collect();
        order.sort_by(|&a, &b| size[b].abs().total_cmp(&size[a].abs()));
        order
    };
    let mut places = by(scores);
    places.truncate(PLACES);
    places.extend(by(values).first().filter(|place| !places.contains(place)).copied().into_iter().collect::<Vec<_>>());
    places
}

fn values(tensor: &Tensor) -> Result<Vec<f64>> {
    Ok(tensor.flatten_all()?.to_dtype(DType::F64)?.to_vec1()?)
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |largest, value| value.abs().max(largest))
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
