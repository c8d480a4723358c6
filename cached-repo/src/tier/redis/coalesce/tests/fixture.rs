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
pub(super) const TAKEN: usize = MAX_READS;

pub(super) struct Fixture {
    pub(super) server: Scripted,
    pub(super) coalescer: Arc<Coalescer>,
    pub(super) stats: Arc<TierStats>,
}

impl Fixture {
    pub(super) async fn new(timeout: Duration, capacity: usize) -> Self {
        let server = Scripted::start();
        let stats = Arc::new(TierStats::default());
        let conn = Connection::open(
            server.pool(),
            "test:changed:1".into(),
            None,
            timeout,
            Clock::start(),
            Arc::clone(&stats),
        )
        .await;
        let coalescer = Coalescer::over(conn, capacity);
        Self {
            server,
            coalescer,
            stats,
        }
    }

    /// A reader in a task of its own, which has gone through or waits when this returns.
    pub(super) async fn reader(&self, key: &str) -> JoinHandle<ReadResult> {
        let waiting = || {
            let queue = self.coalescer.queue.lock();
            queue.alone + queue.batches + queue.waiting.len()
        };
        let before = waiting();
        let (coalescer, key) = (Arc::clone(&self.coalescer), key_of(key));
        let reader = tokio::spawn(async move { coalescer.get(&key).await });
        while waiting() == before {
            tokio::task::yield_now().await;
        }
        reader
    }

    pub(super) async fn readers(&self, keys: &[&str]) -> Vec<JoinHandle<ReadResult>> {
        let mut readers = Vec::new();
        for key in keys {
            readers.push(self.reader(key).await);
        }
        readers
    }

    /// Readers that are under way and keep everyone else waiting.
    pub(super) async fn taken(&self) -> Vec<JoinHandle<ReadResult>> {
        let readers = self.readers(&["t"; TAKEN]).await;
        let received = self.server.received(TAKEN).await;
        assert!(received.iter().all(|command| *command == get("t")));
        readers
    }

    /// Readers of one batch that is under way, alone.
    pub(super) async fn batch(&self, names: &[&str]) -> Vec<JoinHandle<ReadResult>> {
        let taken = self.taken().await;
        let reads = self.readers(names).await;
        self.server.answer_all();
        all_found(taken, &["t"; TAKEN]).await;
        assert_eq!(self.server.received(1).await, [mget(names)]);
        reads
    }

    /// Reads until the conn has a connection again.
    pub(super) async fn recovers(&self) {
        let key = key_of("again");
        in_time(async {
            loop {
                let found = tokio::join!(self.coalescer.get(&key), async {
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
                let (batches, waiting) = {
                    let queue = self.coalescer.queue.lock();
                    (queue.alone + queue.batches, queue.waiting.len())
                };
                if batches == 0 {
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

pub(super) async fn found(reader: JoinHandle<ReadResult>) -> ReadResult {
    in_time(reader).await.unwrap()
}

/// Asserts that each reader is given the value of its own key.
pub(super) async fn all_found(readers: Vec<JoinHandle<ReadResult>>, names: &[&str]) {
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
