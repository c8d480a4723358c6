//! A read-through, write-through cache for SeaORM entities that stays correct under concurrency
//! and crashes.
//!
//! `#[derive(CachedEntity)]` on a model makes a typed repository over a [`CachedDb`]: a SeaORM
//! connection with a shared tier in front, in Redis or in this process.
//!
//! ```
//! mod user {
//!     use cached_repo::CachedEntity;
//!     use sea_orm::entity::prelude::*;
//!
//!     #[derive(Clone, Debug, PartialEq, DeriveEntityModel, CachedEntity)]
//!     #[sea_orm(table_name = "user")]
//!     #[cached(ttl = "10m", negative_ttl = "30s")]
//!     pub struct Model {
//!         #[sea_orm(primary_key)]
//!         pub id: i64,
//!         pub name: String,
//!         #[cached(version)]
//!         pub version: i64,
//!     }
//!
//!     #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
//!     pub enum Relation {}
//!     impl ActiveModelBehavior for ActiveModel {}
//! }
//!
//! # async fn example(conn: sea_orm::DatabaseConnection) -> Result<(), Box<dyn std::error::Error>> {
//! use cached_repo::CachedDb;
//! use sea_orm::ActiveValue::Set;
//!
//! let db = CachedDb::builder(conn).namespace("shop").build().await?;
//! let users = user::Repository::new(&db);
//!
//! if let Some(user) = users.find_by_id(1).await? {
//!     let mut user = user.into_model();
//!     user.name = "Ada".into();
//!     users.save(user).await?; // fails with `VersionConflict` if someone was first
//! }
//! users.update_with(1, |user| user.name = Set("Ada L.".into())).await?;
//! # Ok(()) }
//! ```
//!
//! # How it stays correct
//! A write *blocks* its row's key before its SQL and *publishes* the row after its commit; a reader
//! that missed may *fill* the cache only under a *lease* that no write has come between. The lease
//! is that of Facebook's memcache (Nishtala et al., "Scaling Memcache at Facebook", 2013), taken
//! further so that a writer that dies leaves nothing stale behind: its block outlives it, and
//! after that its version remains as a floor. `ARCHITECTURE.md` in the repository has the states,
//! the guarantees and the known holes.
//!
//! # Features
//! - `redis` (default): the shared tier in Redis 7 or later, over deadpool-redis. Without it there
//!   is only the in-process tier, with the same protocol and the same guarantees in one process.
#![cfg_attr(docsrs, feature(doc_cfg))]

#[doc(hidden)]
pub mod __private;
mod cached;
mod clock;
mod config;
mod db;
mod entity;
mod error;
#[doc(hidden)]
pub mod internals;
mod lookup;
mod protocol;
mod read;
mod repository;
mod session;
mod telemetry;
mod tier;
mod write;

pub use cached_repo_derive::CachedEntity;

pub use self::{
    cached::{Cached, Source},
    config::{Config, OnCacheFailure, ReadOptions},
    db::{CachedDb, CachedDbBuilder, Drained},
    entity::{
        ActiveModelOf, CachedEntity, CachedField, ColumnOf, Definition, EntityOptions, Id, IntoId,
        LookupColumn, LookupDef, LookupKind, VersionField, Versioned,
    },
    error::{CacheError, ConfigError, Error, ReadError, WriteError},
    protocol::{RowDecoder, RowEncoder, RowError, Version},
    repository::{CacheAside, LoadLease, LookedUp, Repository},
    telemetry::{ConnectionStats, Stats},
    tier::TierError,
    write::transaction::{CommitError, Transaction, TransactionError},
};
