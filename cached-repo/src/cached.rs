//! A row and where it came from.
//!
//! [`Row`] is the same without the model's type, for the engine.

use std::{any::Any, fmt, ops::Deref, sync::Arc, time::Duration};

/// A row, shared with the cache, and where it came from.
///
/// Derefs to the model; [`into_model`](Self::into_model) gives the model itself.
pub struct Cached<M> {
    row: Arc<M>,
    provenance: Provenance,
}

/// A model whose type the engine does not know.
pub(crate) type AnyModel = Arc<dyn Any + Send + Sync>;

/// A row whose type the engine does not know, and where it came from.
#[derive(Clone)]
pub(crate) struct Row {
    pub(crate) model: AnyModel,
    pub(crate) provenance: Provenance,
}

impl Row {
    /// A row that was just read from the database.
    pub(crate) fn loaded(model: AnyModel) -> Self {
        Self {
            model,
            provenance: Provenance::DATABASE,
        }
    }
}

/// Where a row came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Provenance {
    pub(crate) source: Source,
    pub(crate) age: Duration,
    pub(crate) stale: bool,
    pub(crate) pending: bool,
}

impl Provenance {
    pub(crate) const DATABASE: Self = Self {
        source: Source::Database,
        age: Duration::ZERO,
        stale: false,
        pending: false,
    };

    /// Of a row that a near cache has kept for so long.
    #[inline]
    pub(crate) const fn near(age: Duration) -> Self {
        Self {
            source: Source::Near,
            age,
            stale: false,
            pending: false,
        }
    }
}

/// Where a row was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Source {
    /// The near cache of this process.
    Near,
    /// The shared tier: Redis, or the in-process tier.
    Shared,
    /// The database.
    Database,
}

impl<M> Cached<M> {
    #[inline]
    pub(crate) fn new(row: Arc<M>, provenance: Provenance) -> Self {
        Self { row, provenance }
    }

    /// A row that was just read from the database.
    pub(crate) fn loaded(row: M) -> Self {
        Self::new(Arc::new(row), Provenance::DATABASE)
    }

    /// Where the row was read.
    #[must_use]
    pub fn source(&self) -> Source {
        self.provenance.source
    }

    /// How long ago the row was stored in the cache; zero from the database.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.provenance.age
    }

    /// The row is past its TTL and was served while it is reloaded.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.provenance.stale
    }

    /// The row is committed, and its invalidation is queued because the cache did not answer: other
    /// processes may still see the state before, for at most its TTL.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.provenance.pending
    }

    /// The model, cloned only if someone else still shares it.
    #[must_use]
    pub fn into_model(self) -> M
    where
        M: Clone,
    {
        Arc::unwrap_or_clone(self.row)
    }

    /// The model, shared.
    #[must_use]
    pub fn into_arc(self) -> Arc<M> {
        self.row
    }
}

impl<M: Any + Send + Sync> From<Row> for Cached<M> {
    fn from(Row { model, provenance }: Row) -> Self {
        let row = model
            .downcast()
            .expect("the engine of an entity gives rows of its model");
        Self { row, provenance }
    }
}

impl<M: Any + Send + Sync> From<Cached<M>> for Row {
    fn from(Cached { row, provenance }: Cached<M>) -> Self {
        Self {
            model: row,
            provenance,
        }
    }
}

impl<M> Clone for Cached<M> {
    fn clone(&self) -> Self {
        Self {
            row: Arc::clone(&self.row),
            provenance: self.provenance,
        }
    }
}

impl<M> Deref for Cached<M> {
    type Target = M;

    fn deref(&self) -> &M {
        &self.row
    }
}

impl<M> AsRef<M> for Cached<M> {
    fn as_ref(&self) -> &M {
        &self.row
    }
}

impl<M: fmt::Debug> fmt::Debug for Cached<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cached")
            .field("row", &self.row)
            .field("source", &self.provenance.source)
            .field("age", &self.provenance.age)
            .finish_non_exhaustive()
    }
}

/// Two cached rows are equal if their models are, wherever they came from.
impl<M: PartialEq> PartialEq for Cached<M> {
    fn eq(&self, other: &Self) -> bool {
        self.row == other.row
    }
}
