//! A write that has begun ends, even if its caller drops the future.
//!
//! The caller polls the write, so it costs no task. If the caller goes away, the rest of the write
//! runs as a background task. Hooks that run there do not see the caller's `tokio::task_local!`
//! values.
//!
//! Does not know what the write does.

use std::{
    any::Any,
    panic::AssertUnwindSafe,
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, CatchUnwind},
};
use tokio_util::task::task_tracker::TrackedFuture;
use tracing::{Instrument, instrument::Instrumented};

use crate::tasks::Tasks;

/// See the module.
pub(super) struct Detach<T: Send + 'static> {
    /// `None` once it has ended.
    work: Option<Work<T>>,
    tasks: Tasks,
}

type Work<T> = TrackedFuture<CatchUnwind<AssertUnwindSafe<Instrumented<BoxFuture<'static, T>>>>>;

impl<T: Send + 'static> Detach<T> {
    /// `work` counts as one of `tasks` until it has ended, and has the caller's span.
    pub(super) fn new(work: BoxFuture<'static, T>, tasks: &Tasks) -> Self {
        let work = AssertUnwindSafe(work.in_current_span()).catch_unwind();
        Self {
            work: Some(tasks.track(work)),
            tasks: tasks.clone(),
        }
    }
}

impl<T: Send + 'static> Future for Detach<T> {
    /// What it panicked with, if it did.
    type Output = Result<T, Box<dyn Any + Send>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(work) = &mut self.work else {
            // Polled again after its end, it waits for ever.
            return Poll::Pending;
        };
        let ended = Pin::new(work).poll(context);
        if ended.is_ready() {
            self.work = None;
        }
        ended
    }
}

impl<T: Send + 'static> Drop for Detach<T> {
    fn drop(&mut self) {
        if let Some(work) = self.work.take() {
            self.tasks.runtime().spawn(work);
        }
    }
}
