//! Every verb with the least features of SeaORM, by the public API alone.
#![cfg(test)]

use cached_repo::{CachedDb, Drained, LookedUp, Source, WriteError};
use sea_orm::{
    ActiveValue::Set, ConnectionTrait, Database, DatabaseConnection, DbBackend, EntityTrait, Schema,
};

mod user {
    use cached_repo::CachedEntity;
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel, CachedEntity)]
    #[sea_orm(table_name = "user")]
    #[cached(near)]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i64,
        #[sea_orm(unique)]
        pub email: String,
        #[cached(index)]
        pub team_id: i64,
        #[cached(version)]
        pub version: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {
        #[sea_orm(
            belongs_to = "super::team::Entity",
            from = "Column::TeamId",
            to = "super::team::Column::Id",
            on_delete = "Cascade"
        )]
        Team,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

mod team {
    use cached_repo::CachedEntity;
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel, CachedEntity)]
    #[sea_orm(table_name = "team")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i64,
        pub name: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

async fn database() -> DatabaseConnection {
    // One connection, or each would have a database of its own.
    let mut options = sea_orm::ConnectOptions::new("sqlite::memory:");
    options.max_connections(1).sqlx_logging(false);
    let conn = Database::connect(options).await.unwrap();
    let schema = Schema::new(DbBackend::Sqlite);
    for create in [
        schema.create_table_from_entity(team::Entity),
        schema.create_table_from_entity(user::Entity),
    ] {
        conn.execute(&create).await.unwrap();
    }
    assert!(!DbBackend::Sqlite.support_returning());
    conn
}

fn new_user(name: &str, team_id: i64) -> user::ActiveModel {
    user::ActiveModel {
        email: Set(format!("{name}@example.com")),
        team_id: Set(team_id),
        ..Default::default()
    }
}

#[tokio::test]
async fn every_verb_works() {
    let conn = database().await;
    let db = CachedDb::builder(conn.clone()).build().await.unwrap();
    let (teams, users) = (team::Repository::new(&db), user::Repository::new(&db));
    for id in [1, 2] {
        let row = team::ActiveModel {
            id: Set(id),
            name: Set("team".into()),
        };
        teams.insert(row).await.unwrap();
    }
    let ada = users.insert(new_user("ada", 1)).await.unwrap();
    let bob = users.insert(new_user("bob", 1)).await.unwrap();
    assert_eq!((ada.version, bob.id), (1, 2));
    for _ in 0..2 {
        let found = users.find_by_id(1).await.unwrap().unwrap();
        assert_eq!(*found, *ada);
        assert_eq!(users.find_by_ids([2, 9, 1]).await.unwrap().iter().flatten().count(), 2);
        assert_eq!(users.find_by_email("bob@example.com").await.unwrap().unwrap().id, 2);
        assert_eq!(users.find_all_by_team_id(1).await.unwrap().len(), 2);
        assert_eq!(users.find_all_by_team_id(2).await.unwrap().len(), 0);
    }
    assert_ne!(users.find_by_id(1).await.unwrap().unwrap().source(), Source::Database);

    let saved = users.save(ada.clone().into_model()).await.unwrap();
    assert_eq!(saved.version, 2);
    let conflict = users.save(ada.into_model()).await.unwrap_err();
    assert!(matches!(conflict, WriteError::VersionConflict { .. }), "{conflict}");
    users.update_with(1, |row| row.team_id = Set(2)).await.unwrap();
    assert_eq!(users.find_all_by_team_id(2).await.unwrap()[0].id, 1);
    let update = user::ActiveModel {
        id: Set(2),
        version: Set(1),
        team_id: Set(2),
        ..Default::default()
    };
    assert_eq!(users.update(update).await.unwrap().version, 2);
    assert_eq!(users.find_all_by_team_id(1).await.unwrap().len(), 0);

    let gone = users.delete_by_id(2).await.unwrap().unwrap();
    assert_eq!(gone.email, "bob@example.com");
    assert!(users.delete_by_id(2).await.unwrap().is_none());
    assert!(users.find_by_id(2).await.unwrap().is_none());
    let row = users.fresh().find_by_id(1).await.unwrap().unwrap();
    users.delete(row.into_model()).await.unwrap();
    assert_eq!(user::Entity::find().all(&conn).await.unwrap(), []);

    db.transaction(async |tx| -> Result<(), WriteError> {
        users.on(tx).insert(new_user("eve", 2)).await?;
        let nested = tx.transaction(async |tx| users.on(tx).insert(new_user("eve", 2)).await.map(drop));
        nested.await.unwrap_err();
        Ok(())
    })
    .await
    .unwrap();
    let eve = users.find_all_by_team_id(2).await.unwrap().remove(0);
    teams.delete_by_id(2).await.unwrap().unwrap();
    assert!(users.find_by_id(eve.id).await.unwrap().is_none());

    users.invalidate(eve.id).await.unwrap();
    users.invalidate_all().await.unwrap();
    users.refresh(eve.id).await.unwrap();
    let LookedUp::Miss(lease) = users.cache().lookup(77).await else {
        panic!("nothing is cached");
    };
    lease.fill_absent().await;
    assert!(db.stats().writes >= 8);
    assert_eq!(db.shutdown(std::time::Duration::from_secs(5)).await, Drained::All);
}
