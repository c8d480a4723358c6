//! The rows that all workers use, and what the verbs need to know of them.
//!
//! Every state that somebody writes has a value of its own, so that a reader's value names one commit;
//! if the database unsets whom a row refers to, the value stays, and both together name the commit. The
//! value says which team the row is in, an indexed column, and whom it refers to from then on.

use std::future::Future;

use cached_repo::{
    ActiveModelOf, Cached, CachedDb, CachedEntity, ReadError, ReadOptions, Repository, WriteError,
};
use sea_orm::{
    ActiveValue::Set, EntityTrait, IntoActiveModel, ModelTrait, PrimaryKeyTrait, TryIntoModel,
};
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

/// Unversioned; its posts go with it.
pub(crate) mod owner {
    use cached_repo::CachedEntity;
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
    #[sea_orm(table_name = "owner")]
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

/// Versioned, and kept near. It goes with its owner, and its remarks lose it.
pub(crate) mod post {
    use cached_repo::CachedEntity;
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
    #[cached(near)]
    #[sea_orm(table_name = "post")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i64,
        #[sea_orm(unique)]
        pub value: String,
        #[cached(index)]
        pub team: i64,
        #[cached(index)]
        pub owner_id: i64,
        #[cached(version)]
        pub version: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {
        #[sea_orm(
            belongs_to = "super::owner::Entity",
            from = "Column::OwnerId",
            to = "super::owner::Column::Id",
            on_delete = "Cascade"
        )]
        Owner,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

/// Versioned. It stays when its post goes, and refers to none then.
pub(crate) mod remark {
    use cached_repo::CachedEntity;
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
    #[sea_orm(table_name = "remark")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i64,
        #[sea_orm(unique)]
        pub value: String,
        #[cached(index)]
        pub team: i64,
        #[cached(index)]
        pub post_id: Option<i64>,
        #[cached(version)]
        pub version: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {
        #[sea_orm(
            belongs_to = "super::post::Entity",
            from = "Column::PostId",
            to = "super::post::Column::Id",
            on_delete = "SetNull"
        )]
        Post,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

/// Versioned; the database makes its keys.
pub(crate) mod ticket {
    use cached_repo::CachedEntity;
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
    #[sea_orm(table_name = "ticket")]
    pub(crate) struct Model {
        #[sea_orm(primary_key)]
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

/// Which table a row is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Table {
    Account,
    Note,
    Owner,
    Post,
    Remark,
    Ticket,
}

impl Table {
    /// Those that others refer to first.
    pub(crate) const ALL: [Self; 6] = [
        Self::Account,
        Self::Note,
        Self::Owner,
        Self::Post,
        Self::Remark,
        Self::Ticket,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Note => "note",
            Self::Owner => "owner",
            Self::Post => "post",
            Self::Remark => "remark",
            Self::Ticket => "ticket",
        }
    }

    pub(crate) fn is_versioned(self) -> bool {
        !matches!(self, Self::Note | Self::Owner)
    }

    /// Whether processes keep its rows near.
    pub(crate) fn is_near(self) -> bool {
        matches!(self, Self::Account | Self::Post)
    }

    /// Whether the database makes its keys.
    pub(crate) fn has_generated_keys(self) -> bool {
        self == Self::Ticket
    }

    /// The table that its rows refer to, and by which column.
    pub(crate) fn parent(self) -> Option<(Self, &'static str)> {
        match self {
            Self::Post => Some((Self::Owner, "owner_id")),
            Self::Remark => Some((Self::Post, "post_id")),
            _ => None,
        }
    }

    /// Whether the database may delete or change its rows with one of `other`.
    pub(crate) fn may_change_with(self, other: Self) -> bool {
        let parent = self.parent();
        parent.is_some_and(|(parent, _)| parent == other || parent.may_change_with(other))
    }
}

/// Names one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Key {
    pub(crate) table: Table,
    /// [`UNKNOWN_ID`] until the database has made it.
    pub(crate) id: i64,
}

/// No row has this id.
pub(crate) const UNKNOWN_ID: i64 = 0;

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
    /// The row that it refers to. The database may unset it without another value.
    pub(crate) parent: Option<i64>,
}

/// The value of a lookup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Sought {
    Team(i64),
    Value(String),
    Parent(Option<i64>),
}

impl Sought {
    /// Whether a row in this state is found.
    pub(crate) fn finds(&self, seen: &Seen) -> bool {
        match self {
            Self::Team(team) => team_of(&seen.value) == *team,
            Self::Value(value) => seen.value == *value,
            Self::Parent(parent) => seen.parent == *parent,
        }
    }
}

/// How many teams there are.
pub(crate) const TEAMS: i64 = 4;

/// How many rows of a table are referred to; they are the hottest.
pub(crate) const PARENTS: i64 = 4;

/// The value that names a new state: who wrote it, whom the row refers to from then on, if that
/// changes, and its team.
pub(crate) fn value_of(writer: &str, parent: Option<i64>, team: i64) -> String {
    format!("{writer}-p{}-{team}", parent.unwrap_or(0))
}

/// The team that a value belongs to.
pub(crate) fn team_of(value: &str) -> i64 {
    let digit = value.bytes().last().unwrap_or_default();
    i64::from(digit.wrapping_sub(b'0')) % TEAMS
}

/// The row that a row with a new value refers to; `None` if that does not change.
fn parent_of(value: &str) -> Option<i64> {
    let parent = value.rsplit('-').nth(1)?.strip_prefix('p')?;
    parent.parse().ok().filter(|parent| *parent > 0)
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

    /// Finds rows by the row that they refer to, past the near cache; none in a table without a
    /// foreign key.
    fn find_by_parent(
        db: &CachedDb,
        parent: Option<i64>,
    ) -> impl Future<Output = Result<Vec<Cached<Self>>, ReadError>> + Send;

    /// Gives a row another value, whatever it has; `based_on` receives what each attempt read.
    fn update_with(
        repository: &Repository<Self>,
        id: i64,
        value: &str,
        based_on: impl FnMut(Seen) + Send,
    ) -> impl Future<Output = Result<(), WriteError>> + Send;
}

/// What a statement sets to give a row a new value.
trait Target: Default {
    fn set_value(&mut self, value: &str, team: i64);

    /// Refers to a row; `None`: to none, if it can.
    fn refer_to(&mut self, _parent: Option<i64>) {}
}

/// Implements [`Target`]; the last argument is the column that refers to another row.
macro_rules! target {
    ($module:ident $(, $refer:expr)?) => {
        impl Target for $module::ActiveModel {
            fn set_value(&mut self, value: &str, team: i64) {
                self.value = Set(value.into());
                self.team = Set(team);
            }

            $(fn refer_to(&mut self, parent: Option<i64>) {
                let refer: fn(&mut Self, Option<i64>) = $refer;
                refer(self, parent);
            })?
        }
    };
}

target!(account);
target!(note);
target!(owner);
target!(post, |row, parent| row.owner_id = Set(parent.unwrap_or(1)));
target!(remark, |row, parent| row.post_id = Set(parent));
target!(ticket);

/// Sets the columns that follow from a new value.
fn change(row: &mut impl Target, value: &str) {
    row.set_value(value, team_of(value));
    if let Some(parent) = parent_of(value) {
        row.refer_to(Some(parent));
    }
}

/// Implements [`Subject`] for a module's model.
macro_rules! subject {
    (
        $module:ident, $table:ident, $versioning:ident,
        state: |$row:ident| ($version:expr, $parent:expr),
        children: |$db:ident, $of:ident| $children:expr
    ) => {
        impl Subject for $module::Model {
            const TABLE: Table = Table::$table;

            fn id(&self) -> i64 {
                self.id
            }

            fn seen(&self) -> Seen {
                let $row = self;
                Seen {
                    version: $version,
                    value: $row.value.clone(),
                    parent: $parent,
                }
            }

            fn with_value(self, value: &str) -> Self {
                let row = self.change_to(value).try_into_model();
                row.expect("a row that was read has every column")
            }

            fn change_to(self, value: &str) -> $module::ActiveModel {
                let mut row = self.into_active_model();
                change(&mut row, value);
                row
            }

            fn new_row(id: i64, value: &str) -> $module::ActiveModel {
                let mut row = $module::ActiveModel::default();
                if !Self::TABLE.has_generated_keys() {
                    row.id = Set(id);
                }
                row.refer_to(None);
                change(&mut row, value);
                row
            }

            async fn find_by_team(
                db: &CachedDb,
                team: i64,
            ) -> Result<Vec<Cached<Self>>, ReadError> {
                let rows = $module::Repository::new(db).with(skip_near());
                rows.find_all_by_team(team).await
            }

            async fn find_by_value(
                db: &CachedDb,
                value: &str,
            ) -> Result<Option<Cached<Self>>, ReadError> {
                let rows = $module::Repository::new(db).with(skip_near());
                rows.find_by_value(value).await
            }

            async fn find_by_parent(
                $db: &CachedDb,
                $of: Option<i64>,
            ) -> Result<Vec<Cached<Self>>, ReadError> {
                $children
            }

            async fn update_with(
                repository: &Repository<Self>,
                id: i64,
                value: &str,
                based_on: impl FnMut(Seen) + Send,
            ) -> Result<(), WriteError> {
                subject!(@$versioning $module, repository, id, value, based_on)
            }
        }
    };
    (@versioned $module:ident, $repository:ident, $id:ident, $value:ident, $based_on:ident) => {{
        let mut based_on = $based_on;
        let changing = |row: &mut $module::ActiveModel| {
            let before = row.clone().try_into_model();
            based_on(before.expect("a row that was read has every column").seen());
            change(row, $value);
        };
        $repository.update_with($id, changing).await.map(drop)
    }};
    // The library has no `update_with` for rows without a version; this is how its users write it.
    (@unversioned $module:ident, $repository:ident, $id:ident, $value:ident, $based_on:ident) => {{
        let mut based_on = $based_on;
        match $repository.find_by_id($id).await? {
            Some(row) => {
                based_on(row.seen());
                let active = row.into_model().change_to($value);
                $repository.update(active).await.map(drop)
            }
            None => Err(WriteError::NotFound {
                entity: Self::TABLE.name().into(),
                id: $id.to_string(),
            }),
        }
    }};
}

subject! {
    account, Account, versioned,
    state: |row| (row.version, None),
    children: |_db, _of| Ok(Vec::new())
}
subject! {
    note, Note, unversioned,
    state: |row| (0, None),
    children: |_db, _of| Ok(Vec::new())
}
subject! {
    owner, Owner, unversioned,
    state: |row| (0, None),
    children: |_db, _of| Ok(Vec::new())
}
subject! {
    post, Post, versioned,
    state: |row| (row.version, Some(row.owner_id)),
    children: |db, of| match of {
        Some(owner) => {
            let posts = post::Repository::new(db).with(skip_near());
            posts.find_all_by_owner_id(owner).await
        }
        None => Ok(Vec::new()),
    }
}
subject! {
    remark, Remark, versioned,
    state: |row| (row.version, row.post_id),
    children: |db, of| remark::Repository::new(db).find_all_by_post_id(of).await
}
subject! {
    ticket, Ticket, versioned,
    state: |row| (row.version, None),
    children: |_db, _of| Ok(Vec::new())
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
            $crate::entities::Table::Owner => {
                type $model = $crate::entities::owner::Model;
                $call
            }
            $crate::entities::Table::Post => {
                type $model = $crate::entities::post::Model;
                $call
            }
            $crate::entities::Table::Remark => {
                type $model = $crate::entities::remark::Model;
                $call
            }
            $crate::entities::Table::Ticket => {
                type $model = $crate::entities::ticket::Model;
                $call
            }
        }
    };
}
pub(crate) use on_table;

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what a value says is what it was made of.
    #[test]
    fn a_value_says_whom_its_row_refers_to_and_its_team() {
        let value = value_of("w0.1-17", Some(3), 2);
        assert_eq!((parent_of(&value), team_of(&value)), (Some(3), 2));
        let value = value_of("w0.1-17", None, 1);
        assert_eq!((parent_of(&value), team_of(&value)), (None, 1));
        let row = post::Model::new_row(5, &value_of("x", Some(4), 2));
        assert_eq!((row.owner_id, row.team), (Set(4), Set(2)));
    }
}
