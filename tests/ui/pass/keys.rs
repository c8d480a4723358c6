//! Keys that are not integers: text, UUID and a newtype.
#![deny(warnings, missing_docs, clippy::pedantic)]

/// A text key.
pub mod text {
    use cached_repo::CachedEntity;
    use sea_orm::entity::prelude::*;

    /// A country.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
    #[sea_orm(table_name = "country")]
    pub struct Model {
        /// The key.
        #[sea_orm(primary_key, auto_increment = false)]
        pub code: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    /// None.
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}

    /// A borrowed text will do.
    #[expect(dead_code, reason = "it only has to compile")]
    pub async fn verbs(countries: &Repository) {
        let _ = countries.find_by_id("fr").await;
    }
}

/// A UUID key.
pub mod uuid {
    use cached_repo::CachedEntity;
    use sea_orm::entity::prelude::*;

    /// A session.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
    #[sea_orm(table_name = "session")]
    pub struct Model {
        /// The key.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    /// None.
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}

    /// By value.
    #[expect(dead_code, reason = "it only has to compile")]
    pub async fn verbs(sessions: &Repository) {
        let _ = sessions.find_by_id(Uuid::nil()).await;
    }
}

/// A key with a type of its own.
pub mod newtype {
    use cached_repo::CachedEntity;
    use sea_orm::entity::prelude::*;
    use serde::{Deserialize, Serialize};

    /// The key's type.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, DeriveValueType, Serialize, Deserialize)]
    #[sea_orm(try_from_u64)]
    pub struct AccountId(pub i64);

    /// An account.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
    #[sea_orm(table_name = "account")]
    pub struct Model {
        /// The key.
        #[sea_orm(primary_key)]
        pub id: AccountId,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    /// None.
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}

    /// By the newtype.
    #[expect(dead_code, reason = "it only has to compile")]
    pub async fn verbs(accounts: &Repository) {
        let _ = accounts.find_by_id(AccountId(1)).await;
    }
}
