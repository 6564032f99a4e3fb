//! How far an accuracy can be trusted.

/// The Wilson score interval of a share at 95 % confidence, in percent: the true accuracies for which `right` of `images`
/// would be no surprise (E. B. Wilson, 1927). `None` without images.
///
/// It covers the choice of test images, not the seed.
pub fn wilson(right: u64, images: u64) -> Option<(f64, f64)> {
    if images == 0 {
        return None;
    }
    const Z: f64 = 1.959_963_984_540_054;
    let (n, share) = (images as f64, right as f64 / images as f64);
    let centre = (share + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
    let reach = Z / (1.0 + Z * Z / n) * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    Some((100.0 * (centre - reach).max(0.0), 100.0 * (centre + reach).min(1.0)))
}

/// [`wilson`] of an accuracy in percent.
pub fn wilson_of_percent(percent: f64, images: u64) -> Option<(f64, f64)> {
    let right = (percent / 100.0 * images as f64).round();
    if right.is_finite() && (0.0..=images as f64).contains(&right) { wilson(right as u64, images) } else { None }
}

/// Expected calibration error: the mean distance between confidence and accuracy over equally wide bins of confidence,
/// weighted by the images in each (Guo et al., 2017).
#[derive(Clone, Debug)]
pub struct Calibration {
    /// Images, sum of confidences, and number of right answers of each bin.
    bins: Vec<(u64, f64, u64)>,
}

/// Number of bins, as in the literature.
const BINS: usize = 15;

impl Default for Calibration {
    fn default() -> Self {
        Self { bins: vec![(0, 0.0, 0); BINS] }
    }
}

impl Calibration {
    /// Adds an image whose most probable class has probability `confidence`.
    pub fn add(&mut self, confidence: f64, right: bool) {
        // A confidence of 1 belongs to the last bin, NaN to the first.
        let bin = ((confidence * BINS as f64) as usize).min(BINS - 1);
        let (images, sum, hits) = &mut self.bins[bin];
        *images += 1;
        *sum += confidence;
        *hits += u64::from(right);
    }

    /// The error, from 0 to 1.
    pub fn error(&self) -> f64 {
        let images: u64 = self.bins.iter().map(|bin| bin.0).sum();
        let distances = self.bins.iter().map(|&(_, sum, hits)| (sum - hits as f64).abs());
        distances.sum::<f64>() / images.max(1) as f64
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn published_intervals() {
        // 81 of 263: Newcombe, Statistics in Medicine 17 (1998), table I, and the extremes beside it.
        for (right, images, low, high) in
            [(81, 263, 25.53, 36.62), (15, 148, 6.24, 16.05), (0, 20, 0.0, 16.11), (1, 29, 0.61, 17.18)]
        {
            let (found_low, found_high) = wilson(right, images).unwrap();
            assert!((found_low - low).abs() < 0.01 && (found_high - high).abs() < 0.01, "{found_low} {found_high}");
        }
        assert_eq!(wilson(0, 0), None);
        assert_eq!(wilson_of_percent(50.0, 10), wilson(5, 10));
        assert_eq!(wilson_of_percent(f64::NAN, 10), None);
    }

    #[test]
    fn calibration_of_bins() {
        let mut calibration = Calibration::default();
        // Two answers at 0.9, one right; two at 0.5, both right: (|1.8 − 1| + |1 − 2|) / 4.
        for (confidence, right) in [(0.9, true), (0.9, false), (0.5, true), (0.5, true)] {
            calibration.add(confidence, right);
        }
        assert!((calibration.error() - 0.45).abs() < 1e-12);
        let mut sure = Calibration::default();
        sure.add(1.0, true);
        assert_eq!(sure.error(), 0.0);
        assert_eq!(Calibration::default().error(), 0.0);
    }
}
