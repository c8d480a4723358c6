//! What the tests of gathering share: a scripted server, and readers in tasks of their own.

use std::{future::Future, time::Duration};

use tokio::task::JoinHandle;

use super::super::{
    super::scripted::{LIMIT, Scripted},
    *,
};
use crate::{clock::Clock, protocol::KeySpace, telemetry::TierStats};

/// Longer than any test that is not about it.
pub(super) const NEVER: Duration = Duration::from_secs(60);
/// So many readers are under way, and the next ones wait.
pub(super) const TAKEN: usize = MAX_FLIGHTS;

pub(super) struct Fixture {
    pub(super) server: Scripted,
    pub(super) gather: Arc<Gather>,
    pub(super) stats: Arc<TierStats>,
}

impl Fixture {
    pub(super) async fn new(timeout: Duration, capacity: usize) -> Self {
        let server = Scripted::start();
        let stats = Arc::new(TierStats::default());
        let lane = Lane::open(
            server.pool(),
            "test:changed:1".into(),
            timeout,
            Clock::start(),
            Arc::clone(&stats),
        )
        .await;
        let gather = Gather::over(lane, capacity);
        Self {
            server,
            gather,
            stats,
        }
    }

    /// A reader in a task of its own, which has gone through or waits when this returns.
    pub(super) async fn reader(&self, key: &str) -> JoinHandle<Found> {
        let waiting = || {
            let queue = self.gather.queue.lock();
            queue.alone + queue.flights + queue.waiting.len()
        };
        let before = waiting();
        let (gather, key) = (Arc::clone(&self.gather), key_of(key));
        let reader = tokio::spawn(async move { gather.get(&key).await });
        while waiting() == before {
            tokio::task::yield_now().await;
        }
        reader
    }

    pub(super) async fn readers(&self, keys: &[&str]) -> Vec<JoinHandle<Found>> {
        let mut readers = Vec::new();
        for key in keys {
            readers.push(self.reader(key).await);
        }
        readers
    }

    /// Readers that are under way and keep everyone else waiting.
    pub(super) async fn taken(&self) -> Vec<JoinHandle<Found>> {
        let readers = self.readers(&["t"; TAKEN]).await;
        let heard = self.server.hears(TAKEN).await;
        assert!(heard.iter().all(|command| *command == get("t")));
        readers
    }

    /// Readers of one batch that is under way, alone.
    pub(super) async fn batch(&self, names: &[&str]) -> Vec<JoinHandle<Found>> {
        let taken = self.taken().await;
        let aboard = self.readers(names).await;
        self.server.answer_all();
        all_found(taken, &["t"; TAKEN]).await;
        assert_eq!(self.server.hears(1).await, [mget(names)]);
        aboard
    }

    /// Reads until the lane has a connection again.
    pub(super) async fn recovers(&self) {
        let key = key_of("again");
        in_time(async {
            loop {
                let found = tokio::join!(self.gather.get(&key), async {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    if !self.server.is_answered() {
                        self.server.answer();
                    }
                });
                match found.0 {
                    Ok(Raw(value)) => return assert_eq!(value, Some(key.to_string().into())),
                    Err(TierError::Unavailable | TierError::Failed(_)) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        })
        .await;
    }

    pub(super) async fn until_idle(&self) {
        in_time(async {
            loop {
                let (flights, waiting) = {
                    let queue = self.gather.queue.lock();
                    (queue.alone + queue.flights, queue.waiting.len())
                };
                if flights == 0 {
                    return assert_eq!(waiting, 0);
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }
}

pub(super) fn key_of(name: &str) -> Key {
    KeySpace::new("test", "row").row(name)
}

pub(super) fn get(name: &str) -> Vec<String> {
    vec!["GET".into(), key_of(name).to_string()]
}

pub(super) fn mget(names: &[&str]) -> Vec<String> {
    let keys = names.iter().map(|name| key_of(name).to_string());
    std::iter::once("MGET".into()).chain(keys).collect()
}

pub(super) async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future)
        .await
        .expect("a reader hangs")
}

pub(super) async fn found(reader: JoinHandle<Found>) -> Found {
    in_time(reader).await.unwrap()
}

/// Asserts that each reader is given the value of its own key.
pub(super) async fn all_found(readers: Vec<JoinHandle<Found>>, names: &[&str]) {
    assert_eq!(readers.len(), names.len());
    for (reader, name) in readers.into_iter().zip(names) {
        let Raw(value) = found(reader).await.unwrap();
        let expected = (!name.starts_with("no-")).then(|| key_of(name).to_string().into());
        assert_eq!(value, expected, "{name}");
    }
}

/// Another runtime than the test's.
pub(super) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}
