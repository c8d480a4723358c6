//! The verbs that write.

use std::time::Duration;

use sea_orm::ActiveModelTrait;

use super::Repository;
use crate::{
    ActiveModelOf, CacheError, Cached, CachedEntity, IntoId, Versioned, WriteError,
    write::{self, Verb, hand},
};

const FIRST_RETRY_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_RETRY_PAUSE: Duration = Duration::from_millis(100);

impl<M: CachedEntity> Repository<M> {
    /// Inserts a row and returns it as the database has it.
    ///
    /// A version that is not set starts at 1. A versioned row whose key is known before the INSERT
    /// commits is cached at once: because the active model (or its `before_save`) names it, or
    /// because the INSERT needs a transaction of its own, as on MySQL and MariaDB. Any other is
    /// cached by its first read.
    ///
    /// # Errors
    /// When the database refuses the row, or the cache is down and the policy is to refuse.
    pub async fn insert(&self, row: ActiveModelOf<M>) -> Result<Cached<M>, WriteError> {
        write::row(&self.state, &self.scope, Verb::Insert, row).await
    }

    /// Writes every column of a row that was read, and returns it as the database has it.
    ///
    /// The version column is the version the row was read at; the database raises it.
    ///
    /// # Errors
    /// [`WriteError::VersionConflict`] if someone wrote the row since, [`WriteError::NotFound`] if
    /// it is gone.
    pub async fn save(&self, row: M) -> Result<Cached<M>, WriteError> {
        write::row(
            &self.state,
            &self.scope,
            Verb::Update,
            row.into_active_model().reset_all(),
        )
        .await
    }

    /// Writes the columns that are set, and returns the row as the database has it.
    ///
    /// # Errors
    /// Those of [`save`](Self::save), and [`WriteError::VersionNotSet`] for a versioned entity
    /// whose version is neither set nor unchanged.
    pub async fn update(&self, row: ActiveModelOf<M>) -> Result<Cached<M>, WriteError> {
        write::row(&self.state, &self.scope, Verb::Update, row).await
    }

    /// Reads a row, changes it and writes it; after a conflict once more from the start, with
    /// growing, jittered pauses, [`update_attempts`](crate::Config::update_attempts) times in all.
    ///
    /// `change` may run several times. If it sets nothing, nothing is written.
    ///
    /// # Errors
    /// [`WriteError::NotFound`] if there is no such row, [`WriteError::VersionConflict`] if every
    /// attempt met one.
    pub async fn update_with(
        &self,
        id: impl IntoId<M>,
        mut change: impl FnMut(&mut ActiveModelOf<M>),
    ) -> Result<Cached<M>, WriteError>
    where
        M: Versioned,
    {
        let query = self.query(id.into_id());
        let attempts = self.state.core.config.update_attempts;
        let mut pause = FIRST_RETRY_PAUSE;
        let mut attempt = 1;
        loop {
            let Some(row) = query.clone().find().await? else {
                return Err(WriteError::not_found(&self.state.name, &query.key));
            };
            let mut active = (*row).clone().into_active_model();
            change(&mut active);
            if !active.is_changed() {
                return Ok(row);
            }
            match write::row(&self.state, &self.scope, Verb::Update, active).await {
                Err(WriteError::VersionConflict { .. } | WriteError::Contended { .. })
                    if attempt < attempts => {}
                result => return result,
            }
            attempt += 1;
            self.state.stats.retries.add(1);
            tokio::time::sleep(pause.mul_f64(fastrand::f64())).await;
            pause = (pause * 2).min(LONGEST_RETRY_PAUSE);
        }
    }

    /// Deletes a row that was read, unless someone wrote it since.
    ///
    /// # Errors
    /// Those of [`save`](Self::save).
    pub async fn delete(&self, row: M) -> Result<(), WriteError> {
        write::delete(&self.state, &self.scope, row).await
    }

    /// Deletes a row whatever its version, and returns it as it was; `None` if there was none.
    /// As with SeaORM's `delete_by_id`, no hooks run.
    ///
    /// # Errors
    /// When the database fails, or the cache is down and the policy is to refuse.
    pub async fn delete_by_id(&self, id: impl IntoId<M>) -> Result<Option<M>, WriteError> {
        write::delete_by_id(&self.state, &self.scope, id.into_id()).await
    }

    /// Tells the cache that a row was written past the library. No later read, by any process,
    /// returns what the cache held before. Inside a transaction, from its commit on.
    ///
    /// # Errors
    /// When the cache cannot be told now; the invalidation is remembered and replayed.
    pub async fn invalidate(&self, id: impl IntoId<M>) -> Result<(), CacheError> {
        hand::invalidate(&self.state, &self.scope, id.into_id()).await
    }

    /// Tells the cache that any row of the entity may have been written past the library. Takes
    /// time in proportion to the keys in Redis (it scans them).
    ///
    /// # Errors
    /// When the cache cannot be told now; the invalidation is remembered and replayed, and until
    /// then this process reads the entity from the database.
    pub async fn invalidate_all(&self) -> Result<(), CacheError> {
        hand::invalidate_all(&self.state, &self.scope).await
    }
}
