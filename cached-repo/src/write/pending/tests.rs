//! The queue against a tier that answers only as often as the test allows.

use std::{collections::HashMap, future::ready};

use super::*;
use crate::{
    protocol::{
        KeySpace, Timestamp,
        state::{Block, Blocked, Fill, Filled, Lease, Leased, Published},
    },
    tier::{Held, Listener, Reply, TierError},
};

const LIMIT: Duration = Duration::from_secs(10);

/// A tier that can be told only as often as the test allows, and reports what it was told.
#[derive(Debug)]
struct Scripted {
    /// One permit for one answer; without one a call waits.
    answers: tokio::sync::Semaphore,
    /// Called and waiting.
    waiting: AtomicUsize,
    told: Mutex<Vec<(String, Version)>>,
    fails: std::sync::atomic::AtomicBool,
}

impl Scripted {
    async fn answer<T>(&self, key: &str, request: &Done, reply: T) -> Result<T, TierError> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let permit = self.answers.acquire().await;
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        permit.map_err(|_| TierError::Unavailable)?.forget();
        if self.fails.load(Ordering::SeqCst) {
            return Err(TierError::Unavailable);
        }
        let Outcome::Invalidate { floor } = request.outcome else {
            panic!("only invalidations are owed");
        };
        self.told.lock().push((key.to_owned(), floor));
        Ok(reply)
    }

    async fn until_waiting(&self, calls: usize) {
        until("the tier is called", || {
            self.waiting.load(Ordering::SeqCst) >= calls
        })
        .await;
    }
}

impl Tier for Scripted {
    fn now(&self) -> Timestamp {
        Timestamp::default()
    }
    fn get<'a>(&'a self, _: &'a Key) -> Reply<'a, Held> {
        Box::pin(ready(Err(TierError::Unavailable)))
    }
    fn lease<'a>(&'a self, _: &'a Key, _: Lease) -> Reply<'a, Leased> {
        Box::pin(ready(Err(TierError::Unavailable)))
    }
    fn fill<'a>(&'a self, _: &'a Key, _: Fill) -> Reply<'a, Filled> {
        Box::pin(ready(Err(TierError::Unavailable)))
    }
    fn block<'a>(&'a self, _: &'a Key, _: Block) -> Reply<'a, Blocked> {
        Box::pin(ready(Err(TierError::Unavailable)))
    }
    fn done<'a>(&'a self, key: &'a Key, request: Done) -> Reply<'a, Published> {
        Box::pin(async move {
            self.answer(key.as_str(), &request, Published::Invalidated)
                .await
        })
    }
    fn invalidate_all<'a>(&'a self, prefix: &'a str, request: Done) -> Reply<'a, u64> {
        Box::pin(async move { self.answer(prefix, &request, 1).await })
    }
    fn announce<'a>(&'a self, _: &'a Key) -> Reply<'a, ()> {
        Box::pin(ready(Err(TierError::Unavailable)))
    }
    fn listen(&self, _: Arc<dyn Listener>) {}
}

async fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let wait = async {
        while !reached() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let in_time = tokio::time::timeout(LIMIT, wait).await;
    assert!(in_time.is_ok(), "never happened: {what}");
}

fn space() -> KeySpace {
    KeySpace::new("test", "row")
}

fn owed(floor: u64) -> Owed {
    Owed {
        token: Token::fresh(),
        floor: Version::new(floor).unwrap(),
        due: None,
    }
}

fn start(capacity: usize) -> (Arc<Scripted>, Pending) {
    let tier = Arc::new(Scripted {
        answers: tokio::sync::Semaphore::new(0),
        waiting: AtomicUsize::new(0),
        told: Mutex::default(),
        fails: false.into(),
    });
    let config = Config {
        pending_capacity: capacity,
        ..Config::default()
    };
    let pending = Pending::start(Arc::clone(&tier) as Arc<dyn Tier>, &config);
    (tier, pending)
}

#[tokio::test]
async fn a_key_is_distrusted_until_the_tier_was_told() {
    let (tier, pending) = start(10);
    let (key, other) = (space().row(1i64), space().row(2i64));
    pending.owe(&key, space().prefix(), owed(3));
    assert!(pending.distrusts(&key) && !pending.distrusts(&other));
    tier.until_waiting(1).await;
    assert!(pending.distrusts(&key), "told is not acknowledged");
    tier.answers.add_permits(1);
    tokio::time::timeout(LIMIT, pending.drained())
        .await
        .unwrap();
    assert!(!pending.distrusts(&key));
    let floor = Version::new(3).unwrap();
    assert_eq!(*tier.told.lock(), [(key.to_string(), floor)]);
}

#[tokio::test]
async fn a_failed_replay_is_tried_again() {
    let (tier, pending) = start(10);
    let key = space().row(1i64);
    tier.fails.store(true, Ordering::SeqCst);
    pending.owe(&key, space().prefix(), owed(0));
    tier.answers.add_permits(2);
    until("two attempts have failed", || {
        tier.answers.available_permits() == 0
    })
    .await;
    assert!(pending.distrusts(&key));
    tier.fails.store(false, Ordering::SeqCst);
    tier.answers.add_permits(1);
    tokio::time::timeout(LIMIT, pending.drained())
        .await
        .unwrap();
}

#[tokio::test]
async fn what_comes_during_a_replay_is_still_owed() {
    let (tier, pending) = start(10);
    let key = space().row(1i64);
    pending.owe(&key, space().prefix(), owed(3));
    tier.until_waiting(1).await;
    pending.owe(&key, space().prefix(), owed(2));
    tier.answers.add_permits(1);
    until("the first replay is acknowledged", || {
        tier.told.lock().len() == 1
    })
    .await;
    tier.until_waiting(1).await;
    assert!(pending.distrusts(&key));
    tier.answers.add_permits(1);
    tokio::time::timeout(LIMIT, pending.drained())
        .await
        .unwrap();
    let floors: Vec<u64> = tier.told.lock().iter().map(|(_, v)| v.get()).collect();
    assert_eq!(floors, [3, 3], "the highest floor counts");
}

#[tokio::test]
async fn beyond_the_capacity_the_entity_is_owed_as_a_whole() {
    let (tier, pending) = start(2);
    for id in 0..5i64 {
        pending.owe(&space().row(id), space().prefix(), owed(0));
    }
    assert_eq!(pending.len(), 3);
    assert!(pending.distrusts(&space().row(99i64)));
    let stranger = KeySpace::new("test", "row2").row(1i64);
    assert!(!pending.distrusts(&stranger));
    tier.answers.add_permits(100);
    tokio::time::timeout(LIMIT, pending.drained())
        .await
        .unwrap();
    let told: HashMap<String, Version> = tier.told.lock().iter().cloned().collect();
    assert!(told.contains_key(&**space().prefix()) && told.len() == 3);
}

#[tokio::test(start_paused = true)]
async fn what_is_owed_for_later_is_told_then_and_what_is_owed_now_is_told_twice() {
    let (tier, pending) = start(10);
    let (later, both) = (space().row(1i64), space().row(2i64));
    let due = Some(Instant::now() + LIMIT * 2);
    pending.owe(&later, space().prefix(), Owed { due, ..owed(3) });
    pending.owe(&both, space().prefix(), Owed { due, ..owed(4) });
    pending.owe(&both, space().prefix(), owed(2));
    tier.answers.add_permits(10);
    let told =
        |tier: &Scripted| -> Vec<u64> { tier.told.lock().iter().map(|(_, v)| v.get()).collect() };
    until("what is due is told", || !told(&tier).is_empty()).await;
    assert_eq!(told(&tier), [4]);
    assert!(pending.distrusts(&later) && pending.distrusts(&both));
    tokio::time::sleep(LIMIT * 3).await;
    let mut all = told(&tier);
    all.sort_unstable();
    assert_eq!(all, [3, 4, 4]);
    assert_eq!(pending.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_owed_for_later_can_be_hurried() {
    let (tier, pending) = start(10);
    let due = Some(Instant::now() + LIMIT * 1000);
    pending.owe(
        &space().row(1i64),
        space().prefix(),
        Owed { due, ..owed(3) },
    );
    tier.answers.add_permits(1);
    pending.hurry();
    tokio::time::timeout(LIMIT, pending.drained())
        .await
        .unwrap();
    assert_eq!(tier.told.lock().len(), 1);
}

/// The scan may have passed the key that is added while it runs.
#[tokio::test]
async fn what_overflows_during_the_replay_of_its_entity_is_still_owed() {
    let (tier, pending) = start(1);
    pending.owe_all(space().prefix());
    tier.until_waiting(1).await;
    pending.owe_all(space().prefix());
    tier.answers.add_permits(1);
    until("the first replay is acknowledged", || {
        tier.told.lock().len() == 1
    })
    .await;
    tier.until_waiting(1).await;
    assert!(pending.distrusts(&space().row(1i64)));
    tier.answers.add_permits(1);
    tokio::time::timeout(LIMIT, pending.drained())
        .await
        .unwrap();
    assert_eq!(tier.told.lock().len(), 2);
}
