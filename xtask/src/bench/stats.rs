//! Medians and intervals. Nothing is assumed of how the noise is distributed:
//! there are few rounds, and a busy machine's are not normal.

use serde::{Deserialize, Serialize};

/// A median, and the interval that holds the true one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Estimate {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) count: usize,
}

/// `None`: of nothing.
pub(crate) fn estimate(mut values: Vec<f64>) -> Option<Estimate> {
    values.retain(|value| value.is_finite());
    values.sort_by(f64::total_cmp);
    let count = values.len();
    let middle = values.get(count / 2)?;
    let median =
        if count % 2 == 1 { *middle } else { f64::midpoint(*middle, values[count / 2 - 1]) };
    let outer = outside(count);
    Some(Estimate { median, low: values[outer], high: values[count - 1 - outer], count })
}

/// How many values at each end are outside the interval that has the true
/// median with a probability of 95 %. Each value is below it with a probability
/// of ½, so how many are below is binomial; with fewer than six, even all of
/// them make less (five: 94 %).
fn outside(count: usize) -> usize {
    let mut below = 0.0;
    let mut ways = 1.0;
    for k in 0..count {
        below += ways / 2_f64.powi(i32::try_from(count).unwrap_or(i32::MAX));
        if 2.0 * below > 0.05 || 2 * k + 1 >= count {
            return k.saturating_sub(1);
        }
        #[expect(clippy::cast_precision_loss, reason = "rounds are few")]
        {
            ways *= (count - k) as f64 / (k + 1) as f64;
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::{estimate, outside};

    #[test]
    fn of_few_rounds_the_interval_is_all_of_them() {
        let of_five = estimate(vec![5.0, 1.0, 3.0, 2.0, 4.0]).unwrap();
        assert_eq!((of_five.low, of_five.median, of_five.high), (1.0, 3.0, 5.0));
        assert_eq!(estimate(vec![]), None);
        assert_eq!(estimate(vec![7.0]).map(|it| it.count), Some(1));
    }

    #[test]
    fn of_many_it_leaves_out_as_the_binomial_distribution_says() {
        // Known tables of the sign test at 5 %.
        for (count, expected) in [(1, 0), (5, 0), (6, 0), (8, 0), (9, 1), (12, 2), (15, 3), (20, 5)]
        {
            assert_eq!(outside(count), expected, "{count} rounds");
        }
    }
}
