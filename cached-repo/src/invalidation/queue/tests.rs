//! The queue against a tier that answers only as often as the test allows.

use std::{collections::HashMap, future::ready};

use super::*;
use crate::{
    clock::Clock,
    near::Generations,
    protocol::{
        KeySpace, Timestamp,
        epoch::{self, EpochChange, EpochReply, EpochRequest},
        state::{Block, Fill, Filled, Lease, Leased, Published},
    },
    tasks::Tasks,
    tier::{Fetched, InvalidationListener, Reply, TierError},
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
    async fn answer<T>(&self, key: &str, floor: Version, reply: T) -> Result<T, TierError> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let permit = self.answers.acquire().await;
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        permit.map_err(|_| TierError::Unavailable)?.forget();
        if self.fails.load(Ordering::SeqCst) {
            return Err(TierError::Unavailable);
        }
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
    fn get<'a>(&'a self, _: &'a Key) -> Reply<'a, Fetched> {
        Box::pin(ready(Err(TierError::Unavailable)))
    }
    fn lease<'a>(&'a self, _: &'a Key, _: Lease) -> Reply<'a, Leased> {
        Box::pin(ready(Err(TierError::Unavailable)))
    }
    fn fill<'a>(&'a self, _: &'a Key, _: Fill) -> Reply<'a, Filled> {
        Box::pin(ready(Err(TierError::Unavailable)))
    }
    fn block<'a>(&'a self, _: &'a Key, _: Block) -> Reply<'a, ()> {
        Box::pin(ready(Err(TierError::Unavailable)))
    }
    fn done<'a>(&'a self, key: &'a Key, request: Done) -> Reply<'a, Published> {
        Box::pin(async move {
            let Outcome::Invalidate { floor } = request.outcome else {
                panic!("only invalidations are queued");
            };
            self.answer(key.as_str(), floor, Published::Invalidated)
                .await
        })
    }
    fn epochs<'a>(&'a self, request: EpochRequest) -> Reply<'a, EpochReply> {
        assert_eq!(request.change, EpochChange::Raise);
        Box::pin(async move {
            let prefixes = request.entities.join(" ");
            let reply = epoch::change(&mut None, Timestamp::default(), &request);
            self.answer(&prefixes, Version::ZERO, reply).await
        })
    }
    fn is_shared(&self) -> bool {
        false
    }
    fn announce<'a>(&'a self, _: &'a Key) -> Reply<'a, ()> {
        Box::pin(ready(Err(TierError::Unavailable)))
    }
    fn listen(&self, _: Arc<dyn InvalidationListener>) {}
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

fn invalidation(floor: u64) -> Invalidation {
    Invalidation {
        token: Token::fresh(),
        floor: Version::new(floor).unwrap(),
        due: None,
    }
}

fn start(capacity: usize) -> (Arc<Scripted>, InvalidationQueue) {
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
    let shared = Arc::clone(&tier) as Arc<dyn Tier>;
    let tasks = Tasks::on(Handle::current());
    let generations = Arc::new(Generations::new());
    let epochs = Epochs::new(&shared, generations, &tasks, Clock::start());
    let queue = InvalidationQueue::start(shared, epochs, &config, &Handle::current());
    (tier, queue)
}

#[tokio::test]
async fn a_key_is_queued_until_the_tier_has_acknowledged_it() {
    let (tier, queue) = start(10);
    let (key, other) = (space().row(1i64), space().row(2i64));
    queue.enqueue(&key, space().prefix(), invalidation(3));
    assert!(queue.contains(&key) && !queue.contains(&other));
    tier.until_waiting(1).await;
    assert!(queue.contains(&key), "sent is not acknowledged");
    tier.answers.add_permits(1);
    tokio::time::timeout(LIMIT, queue.drained()).await.unwrap();
    assert!(!queue.contains(&key));
    let floor = Version::new(3).unwrap();
    assert_eq!(*tier.told.lock(), [(key.to_string(), floor)]);
}

#[tokio::test]
async fn a_failed_replay_is_tried_again() {
    let (tier, queue) = start(10);
    let key = space().row(1i64);
    tier.fails.store(true, Ordering::SeqCst);
    queue.enqueue(&key, space().prefix(), invalidation(0));
    tier.answers.add_permits(2);
    until("two attempts have failed", || {
        tier.answers.available_permits() == 0
    })
    .await;
    assert!(queue.contains(&key));
    tier.fails.store(false, Ordering::SeqCst);
    tier.answers.add_permits(1);
    tokio::time::timeout(LIMIT, queue.drained()).await.unwrap();
}

#[tokio::test]
async fn an_invalidation_that_comes_during_a_replay_stays_queued() {
    let (tier, queue) = start(10);
    let key = space().row(1i64);
    queue.enqueue(&key, space().prefix(), invalidation(3));
    tier.until_waiting(1).await;
    queue.enqueue(&key, space().prefix(), invalidation(2));
    tier.answers.add_permits(1);
    until("the first replay is acknowledged", || {
        tier.told.lock().len() == 1
    })
    .await;
    tier.until_waiting(1).await;
    assert!(queue.contains(&key));
    tier.answers.add_permits(1);
    tokio::time::timeout(LIMIT, queue.drained()).await.unwrap();
    let floors: Vec<u64> = tier.told.lock().iter().map(|(_, v)| v.get()).collect();
    assert_eq!(floors, [3, 3], "the highest floor counts");
}

#[tokio::test]
async fn beyond_the_capacity_the_entity_is_queued_as_a_whole() {
    let (tier, queue) = start(2);
    for id in 0..5i64 {
        queue.enqueue(&space().row(id), space().prefix(), invalidation(0));
    }
    assert_eq!(queue.len(), 3);
    assert!(queue.contains(&space().row(99i64)));
    let stranger = KeySpace::new("test", "row2").row(1i64);
    assert!(!queue.contains(&stranger));
    tier.answers.add_permits(100);
    tokio::time::timeout(LIMIT, queue.drained()).await.unwrap();
    let told: HashMap<String, Version> = tier.told.lock().iter().cloned().collect();
    assert!(told.contains_key(&**space().prefix()) && told.len() == 3);
}

#[tokio::test(start_paused = true)]
async fn a_later_invalidation_is_sent_when_it_is_due_and_one_that_is_also_due_now_is_sent_twice() {
    let (tier, queue) = start(10);
    let (later, both) = (space().row(1i64), space().row(2i64));
    let due = Some(Instant::now() + LIMIT * 2);
    queue.enqueue(
        &later,
        space().prefix(),
        Invalidation {
            due,
            ..invalidation(3)
        },
    );
    queue.enqueue(
        &both,
        space().prefix(),
        Invalidation {
            due,
            ..invalidation(4)
        },
    );
    queue.enqueue(&both, space().prefix(), invalidation(2));
    tier.answers.add_permits(10);
    let told =
        |tier: &Scripted| -> Vec<u64> { tier.told.lock().iter().map(|(_, v)| v.get()).collect() };
    until("what is due is told", || !told(&tier).is_empty()).await;
    assert_eq!(told(&tier), [4]);
    assert!(queue.contains(&later) && queue.contains(&both));
    tokio::time::sleep(LIMIT * 3).await;
    let mut all = told(&tier);
    all.sort_unstable();
    assert_eq!(all, [3, 4, 4]);
    assert_eq!(queue.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_later_invalidation_can_be_hurried() {
    let (tier, queue) = start(10);
    let due = Some(Instant::now() + LIMIT * 1000);
    queue.enqueue(
        &space().row(1i64),
        space().prefix(),
        Invalidation {
            due,
            ..invalidation(3)
        },
    );
    tier.answers.add_permits(1);
    queue.hurry();
    tokio::time::timeout(LIMIT, queue.drained()).await.unwrap();
    assert_eq!(tier.told.lock().len(), 1);
}

/// What is queued while an epoch is being raised may come after it.
#[tokio::test]
async fn an_overflow_during_the_replay_of_its_entity_stays_queued() {
    let (tier, queue) = start(1);
    queue.enqueue_entity(space().prefix(), None);
    tier.until_waiting(1).await;
    queue.enqueue_entity(space().prefix(), None);
    tier.answers.add_permits(1);
    until("the first replay is acknowledged", || {
        tier.told.lock().len() == 1
    })
    .await;
    tier.until_waiting(1).await;
    assert!(queue.contains(&space().row(1i64)));
    tier.answers.add_permits(1);
    tokio::time::timeout(LIMIT, queue.drained()).await.unwrap();
    assert_eq!(tier.told.lock().len(), 2);
}

/// Goal: an entity whose COMMIT has no answer is invalidated later, is not read until then, and is not
/// waited for by who ends the queue.
#[tokio::test]
async fn an_entity_that_is_due_later_is_replayed_then_or_when_hurried() {
    let (tier, queue) = start(10);
    tier.answers.add_permits(2);
    let key = space().row(1i64);
    let soon = Instant::now() + Duration::from_millis(50);
    queue.enqueue_entity(space().prefix(), Some(soon));
    assert!(queue.contains(&key) && queue.len() == 1);
    tokio::time::timeout(LIMIT, queue.drained()).await.unwrap();
    assert!(Instant::now() >= soon, "not before it is due");
    queue.enqueue_entity(space().prefix(), Some(Instant::now() + LIMIT * 10));
    queue.hurry();
    tokio::time::timeout(LIMIT, queue.drained()).await.unwrap();
    assert_eq!(tier.told.lock().len(), 2);
}

/// Goal: what is due now does not take what is due later with it.
#[tokio::test]
async fn an_entity_that_is_due_now_and_later_is_invalidated_twice() {
    let (tier, queue) = start(10);
    tier.answers.add_permits(2);
    let soon = Instant::now() + Duration::from_millis(100);
    queue.enqueue_entity(space().prefix(), None);
    queue.enqueue_entity(space().prefix(), Some(soon));
    tokio::time::timeout(LIMIT, queue.drained()).await.unwrap();
    assert!(Instant::now() >= soon);
    assert_eq!(tier.told.lock().len(), 2);
}
