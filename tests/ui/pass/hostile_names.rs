//! A scope where nothing has its usual meaning. `SeaORM`'s own derives would not survive it, so
//! they stand outside.
#![deny(warnings, missing_docs, clippy::pedantic)]

/// Everything that generated code might stumble over.
pub mod hostile {
    #![expect(dead_code, reason = "the names only have to be there")]

    /// Not the crate.
    pub mod core {}
    /// Not the crate.
    pub mod std {}
    /// Not the crate.
    pub mod cached_repo {}
    /// Not the enum.
    pub struct Option;
    /// Not the struct.
    pub struct String;
    /// Not the struct.
    pub struct Vec;
    /// Not the variant.
    pub struct Some;
    /// Not the variant.
    pub struct Ok;
    /// Not the runtime's.
    pub struct Column;
    /// Not the runtime's.
    pub struct RowError;
    /// Not the trait.
    pub trait Clone {}
    /// Not the trait.
    pub trait Debug {}
    /// Not the trait.
    pub trait Default {}
    /// Not the trait.
    pub trait From {}
    /// Not the trait.
    pub trait Into {}
    /// Not the trait.
    pub trait Iterator {}
    /// Not the trait.
    pub trait IntoIterator {}
    /// Not the trait.
    pub trait Deref {}
    /// Not the enum.
    pub type Result = ();

    /// A row.
    #[derive(::core::clone::Clone, ::core::fmt::Debug, ::cached_repo::CachedEntity)]
    #[cached(ttl = "10m", name = "row")]
    pub struct Model {
        /// The key.
        pub id: i64,
        /// Unique, and optional.
        #[sea_orm(unique)]
        pub number: ::core::option::Option<i64>,
        /// A list.
        #[cached(index)]
        pub list: ::core::option::Option<i64>,
        /// An array whose length looks like a column.
        pub bytes: [u8; version],
        /// Not a column.
        #[sea_orm(ignore)]
        pub draft: bool,
        /// The version.
        #[cached(version)]
        pub version: i64,
    }

    /// Named like a field.
    #[expect(non_upper_case_globals, reason = "that is the point")]
    pub const version: usize = 4;
}

/// `SeaORM`'s side of the model.
pub mod orm {
    use sea_orm::{
        FromQueryResult, IntoActiveModel, QueryResult, TryGetError, Value, entity::prelude::*,
        sea_query::ArrayType,
    };

    use super::hostile::Model;

    /// Lends its `SeaORM` implementations to the model.
    #[derive(Clone, Debug, DeriveModel, DeriveActiveModel)]
    pub struct Row {
        /// The key.
        pub id: i64,
        /// Unique.
        pub number: Option<i64>,
        /// A list.
        pub list: Option<i64>,
        /// Bytes.
        pub bytes: Vec<u8>,
        /// The version.
        pub version: i64,
    }

    impl From<Model> for Row {
        fn from(model: Model) -> Self {
            let bytes = model.bytes.to_vec();
            Self {
                id: model.id,
                number: model.number,
                list: model.list,
                bytes,
                version: model.version,
            }
        }
    }

    impl FromQueryResult for Model {
        fn from_query_result(row: &QueryResult, prefix: &str) -> Result<Self, DbErr> {
            Self::from_query_result_nullable(row, prefix).map_err(Into::into)
        }

        fn from_query_result_nullable(
            row: &QueryResult,
            prefix: &str,
        ) -> Result<Self, TryGetError> {
            let row = Row::from_query_result_nullable(row, prefix)?;
            let bytes = row.bytes.try_into().unwrap_or_default();
            Ok(Self {
                id: row.id,
                number: row.number,
                list: row.list,
                bytes,
                draft: false,
                version: row.version,
            })
        }
    }

    impl ModelTrait for Model {
        type Entity = Entity;

        fn get(&self, column: Column) -> Value {
            Row::from(self.clone()).get(column)
        }

        fn get_value_type(column: Column) -> ArrayType {
            Row::get_value_type(column)
        }

        fn try_set(&mut self, _: Column, _: Value) -> Result<(), DbErr> {
            Err(DbErr::Custom("a test never sets one".to_owned()))
        }
    }

    impl IntoActiveModel<ActiveModel> for Model {
        fn into_active_model(self) -> ActiveModel {
            Row::from(self).into_active_model()
        }
    }

    /// The entity.
    #[derive(Copy, Clone, Default, Debug, DeriveEntity)]
    pub struct Entity;

    impl EntityName for Entity {
        fn table_name(&self) -> &'static str {
            "row"
        }
    }

    /// The columns.
    #[derive(Copy, Clone, Debug, EnumIter, DeriveColumn)]
    pub enum Column {
        /// The key.
        Id,
        /// Unique.
        Number,
        /// A list.
        List,
        /// Bytes.
        Bytes,
        /// The version.
        #[sea_orm(column_name = "version")]
        Version,
    }

    impl ColumnTrait for Column {
        type EntityName = Entity;

        fn def(&self) -> ColumnDef {
            match self {
                Self::Id | Self::Version => ColumnType::BigInteger.def(),
                Self::Number | Self::List => ColumnType::BigInteger.def().null(),
                Self::Bytes => ColumnType::Blob.def(),
            }
        }
    }

    /// The key.
    #[derive(Copy, Clone, Debug, EnumIter, DerivePrimaryKey)]
    pub enum PrimaryKey {
        /// The key.
        Id,
    }

    impl PrimaryKeyTrait for PrimaryKey {
        type ValueType = i64;

        fn auto_increment() -> bool {
            true
        }
    }

    /// None.
    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Goal: the names in scope change nothing of what the row is.
#[test]
fn a_row_survives_the_cache() {
    let row = hostile::Model {
        id: 1,
        number: None,
        list: Some(2),
        bytes: [1, 2, 3, 4],
        draft: true,
        version: 7,
    };
    let back = crate::through_the_cache(&row);
    assert_eq!((back.id, back.bytes, back.version), (1, [1, 2, 3, 4], 7));
    assert!(!back.draft, "an ignored field is not stored");
}
