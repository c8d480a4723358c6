//! The rows that all workers use, and what the verbs need to know of them.
//!
//! Every state of a row has a value of its own, so that a reader's value names one commit. Its last
//! digit is the team, an indexed column: the value of a state says under which team it is found.

use std::future::Future;

use cached_repo::{
    ActiveModelOf, Cached, CachedDb, CachedEntity, ReadError, ReadOptions, Repository, WriteError,
};
use sea_orm::{EntityTrait, ModelTrait, PrimaryKeyTrait};
use serde::{Deserialize, Serialize};

/// Versioned, and kept near.
pub(crate) mod account {
    use cached_repo::CachedEntity;
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
    #[cached(near)]
    #[sea_orm(table_name = "account")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i64,
        #[sea_orm(unique)]
        pub value: String,
        #[cached(index)]
        pub team: i64,
        #[cached(version)]
        pub version: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Unversioned, and served past its TTL while it is reloaded.
pub(crate) mod note {
    use cached_repo::CachedEntity;
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
    // `settings::STALE_TTL`
    #[cached(stale_ttl = "400ms")]
    #[sea_orm(table_name = "note")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i64,
        #[sea_orm(unique)]
        pub value: String,
        #[cached(index)]
        pub team: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Which table a row is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Table {
    Account,
    Note,
}

impl Table {
    pub(crate) const ALL: [Self; 2] = [Self::Account, Self::Note];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Note => "note",
        }
    }

    pub(crate) fn is_versioned(self) -> bool {
        match self {
            Self::Account => true,
            Self::Note => false,
        }
    }

    /// Whether processes keep its rows near.
    pub(crate) fn is_near(self) -> bool {
        match self {
            Self::Account => true,
            Self::Note => false,
        }
    }
}

/// Names one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Key {
    pub(crate) table: Table,
    pub(crate) id: i64,
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.table.name(), self.id)
    }
}

/// A state of a row; an unversioned one has version 0.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Seen {
    pub(crate) version: i64,
    pub(crate) value: String,
}

/// The value of a lookup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Sought {
    Team(i64),
    Value(String),
}

impl Sought {
    /// Whether a row in this state is found.
    pub(crate) fn finds(&self, seen: &Seen) -> bool {
        match self {
            Self::Team(team) => team_of(&seen.value) == *team,
            Self::Value(value) => seen.value == *value,
        }
    }
}

/// How many teams there are.
pub(crate) const TEAMS: i64 = 4;

/// The team that a value belongs to.
pub(crate) fn team_of(value: &str) -> i64 {
    let digit = value.bytes().last().unwrap_or_default();
    i64::from(digit.wrapping_sub(b'0')) % TEAMS
}

/// For reads with the full promise.
pub(crate) fn skip_near() -> ReadOptions {
    ReadOptions::new().skip_near()
}

/// A model that the verbs work on.
pub(crate) trait Subject:
    CachedEntity + ModelTrait<Entity: EntityTrait<PrimaryKey: PrimaryKeyTrait<ValueType = i64>>> + Clone
{
    const TABLE: Table;

    /// The row's key.
    fn id(&self) -> i64;

    /// The row's state.
    fn seen(&self) -> Seen;

    /// The row with another value.
    fn with_value(self, value: &str) -> Self;

    /// The row for an UPDATE of its value, based on what was read.
    fn change_to(self, value: &str) -> ActiveModelOf<Self>;

    /// The row for an INSERT.
    fn new_row(id: i64, value: &str) -> ActiveModelOf<Self>;

    /// Finds rows by their team, past the near cache.
    fn find_by_team(
        db: &CachedDb,
        team: i64,
    ) -> impl Future<Output = Result<Vec<Cached<Self>>, ReadError>> + Send;

    /// Finds the row with a value, past the near cache.
    fn find_by_value(
        db: &CachedDb,
        value: &str,
    ) -> impl Future<Output = Result<Option<Cached<Self>>, ReadError>> + Send;

    /// Gives a row another value, whatever it has; `based_on` receives what each attempt read.
    fn update_with(
        repository: &Repository<Self>,
        id: i64,
        value: &str,
        based_on: impl FnMut(Seen) + Send,
    ) -> impl Future<Output = Result<(), WriteError>> + Send;
}

impl Subject for account::Model {
    const TABLE: Table = Table::Account;

    async fn find_by_team(db: &CachedDb, team: i64) -> Result<Vec<Cached<Self>>, ReadError> {
        let accounts = account::Repository::new(db).with(skip_near());
        accounts.find_all_by_team(team).await
    }

    async fn find_by_value(db: &CachedDb, value: &str) -> Result<Option<Cached<Self>>, ReadError> {
        let accounts = account::Repository::new(db).with(skip_near());
        accounts.find_by_value(value).await
    }

    fn id(&self) -> i64 {
        self.id
    }

    fn seen(&self) -> Seen {
        Seen {
            version: self.version,
            value: self.value.clone(),
        }
    }

    fn with_value(self, value: &str) -> Self {
        Self {
            value: value.into(),
            team: team_of(value),
            ..self
        }
    }

    fn change_to(self, value: &str) -> account::ActiveModel {
        use sea_orm::{ActiveValue::Set, IntoActiveModel};
        let mut active = self.into_active_model();
        active.value = Set(value.into());
        active.team = Set(team_of(value));
        active
    }

    fn new_row(id: i64, value: &str) -> account::ActiveModel {
        use sea_orm::ActiveValue::Set;
        account::ActiveModel {
            id: Set(id),
            value: Set(value.into()),
            team: Set(team_of(value)),
            ..Default::default()
        }
    }

    async fn update_with(
        repository: &Repository<Self>,
        id: i64,
        value: &str,
        mut based_on: impl FnMut(Seen) + Send,
    ) -> Result<(), WriteError> {
        use sea_orm::ActiveValue::Set;
        let change = |row: &mut account::ActiveModel| {
            based_on(Seen {
                version: *row.version.as_ref(),
                value: row.value.as_ref().clone(),
            });
            row.value = Set(value.into());
            row.team = Set(team_of(value));
        };
        repository.update_with(id, change).await.map(drop)
    }
}

impl Subject for note::Model {
    const TABLE: Table = Table::Note;

    async fn find_by_team(db: &CachedDb, team: i64) -> Result<Vec<Cached<Self>>, ReadError> {
        note::Repository::new(db).find_all_by_team(team).await
    }

    async fn find_by_value(db: &CachedDb, value: &str) -> Result<Option<Cached<Self>>, ReadError> {
        note::Repository::new(db).find_by_value(value).await
    }

    fn id(&self) -> i64 {
        self.id
    }

    fn seen(&self) -> Seen {
        Seen {
            version: 0,
            value: self.value.clone(),
        }
    }

    fn with_value(self, value: &str) -> Self {
        Self {
            value: value.into(),
            team: team_of(value),
            ..self
        }
    }

    fn change_to(self, value: &str) -> note::ActiveModel {
        use sea_orm::{ActiveValue::Set, IntoActiveModel};
        let mut active = self.into_active_model();
        active.value = Set(value.into());
        active.team = Set(team_of(value));
        active
    }

    fn new_row(id: i64, value: &str) -> note::ActiveModel {
        use sea_orm::ActiveValue::Set;
        note::ActiveModel {
            id: Set(id),
            value: Set(value.into()),
            team: Set(team_of(value)),
        }
    }

    /// The library has no `update_with` for rows without a version; this is how its users write it.
    async fn update_with(
        repository: &Repository<Self>,
        id: i64,
        value: &str,
        mut based_on: impl FnMut(Seen) + Send,
    ) -> Result<(), WriteError> {
        match repository.find_by_id(id).await? {
            Some(row) => {
                based_on(row.seen());
                let active = row.into_model().change_to(value);
                repository.update(active).await.map(drop)
            }
            None => Err(WriteError::NotFound {
                entity: Self::TABLE.name().into(),
                id: id.to_string(),
            }),
        }
    }
}

/// Runs an expression with a table's model as `$model`.
macro_rules! on_table {
    ($table:expr, $model:ident => $call:expr) => {
        match $table {
            $crate::entities::Table::Account => {
                type $model = $crate::entities::account::Model;
                $call
            }
            $crate::entities::Table::Note => {
                type $model = $crate::entities::note::Model;
                $call
            }
        }
    };
}
pub(crate) use on_table;
