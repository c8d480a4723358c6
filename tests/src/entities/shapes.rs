//! Models in the shapes that users write, with serde attributes meant for a web API.

/// What a web API hides is still a column.
pub mod member {
    use cached_repo::CachedEntity;
    use sea_orm::entity::prelude::*;
    use serde::{Deserialize, Serialize};

    in_codec! {
        #[derive(
            Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity, Serialize, Deserialize,
        )]
        #[sea_orm(table_name = "member")]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        pub struct Model {
            #[sea_orm(primary_key)]
            #[serde(skip_deserializing)]
            pub id: i64,
            #[serde(rename = "loginName", alias = "login")]
            pub login: String,
            #[serde(skip_serializing)]
            pub password: String,
            #[serde(skip)]
            pub api_token: Option<String>,
            #[serde(skip_serializing_if = "String::is_empty", default)]
            pub bio: String,
            #[serde(skip)]
            #[cached(version)]
            pub version: i64,
        }
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// The dense form, to one.
pub mod author {
    use cached_repo::CachedEntity;
    use sea_orm::entity::prelude::*;

    in_codec! {
        #[sea_orm::model]
        #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
        #[sea_orm(table_name = "author")]
        pub struct Model {
            #[sea_orm(primary_key)]
            pub id: i64,
            pub name: String,
            #[cached(version)]
            pub version: i64,
            #[sea_orm(has_many)]
            pub books: HasMany<super::book::Entity>,
        }
    }

    impl ActiveModelBehavior for ActiveModel {}
}

/// The dense form, to many.
pub mod book {
    use cached_repo::CachedEntity;
    use sea_orm::entity::prelude::*;

    in_codec! {
        #[sea_orm::model]
        #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
        #[sea_orm(table_name = "book")]
        pub struct Model {
            #[sea_orm(primary_key)]
            pub id: i64,
            pub author_id: i64,
            pub title: String,
            #[sea_orm(belongs_to, from = "author_id", to = "id")]
            pub author: HasOne<super::author::Entity>,
        }
    }

    impl ActiveModelBehavior for ActiveModel {}
}

/// The expanded form.
pub mod place {
    use cached_repo::CachedEntity;
    use sea_orm::entity::prelude::*;

    #[derive(Copy, Clone, Default, Debug, DeriveEntity)]
    pub struct Entity;

    impl EntityName for Entity {
        fn table_name(&self) -> &'static str {
            "place"
        }
    }

    in_codec! {
        #[derive(Clone, Debug, PartialEq, Eq, DeriveModel, DeriveActiveModel, CachedEntity)]
        pub struct Model {
            pub code: String,
            pub name: String,
            #[cached(version)]
            pub version: i16,
        }
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveColumn)]
    pub enum Column {
        #[sea_orm(column_name = "Iso Code")]
        Code,
        Name,
        Version,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DerivePrimaryKey)]
    pub enum PrimaryKey {
        Code,
    }

    impl PrimaryKeyTrait for PrimaryKey {
        type ValueType = String;

        fn auto_increment() -> bool {
            false
        }
    }

    impl ColumnTrait for Column {
        type EntityName = Entity;

        fn def(&self) -> ColumnDef {
            match self {
                Self::Code => ColumnType::String(StringLen::N(20)).def(),
                Self::Name => ColumnType::Text.def(),
                Self::Version => ColumnType::SmallInteger.def(),
            }
        }
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Renamed columns, an ignored field, a column with a codec of its own, and every option of
/// `#[cached(…)]`.
pub mod odd {
    use cached_repo::CachedEntity;
    use sea_orm::entity::prelude::*;

    /// Has no serde.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveValueType)]
    pub struct Mood(pub i32);

    /// How a mood is kept in the cache.
    pub mod mood {
        use serde::{Deserialize, Deserializer, Serializer};

        use super::Mood;

        /// Writes a mood, one too high.
        pub fn serialize<S: Serializer>(mood: &Mood, out: S) -> Result<S::Ok, S::Error> {
            out.serialize_i32(mood.0 + 1)
        }

        /// Reads a mood.
        pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Mood, D::Error> {
            Ok(Mood(i32::deserialize(input)? - 1))
        }
    }

    /// Has no serde and needs none.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct Draft(pub Vec<String>);

    in_codec! {
        #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
        #[sea_orm(table_name = "odd", rename_all = "camelCase")]
        #[cached(
            name = "curious",
            repository = "Oddities",
            ttl = "1h",
            stale_ttl = "1m"
        )]
        pub struct Model {
            #[sea_orm(primary_key, column_name = "The Key")]
            pub id: i64,
            #[sea_orm(column_name = "select")]
            pub r#type: String,
            pub two_words: String,
            #[cached(with = "mood")]
            pub mood: Mood,
            #[sea_orm(ignore)]
            pub draft: Draft,
            #[sea_orm(column_name = "lock_version", enum_name = "Lock")]
            #[cached(version)]
            pub version: i64,
        }
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// One table before and after a deploy: the newer struct has a column more.
pub mod deploy {
    /// The older struct.
    pub mod old {
        use cached_repo::CachedEntity;
        use sea_orm::entity::prelude::*;

        in_codec! {
            #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
            #[sea_orm(table_name = "deploy")]
            pub struct Model {
                #[sea_orm(primary_key, auto_increment = false)]
                pub id: i64,
                pub name: String,
                #[cached(version)]
                pub version: i64,
            }
        }

        #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
        pub enum Relation {}

        impl ActiveModelBehavior for ActiveModel {}
    }

    /// The newer struct.
    pub mod new {
        use cached_repo::CachedEntity;
        use sea_orm::entity::prelude::*;

        in_codec! {
            #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
            #[sea_orm(table_name = "deploy")]
            pub struct Model {
                #[sea_orm(primary_key, auto_increment = false)]
                pub id: i64,
                pub name: String,
                #[cached(version)]
                pub version: i64,
                pub title: Option<String>,
            }
        }

        #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
        pub enum Relation {}

        impl ActiveModelBehavior for ActiveModel {}
    }

    /// The older struct's columns in another order, which decodes as a wrong row if nothing
    /// prevents it.
    pub mod swapped {
        use cached_repo::CachedEntity;
        use sea_orm::entity::prelude::*;

        in_codec! {
            #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
            #[sea_orm(table_name = "deploy")]
            pub struct Model {
                #[cached(version)]
                pub version: i64,
                pub name: String,
                #[sea_orm(primary_key, auto_increment = false)]
                pub id: i64,
            }
        }

        #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
        pub enum Relation {}

        impl ActiveModelBehavior for ActiveModel {}
    }
}

/// A column whose codec refuses some values.
pub mod picky {
    use cached_repo::CachedEntity;
    use sea_orm::entity::prelude::*;

    /// Cannot be encoded below zero, nor decoded at 13.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveValueType)]
    pub struct Mood(pub i32);

    /// How a mood is kept in the cache, most of the time.
    pub mod mood {
        use serde::{Deserialize, Deserializer, Serializer, de, ser};

        use super::Mood;

        /// Writes a mood of zero and above.
        pub fn serialize<S: Serializer>(mood: &Mood, out: S) -> Result<S::Ok, S::Error> {
            match mood.0 {
                0.. => out.serialize_i32(mood.0),
                _ => Err(ser::Error::custom("below zero")),
            }
        }

        /// Reads a mood other than 13.
        pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Mood, D::Error> {
            match i32::deserialize(input)? {
                13 => Err(de::Error::custom("13")),
                mood => Ok(Mood(mood)),
            }
        }
    }

    in_codec! {
        #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
        #[sea_orm(table_name = "picky")]
        pub struct Model {
            #[sea_orm(primary_key, auto_increment = false)]
            pub id: i64,
            #[cached(with = "mood")]
            pub mood: Mood,
            #[cached(version)]
            pub version: i64,
        }
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
