//! The pause between two attempts: it grows, is bounded, and is jittered, so that callers who
//! failed together do not try again together (Brooker, "Exponential Backoff And Jitter", 2015).
//!
//! Does not count attempts or decide when to give up; its callers have a deadline for that.

use std::time::Duration;

/// Pauses that double from `first` up to `longest`, each less a random share of up to one half.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    pub(crate) const fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            next: first,
        }
    }

    /// Begins again with the first pause, after a success.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }

    /// How long the next pause is; the one after it is twice as long.
    pub(crate) fn next_pause(&mut self) -> Duration {
        let pause = self.next.mul_f64(0.5 + fastrand::f64() / 2.0);
        self.next = (self.next * 2).min(self.longest);
        pause
    }

    /// Waits for the next pause.
    pub(crate) async fn pause(&mut self) {
        tokio::time::sleep(self.next_pause()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: pauses double, stay between half of their bound and the bound, and begin again.
    #[test]
    fn pauses_grow_to_the_bound_and_begin_again_after_a_success() {
        let (first, longest) = (Duration::from_millis(2), Duration::from_millis(50));
        let mut backoff = Backoff::new(first, longest);
        for _ in 0..2 {
            for bound_ms in [2, 4, 8, 16, 32, 50, 50] {
                let bound = Duration::from_millis(bound_ms);
                let pause = backoff.next_pause();
                assert!(
                    pause >= bound / 2 && pause <= bound,
                    "{pause:?} of {bound:?}"
                );
            }
            backoff.reset();
        }
    }
}
