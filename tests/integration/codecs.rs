//! How rows are stored: what a person sees in Redis, what is compressed, and processes that store
//! them in different ways.

use std::time::Duration;

use bytes::Bytes;
use cached_repo::{
    CachedEntity, Drained, Source,
    internals::{Entry, Key, KeySpace, Version, seal_anything},
};
use cached_repo_tests::{
    Backend, Tier, World,
    entities::notes::{compressed, compressed_json, json, plain},
    eventually,
};
use deadpool_redis::redis::AsyncCommands;
use sea_orm::{ActiveValue::Set, EntityTrait, NotSet};

/// A note in one of the ways to store it.
macro_rules! note {
    ($how:ident, $id:expr, $body:expr) => {
        $how::ActiveModel {
            id: Set($id),
            shelf: Set(7),
            body: Set($body.into()),
            author: Set(None),
            extra: Set(None),
            version: NotSet,
        }
    };
}

/// What Redis holds behind the seal.
async fn stored(world: &World, id: i64) -> (u8, Bytes) {
    let entry = world.entry(&world.key("note", id)).await.unwrap();
    (entry.payload[0], entry.payload.slice(5..))
}

#[tokio::test]
/// Goal: a person who looks into Redis can read the row, and the keys that a lookup found.
async fn rows_in_json_can_be_read_in_redis() {
    let world = World::new(Backend::Sqlite, Tier::Redis).await;
    world.create_table(json::Entity).await;
    let notes = json::Repository::new(&world.db().await);
    let row = json::ActiveModel {
        extra: Set(Some(serde_json::json!({"tags": ["ü", 1.5, null]}))),
        ..note!(json, 1, "Ada \"L\"\n")
    };
    notes.insert(row).await.unwrap();
    let text = r#"{"id":1,"shelf":7,"body":"Ada \"L\"\n","author":null,"extra":{"tags":["ü",1.5,null]},"version":1}"#;
    assert_eq!(stored(&world, 1).await, (b'j', text.into()));

    let row = json::ActiveModel {
        author: Set(Some("null".into())),
        extra: Set(Some(serde_json::Value::Null)),
        ..note!(json, 2, "")
    };
    notes.insert(row).await.unwrap();
    let text = r#"{"id":2,"shelf":7,"body":"","author":"null","extra (some)":null,"version":1}"#;
    assert_eq!(stored(&world, 2).await, (b'j', text.into()));

    assert_eq!(notes.find_all_by_shelf(7).await.unwrap().len(), 2);
    let index_entry = world.key("note:shelf", 7);
    let index_entry = eventually("the index entry is stored", async || {
        world.entry(&index_entry).await
    })
    .await;
    assert_eq!(index_entry.payload[5..], *br#"{"primary key":[1,2]}"#);
}

/// The entry of a note in JSON, with anything in the place of its row, rightly sealed.
fn with_row(key: &Key, entry: &Entry, tag: u8, row: &[u8]) -> Vec<u8> {
    let schema = json::Model::DEFINITION.schema;
    let payload = seal_anything(key, Version::new(1).unwrap(), schema, tag, row).unwrap();
    Entry {
        payload,
        ..entry.clone()
    }
    .to_bytes()
}

#[tokio::test]
/// Goal: a row that was edited by hand, and one that is sealed rightly but is no row, are counted
/// misses, and the load repairs them.
async fn json_that_is_not_ours_is_a_miss_and_repaired() {
    let world = World::new(Backend::Sqlite, Tier::Redis).await;
    world.create_table(json::Entity).await;
    let notes = json::Repository::new(&world.db().await);
    notes.insert(note!(json, 1, "Ada")).await.unwrap();
    let name = world.key("note", 1);
    let key = KeySpace::new(&world.namespace, "note").row(1_i64);
    let good = world.entry(&name).await.unwrap();
    let row = String::from_utf8(good.payload[5..].to_vec()).unwrap();

    let mut edited = good.to_bytes();
    let at = edited.windows(3).position(|text| text == b"Ada").unwrap();
    edited[at..at + 3].copy_from_slice(b"Eve");
    let hostile = [&u32::MAX.to_le_bytes()[..], &[0xff; 16]].concat();
    let harms = [
        ("edited by hand", edited),
        ("nothing", with_row(&key, &good, b'j', b"")),
        ("no object", with_row(&key, &good, b'j', b"[1,7]")),
        (
            "a column less",
            with_row(
                &key,
                &good,
                b'j',
                row.replace(r#""shelf":7,"#, "").as_bytes(),
            ),
        ),
        (
            "a column twice",
            with_row(
                &key,
                &good,
                b'j',
                row.replace(r#""id":1"#, r#""id":1,"id":1"#).as_bytes(),
            ),
        ),
        (
            "a column more",
            with_row(
                &key,
                &good,
                b'j',
                row.replace("}", r#","more":1}"#).as_bytes(),
            ),
        ),
        (
            "two rows",
            with_row(&key, &good, b'j', [&*row, &*row].concat().as_bytes()),
        ),
        (
            "another type",
            with_row(&key, &good, b'j', row.replace("\"Ada\"", "7").as_bytes()),
        ),
        (
            "the other codec",
            with_row(&key, &good, b'm', row.as_bytes()),
        ),
        ("a hostile length", with_row(&key, &good, b'J', &hostile)),
    ];
    let mut redis = world.redis().await;
    for (corrupt, (what, bytes)) in (1..).zip(harms) {
        let () = redis.set(&name, bytes).await.unwrap();
        let found = notes.find_by_id(1).await.unwrap().unwrap();
        assert_eq!(
            (&*found.body, found.source()),
            ("Ada", Source::Database),
            "{what}"
        );
        assert_eq!(notes.stats().misses_corrupt, corrupt, "{what}");
        eventually("the row is cached again", async || {
            let found = notes.find_by_id(1).await.unwrap().unwrap();
            assert_eq!(&*found.body, "Ada", "{what}");
            (found.source() == Source::Shared).then_some(())
        })
        .await;
    }
}

#[tokio::test]
/// Goal: while a deploy changes the codec, the processes before and after it read each other's
/// entries as misses, counted as such, and each other's writes at once.
async fn two_codecs_of_an_entity_never_read_each_others_entries() {
    for backend in [Backend::Postgres, Backend::MariaDb, Backend::Sqlite] {
        let world = World::new(backend, Tier::Redis).await;
        world.create_table(plain::Entity).await;
        let before = plain::Repository::new(&world.db().await);
        let after = json::Repository::new(&world.db().await);
        before.insert(note!(plain, 1, "0")).await.unwrap();
        for round in 0..4 {
            let found = after.find_by_id(1).await.unwrap().unwrap();
            assert_eq!(found.body, (2 * round).to_string());
            let body = (2 * round + 1).to_string();
            let change = |row: &mut json::ActiveModel| row.body = Set(body.clone());
            after.update_with(1, change).await.unwrap();
            let found = before.find_by_id(1).await.unwrap().unwrap();
            assert_eq!(found.body, body);
            let body = (2 * round + 2).to_string();
            let change = |row: &mut plain::ActiveModel| row.body = Set(body.clone());
            before.update_with(1, change).await.unwrap();
        }
        for stats in [before.stats(), after.stats()] {
            assert_eq!((stats.misses_other_schema, stats.misses_corrupt), (4, 0));
        }
        assert_eq!(before.find_all_by_shelf(7).await.unwrap().len(), 1);
        assert_eq!(after.find_all_by_shelf(7).await.unwrap().len(), 1);
    }
}

/// A text in which nothing is repeated.
fn noise(len: usize) -> String {
    let next = |state: &u64| {
        Some(
            state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1),
        )
    };
    let states = std::iter::successors(Some(7), next);
    states
        .map(|state: u64| char::from(b'!' + (state >> 33) as u8 % 94))
        .take(len)
        .collect()
}

/// Inserts a long note, a short one and one that cannot be compressed, and reads them, put by the
/// write and filled by a load.
macro_rules! comes_back_compressed {
    ($world:ident, $how:ident, $tags:expr) => {{
        let notes = $how::Repository::new(&$world.db().await);
        let noise = noise(400);
        for (id, body) in [(1, "Ada ".repeat(500)), (2, "Ada".into()), (3, noise)] {
            let row = notes.insert(note!($how, id, body)).await.unwrap();
            for how in ["put", "filled"] {
                if how == "filled" {
                    notes.invalidate(id).await.unwrap();
                    notes.find_by_id(id).await.unwrap();
                }
                let found = notes.find_by_id(id).await.unwrap().unwrap();
                assert_eq!((found.source(), &*found), (Source::Shared, &*row), "{how}");
                if $world.tier() == Tier::Redis {
                    let (tag, bytes) = stored(&$world, id).await;
                    let tags: [u8; 3] = $tags;
                    assert_eq!(tag, tags[id as usize - 1], "note {id}");
                    assert!(id != 1 || bytes.len() < 200, "{} bytes", bytes.len());
                }
            }
        }
        assert_eq!(notes.stats().misses_corrupt, 0);
        $how::Entity::delete_many()
            .exec(&$world.conn)
            .await
            .unwrap();
        notes.invalidate_all().await.unwrap();
    }};
}

everywhere!(long_rows_are_compressed_and_come_back_as_they_were);
/// Goal: rows longer than the entity's limit are compressed, if that saves space, and read back;
/// shorter ones are not compressed.
async fn long_rows_are_compressed_and_come_back_as_they_were(world: World) {
    world.create_table(plain::Entity).await;
    comes_back_compressed!(world, compressed, [b'M', b'm', b'm']);
    comes_back_compressed!(world, compressed_json, [b'J', b'j', b'j']);
}

#[tokio::test]
/// Goal: a process that compresses and one that does not read each other's entries correctly: the
/// auditor finds nothing stale.
async fn compression_can_be_turned_on_and_off_in_a_deploy() {
    let world = World::new(Backend::Sqlite, Tier::Redis).await;
    world.create_table(plain::Entity).await;
    let audited = async || world.db_with(|config| config.audit_rate = 1.0).await;
    let (before, after) = (audited().await, audited().await);
    let plain = plain::Repository::new(&before);
    let compressed = compressed::Repository::new(&after);
    plain
        .insert(note!(plain, 1, "Ada ".repeat(500)))
        .await
        .unwrap();
    compressed
        .insert(note!(compressed, 2, "Bob ".repeat(500)))
        .await
        .unwrap();
    for (id, tag) in [(1, b'm'), (2, b'M')] {
        assert_eq!(stored(&world, id).await.0, tag);
        let found = plain.find_by_id(id).await.unwrap().unwrap();
        assert_eq!(found.source(), Source::Shared);
        let found = compressed.find_by_id(id).await.unwrap().unwrap();
        assert_eq!(found.source(), Source::Shared);
    }
    for db in [before, after] {
        eventually("the hits were audited", async || {
            (db.stats().audit_checked == 2).then_some(())
        })
        .await;
        assert_eq!(db.shutdown(Duration::from_secs(10)).await, Drained::All);
        let stats = db.stats();
        assert_eq!(
            (stats.audit_stale, stats.audit_in_motion),
            (0, 0),
            "{stats:?}"
        );
    }
}
