//! Two models of one table: what is written through one is seen through the other.

use cached_repo::CachedDb;
use cached_repo_tests::{
    World,
    entities::family::{item, label, light},
};
use sea_orm::{ActiveValue::Set, DbBackend};

struct Models {
    db: CachedDb,
    items: item::Repository,
    lights: light::Repository,
    labels: label::Repository,
}

/// One item on shelf 1 in room 7, and empty lists, all of it cached.
async fn models(world: &World) -> Models {
    world.create_table(item::Entity).await;
    let db = world.db().await;
    let models = Models {
        items: item::Repository::new(&db),
        lights: light::Repository::new(&db),
        labels: label::Repository::new(&db),
        db,
    };
    let row = item::ActiveModel {
        shelf: Set(1),
        room: Set(7),
        name: Set("one".into()),
        ..Default::default()
    };
    assert_eq!(models.items.insert(row).await.unwrap().id, 1);
    for _ in 0..2 {
        for number in [1, 2, 7] {
            models.items.find_all_by_shelf(number).await.unwrap();
            models.items.find_all_by_room(number).await.unwrap();
            models.labels.find_by_id(number).await.unwrap();
        }
    }
    models
}

impl Models {
    async fn shelf(&self, shelf: i64) -> Vec<i64> {
        let items = self.items.find_all_by_shelf(shelf).await.unwrap();
        items.iter().map(|item| item.id).collect()
    }

    async fn room(&self, room: i64) -> Vec<i64> {
        let items = self.items.find_all_by_room(room).await.unwrap();
        items.iter().map(|item| item.id).collect()
    }

    async fn names(&self, id: i64) -> [Option<String>; 3] {
        let item = self.items.find_by_id(id).await.unwrap();
        let light = self.lights.find_by_id(id).await.unwrap();
        let label = self.labels.find_by_id(id).await.unwrap();
        [
            item.map(|row| row.name.clone()),
            light.map(|row| row.name.clone()),
            label.map(|row| row.name.clone()),
        ]
    }
}

fn all(name: &str) -> [Option<String>; 3] {
    [(); 3].map(|()| Some(name.to_owned()))
}

everywhere!(writes_through_one_model_are_seen_through_another);
/// Goal: lists of the full model have what the light one writes, also by a column that the light one
/// lacks; rows are seen under every name.
async fn writes_through_one_model_are_seen_through_another(world: World) {
    let models = models(&world).await;
    assert_eq!(models.names(1).await, all("one"));
    models
        .lights
        .update_with(1, |row| {
            row.shelf = Set(2);
            row.name = Set("moved".into());
        })
        .await
        .unwrap();
    assert_eq!(models.names(1).await, all("moved"));
    assert_eq!(
        (models.shelf(1).await, models.shelf(2).await),
        (vec![], vec![1])
    );
    let row = light::ActiveModel {
        shelf: Set(1),
        name: Set("two".into()),
        ..Default::default()
    };
    assert_eq!(models.lights.insert(row).await.unwrap().id, 2);
    assert_eq!(
        (models.shelf(1).await, models.room(7).await),
        (vec![2], vec![1, 2])
    );
    assert_eq!(models.names(2).await, all("two"));
    models.labels.delete_by_id(1).await.unwrap().unwrap();
    assert_eq!(models.names(1).await, [None, None, None]);
    assert_eq!(
        (models.shelf(2).await, models.room(7).await),
        (vec![], vec![2])
    );
}

everywhere!(transactions_of_one_model_are_seen_through_another);
/// Goal: the same inside a transaction, and for what raw SQL changes in it.
async fn transactions_of_one_model_are_seen_through_another(world: World) {
    let models = models(&world).await;
    let tx = models.db.begin().await.unwrap();
    let row = light::ActiveModel {
        shelf: Set(2),
        name: Set("two".into()),
        ..Default::default()
    };
    models.lights.on(&tx).insert(row).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(
        (models.shelf(2).await, models.room(7).await),
        (vec![2], vec![1, 2])
    );
    let tx = models.db.begin().await.unwrap();
    let sql = "UPDATE item SET shelf = 2, name = 'raw', version = version + 1 WHERE id = 1";
    let sql = match world.backend() {
        DbBackend::MySql => sql.to_owned(),
        _ => sql.replace("item", "\"item\""),
    };
    sea_orm::ConnectionTrait::execute_unprepared(&tx, &sql)
        .await
        .unwrap();
    tx.invalidate::<label::Model>(1);
    tx.commit().await.unwrap();
    assert_eq!(models.names(1).await, all("raw"));
    assert_eq!(
        (models.shelf(1).await, models.shelf(2).await),
        (vec![], vec![1, 2])
    );
}

everywhere!(an_invalidation_of_one_model_is_one_of_all);
/// Goal: `invalidate` and `invalidate_all` of one model reach the others, and their lists.
async fn an_invalidation_of_one_model_is_one_of_all(world: World) {
    let models = models(&world).await;
    for (round, name) in ["first", "second"].into_iter().enumerate() {
        assert_eq!(models.shelf(2).await.len(), round.min(1));
        world
            .raw(&format!(
                "UPDATE \"item\" SET shelf = 2, name = '{name}', version = version + 1"
            ))
            .await;
        match round {
            0 => models.labels.invalidate(1).await.unwrap(),
            _ => models.labels.invalidate_all().await.unwrap(),
        }
        assert_eq!(models.names(1).await, all(name));
        assert_eq!(models.shelf(2).await, [1]);
    }
}
