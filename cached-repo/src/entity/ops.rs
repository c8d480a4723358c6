//! What the engine asks of an entity, whatever its type: object-safe traits, and their one
//! implementation for every [`CachedEntity`].
//!
//! All of it is short and synchronous but for SeaORM's hooks. Every entity compiles this code once
//! more, so what can be data is data ([`super::description`]).
//!
//! Does not decide anything.

use std::{any::Any, sync::Arc};

use futures_util::future::BoxFuture;
use sea_orm::{
    ActiveModelBehavior, ActiveModelTrait, ActiveValue, ColumnTrait, DbErr, Iterable,
    PrimaryKeyTrait, QueryResult,
    sea_query::{Expr, FromValueTuple, IntoValueTuple, Value, ValueTuple},
};

use super::{ActiveModelOf, CachedEntity, ColumnOf, Id, PrimaryKey};
use crate::{
    cached::{AnyModel, Cached, Provenance, Row},
    database::Executor,
    near::{GenerationStamp, Life, NearStore},
    protocol::{Key, RowDecoder, RowEncoder, RowError, Version},
};

/// A model whose type the engine does not know, borrowed.
pub(crate) type ModelRef<'a> = &'a (dyn Any + Send + Sync);

/// What the engine asks of an entity.
pub(crate) trait EntityOps: Send + Sync {
    /// Makes a model of a row that the database returned.
    fn read(&self, row: &QueryResult) -> Result<AnyModel, DbErr>;

    /// Appends the columns of a model.
    fn encode(&self, model: ModelRef<'_>, row: &mut RowEncoder) -> Result<(), RowError>;

    /// Reads the columns back.
    fn decode(&self, row: &mut RowDecoder<'_>) -> Result<AnyModel, RowError>;

    /// Appends a list of primary keys.
    fn encode_keys(&self, keys: &[ValueTuple], entry: &mut RowEncoder) -> Result<(), RowError>;

    /// Reads a list of primary keys back.
    fn decode_keys(&self, entry: &mut RowDecoder<'_>) -> Result<Vec<ValueTuple>, RowError>;

    fn version(&self, model: ModelRef<'_>) -> Option<Version>;

    /// The value of a column, by its position.
    fn value(&self, model: ModelRef<'_>, column: usize) -> Value;

    /// A value as the database is to be given it: cast to an enum's type, say.
    fn save_as(&self, column: usize, value: Expr) -> Expr;

    /// The primary key that the database has generated.
    fn generated_key(&self, number: u64) -> Result<ValueTuple, DbErr>;
}

/// A row that is to be inserted or updated: an active model and SeaORM's hooks around the
/// statement.
pub(crate) trait SaveOps: Send + Sync {
    /// What is to become of a column, by its position.
    fn value(&self, column: usize) -> ActiveValue<Value>;

    fn before_save<'a>(
        &'a mut self,
        conn: Executor<'a>,
        insert: bool,
    ) -> BoxFuture<'a, Result<(), DbErr>>;

    fn after_save<'a>(
        &'a self,
        model: AnyModel,
        conn: Executor<'a>,
        insert: bool,
    ) -> BoxFuture<'a, Result<AnyModel, DbErr>>;
}

/// A row that is to be deleted: an active model and SeaORM's hooks around the statement.
pub(crate) trait DeleteOps: Send + Sync {
    /// The value of a column, by its position.
    fn value(&self, column: usize) -> ActiveValue<Value>;

    fn before_delete<'a>(&'a mut self, conn: Executor<'a>) -> BoxFuture<'a, Result<(), DbErr>>;

    fn after_delete<'a>(&'a mut self, conn: Executor<'a>) -> BoxFuture<'a, Result<(), DbErr>>;
}

/// A near cache whose types the engine does not know.
pub(crate) trait NearRows: Send + Sync {
    /// What is kept of the row with this primary key: the row, or that there is none.
    fn get(&self, id: &ValueTuple) -> Option<Option<Row>>;

    /// To be taken before the shared tier is asked for what is to be kept; `None` while
    /// invalidations may be missed.
    fn stamp(&self, key: &Key) -> Option<GenerationStamp>;

    /// Keeps a row, or that there is none, unless it has changed since the stamp was taken.
    fn keep(
        &self,
        id: &ValueTuple,
        stamp: GenerationStamp,
        model: Option<AnyModel>,
        encoded_bytes: usize,
        life: Life,
    );
}

/// The operations of `M`.
pub(super) struct Typed<M: CachedEntity> {
    columns: Vec<ColumnOf<M>>,
}

impl<M: CachedEntity> Typed<M> {
    pub(super) fn new() -> Self {
        Self {
            columns: ColumnOf::<M>::iter().collect(),
        }
    }
}

/// The engine of an entity is only given its own models.
fn typed<M: CachedEntity>(model: ModelRef<'_>) -> &M {
    model.downcast_ref().expect("a model of this entity")
}

fn shared<M: CachedEntity>(model: AnyModel) -> Arc<M> {
    model.downcast().expect("a model of this entity")
}

impl<M: CachedEntity> EntityOps for Typed<M> {
    fn read(&self, row: &QueryResult) -> Result<AnyModel, DbErr> {
        Ok(Arc::new(M::from_query_result(row, "")?))
    }

    fn encode(&self, model: ModelRef<'_>, row: &mut RowEncoder) -> Result<(), RowError> {
        typed::<M>(model).encode(row)
    }

    fn decode(&self, row: &mut RowDecoder<'_>) -> Result<AnyModel, RowError> {
        Ok(Arc::new(M::decode(row)?))
    }

    fn encode_keys(&self, keys: &[ValueTuple], entry: &mut RowEncoder) -> Result<(), RowError> {
        let Some(column) = M::ids() else {
            return Ok(());
        };
        let ids = keys.iter().cloned().map(Id::<M>::from_value_tuple);
        entry.field(&column, &ids.collect())
    }

    fn decode_keys(&self, entry: &mut RowDecoder<'_>) -> Result<Vec<ValueTuple>, RowError> {
        let Some(column) = M::ids() else {
            return Ok(Vec::new());
        };
        let ids = entry.field(&column)?.into_iter();
        Ok(ids.map(IntoValueTuple::into_value_tuple).collect())
    }

    fn version(&self, model: ModelRef<'_>) -> Option<Version> {
        typed::<M>(model).version()
    }

    fn value(&self, model: ModelRef<'_>, column: usize) -> Value {
        typed::<M>(model).get(self.columns[column])
    }

    fn save_as(&self, column: usize, value: Expr) -> Expr {
        self.columns[column].save_as(value)
    }

    fn generated_key(&self, number: u64) -> Result<ValueTuple, DbErr> {
        type Key<M> = <PrimaryKey<M> as PrimaryKeyTrait>::ValueType;
        let key = <Key<M> as sea_orm::TryFromU64>::try_from_u64(number);
        key.map(IntoValueTuple::into_value_tuple)
    }
}

/// An active model of `M`.
pub(crate) struct Active<M: CachedEntity> {
    /// `None` while a hook has it.
    model: Option<ActiveModelOf<M>>,
}

impl<M: CachedEntity> Active<M> {
    pub(crate) fn new(model: ActiveModelOf<M>) -> Self {
        Self { model: Some(model) }
    }

    fn get(&self, column: usize) -> ActiveValue<Value> {
        match (&self.model, ColumnOf::<M>::iter().nth(column)) {
            (Some(model), Some(column)) => model.get(column),
            _ => ActiveValue::NotSet,
        }
    }

    /// The model, for a hook that gives it back.
    fn lend(&mut self) -> ActiveModelOf<M> {
        self.model.take().expect("no hook has failed before")
    }
}

impl<M: CachedEntity> SaveOps for Active<M> {
    fn value(&self, column: usize) -> ActiveValue<Value> {
        self.get(column)
    }

    fn before_save<'a>(
        &'a mut self,
        conn: Executor<'a>,
        insert: bool,
    ) -> BoxFuture<'a, Result<(), DbErr>> {
        Box::pin(async move {
            let model = self.lend().before_save(&conn, insert).await?;
            self.model = Some(model);
            Ok(())
        })
    }

    fn after_save<'a>(
        &'a self,
        model: AnyModel,
        conn: Executor<'a>,
        insert: bool,
    ) -> BoxFuture<'a, Result<AnyModel, DbErr>> {
        Box::pin(async move {
            let model = Arc::unwrap_or_clone(shared::<M>(model));
            let model = ActiveModelOf::<M>::after_save(model, &conn, insert).await?;
            Ok(Arc::new(model) as AnyModel)
        })
    }
}

impl<M: CachedEntity> DeleteOps for Active<M> {
    fn value(&self, column: usize) -> ActiveValue<Value> {
        self.get(column)
    }

    fn before_delete<'a>(&'a mut self, conn: Executor<'a>) -> BoxFuture<'a, Result<(), DbErr>> {
        Box::pin(async move {
            let model = self.lend().before_delete(&conn).await?;
            self.model = Some(model);
            Ok(())
        })
    }

    fn after_delete<'a>(&'a mut self, conn: Executor<'a>) -> BoxFuture<'a, Result<(), DbErr>> {
        Box::pin(async move { self.lend().after_delete(&conn).await.map(drop) })
    }
}

impl<M: CachedEntity> NearRows for NearStore<Id<M>, M> {
    fn get(&self, id: &ValueTuple) -> Option<Option<Row>> {
        let hit = NearStore::get(self, &Id::<M>::from_value_tuple(id.clone()))?;
        let provenance = Provenance::near(hit.age);
        let row = hit.row.map(|row| Cached::new(row, provenance).into());
        Some(row)
    }

    fn stamp(&self, key: &Key) -> Option<GenerationStamp> {
        NearStore::stamp(self, key)
    }

    fn keep(
        &self,
        id: &ValueTuple,
        stamp: GenerationStamp,
        model: Option<AnyModel>,
        encoded_bytes: usize,
        life: Life,
    ) {
        let id = Id::<M>::from_value_tuple(id.clone());
        NearStore::keep(self, id, stamp, model.map(shared), encoded_bytes, life);
    }
}
