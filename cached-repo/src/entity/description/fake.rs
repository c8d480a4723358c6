//! An entity without a model, for tests of the engine: a table `pair` of a number and a text.

use std::sync::{Arc, atomic::AtomicUsize};

use sea_orm::{
    DbBackend, DbErr, QueryResult,
    sea_query::{ArrayType, Expr, IntoIden, IntoTableRef, Query, Value, ValueTuple},
};

use super::{Column, Comparison, Entity, Parts};
use crate::{
    cached::AnyModel,
    entity::{
        Definition, EntityOptions,
        ops::{EntityOps, ModelRef},
    },
    protocol::{Column as Codec, RowDecoder, RowEncoder, RowError, Version},
};

/// A row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pair(pub(crate) i64, pub(crate) String);

const ID: Codec<i64> = Codec::new("id");
const TEXT: Codec<String> = Codec::new("text");

/// The entity in a namespace.
pub(crate) fn pair(namespace: &str, backend: DbBackend) -> Entity {
    let column = |name: &'static str| Column {
        name: name.into_iden(),
        reference: ("pair".into_iden(), name.into_iden()),
        is_generated: false,
        value_type: match name {
            "id" => ArrayType::BigInt,
            _ => ArrayType::String,
        },
        comparison: match name {
            "id" => Comparison::Values,
            _ => Comparison::Texts,
        },
        kept_places: AtomicUsize::new(0),
    };
    Parts {
        table: "pair".into_table_ref(),
        relations: Vec::new(),
        columns: vec![column("id"), column("text")],
        key_columns: vec![0],
        auto_increment: false,
        version: None,
        lookups: Vec::new(),
        select: Query::select().columns(["id", "text"]).from("pair").take(),
        returning: Query::returning().columns(["id", "text"]),
        definition: Definition {
            schema: 7,
            options: EntityOptions::NONE,
        },
        ops: Box::new(PairOps),
    }
    .assemble(namespace, backend)
}

struct PairOps;

fn typed(model: ModelRef<'_>) -> &Pair {
    model.downcast_ref().unwrap()
}

impl EntityOps for PairOps {
    fn read(&self, row: &QueryResult) -> Result<AnyModel, DbErr> {
        let (id, text) = (row.try_get("", "id")?, row.try_get("", "text")?);
        Ok(Arc::new(Pair(id, text)))
    }

    fn encode(&self, model: ModelRef<'_>, row: &mut RowEncoder) -> Result<(), RowError> {
        row.field(&ID, &typed(model).0)?;
        row.field(&TEXT, &typed(model).1)
    }

    fn decode(&self, row: &mut RowDecoder<'_>) -> Result<AnyModel, RowError> {
        Ok(Arc::new(Pair(row.field(&ID)?, row.field(&TEXT)?)))
    }

    fn encode_keys(&self, _: &[ValueTuple], _: &mut RowEncoder) -> Result<(), RowError> {
        Ok(())
    }

    fn decode_keys(&self, _: &mut RowDecoder<'_>) -> Result<Vec<ValueTuple>, RowError> {
        Ok(Vec::new())
    }

    fn version(&self, _: ModelRef<'_>) -> Option<Version> {
        None
    }

    fn value(&self, model: ModelRef<'_>, column: usize) -> Value {
        let Pair(id, text) = typed(model);
        match column {
            0 => (*id).into(),
            _ => text.clone().into(),
        }
    }

    fn save_as(&self, _: usize, value: Expr) -> Expr {
        value
    }

    fn generated_key(&self, number: u64) -> Result<ValueTuple, DbErr> {
        Ok(ValueTuple::One(number.into()))
    }
}
