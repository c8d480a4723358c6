//! Damaged index entries, and a cache that fails: a counted miss, and the right rows.

use std::time::Duration;

use cached_repo::CachedDb;
use cached_repo_tests::{
    Backend, Tier, World,
    entities::lookups::{member, remark},
    eventually,
};
use deadpool_redis::redis::{AsyncCommands, aio::MultiplexedConnection};
use sea_orm::ActiveValue::Set;

use super::{new_member, settled};

struct Scene {
    world: World,
    db: CachedDb,
    members: member::Repository,
    redis: MultiplexedConnection,
    ids: [i64; 2],
}

impl Scene {
    /// Ada (badge 1) and Bob (badge 2), both of team 1, found and cached.
    async fn new(backend: Backend) -> Self {
        let world = World::new(backend, Tier::Redis).await;
        world.create_table(member::Entity).await;
        // So that a floor from foreign bytes does not outlast the test.
        let db = world
            .db_with(|config| {
                config.block_ttl = Duration::from_millis(700);
                config.tombstone_ttl = Duration::from_millis(800);
                config.cache_timeout = Duration::from_millis(600);
            })
            .await;
        let members = member::Repository::new(&db);
        let mut ids = [0; 2];
        for (at, email) in ["ada", "bob"].into_iter().enumerate() {
            let number = i32::try_from(at).unwrap() + 1;
            let mut row = new_member(email, 1, number);
            row.badge = Set(Some(number));
            ids[at] = members.insert(row).await.unwrap().id;
        }
        let redis = world.redis().await;
        let scene = Self {
            world,
            db,
            members,
            redis,
            ids,
        };
        scene.is_right("at first").await;
        settled(&scene.db).await;
        scene
    }

    /// Everything is found, three times.
    async fn is_right(&self, harm: &str) {
        let Self { members, ids, .. } = self;
        for _ in 0..3 {
            let one = members.find_by_badge(1).await.unwrap();
            assert_eq!(one.map(|row| row.id), Some(ids[0]), "{harm}");
            let both = members.find_by_badges([2, 1]).await.unwrap();
            let both: Vec<_> = both
                .iter()
                .map(|row| row.as_ref().map(|row| row.id))
                .collect();
            assert_eq!(both, [Some(ids[1]), Some(ids[0])], "{harm}");
            let team = members.find_all_by_team_id(1).await.unwrap();
            let team: Vec<_> = team.iter().map(|row| row.id).collect();
            assert_eq!(team, ids, "{harm}");
        }
    }

    /// The index entries are used without SQL.
    async fn is_warm(&self, harm: &str) {
        eventually(harm, async || {
            let _ = self.world.statements.take();
            self.is_right(harm).await;
            self.world.statements.verbs().is_empty().then_some(())
        })
        .await;
    }

    async fn harmed(&mut self, harm: &str, key: &str, bytes: Option<Vec<u8>>) {
        let () = self.redis.del(key).await.unwrap();
        match bytes {
            Some(bytes) => self.redis.set::<_, _, ()>(key, bytes).await.unwrap(),
            None => self.redis.rpush::<_, _, ()>(key, "V").await.unwrap(),
        }
        let before = self.members.stats();
        self.is_right(harm).await;
        let now = self.members.stats();
        assert!(now.index_misses > before.index_misses, "{harm}");
        assert!(now.misses > before.misses, "{harm}");
        settled(&self.db).await;
        self.is_warm(harm).await;
    }
}

/// Does each damage to the index entry of badge 1, and to the list of team 1.
async fn every_harm(backend: Backend) {
    let mut scene = Scene::new(backend).await;
    let badge = scene.world.key("member", "badge:1");
    let other = scene.world.key("member", "badge:2");
    let team = scene.world.key("member", "team_id:1");
    let row = scene.world.key("member", scene.ids[0]);
    for key in [&badge, &team] {
        let own: Vec<u8> = scene.redis.get(key).await.unwrap();
        assert!(!own.is_empty(), "it is cached under this key");
        let other: Vec<u8> = scene.redis.get(&other).await.unwrap();
        let row: Vec<u8> = scene.redis.get(&row).await.unwrap();
        let mut flipped = own.clone();
        *flipped.last_mut().unwrap() ^= 1;
        let mut absent = own.clone();
        absent[0] = b'A';
        let mut longer = own.clone();
        longer.push(0);
        let harms = [
            ("garbage", Some(b"hello".to_vec())),
            ("nothing but an empty text", Some(Vec::new())),
            ("a list of Redis's", None),
            ("the index entry of another value", Some(other)),
            ("a row", Some(row)),
            ("one bit", Some(flipped)),
            ("an absence's kind", Some(absent)),
            ("one byte more", Some(longer)),
            ("one byte less", Some(own[..own.len() - 1].to_vec())),
        ];
        for (harm, bytes) in harms {
            scene.harmed(harm, key, bytes).await;
        }
    }
    let stats = scene.members.stats();
    assert!(stats.misses_corrupt > 0, "{stats:?}");
}

#[tokio::test]
/// Goal: see above, over PostgreSQL.
async fn a_harmed_index_entry_is_a_miss_on_postgres() {
    every_harm(Backend::Postgres).await;
}

#[tokio::test]
/// Goal: see above, over MariaDB.
async fn a_harmed_index_entry_is_a_miss_on_mariadb() {
    every_harm(Backend::MariaDb).await;
}

#[tokio::test]
/// Goal: see above, over SQLite.
async fn a_harmed_index_entry_is_a_miss_on_sqlite() {
    every_harm(Backend::Sqlite).await;
}

#[tokio::test]
/// Goal: a deploy changes the struct: index entries of the other shape are misses, counted as such,
/// and replaced.
async fn an_index_entry_of_another_shape_is_a_miss() {
    use cached_repo_tests::entities::lookups::member_before as before;
    let scene = Scene::new(Backend::Sqlite).await;
    let old = before::Repository::new(&scene.world.db().await);
    // The list is read by the old program, and then by the new one.
    let _ = old.invalidate_all().await;
    for _ in 0..2 {
        assert_eq!(old.find_all_by_team_id(1).await.unwrap().len(), 2);
    }
    assert!(old.stats().index_hits > 0);
    let seen = scene.members.stats();
    scene.is_right("another shape").await;
    let now = scene.members.stats();
    assert!(now.misses_other_schema > seen.misses_other_schema);
    settled(&scene.db).await;
    scene.is_warm("another shape").await;
}

everywhere!(long_values_are_distinguished);
/// Goal: values whose keys would be longer than 200 bytes find their own rows, cold and warm.
async fn long_values_are_distinguished(world: World) {
    world.create_table(remark::Entity).await;
    let db = world.db().await;
    let remarks = remark::Repository::new(&db);
    let long = "ü".repeat(100);
    let texts = [format!("{long}1"), format!("{long}2"), long.clone()];
    let mut ids = Vec::new();
    for text in &texts {
        assert_eq!(remarks.find_all_by_text(text.clone()).await.unwrap(), []);
        let row = remark::ActiveModel {
            text: Set(Some(text.clone())),
            page: Set(Some(long.clone())),
            ..Default::default()
        };
        ids.push(remarks.insert(row).await.unwrap().id);
    }
    for _ in 0..3 {
        for (text, id) in texts.iter().zip(&ids) {
            let found = remarks.find_all_by_text(text.clone()).await.unwrap();
            assert_eq!(found.iter().map(|row| row.id).collect::<Vec<_>>(), [*id]);
            let found = remarks
                .find_all_by_place(text.clone(), long.clone())
                .await
                .unwrap();
            assert_eq!(found.iter().map(|row| row.id).collect::<Vec<_>>(), [*id]);
        }
    }
}
