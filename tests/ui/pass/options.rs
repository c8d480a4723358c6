//! Every option, under strict lints.
#![deny(warnings, missing_docs, clippy::pedantic)]

use cached_repo::CachedEntity;
use sea_orm::entity::prelude::*;

/// A user.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
#[sea_orm(table_name = "user")]
#[cached(ttl = "1h 30m", negative_ttl = "0s")]
#[cached(stale_ttl = "1500ms", name = "person", reload_after_write)]
#[cached(on_cache_failure = "refuse", codec = "json", compress_above = "1 KiB")]
#[cached(repository = "Users", crate = "::cached_repo")]
pub struct Model {
    /// The key.
    #[sea_orm(primary_key)]
    pub id: i64,
    /// A column.
    #[cached()]
    pub name: String,
    /// The version.
    #[cached(version)]
    pub version: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
/// None.
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// Goal: what the options say arrives in the definition.
#[test]
fn every_option_arrives() {
    use std::time::Duration;

    let options = Model::DEFINITION.options;
    assert_eq!(options.ttl, Some(Duration::from_mins(90)));
    assert_eq!(options.negative_ttl, Some(Duration::ZERO));
    assert_eq!(options.stale_ttl, Some(Duration::from_millis(1_500)));
    assert_eq!(options.name, Some("person"));
    assert_eq!(
        options.on_cache_failure,
        Some(cached_repo::OnCacheFailure::Refuse)
    );
    assert!(options.reload_after_write);
    assert_eq!(options.codec, cached_repo::Codec::Json);
    assert_eq!(options.compress_above, Some(1024));
}

/// Goal: the version is read from its column, and only from a version that is one.
#[test]
fn the_version_is_that_of_the_marked_column() {
    let user = |version| Model {
        id: 1,
        name: "Ada".to_owned(),
        version,
    };
    assert_eq!(user(7).version().map(cached_repo::Version::get), Some(7));
    assert_eq!(user(-1).version(), None);
    assert!(matches!(Model::version_column(), Some(Column::Version)));
}

/// The repository has the chosen name and the runtime's verbs.
#[expect(dead_code, reason = "it only has to compile")]
pub async fn verbs(users: &Users, db: &cached_repo::CachedDb) {
    let _ = users.find_by_id(1).await;
    let _ = users.update_with(1, |_| {}).await;
    let _ = Users::new(db)
        .with(cached_repo::ReadOptions::new())
        .fresh()
        .clone();
}
