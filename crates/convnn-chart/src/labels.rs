//! Labels: numbers with as many decimals as they need, and places that do not overlap.

/// A number with as many decimals as an axis of length `span` needs; small ones as powers of ten.
pub(crate) fn short(value: f64, span: f64) -> String {
    let decimals = match span {
        _ if value == 0.0 => 0,
        _ if span > 8.0 => 0,
        _ if span > 0.8 => 1,
        _ if value.abs() < 0.01 => return format!("{value:.1e}"),
        _ if span > 0.08 => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

/// Moves `wanted` places apart until neighbours are at least `distance` apart, within `low..=high` if they fit there.
/// The order is kept.
pub(crate) fn spread(wanted: &[i32], distance: i32, low: i32, high: i32) -> Vec<i32> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by_key(|&i| wanted[i]);
    let mut places = wanted.to_vec();
    let mut least = low;
    for &i in &order {
        places[i] = places[i].max(least);
        least = places[i] + distance;
    }
    let mut most = high;
    for &i in order.iter().rev() {
        places[i] = places[i].min(most);
        most = places[i] - distance;
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_keep_their_distance_and_their_order() {
        assert_eq!(spread(&[50, 50, 52], 10, 0, 100), [50, 60, 70]);
        assert_eq!(spread(&[99, 98, 10], 10, 0, 100), [100, 90, 10]);
        assert_eq!(spread(&[20, 80], 10, 0, 100), [20, 80]);
        assert_eq!(spread(&[], 10, 0, 100), Vec::<i32>::new());
    }

    #[test]
    fn decimals_follow_the_span() {
        let cases = [
            (43.21, 40.0, "43"),
            (43.21, 2.0, "43.2"),
            (0.3, 0.5, "0.30"),
            (2.0043, 0.05, "2.004"),
            (0.0005, 0.001, "5.0e-4"),
            (0.0, 0.001, "0"),
        ];
        for (value, span, text) in cases {
            assert_eq!(short(value, span), text);
        }
    }
}
