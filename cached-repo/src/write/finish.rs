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
use tracing::{Instrument, instrument::Instrumented};

/// See the module.
pub(super) struct Finish<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    /// `None` once it has ended.
    work: Option<Work<F>>,
}

type Work<F> = TrackedFuture<CatchUnwind<AssertUnwindSafe<Instrumented<Pin<Box<F>>>>>>;

impl<F> Finish<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    /// `work` counts as one of `tasks` until it has ended, and has the caller's span.
    pub(super) fn of(work: F, tasks: &TaskTracker) -> Self {
        // Boxed first: what a write needs is large, and would be moved from each to the next.
        let work = Box::pin(work).in_current_span();
        let work = AssertUnwindSafe(work).catch_unwind();
        Self {
            work: Some(tasks.track_future(work)),
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
        let ended = Pin::new(work).poll(context);
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
