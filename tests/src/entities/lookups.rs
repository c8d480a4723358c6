//! Entities that are found by more than their key.

/// Found by everything: unique columns, one of them optional, a unique pair, indexes.
pub mod member {
    use cached_repo::CachedEntity;
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
    #[sea_orm(table_name = "member")]
    #[cached(index(team_id, active, name = "team"))]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i64,
        #[sea_orm(unique)]
        pub email: String,
        #[sea_orm(unique)]
        pub badge: Option<i32>,
        #[cached(index)]
        #[sea_orm(unique_key = "seat")]
        pub team_id: i64,
        #[sea_orm(unique_key = "seat")]
        pub chair: i32,
        #[cached(index)]
        pub boss_id: Option<i64>,
        pub active: bool,
        #[cached(version)]
        pub version: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Unversioned, with a composite key, found by a text without regard to case.
pub mod label {
    use cached_repo::CachedEntity;
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
    #[sea_orm(table_name = "label")]
    pub struct Model {
        #[sea_orm(
            primary_key,
            auto_increment = false,
            column_type = "String(StringLen::N(8))"
        )]
        pub language: String,
        #[sea_orm(primary_key, auto_increment = false)]
        pub code: i32,
        #[cached(index(max_rows = 3), normalize = "str::to_lowercase")]
        pub text: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Caches no absence.
pub mod quiet {
    use cached_repo::CachedEntity;
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
    #[sea_orm(table_name = "quiet")]
    #[cached(negative_ttl = "0s")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i64,
        #[sea_orm(unique)]
        pub number: i32,
        #[cached(index)]
        pub group: i32,
        #[cached(version)]
        pub version: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Found by optional texts.
pub mod remark {
    use cached_repo::CachedEntity;
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
    #[sea_orm(table_name = "remark")]
    #[cached(index(text, page, name = "place"))]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i64,
        #[cached(index)]
        pub text: Option<String>,
        pub page: Option<String>,
        #[cached(version)]
        pub version: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Unversioned, with short lists, a list per pair and one per kind.
pub mod card {
    use cached_repo::CachedEntity;
    use sea_orm::entity::prelude::*;

    #[derive(
        Clone,
        Copy,
        Debug,
        PartialEq,
        Eq,
        EnumIter,
        DeriveActiveEnum,
        serde::Serialize,
        serde::Deserialize,
    )]
    #[sea_orm(rs_type = "String", db_type = "Enum", enum_name = "suit")]
    pub enum Suit {
        #[sea_orm(string_value = "hearts")]
        Hearts,
        #[sea_orm(string_value = "spades")]
        Spades,
    }

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
    #[sea_orm(table_name = "card")]
    #[cached(index(deck, up, name = "side"))]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i32,
        #[cached(index(max_rows = 3))]
        pub deck: i32,
        pub up: bool,
        #[cached(index(max_rows = 1))]
        pub face: String,
        #[cached(index)]
        pub suit: Suit,
        pub price: i32,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Found by values that the database makes: a default, a generated column, and a trigger's value.
pub mod ticket {
    use cached_repo::CachedEntity;
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
    #[sea_orm(table_name = "ticket")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i64,
        /// The database has a default for it.
        #[cached(index)]
        pub queue: i32,
        pub weight: i32,
        /// The database computes it.
        #[cached(generated, index)]
        pub class: Option<i32>,
        #[cached(version)]
        pub version: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Found by a value that a trigger writes.
pub mod routed {
    use cached_repo::CachedEntity;
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
    #[sea_orm(table_name = "routed")]
    #[cached(reload_after_write)]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i64,
        pub town: i32,
        /// A trigger derives it from the town.
        #[cached(index)]
        pub route: i32,
        #[cached(version)]
        pub version: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

macro_rules! nick {
    ($module:ident, $table:literal, $doc:literal $(, $normalize:literal $(, $save:literal)?)?) => {
        #[doc = $doc]
        pub mod $module {
            use cached_repo::CachedEntity;
            use sea_orm::entity::prelude::*;

            #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
            #[sea_orm(table_name = $table)]
            pub struct Model {
                #[sea_orm(primary_key)]
                pub id: i64,
                #[sea_orm(unique $($(, save_as = $save)?)?)]
                $(#[cached(normalize = $normalize)])?
                pub name: String,
                $($(#[sea_orm(save_as = $save)])?)?
                #[cached(index $(, normalize = $normalize)?)]
                pub clan: String,
                #[cached(version)]
                pub version: i64,
            }

            #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
            pub enum Relation {}

            impl ActiveModelBehavior for ActiveModel {}
        }
    };
}
nick!(nick, "nick", "Names as they are.");
nick!(
    folded_nick,
    "folded_nick",
    "Names without regard to case and to spaces behind them.",
    "crate::entities::lookups::folded"
);
nick!(
    citext_nick,
    "folded_nick",
    "Names without regard to case, for PostgreSQL's `citext`.",
    "str::to_lowercase",
    "citext"
);

/// One spelling for all texts that MariaDB's default collation calls equal, for ASCII only.
#[must_use]
pub fn folded(text: &str) -> String {
    text.trim_end_matches(' ').to_lowercase()
}

/// Under a column that pads its texts.
pub mod padded {
    use cached_repo::CachedEntity;
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
    #[sea_orm(table_name = "padded")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i64,
        #[sea_orm(unique, column_type = "Char(Some(6))")]
        pub code: String,
        #[sea_orm(column_type = "Char(Some(6))")]
        #[cached(index)]
        pub lot: String,
        #[cached(version)]
        pub version: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// The members of an earlier version of the program, which had fewer columns.
pub mod member_before {
    use cached_repo::CachedEntity;
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
    #[sea_orm(table_name = "member")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i64,
        pub email: String,
        #[cached(index)]
        pub team_id: i64,
        #[cached(version)]
        pub version: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
