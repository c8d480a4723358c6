//! Keys that hold foreign values: garbage, other types, cut, copied and altered entries.
//!
//! Each is a miss that is counted, never an error and never a wrong row; the load replaces it, and
//! so does a write.

use std::time::Duration;

use cached_repo::{Drained, Source, internals::Entry};
use cached_repo_tests::{Backend, Tier, World, entities::verbs::counter};
use deadpool_redis::redis::{AsyncCommands, aio::MultiplexedConnection};
use sea_orm::ActiveValue;

/// What is done to the key of row 1, whose entry is intact; row 2 has a newer version.
type Harm = (&'static str, fn(Vec<u8>, Vec<u8>) -> Held);

/// What a key is made to hold.
enum Held {
    Text(Vec<u8>),
    List,
    Hash,
    Set,
}
use Held::{Hash, List, Set, Text};

const HARMS: &[Harm] = &[
    ("nothing but an empty text", |_, _| Text(vec![])),
    ("garbage", |_, _| Text(b"hello, world".to_vec())),
    ("garbage of an entry's length", |own, _| {
        Text(vec![0xff; own.len()])
    }),
    ("a list", |_, _| List),
    ("a hash", |_, _| Hash),
    ("a set", |_, _| Set),
    ("a header and nothing more", |own, _| {
        Text(own[..Entry::HEADER_LEN].to_vec())
    }),
    ("half a header", |own, _| Text(own[..20].to_vec())),
    ("all but the last byte", |own, _| {
        Text(own[..own.len() - 1].to_vec())
    }),
    ("one byte more", |mut own, _| {
        own.push(0);
        Text(own)
    }),
    ("another row's entry", |_, other| Text(other)),
    ("another checksum", |mut own, _| {
        own[Entry::HEADER_LEN + 1] ^= 1;
        Text(own)
    }),
    ("another tag", |mut own, _| {
        own[Entry::HEADER_LEN] = b'-';
        Text(own)
    }),
    ("one bit of the row", |mut own, _| {
        *own.last_mut().unwrap() ^= 1;
        Text(own)
    }),
    ("the row of an absence", |mut own, _| {
        own[1] = b'A';
        Text(own)
    }),
    ("a higher version", |mut own, _| {
        own[2] = b'9';
        Text(own)
    }),
    ("a lower version", |mut own, _| {
        own[20] = b'0';
        Text(own)
    }),
    ("more slots than there are", |mut own, _| {
        own[Entry::HEADER_LEN - 2..Entry::HEADER_LEN].copy_from_slice(b"50");
        Text(own)
    }),
    ("a letter for a digit", |mut own, _| {
        own[25] = b'x';
        Text(own)
    }),
    ("an unknown kind", |mut own, _| {
        own[1] = b'?';
        Text(own)
    }),
    ("another format", |mut own, _| {
        own[0] = b'2';
        Text(own)
    }),
];

async fn harm(redis: &mut MultiplexedConnection, key: &str, held: Held) {
    let () = redis.del(key).await.unwrap();
    match held {
        Text(bytes) => redis.set::<_, _, ()>(key, bytes).await.unwrap(),
        List => redis.rpush::<_, _, ()>(key, "V").await.unwrap(),
        Hash => redis.hset::<_, _, _, ()>(key, "V", "V").await.unwrap(),
        Set => redis.sadd::<_, _, ()>(key, "V").await.unwrap(),
    }
}

struct Scene {
    world: World,
    db: cached_repo::CachedDb,
    counters: counter::Repository,
    redis: MultiplexedConnection,
    own_key: String,
    own: Vec<u8>,
    other: Vec<u8>,
}

impl Scene {
    /// Rows 1 and 2, both cached; row 2 at a higher version.
    async fn new(backend: Backend) -> Self {
        let world = World::new(backend, Tier::Redis).await;
        world.create_table(counter::Entity).await;
        // So that a floor from foreign bytes does not outlast the test.
        let db = world
            .db_with(|config| {
                config.block_ttl = Duration::from_millis(700);
                config.tombstone_ttl = Duration::from_millis(800);
                config.cache_timeout = Duration::from_millis(600);
            })
            .await;
        let counters = counter::Repository::new(&db);
        for (id, version) in [(1, 4), (2, 9)] {
            let row = counter::ActiveModel {
                id: ActiveValue::Set(id),
                value: ActiveValue::Set(i64::from(id) * 10),
                version: ActiveValue::Set(version),
                ..Default::default()
            };
            counters.insert(row).await.unwrap();
        }
        let mut redis = world.redis().await;
        let own_key = world.key("counter", 1);
        let own = redis.get(&own_key).await.unwrap();
        let other = redis.get(world.key("counter", 2)).await.unwrap();
        Self {
            world,
            db,
            counters,
            redis,
            own_key,
            own,
            other,
        }
    }

    async fn harm(&mut self, held: fn(Vec<u8>, Vec<u8>) -> Held) {
        let held = held(self.own.clone(), self.other.clone());
        harm(&mut self.redis, &self.own_key, held).await;
    }
}

#[tokio::test]
/// Goal: whatever the key holds, a find is a counted miss with the row from the database, and the
/// load replaces it: soon the row is cached again.
async fn a_find_reads_it_as_a_miss_and_replaces_it() {
    let mut scene = Scene::new(Backend::Sqlite).await;
    for (what, held) in HARMS {
        scene.harm(*held).await;
        let before = scene.counters.stats();
        let row = scene.counters.find_by_id(1).await.unwrap().unwrap();
        assert_eq!(
            (row.id, row.value, row.source()),
            (1, 10, Source::Database),
            "{what}"
        );
        let after = scene.counters.stats();
        let corrupt = after.misses_corrupt - before.misses_corrupt;
        let other_schema = after.misses_other_schema - before.misses_other_schema;
        // An absence has no schema.
        let expected = match *what {
            "the row of an absence" => (0, 1),
            _ => (1, 0),
        };
        assert_eq!((corrupt, other_schema), expected, "{what}");
        assert_eq!(after.bypasses, before.bypasses, "{what}");
        assert_eq!(
            scene.db.shutdown(Duration::from_secs(10)).await,
            Drained::All
        );
        cached_repo_tests::eventually("the row is cached again", async || {
            let row = scene.counters.find_by_id(1).await.unwrap().unwrap();
            assert_eq!((row.id, row.value), (1, 10), "{what}");
            (row.source() == Source::Shared).then_some(())
        })
        .await;
    }
}

#[tokio::test]
/// Goal: the same for a row that does not exist, with negative caching on and off: the foreign
/// value is gone either way.
async fn a_find_of_nothing_replaces_it() {
    let mut scene = Scene::new(Backend::Sqlite).await;
    let off = cached_repo::ReadOptions::new().negative_ttl(Duration::ZERO);
    scene.world.raw("DELETE FROM counter WHERE id = 1").await;
    for (what, held) in HARMS {
        for counters in [scene.counters.clone(), scene.counters.with(off)] {
            scene.harm(*held).await;
            assert!(counters.find_by_id(1).await.unwrap().is_none(), "{what}");
            assert_eq!(
                scene.db.shutdown(Duration::from_secs(10)).await,
                Drained::All
            );
            let corrupt = counters.stats().misses_corrupt;
            assert!(counters.find_by_id(1).await.unwrap().is_none(), "{what}");
            assert_eq!(counters.stats().misses_corrupt, corrupt, "{what}");
        }
    }
}

#[tokio::test]
/// Goal: writes work over whatever the key holds, and the next find is right.
async fn a_write_works_over_it() {
    let mut scene = Scene::new(Backend::Sqlite).await;
    for (what, held) in HARMS {
        let mut row = scene
            .counters
            .refresh(1)
            .await
            .unwrap()
            .unwrap()
            .into_model();
        row.value += 1;
        scene.harm(*held).await;
        let saved = scene.counters.save(row).await.expect(what);
        assert_eq!(
            scene.counters.find_by_id(1).await.unwrap().unwrap(),
            saved,
            "{what}"
        );
        assert_eq!(
            scene.counters.find_by_id(1).await.unwrap().unwrap(),
            saved,
            "{what}"
        );

        scene.harm(*held).await;
        let saved = scene
            .counters
            .update_with(1, |row| row.value = ActiveValue::Set(10))
            .await
            .expect(what);
        assert_eq!(
            scene.counters.find_by_id(1).await.unwrap().unwrap(),
            saved,
            "{what}"
        );

        scene.harm(*held).await;
        scene.counters.invalidate(1).await.expect(what);
        assert_eq!(
            scene.counters.find_by_id(1).await.unwrap().unwrap(),
            saved,
            "{what}"
        );

        scene.harm(*held).await;
        scene.counters.invalidate_all().await.expect(what);
        assert_eq!(
            scene.counters.find_by_id(1).await.unwrap().unwrap(),
            saved,
            "{what}"
        );

        scene.harm(*held).await;
        let fresh = scene.counters.fresh().find_by_id(1).await.unwrap().unwrap();
        assert_eq!(fresh, saved, "{what}");

        scene.harm(*held).await;
        assert!(scene.counters.delete_by_id(1).await.expect(what).is_some());
        assert!(
            scene.counters.find_by_id(1).await.unwrap().is_none(),
            "{what}"
        );

        scene.harm(*held).await;
        let row = counter::ActiveModel {
            id: ActiveValue::Set(1),
            value: ActiveValue::Set(10),
            ..Default::default()
        };
        let inserted = scene.counters.insert(row).await.expect(what);
        assert_eq!(
            scene.counters.find_by_id(1).await.unwrap().unwrap(),
            inserted,
            "{what}"
        );
    }
}

#[tokio::test]
/// Goal: an entry copied to another key by Redis itself is not the row of that key.
async fn a_copied_entry_is_not_the_row() {
    for backend in [Backend::Postgres, Backend::MariaDb, Backend::Sqlite] {
        let mut scene = Scene::new(backend).await;
        let (one, two) = (scene.own_key.clone(), scene.world.key("counter", 2));
        for (from, to, id) in [(&two, &one, 1), (&one, &two, 2)] {
            let copied: bool = deadpool_redis::redis::cmd("COPY")
                .arg(from)
                .arg(to)
                .arg("REPLACE")
                .query_async(&mut scene.redis)
                .await
                .unwrap();
            assert!(copied);
            let row = scene.counters.find_by_id(id).await.unwrap().unwrap();
            assert_eq!((row.id, row.value), (id, i64::from(id) * 10));
            assert_eq!(
                scene.db.shutdown(Duration::from_secs(10)).await,
                Drained::All
            );
            // The value that the first load left does not matter to the next one.
            for (key, entry) in [(&one, &scene.own), (&two, &scene.other)] {
                let () = scene.redis.set(key, entry).await.unwrap();
            }
        }
        assert_eq!(scene.counters.stats().misses_corrupt, 2);
        // An absence that is copied says nothing of the other key either.
        assert!(scene.counters.find_by_id(3).await.unwrap().is_none());
        assert_eq!(
            scene.db.shutdown(Duration::from_secs(10)).await,
            Drained::All
        );
        let copied: bool = deadpool_redis::redis::cmd("COPY")
            .arg(scene.world.key("counter", 3))
            .arg(&one)
            .arg("REPLACE")
            .query_async(&mut scene.redis)
            .await
            .unwrap();
        assert!(copied);
        let row = scene.counters.find_by_id(1).await.unwrap().unwrap();
        assert_eq!(row.value, 10);
    }
}
