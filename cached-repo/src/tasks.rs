//! Background tasks: where they run, and how they are joined.
//!
//! Invariants:
//! - A task runs on the runtime that the [`Tasks`] were made for, whoever starts it, and is tracked
//!   until it ends.
//!
//! Does not know what the tasks do.

use std::{future::pending, sync::Arc};

use tokio::{runtime::Handle, task::JoinHandle};
use tokio_util::task::{AbortOnDropHandle, TaskTracker, task_tracker::TrackedFuture};

/// The background tasks of a [`CachedDb`](crate::CachedDb).
#[derive(Clone, Debug)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    runtime: Handle,
    /// Ends with the runtime.
    sentinel: Arc<AbortOnDropHandle<()>>,
}

impl Tasks {
    pub(crate) fn on(runtime: Handle) -> Self {
        Self {
            tracker: TaskTracker::new(),
            sentinel: Arc::new(AbortOnDropHandle::new(runtime.spawn(pending()))),
            runtime,
        }
    }

    /// Runs background work. If the runtime has ended, the work is dropped at once: nobody may
    /// hold a lock here that the work's drop takes.
    pub(crate) fn spawn<F>(&self, work: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.tracker.spawn_on(work, &self.runtime)
    }

    /// Counts work as a task that its caller polls.
    pub(crate) fn track<F: Future>(&self, work: F) -> TrackedFuture<F> {
        self.tracker.track_future(work)
    }

    /// The runtime that tasks run on.
    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Whether the runtime has ended, so that nothing can be spawned any more.
    pub(crate) fn have_ended(&self) -> bool {
        self.sentinel.is_finished()
    }

    /// Waits until all tasks have ended.
    pub(crate) async fn join(&self) {
        // Reopened also when the caller gives up waiting.
        struct Reopen<'a>(&'a TaskTracker);
        impl Drop for Reopen<'_> {
            fn drop(&mut self) {
                self.0.reopen();
            }
        }
        self.tracker.close();
        let _reopen = Reopen(&self.tracker);
        self.tracker.wait().await;
    }
}
