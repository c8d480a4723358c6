//! What the cache is told after rows were read past it: that what it says otherwise is wrong.
//!
//! Someone may have written these rows past the library. Whoever read them is never contradicted
//! by a later read through the cache: not by the rows it holds, not by what it finds them by, and
//! not by what a reader that began before is about to store.
//!
//! Does not load, and stores nothing: the next reader does.

use std::sync::Arc;

use super::{
    place::Place,
    search::{Hint, Search},
};
use crate::{
    CachedEntity,
    db::EntityState,
    protocol::{Claims, Entry, Key, Kind, Version, holds, seal_row},
    session::Scope,
    tier::{Held, each},
};

impl<M: CachedEntity> EntityState<M> {
    /// Invalidates the hints that should lead to these rows, and do not.
    pub(super) async fn repair_hints(self: &Arc<Self>, rows: &[&M]) {
        let hints = rows.iter().flat_map(|row| self.hints_leading_to(row));
        self.repair(hints.collect()).await;
    }

    /// The same, and the entries of the rows that hold something else.
    pub(super) async fn repair_rows_and_hints(self: &Arc<Self>, rows: &[&M]) {
        let own = rows
            .iter()
            .map(|&row| Statement::Row(self.key_of(row), row));
        let hints = rows.iter().flat_map(|row| self.hints_leading_to(row));
        self.repair(own.chain(hints).collect()).await;
        if self.near.is_some() {
            // What is kept near may be older than an entry that is right.
            let places = rows.iter().map(|row| Place::new(self, &self.key_of(row)));
            each(places.map(async |place| place.announce().await)).await;
        }
    }

    fn hints_leading_to<'r>(self: &Arc<Self>, row: &'r M) -> Vec<Statement<'r, M>> {
        let row_key = self.key_of(row);
        (0..self.hints.len())
            .filter_map(|at| {
                let values = M::lookups()[at].columns.iter();
                let values = values.map(|column| row.get(column.column)).collect();
                Search::new(self, &Scope::Pool, self.policy, at, values)
            })
            .map(|search| Statement::Hint(search, row_key.clone()))
            .collect()
    }

    async fn repair(self: &Arc<Self>, statements: Vec<Statement<'_, M>>) {
        if statements.is_empty() {
            return;
        }
        let keys: Vec<Key> = statements.iter().map(|it| it.key().clone()).collect();
        // A tier that gives no answer stays as it is: this only repairs.
        let Ok(held) = self.core.tier.get_many(&keys).await else {
            return;
        };
        let wrong = statements.iter().zip(held).filter(|(statement, held)| {
            let Held::Entry(entry) = held else {
                return false;
            };
            match &entry.claims {
                // A reader may be about to store what it found before.
                Claims::Lease(_) => true,
                Claims::None => statement.is_contradicted_by(entry),
                Claims::Writers(_) => statement.is_a_row(),
            }
        });
        let repairs = wrong.map(async |(statement, _)| {
            Place::new(self, statement.key()).invalidate().await;
        });
        each(repairs).await;
    }
}

/// What is known of a key.
enum Statement<'r, M: CachedEntity> {
    /// It is the key of this row.
    Row(Key, &'r M),
    /// The search finds the row with this key.
    Hint(Search<M>, Key),
}

impl<M: CachedEntity> Statement<'_, M> {
    fn key(&self) -> &Key {
        match self {
            Self::Row(key, _) => key,
            Self::Hint(search, _) => &search.key,
        }
    }

    /// Whether a write in flight may store what is older: a row, but never a hint.
    fn is_a_row(&self) -> bool {
        matches!(self, Self::Row(..))
    }

    fn is_contradicted_by(&self, entry: &Entry) -> bool {
        match self {
            Self::Row(key, row) => match entry.kind {
                Kind::Absent => true,
                Kind::Tombstone => false,
                Kind::Value => {
                    let version = row.version().unwrap_or(Version::ZERO);
                    let payload =
                        seal_row(key, version, M::DEFINITION.format(), |out| row.encode(out));
                    !payload.is_ok_and(|payload| holds(key, entry, &payload))
                }
            },
            Self::Hint(search, row_key) => match search.judge(entry) {
                Hint::Keys(ids) => !search.lead_to(ids, row_key),
                Hint::Miss(_) | Hint::Unknown => false,
            },
        }
    }
}
