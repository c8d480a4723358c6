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
//! # Lookups
//! `#[sea_orm(unique)]`, `unique_key` and `#[cached(unique(a, b))]` generate `find_by_…` and, for many
//! at a time, its plural. `#[cached(index)]` and `#[cached(index(a, b))]` generate `find_all_by_…`,
//! ordered by primary key. [`Repository::find_by_ids`] reads many rows by their keys.
//!
//! A lookup is cached as an *index entry*: the primary keys of its rows. The reader compares every row
//! that an index entry leads to. If one is gone or no longer matches, it asks the database. A write
//! blocks the index entries of its row's new values, so an index entry never lacks a row.
//!
//! # Lookups among some of the rows
//! If columns are unique among some rows only, say among which. The condition is what the database's
//! partial index has behind `WHERE`:
//!
//! ```
//! # mod user {
//! # use cached_repo::CachedEntity;
//! # use sea_orm::entity::prelude::*;
//! #[derive(Clone, Debug, PartialEq, DeriveEntityModel, CachedEntity)]
//! #[sea_orm(table_name = "user")]
//! #[cached(index(team_id, where = "deleted_at IS NULL AND NOT banned", name = "active_team"))]
//! pub struct Model {
//!     #[sea_orm(primary_key)]
//!     pub id: i64,
//!     #[cached(unique(where = "deleted_at IS NULL"))] // find_by_email, find_by_emails
//!     pub email: String,
//!     pub team_id: i64,
//!     pub banned: bool,
//!     pub deleted_at: Option<DateTimeUtc>,
//! }
//! # #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
//! # pub enum Relation {}
//! # impl ActiveModelBehavior for ActiveModel {}
//! # }
//! ```
//!
//! The finder gives only rows that meet the condition. A write that makes a row meet it blocks the index
//! entry, and a reader drops a row that no longer meets it. So the library decides for every row without
//! asking the database, and a condition has few forms, joined by `AND`:
//!
//! | term | column |
//! |---|---|
//! | `deleted_at IS NULL`, `deleted_at IS NOT NULL` | any `Option` |
//! | `active`, `NOT active`, `active = FALSE`, `active IS TRUE` | `bool` |
//! | `kind = 1`, `kind <> 1` | an integer, or an enum that is stored as one |
//! | `status = 'active'`, `status <> 'active'` | a `String`, or an enum that is stored as one |
//!
//! Columns have the names of the table or of the model. Anything else is a compile error. Entries with
//! another condition have other keys, so a deploy may change it. Two lookups by one column need a name:
//! `unique(name = "living_email", where = "…")`.
//!
//! A unique lookup *without* a condition may find several rows, if the columns are not unique. It then
//! gives the row with the least primary key among those that are spelt as asked for; if there is none,
//! among those that the database calls equal. `find_by_email` and `find_by_emails` agree. Such an answer
//! is not cached, [`Stats::lookups_ambiguous`] counts it, and the first one is logged as a warning.
//!
//! # Which lookups are cached
//! All values that the database calls equal must have one spelling in the key, and no others. These have:
//!
//! | type of the column | cached | spelling in the key |
//! |---|---|---|
//! | `bool`, integers | everywhere | as written |
//! | `Uuid` | everywhere | lower case, with hyphens |
//! | `f32`, `f64` | everywhere | the shortest digits; `-0` is `0` |
//! | `Decimal`, `BigDecimal` | everywhere; on SQLite, which compares floats, with up to 15 digits | without zeros at the end; `-0` is `0` |
//! | date | everywhere | `2024-05-01` |
//! | time, date and time | everywhere; on servers to the microsecond | without zeros at the end |
//! | date and time with an offset | everywhere; on servers to the microsecond | on servers in UTC; on SQLite with the offset, because it compares texts |
//! | `Vec<u8>` in a binary column | everywhere | hexadecimal |
//! | `IpNetwork`, `MacAddress` | PostgreSQL | as the type is written |
//! | enum of the database | everywhere | the value |
//! | enum of a program, newtype | as the type that it is stored as | as that type |
//! | `String` in a text column | PostgreSQL, SQLite; MySQL and MariaDB with `normalize` | as written, or as `normalize` has it |
//! | `String` in another column (`CHAR(n)`, `citext`, `inet`) | with `normalize` | as `normalize` has it |
//! | JSON, arrays, vectors | never: `#[cached(index)]` and `#[cached(unique)]` do not compile | |
//!
//! The rest is not silent. When a repository is opened, the log names each lookup that is not cached, or
//! whose absences are not, and what to do about it. A single value that is not cached, like a time with
//! nanoseconds on PostgreSQL, counts in [`Stats::lookups_uncached`]. Primary keys follow the same table:
//! absences of those that have no one spelling are not cached.
//!
//! MySQL and MariaDB compare texts by a collation. `#[cached(normalize = "function")]` gives all texts
//! that it calls equal one spelling: case, trailing spaces, and accents if the collation ignores them.
//! SQLite's `NOCASE` and PostgreSQL's nondeterministic collations do not show in the model, so they need
//! `normalize` too. For `citext`, also set SeaORM's `save_as = "citext"`: PostgreSQL compares it with a
//! plain text byte by byte. Do not put a normalizer on a column that is compared byte by byte: one
//! spelling's absence would be another's.
//!
//! A column may keep fewer digits of a time or a decimal than it is given. The first write with so many
//! digits runs in a transaction, so that the index entry of what the row shows is blocked before its
//! COMMIT. If the row shows all digits, later writes need none. A decimal whose `column_type` declares its
//! places never needs it.
//!
//! # Foreign keys, and models that share a table
//! A database with `ON DELETE CASCADE` deletes rows that no repository was asked to delete. The cache
//! follows where SeaORM's relations say so (`on_delete`, `on_update`), or `#[cached(cascades(Posts))]`
//! does: a delete finds these rows in its transaction and invalidates them with its own. A write through
//! one model also concerns the other models of its table. Both know only the entities of which a
//! repository was opened in this process, so open all of them when it starts.
//!
//! # Near caches
//! `#[cached(near)]` keeps rows in the process as well: a near cache, or L1, in front of the shared
//! tier. A write announces its key with its block, before its SQL. Every process then drops its near
//! copy of the row; the writing process does so at once. The announcements go through Redis pub/sub. A
//! process that may have missed one (its subscription broke, hangs, or leads to another server) serves
//! nothing from its near caches until invalidations arrive again. [`Config::near_ttl`] bounds the rest.
//!
//! # Writes past the library
//! After raw SQL call [`Repository::invalidate`], or name the row in its [`Transaction`]. If the entity is
//! versioned, the statement must also raise the version. Otherwise the version check cannot see it: a
//! `save` of a row that was read before succeeds, and undoes the change. A trigger can do that for every
//! statement that leaves the version alone. The library's own statements raise it and are not affected.
//!
//! ```sql
//! -- PostgreSQL
//! CREATE FUNCTION raise_version() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
//!   IF NEW.version = OLD.version THEN NEW.version := OLD.version + 1; END IF;
//!   RETURN NEW;
//! END $$;
//! CREATE TRIGGER raise_version BEFORE UPDATE ON stock
//!   FOR EACH ROW EXECUTE FUNCTION raise_version();
//! -- MySQL, MariaDB
//! CREATE TRIGGER raise_version BEFORE UPDATE ON stock FOR EACH ROW
//!   SET NEW.version = IF(NEW.version = OLD.version, OLD.version + 1, NEW.version);
//! -- SQLite
//! CREATE TRIGGER raise_version AFTER UPDATE ON stock WHEN NEW.version = OLD.version BEGIN
//!   UPDATE stock SET version = OLD.version + 1 WHERE id = NEW.id;
//! END;
//! ```
//!
//! # How it stays correct
//! A write *blocks* its row's key before its SQL and *publishes* the row after its commit; a reader
//! that missed may *fill* the cache only under a *lease* that no write has come between. The lease
//! is that of Facebook's memcache (Nishtala et al., "Scaling Memcache at Facebook", 2013), taken
//! further: a writer that dies leaves nothing stale behind, because its block outlives it, and its
//! version remains as a floor. `ARCHITECTURE.md` in the repository has the states,
//! the guarantees and the known holes.
//!
//! # Features
//! - `redis` (default): the shared tier in Redis 7 or later, over deadpool-redis. Without it there
//!   is only the in-process tier, with the same protocol and the same guarantees in one process.
//! - `lz4`: `#[cached(compress_above = "1KiB")]`. A build without it reads compressed rows as misses.
#![cfg_attr(docsrs, feature(doc_cfg))]

#[doc(hidden)]
pub mod __private;
mod backoff;
mod cached;
mod catalog;
mod clock;
mod config;
mod context;
mod database;
mod db;
mod entity;
mod error;
mod health;
#[doc(hidden)]
pub mod internals;
mod invalidation;
mod near;
mod places;
mod policy;
mod protocol;
mod read;
mod registry;
mod repository;
mod session;
mod tasks;
mod telemetry;
mod tier;
mod transaction;
mod write;

pub use cached_repo_derive::CachedEntity;

pub use self::{
    cached::{Cached, Source},
    config::{Config, ReadOptions},
    db::{CachedDb, CachedDbBuilder, Drained},
    entity::{
        ActiveModelOf, CachedEntity, ColumnOf, Definition, EntityOptions, Id, IntoId, LookupColumn,
        LookupDef, LookupKind, RelationOf, VersionField, Versioned,
    },
    error::{CacheError, CommitError, ConfigError, Error, ReadError, TransactionError, WriteError},
    health::Health,
    policy::OnCacheFailure,
    protocol::{CachedField, Codec, RowDecoder, RowEncoder, RowError, Version},
    repository::{CacheAside, LoadLease, LookedUp, Repository},
    telemetry::{ConnectionStats, Stats},
    tier::TierError,
    transaction::Transaction,
    write::Committed,
};
