//! The few statistics that the figures need: shares and means with their 95 % confidence intervals, and percentiles.

use serde::{Deserialize, Serialize};

/// Two-sided 95 % quantile of the normal distribution.
const Z: f64 = 1.959_963_984_540_054;
/// Resamples of a bootstrap; the ends of a 95 % interval then rest on 25 resamples each.
const RESAMPLES: usize = 1_000;
/// Seed of the bootstrap. Any number does, as long as it stays: the same decisions must give the same interval.
const SEED: u64 = 0x5eed_0b57_c0de_cafe;

/// A share of cases with its 95 % confidence interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// The cases that count.
    pub count: u64,
    /// The cases that could have counted.
    pub of: u64,
    /// `count / of`, 0 to 1; 0 when there was nothing to count.
    pub value: f64,
    /// Lower end of the interval, 0 to 1.
    pub low: f64,
    /// Upper end of the interval, 0 to 1.
    pub high: f64,
}

impl Share {
    /// A share with its Wilson score interval, which also holds for few cases and for shares near 0 and 1.
    #[must_use]
    pub fn new(count: usize, of: usize) -> Self {
        let (low, high) = wilson(count, of);
        let value = if of == 0 { 0.0 } else { count as f64 / of as f64 };
        Self { count: count as u64, of: of as u64, value, low, high }
    }

    /// The share of cases for which `counts` holds.
    pub fn among<T>(cases: impl IntoIterator<Item = T>, mut counts: impl FnMut(T) -> bool) -> Self {
        let (mut count, mut of) = (0, 0);
        for case in cases {
            of += 1;
            count += usize::from(counts(case));
        }
        Self::new(count, of)
    }

    /// Whether there was anything to count.
    #[must_use]
    pub const fn is_known(&self) -> bool {
        self.of > 0
    }
}

/// A number with its 95 % confidence interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The number.
    pub value: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

/// The Wilson score interval of a share; everything is possible when nothing was counted.
#[must_use]
pub fn wilson(count: usize, of: usize) -> (f64, f64) {
    if of == 0 {
        return (0.0, 1.0);
    }
    let n = of as f64;
    let share = count as f64 / n;
    let denominator = 1.0 + Z * Z / n;
    let centre = (share + Z * Z / (2.0 * n)) / denominator;
    let half = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt() / denominator;
    // At the ends the formula is exact but the arithmetic is not.
    let low = if count == 0 { 0.0 } else { (centre - half).max(0.0) };
    let high = if count == of { 1.0 } else { (centre + half).min(1.0) };
    (low, high)
}

/// The mean of small whole numbers, times `scale`, with a percentile bootstrap interval.
#[must_use]
pub fn bootstrap_mean(values: &[u8], scale: f64) -> Estimate {
    if values.is_empty() {
        return Estimate { value: 0.0, low: 0.0, high: 0.0 };
    }
    let n = values.len();
    let mean = |sum: u64| sum as f64 * scale / n as f64;
    let mut random = SplitMix(SEED);
    let mut means: Vec<f64> = (0..RESAMPLES)
        .map(|_| mean((0..n).map(|_| values.get(random.below(n)).map_or(0, |value| u64::from(*value))).sum()))
        .collect();
    means.sort_by(f64::total_cmp);
    let value = mean(values.iter().map(|value| u64::from(*value)).sum());
    Estimate { value, low: percentile(&means, 0.025).unwrap_or(value), high: percentile(&means, 0.975).unwrap_or(value) }
}

/// The nearest-rank percentile of sorted values: the smallest one that at least the share `rank` of them does not exceed.
#[must_use]
pub fn percentile<T: Copy>(sorted: &[T], rank: f64) -> Option<T> {
    let position = (rank * sorted.len() as f64).ceil() as usize;
    sorted.get(position.saturating_sub(1).min(sorted.len().saturating_sub(1))).copied()
}

/// `SplitMix64`: a few lines that give the same numbers on every machine and in every version, which no library promises.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`, by multiplication: the bias is below 2^-40 for any set that fits a disk.
    fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-4
    }

    /// Reference values from the closed formula, worked out by hand.
    #[test]
    fn wilson_interval() {
        let (low, high) = wilson(8, 10);
        assert!(close(low, 0.4902) && close(high, 0.9433), "{low} {high}");
        let (low, high) = wilson(0, 20);
        assert!(low == 0.0 && close(high, 0.1611), "{low} {high}");
        let (low, high) = wilson(20, 20);
        assert!(close(low, 0.8389) && close(high, 1.0), "{low} {high}");
        assert_eq!(wilson(0, 0), (0.0, 1.0));
    }

    #[test]
    fn bootstrap_is_deterministic_and_holds_the_mean() {
        let values: Vec<u8> = (0..400).map(|index| u8::from(index % 10 == 0) * 4).collect();
        let estimate = bootstrap_mean(&values, 100.0);
        assert!(close(estimate.value, 40.0));
        assert!(estimate.low < 40.0 && estimate.high > 40.0, "{estimate:?}");
        // The normal approximation: 100 * 1.96 * sqrt(1.44 / 400) = 11.8.
        assert!((estimate.high - estimate.low - 23.5).abs() < 3.0, "{estimate:?}");
        assert_eq!(estimate, bootstrap_mean(&values, 100.0));
        assert_eq!(bootstrap_mean(&[0, 0, 0], 100.0), Estimate { value: 0.0, low: 0.0, high: 0.0 });
        assert!(close(bootstrap_mean(&[], 100.0).value, 0.0));
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        let sorted = [10, 20, 30, 40];
        assert_eq!([0.0, 0.25, 0.5, 0.51, 0.99, 1.0].map(|rank| percentile(&sorted, rank)), [10, 10, 20, 30, 40, 40].map(Some));
        assert_eq!(percentile::<u64>(&[], 0.5), None);
    }
}
