//! The verbs that write.

use std::{sync::Arc, time::Duration};

use sea_orm::{ActiveModelTrait, sea_query::IntoValueTuple};

use super::Repository;
use crate::{
    ActiveModelOf, CacheError, Cached, CachedEntity, IntoId, Versioned, WriteError,
    backoff::Backoff,
    cached::Row,
    entity::ops::Active,
    write::{self, Verb},
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
        self.write(Verb::Insert, row).await.map(Cached::from)
    }

    /// Writes every column of a row that was read, and returns it as the database has it.
    ///
    /// The version column is the version the row was read at; the database raises it.
    ///
    /// # Errors
    /// [`WriteError::VersionConflict`] if someone wrote the row since, [`WriteError::NotFound`] if
    /// it is gone.
    pub async fn save(&self, row: M) -> Result<Cached<M>, WriteError> {
        let row = row.into_active_model().reset_all();
        self.write(Verb::Update, row).await.map(Cached::from)
    }

    /// Writes the columns that are set, and returns the row as the database has it.
    ///
    /// # Errors
    /// Those of [`save`](Self::save), and [`WriteError::VersionNotSet`] for a versioned entity
    /// whose version is neither set nor unchanged.
    pub async fn update(&self, row: ActiveModelOf<M>) -> Result<Cached<M>, WriteError> {
        self.write(Verb::Update, row).await.map(Cached::from)
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
        let question = self.question(id.into_id());
        let context = self.context();
        let attempts = context.shared.config.update_attempts;
        let mut backoff = Backoff::new(FIRST_RETRY_PAUSE, LONGEST_RETRY_PAUSE);
        let mut attempt = 1;
        loop {
            let rows = match attempt {
                1 => self.read().find(question.clone()).await?,
                _ => self.read().find_again(question.clone()).await?,
            };
            let row: Cached<M> = match rows.into_one() {
                Some(row) => row.into(),
                None => return Err(context.not_found(&question.key)),
            };
            let mut active = (*row).clone().into_active_model();
            change(&mut active);
            if !active.is_changed() {
                return Ok(row);
            }
            match self.write(Verb::Update, active).await {
                Err(WriteError::VersionConflict { .. }) if attempt < attempts => {}
                result => return result.map(Cached::from),
            }
            attempt += 1;
            context.entity.stats.retries.add(1);
            backoff.pause().await;
        }
    }

    /// The engine's write; its future is the same for every entity.
    fn write(
        &self,
        verb: Verb,
        row: ActiveModelOf<M>,
    ) -> impl Future<Output = Result<Row, WriteError>> + Send {
        let active = Box::new(Active::<M>::new(row));
        write::save(self.context(), &self.scope, verb, active)
    }

    /// Deletes a row that was read, unless someone wrote it since.
    ///
    /// # Errors
    /// Those of [`save`](Self::save).
    pub async fn delete(&self, row: M) -> Result<(), WriteError> {
        let active = Box::new(Active::<M>::new(row.clone().into_active_model()));
        write::delete(self.context(), &self.scope, Arc::new(row), active).await
    }

    /// Deletes a row whatever its version, and returns it as it was; `None` if there was none.
    /// As with SeaORM's `delete_by_id`, no hooks run.
    ///
    /// # Errors
    /// When the database fails, or the cache is down and the policy is to refuse.
    pub async fn delete_by_id(&self, id: impl IntoId<M>) -> Result<Option<M>, WriteError> {
        let id = id.into_id().into_value_tuple();
        let model = write::delete_by_id(self.context(), &self.scope, id).await?;
        Ok(model.map(|model| Cached::<M>::from(Row::loaded(model)).into_model()))
    }

    /// Invalidates a row that was written past the library. No later read, by any process, returns
    /// the state that the cache held before. Inside a transaction, from its commit on.
    ///
    /// A write that does not raise the version of a versioned row defeats the version check, also after
    /// this: see [Writes past the library](crate#writes-past-the-library).
    ///
    /// # Errors
    /// When the cache does not answer; the invalidation is queued and replayed.
    pub async fn invalidate(&self, id: impl IntoId<M>) -> Result<(), CacheError> {
        let id = id.into_id().into_value_tuple();
        write::invalidate(self.context(), &self.scope, id).await
    }

    /// Invalidates every row of the entity, after writes past the library: when this returns, no process
    /// serves a row that was read before. It takes one operation, however many rows are cached, and over
    /// Redis 0.3 seconds, after which no process trusts what it knew before. What is cached stays in
    /// memory until its TTL, unused. In a transaction see
    /// [`Transaction::invalidate_all`](crate::Transaction::invalidate_all).
    ///
    /// # Errors
    /// When the cache does not answer; the invalidation is queued and replayed, and until
    /// then this process reads the entity from the database.
    pub async fn invalidate_all(&self) -> Result<(), CacheError> {
        write::invalidate_all(self.context(), &self.scope).await
    }
}
