//! Waiting for something that happens by itself.

use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(5);

/// Asks until the answer is `Some`.
///
/// # Panics
/// When that takes longer than any test should.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// Lets time pass on a server that has a clock of its own.
pub async fn lapse(duration: Duration) {
    tokio::time::sleep(duration).await;
}
