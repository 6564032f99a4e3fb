//! Which tensor of a file is at fault where a case differs.
//!
//! A wrong number among the stored results shows there and nowhere else. A wrong number among what the case starts from,
//! the input, `grad_output` or a parameter, shows in everything that depends on it, and none of that is wrong. So each
//! of these tensors is asked whether another number in one of its places would explain every difference. Only where no
//! single number does, the differences stand for themselves.

use super::fixture::Fixture;
use super::subject::Subject;
use super::{Difference, Tensors, compare};
use crate::Result;
use candle_core::{DType, Tensor, Var};
use convnn_core::backward;

/// What the rounding of the stored numbers to f32 explains, as a share of the largest of a tensor.
const ROUNDING: f64 = 1e-6;

/// Places of a tensor that are tried, by their share in the error. The place of the largest number is tried besides.
const PLACES: usize = 3;

/// Where the search for another number starts, as a share of the stored one: beside it, and at the largest number also
/// farther off, because neighbors change places on the way.
const STARTS: [f64; 7] = [0.0, -0.01, 0.01, -0.003, 0.003, -0.03, 0.03];

/// The tensors that differ, the one at fault first.
///
/// # Errors
/// Those of the layer.
pub(super) fn first(fixture: &Fixture, errors: &[Difference]) -> Result<Vec<Difference>> {
    let mut differences: Vec<_> = errors.iter().filter(|one| one.differs()).cloned().collect();
    // Numbers that are not finite say nothing about where they come from.
    if differences.iter().all(|one| one.error.is_finite()) {
        let case = Case::new(fixture)?;
        if case.wrong_results()? > 1 {
            differences.splice(0..0, case.given_at_fault()?);
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

/// A given tensor, and for each of its places the share in the error.
struct Suspect {
    tensor: String,
    shares: Vec<f64>,
}

/// A place of a given tensor.
struct Place<'a> {
    tensor: &'a str,
    index: usize,
    /// The number there.
    stored: f64,
    /// Where the search for another one starts, as a share of it.
    start: f64,
}

/// The errors that another number must explain.
enum Errors {
    /// Those of the output, which the input and the parameters decide.
    Output,
    /// Those of the gradients, which `grad_output` decides too.
    Gradients,
}

impl<'a> Case<'a> {
    fn new(fixture: &'a Fixture) -> Result<Self> {
        let subject = Subject::new(fixture, DType::F64)?;
        let given = subject.given(fixture)?;
        let actual = subject.compute(&given)?;
        Ok(Self { fixture, subject, given, actual })
    }

    /// How many numbers of all results differ by more than their rounding.
    fn wrong_results(&self) -> Result<usize> {
        let mut count = 0;
        for name in self.actual.keys() {
            count += self.beyond_rounding(name)?;
        }
        Ok(count)
    }

    fn beyond_rounding(&self, name: &str) -> Result<usize> {
        let expected = values(&self.fixture.tensors[name])?;
        let rounding = ROUNDING * largest(&expected).max(1.0);
        let actual = values(&self.actual[name])?;
        Ok(actual.iter().zip(&expected).filter(|(a, b)| (*a - *b).abs() > rounding).count())
    }

    /// The given tensor in which another number leaves the smallest errors, if they all pass.
    fn given_at_fault(&self) -> Result<Option<Difference>> {
        let (errors, suspects) = match self.beyond_rounding("output")? {
            0 => (Errors::Gradients, self.cotangent()?),
            _ => (Errors::Output, self.input_and_parameters()?),
        };
        let before = square(&self.errors(&errors, &self.given)?);
        let mut best: Option<(f64, Difference)> = None;
        for Suspect { tensor, shares } in &suspects {
            let stored = values(&self.given[tensor])?;
            let by_value = order(&stored);
            let mut trials: Vec<_> = by_value.first().map(|&place| (place, &STARTS[..])).into_iter().collect();
            let others = order(shares).into_iter().filter(|place| Some(place) != by_value.first());
            trials.extend(others.take(PLACES).map(|place| (place, &STARTS[..1])));
            for (place, starts) in trials {
                for &start in starts {
                    let place = Place { tensor, index: place, stored: stored[place], start };
                    let Some((left, number)) = self.explain(&errors, before, &place)? else { continue };
                    if best.as_ref().is_none_or(|(least, _)| left < *least) {
                        let error = (number - place.stored).abs() / largest(&stored).max(1.0);
                        best = Some((left, Difference { tensor: tensor.clone(), error }));
                    }
                    if left < ROUNDING {
                        return Ok(best.map(|(_, difference)| difference));
                    }
                }
            }
        }
        Ok(best.map(|(_, difference)| difference))
    }

    /// How the squared error of the output moves with each number of the input and the parameters.
    fn input_and_parameters(&self) -> Result<Vec<Suspect>> {
        let input = Var::from_tensor(&self.given["input"])?;
        let output = self.subject.output(&self.given, &input)?;
        let error = (&output - self.fixture.tensors["output"].to_dtype(DType::F64)?)?;
        let gradients = backward(&error.sqr()?.sum_all()?)?;
        let mut suspects = Vec::new();
        for (tensor, var) in self.subject.vars().into_iter().chain([("input".to_owned(), input)]) {
            if let Some(gradient) = gradients.get(&var) {
                suspects.push(Suspect { tensor, shares: values(gradient)? });
            }
        }
        Ok(suspects)
    }

    /// How the error of the input's gradient moves with each number of `grad_output`.
    fn cotangent(&self) -> Result<Vec<Suspect>> {
        let (Some(actual), Some(expected)) = (self.actual.get("grad.input"), self.fixture.tensors.get("grad.input"))
        else {
            return Ok(Vec::new());
        };
        // The gradient is linear in the cotangent, and its transpose is the derivative along the error.
        let error = (actual - expected.to_dtype(DType::F64)?)?;
        let step = 1e-6 / largest(&values(&error)?).max(f64::MIN_POSITIVE);
        let moved = Var::from_tensor(&(&self.given["input"] + (error * step)?)?)?;
        let shares = (self.subject.output(&self.given, &moved)? - &self.actual["output"])?;
        Ok(vec![Suspect { tensor: "grad_output".to_owned(), shares: values(&shares)? }])
    }

    /// The number at `place` that explains the errors, whose square is `before`, and the largest error that it leaves
    /// anywhere, if there is one near the start.
    fn explain(&self, errors: &Errors, before: f64, place: &Place<'_>) -> Result<Option<(f64, f64)>> {
        let at = |number: f64| self.errors(errors, &self.with(place, number)?);
        let mut number = place.stored * (1.0 + place.start);
        let mut there = at(number)?;
        if place.start != 0.0 && square(&there) > 0.6 * before {
            return Ok(None);
        }
        let mut next = number + 1e-5 * number.abs().max(1e-2);
        for _ in 0..3 {
            let then = at(next)?;
            let slope: Vec<f64> = then.iter().zip(&there).map(|(a, b)| (a - b) / (next - number)).collect();
            let along = dot(&slope, &then);
            let alike = along * along / (square(&slope) * square(&then));
            // Errors that lie along the line of this number are due to it.
            if alike.is_nan() || alike < 0.9 {
                break;
            }
            (number, there) = (next, then);
            next = number - along / square(&slope);
            if next == number {
                break;
            }
        }
        let given = self.with(place, next)?;
        if square(&self.errors(errors, &given)?) > 1e-2 * before {
            return Ok(None);
        }
        let remaining = compare(self.fixture, &self.subject.compute(&given)?)?;
        if remaining.iter().any(Difference::differs) {
            return Ok(None);
        }
        Ok(Some((remaining.iter().fold(0.0, |largest: f64, one| largest.max(one.error)), next)))
    }

    /// What the case starts from, with `number` in a place of one tensor.
    fn with(&self, place: &Place<'_>, number: f64) -> Result<Tensors> {
        let stored = &self.given[place.tensor];
        let mut changed = values(stored)?;
        changed[place.index] = number;
        let mut given = self.given.clone();
        given.insert(place.tensor.to_owned(), Tensor::from_vec(changed, stored.dims(), stored.device())?);
        Ok(given)
    }

    fn errors(&self, errors: &Errors, given: &Tensors) -> Result<Vec<f64>> {
        let actual = match errors {
            Errors::Output => {
                let output = self.subject.output(given, &Var::from_tensor(&given["input"])?)?;
                Tensors::from([("output".to_owned(), output)])
            }
            Errors::Gradients => self.subject.compute(given)?,
        };
        let mut errors = Vec::new();
        for (name, tensor) in &actual {
            let expected = values(&self.fixture.tensors[name])?;
            let scale = largest(&expected).max(1.0);
            errors.extend(values(tensor)?.iter().zip(expected).map(|(a, b)| (a - b) / scale));
        }
        Ok(errors)
    }
}

/// Places by falling size of their numbers.
fn order(numbers: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..numbers.len()).collect();
    order.sort_by(|&a, &b| numbers[b].abs().total_cmp(&numbers[a].abs()));
    order
}

fn values(tensor: &Tensor) -> Result<Vec<f64>> {
    Ok(tensor.flatten_all()?.to_dtype(DType::F64)?.to_vec1()?)
}

fn largest(numbers: &[f64]) -> f64 {
    numbers.iter().fold(0.0, |largest, number| number.abs().max(largest))
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn square(a: &[f64]) -> f64 {
    dot(a, a)
}
