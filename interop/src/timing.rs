//! Whether the times of two things tell them apart: the question of somebody who counts milliseconds at a login.
//!
//! Times are taken in turns, one of each in every round and in an order of chance, so that whatever else the machine
//! does befalls both alike. Looked at are the differences within the rounds: their ranks (Wilcoxon's signed-rank test,
//! which asks nothing of how times are spread) say whether one is slower by more than chance, and their middle says
//! by how much. The same is done with two that are the same; what is no larger there is noise of this machine.

use std::{
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

/// How far apart two series of times are.
#[derive(Clone, Copy, Debug)]
pub struct Apart {
    /// The middle of the differences, second less first, in milliseconds.
    pub shift: f64,
    /// How sure it is that there is a difference, in standard deviations of chance.
    pub sigmas: f64,
    /// By how much the middle would be off by chance, in milliseconds.
    blur: f64,
}

impl Apart {
    /// Compares two series, whose times at one place are of one round.
    ///
    /// # Panics
    /// If they are of different lengths, or empty.
    #[must_use]
    pub fn of(ones: &[Duration], others: &[Duration]) -> Self {
        assert!(ones.len() == others.len() && !ones.is_empty(), "times are taken in rounds");
        let differences: Vec<f64> = ones
            .iter()
            .zip(others)
            .map(|(one, other)| (other.as_secs_f64() - one.as_secs_f64()) * 1000.0)
            .collect();
        let shift = middle(&differences);
        let spread = middle(&differences.iter().map(|it| (it - shift).abs()).collect::<Vec<_>>());
        // The standard error of a median, from the median deviation of what is spread normally.
        let error = 1.2533 * 1.4826 * spread / count(differences.len()).sqrt();
        Self { shift, sigmas: signed_ranks(&differences), blur: 3.0 * error }
    }

    /// Whether the difference is there, and can be told from what `same` shows of two that are the same: by more than
    /// one case of chance in ten thousand, and by more than half a millisecond.
    #[must_use]
    pub fn tells(&self, same: &Self) -> bool {
        let noise = same.blur.max(same.shift.abs()).max(LEAST);
        self.sigmas.abs() > SURE && self.shift.abs() > noise
    }
}

/// The numbers below `count` in an order of chance.
#[must_use]
pub fn shuffled(count: usize) -> Vec<usize> {
    // Its keys are of chance.
    let chance = RandomState::new();
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by_key(|number| chance.hash_one(number));
    order
}

/// Wilcoxon's sum of the ranks of what is positive, as its distance from what chance gives, in standard deviations.
fn signed_ranks(differences: &[f64]) -> f64 {
    let mut ranked: Vec<f64> = differences.to_vec();
    ranked.sort_by(|one, other| one.abs().total_cmp(&other.abs()));
    let sum: f64 = ranked
        .iter()
        .zip(1..)
        .filter(|(difference, _)| **difference > 0.0)
        .map(|(_, rank)| count(rank))
        .sum();
    let n = count(ranked.len());
    (sum - n * (n + 1.0) / 4.0) / (n * (n + 1.0) * (2.0 * n + 1.0) / 24.0).sqrt()
}

fn middle(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[half] } else { f64::midpoint(sorted[half - 1], sorted[half]) }
}

fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).expect("a number of times"))
}

/// Beyond this many standard deviations lies less than one case of chance in ten thousand (S-26).
const SURE: f64 = 3.9;

/// What nobody can count through a network, in milliseconds (S-26).
const LEAST: f64 = 0.5;

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine whose logins take 25 ms and more: mostly little, sometimes much, and all the longer while it is busy.
    struct Machine(u64);

    impl Machine {
        fn chance(&mut self) -> f64 {
            // Knuth's numbers for a generator of this kind.
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            f64::from(u32::try_from(self.0 >> 32).unwrap()) / f64::from(u32::MAX)
        }

        /// Times of two things, the second of which takes `more` milliseconds, in as many rounds.
        fn rounds(&mut self, rounds: usize, more: f64) -> [Vec<Duration>; 2] {
            let mut times = [Vec::new(), Vec::new()];
            for round in 0..rounds {
                let busy = if round > rounds / 2 { 30.0 } else { 0.0 };
                for (times, more) in times.iter_mut().zip([0.0, more]) {
                    let rare = if self.chance() < 0.05 { 200.0 * self.chance() } else { 0.0 };
                    let took = 25.0 + more + busy + 8.0 * self.chance() + rare;
                    times.push(Duration::from_secs_f64(took / 1000.0));
                }
            }
            times
        }

        fn tells(&mut self, rounds: usize, more: f64) -> bool {
            let apart = |[ones, others]: [Vec<Duration>; 2]| Apart::of(&ones, &others);
            let same = apart(self.rounds(rounds, 0.0));
            apart(self.rounds(rounds, more)).tells(&same)
        }
    }

    #[test]
    fn what_is_the_same_is_not_told_apart_however_busy_the_machine() {
        let mut machine = Machine(1);
        let told = (0..2000).filter(|_| machine.tells(40, 0.0)).count();
        assert!(told <= 1, "{told} of 2000");
    }

    #[test]
    fn twenty_milliseconds_are_told_either_way() {
        let mut machine = Machine(2);
        for more in [20.0, -20.0] {
            let missed = (0..500).filter(|_| !machine.tells(60, more)).count();
            assert!(missed <= 25, "{missed} of 500");
        }
    }

    #[test]
    fn what_is_sure_and_too_little_to_be_counted_is_not_told() {
        let ones: Vec<_> = (0..100).map(|_| Duration::from_millis(5)).collect();
        let of = |more: u64| {
            let others: Vec<_> = ones.iter().map(|one| *one + Duration::from_micros(more)).collect();
            Apart::of(&ones, &others)
        };
        let same = of(0);
        assert!(of(400).sigmas > SURE && !of(400).tells(&same));
        assert!(of(600).tells(&same) && of(600).shift.round() as i64 == 1);
        // What two that are the same show, too, tells nothing.
        assert!(!of(600).tells(&of(700)));
    }

    #[test]
    fn the_ranks_are_those_of_the_textbook() {
        // Differences 1, 2, .. 10 but for two negative ones: the positive ranks add up to 55 - 3 - 5.
        let differences = [1.0, 2.0, -3.0, 4.0, -5.0, 6.0, 7.0, 8.0, 9.0, 10.0];
        let expected = (47.0 - 27.5) / (10.0 * 11.0 * 21.0 / 24.0_f64).sqrt();
        assert!((signed_ranks(&differences) - expected).abs() < 1e-9);
        assert!((middle(&differences) - 5.0).abs() < 1e-9);
    }

    #[test]
    fn an_order_of_chance_has_every_number_once() {
        let orders: Vec<_> = (0..20).map(|_| shuffled(9)).collect();
        for order in &orders {
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..9).collect::<Vec<_>>());
        }
        assert!(orders.windows(2).any(|pair| pair[0] != pair[1]));
    }
}
