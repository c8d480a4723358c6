//! A write that ends, whatever becomes of whoever awaits it.
//!
//! Polled by its caller, which costs nothing; if the caller goes away halfway, it goes on as a task.
//!
//! Does not know what it is that must end.

use std::{
    any::Any,
    panic::AssertUnwindSafe,
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::{FutureExt, future::CatchUnwind};
use tokio::runtime::Handle;
use tokio_util::task::{TaskTracker, task_tracker::TrackedFuture};

/// See the module.
pub(super) struct Finish<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    /// `None` once it has ended.
    work: Option<Pin<Box<Work<F>>>>,
}

type Work<F> = TrackedFuture<CatchUnwind<AssertUnwindSafe<F>>>;

impl<F> Finish<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    /// `work` counts as one of `tasks` until it has ended.
    pub(super) fn of(work: F, tasks: &TaskTracker) -> Self {
        let work = AssertUnwindSafe(work).catch_unwind();
        Self {
            work: Some(Box::pin(tasks.track_future(work))),
        }
    }
}

impl<F> Future for Finish<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    /// What it panicked with, if it did.
    type Output = Result<F::Output, Box<dyn Any + Send>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(work) = &mut self.work else {
            // Whoever asks again after the end waits for ever.
            return Poll::Pending;
        };
        let ended = work.as_mut().poll(context);
        if ended.is_ready() {
            self.work = None;
        }
        ended
    }
}

impl<F> Drop for Finish<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    fn drop(&mut self) {
        // Outside a runtime nothing can go on.
        if let Some(work) = self.work.take()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(work);
        }
    }
}
