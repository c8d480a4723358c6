//! The dense form, with relations and with serde attributes meant for a web API.
#![deny(warnings, missing_docs, clippy::pedantic)]

/// The one side.
pub mod user {
    use cached_repo::CachedEntity;
    use sea_orm::entity::prelude::*;
    use serde::{Deserialize, Serialize};

    /// A user.
    #[sea_orm::model]
    #[derive(
        Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity, Serialize, Deserialize,
    )]
    #[sea_orm(table_name = "user")]
    #[serde(rename_all = "camelCase")]
    #[cached(ttl = "10m")]
    pub struct Model {
        /// The key.
        #[sea_orm(primary_key)]
        #[serde(skip_deserializing)]
        pub id: i64,
        /// Unique.
        #[sea_orm(unique)]
        pub email: String,
        /// Hidden from the web.
        #[serde(skip)]
        pub password: String,
        /// The version.
        #[cached(version)]
        pub version: i64,
        /// To one.
        #[sea_orm(has_one)]
        pub profile: HasOne<super::profile::Entity>,
        /// To many.
        #[sea_orm(has_many)]
        pub posts: HasMany<super::post::Entity>,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

/// One to one.
pub mod profile {
    use cached_repo::CachedEntity;
    use sea_orm::entity::prelude::*;
    use serde::{Deserialize, Serialize};

    /// A profile.
    #[sea_orm::model]
    #[derive(
        Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity, Serialize, Deserialize,
    )]
    #[sea_orm(table_name = "profile")]
    pub struct Model {
        /// The key.
        #[sea_orm(primary_key)]
        pub id: i64,
        /// The user's.
        #[sea_orm(unique)]
        pub user_id: i64,
        /// From one.
        #[sea_orm(belongs_to, from = "user_id", to = "id")]
        pub user: HasOne<super::user::Entity>,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

/// The other side.
pub mod post {
    use cached_repo::CachedEntity;
    use sea_orm::entity::prelude::*;
    use serde::{Deserialize, Serialize};

    /// A post.
    #[sea_orm::model]
    #[derive(
        Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity, Serialize, Deserialize,
    )]
    #[sea_orm(table_name = "post")]
    pub struct Model {
        /// The key.
        #[sea_orm(primary_key)]
        pub id: i64,
        /// The author's.
        #[cached(index)]
        #[sea_orm(unique_key = "place")]
        pub user_id: i64,
        /// Unique for each author.
        #[sea_orm(unique_key = "place")]
        pub number: i32,
        /// From one.
        #[sea_orm(belongs_to, from = "user_id", to = "id")]
        pub user: BelongsTo<super::user::Entity>,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

/// Goal: a relation is no column, so a dense model has the fingerprint of its columns.
#[test]
fn relations_are_not_columns() {
    use cached_repo::{__private::fingerprint, CachedEntity as _};

    let columns = ["id:i64", "email:String", "password:String", "version:i64"];
    assert_eq!(
        user::Model::DEFINITION.schema,
        fingerprint(&columns.join("\n"))
    );
}

/// Goal: the row is cached, not what the web API shows of it.
#[test]
fn what_serde_hides_is_still_cached() {
    let ada = user::Model {
        id: 1,
        email: "ada@example.com".to_owned(),
        password: "secret".to_owned(),
        version: 7,
    };
    assert_eq!(crate::through_the_cache(&ada), ada);
}

/// What is unique to `SeaORM` is found by.
#[expect(dead_code, reason = "it only has to compile")]
pub async fn finders(
    users: &user::Repository,
    profiles: &profile::Repository,
    posts: &post::Repository,
) {
    let _ = users.find_by_email("ada@example.com").await;
    let _ = profiles.find_by_user_ids([1, 2]).await;
    let _ = posts.find_by_place(1, 2).await;
    let _ = posts.find_all_by_user_id(1).await;
}
