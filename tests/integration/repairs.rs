//! Repairs after writes past the cache: `refresh`, `fresh`, `invalidate`, `invalidate_all`.

use std::time::Duration;

use cached_repo::{CachedDb, Config, LookedUp, ReadOptions, Source};
use cached_repo_harness::Redis;
use cached_repo_tests::{
    Backend, Tier, World,
    entities::{setting, user, verbs::counter},
    eventually,
};
use sea_orm::{ActiveValue::Set, DbBackend, EntityTrait};

/// Short enough for a test to see a floor lapse.
fn short(config: &mut Config) {
    config.block_ttl = Duration::from_millis(700);
    config.tombstone_ttl = Duration::from_millis(800);
    config.cache_timeout = Duration::from_millis(500);
}

async fn insert(counters: &counter::Repository, id: i32, value: i64) {
    let row = counter::ActiveModel {
        id: Set(id),
        value: Set(value),
        ..Default::default()
    };
    counters.insert(row).await.unwrap();
}

/// The row's value and where a plain find reads it.
async fn find(counters: &counter::Repository, id: i32) -> Option<(i64, Source)> {
    let row = counters.find_by_id(id).await.unwrap();
    row.map(|row| (row.value, row.source()))
}

everywhere!(refresh_loads_what_was_written_past_the_cache);
/// Goal: `refresh` returns what the database has, with one SELECT, and caches it, though the
/// version did not rise.
async fn refresh_loads_what_was_written_past_the_cache(world: World) {
    world.create_table(counter::Entity).await;
    let counters = counter::Repository::new(&world.db().await);
    insert(&counters, 1, 10).await;
    assert_eq!(find(&counters, 1).await, Some((10, Source::Shared)));
    world.raw("UPDATE counter SET value = 11").await;
    assert_eq!(find(&counters, 1).await, Some((10, Source::Shared)));

    let row = counters.refresh(1).await.unwrap().unwrap();
    assert_eq!((row.value, row.source()), (11, Source::Database));
    assert_eq!(world.statements.verbs(), ["SELECT"]);
    assert_eq!(find(&counters, 1).await, Some((11, Source::Shared)));
    assert!(counters.refresh(2).await.unwrap().is_none());
}

everywhere!(a_fresh_read_repairs_a_row_that_raw_sql_changed);
/// Goal: `fresh()` sees a raw change, and so do plain finds after it.
async fn a_fresh_read_repairs_a_row_that_raw_sql_changed(world: World) {
    world.create_table(counter::Entity).await;
    let counters = counter::Repository::new(&world.db().await);
    insert(&counters, 1, 10).await;
    for (sql, value) in [
        ("UPDATE counter SET value = 11", 11),
        ("UPDATE counter SET value = 12, version = 9", 12),
    ] {
        world.raw(sql).await;
        let row = counters.fresh().find_by_id(1).await.unwrap().unwrap();
        assert_eq!((row.value, row.source()), (value, Source::Database));
        assert_eq!(find(&counters, 1).await, Some((value, Source::Shared)));
    }
}

everywhere!(a_fresh_read_repairs_a_row_whose_version_went_down);
/// Goal: a version that raw SQL lowered is read at once everywhere, and cached when the floor
/// lapses.
async fn a_fresh_read_repairs_a_row_whose_version_went_down(world: World) {
    world.create_table(counter::Entity).await;
    let db = world.db_with(short).await;
    let counters = counter::Repository::new(&db);
    insert(&counters, 1, 10).await;
    for value in 11..15 {
        counters
            .update_with(1, |row| row.value = Set(value))
            .await
            .unwrap();
    }
    world
        .raw("UPDATE counter SET value = 99, version = 1")
        .await;
    let row = counters.fresh().find_by_id(1).await.unwrap().unwrap();
    assert_eq!((row.value, row.version), (99, 1));
    assert_eq!(find(&counters, 1).await, Some((99, Source::Database)));
    eventually("the floor lapses", async || {
        let (value, source) = find(&counters, 1).await.unwrap();
        assert_eq!(value, 99);
        (source == Source::Shared).then_some(())
    })
    .await;
}

everywhere!(a_fresh_read_repairs_a_row_that_raw_sql_deleted);
/// Goal: a deleted row is gone after `fresh()`, whether or not absences are cached.
async fn a_fresh_read_repairs_a_row_that_raw_sql_deleted(world: World) {
    world.create_table(counter::Entity).await;
    let counters = counter::Repository::new(&world.db().await);
    let without_absences = counters.with(ReadOptions::new().negative_ttl(Duration::ZERO));
    insert(&counters, 1, 10).await;
    insert(&counters, 2, 20).await;
    world.raw("DELETE FROM counter").await;
    assert_eq!(find(&counters, 1).await, Some((10, Source::Shared)));

    assert!(counters.fresh().find_by_id(1).await.unwrap().is_none());
    assert_eq!(find(&counters, 1).await, None);
    assert_eq!(counters.stats().absent_hits, 1);
    assert!(
        without_absences
            .fresh()
            .find_by_id(2)
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(find(&counters, 2).await, None);
}

everywhere!(a_fresh_read_repairs_a_cached_absence);
/// Goal: a row that raw SQL inserted under a key known to be absent appears with `fresh()`.
async fn a_fresh_read_repairs_a_cached_absence(world: World) {
    world.create_table(counter::Entity).await;
    let counters = counter::Repository::new(&world.db().await);
    assert_eq!(find(&counters, 1).await, None);
    world
        .raw("INSERT INTO counter (id, value, version) VALUES (1, 10, 1)")
        .await;
    assert_eq!(find(&counters, 1).await, None);
    assert_eq!(
        counters.fresh().find_by_id(1).await.unwrap().unwrap().value,
        10
    );
    assert_eq!(find(&counters, 1).await, Some((10, Source::Shared)));
}

everywhere!(fresh_reads_beside_each_other_all_see_the_database);
/// Goal: 50 concurrent fresh reads each return what was written before they began, and leave the
/// cache right.
async fn fresh_reads_beside_each_other_all_see_the_database(world: World) {
    world.create_table(counter::Entity).await;
    let counters = counter::Repository::new(&world.db().await);
    insert(&counters, 1, 0).await;
    for value in 1..4 {
        world
            .raw(&format!("UPDATE counter SET value = {value}"))
            .await;
        let reads: Vec<_> = (0..50)
            .map(|_| {
                let fresh = counters.fresh();
                tokio::spawn(async move { fresh.find_by_id(1).await.unwrap().unwrap().value })
            })
            .collect();
        for read in reads {
            assert_eq!(read.await.unwrap(), value);
        }
        let (found, _) = find(&counters, 1).await.unwrap();
        assert_eq!(found, value);
    }
}

everywhere!(an_invalidated_row_is_loaded_again);
/// Goal: `invalidate` forgets one row, present or absent, and no other.
async fn an_invalidated_row_is_loaded_again(world: World) {
    world.create_table(counter::Entity).await;
    let counters = counter::Repository::new(&world.db().await);
    insert(&counters, 1, 10).await;
    insert(&counters, 2, 20).await;
    assert_eq!(find(&counters, 3).await, None);
    world.raw("UPDATE counter SET value = value + 1").await;
    world
        .raw("INSERT INTO counter (id, value, version) VALUES (3, 30, 1)")
        .await;
    counters.invalidate(1).await.unwrap();
    counters.invalidate(3).await.unwrap();
    // Nothing is known of this one, and invalidating it does no harm.
    counters.invalidate(4).await.unwrap();

    assert_eq!(find(&counters, 1).await, Some((11, Source::Database)));
    assert_eq!(find(&counters, 1).await, Some((11, Source::Shared)));
    assert_eq!(find(&counters, 2).await, Some((20, Source::Shared)));
    assert_eq!(find(&counters, 3).await, Some((30, Source::Database)));
    assert_eq!(find(&counters, 4).await, None);
    assert_eq!(counters.stats().invalidations, 3);
}

everywhere!(an_invalidation_during_a_load_keeps_the_old_row_out_of_the_cache);
/// Goal: a row that was loaded before an invalidation is not stored after it.
async fn an_invalidation_during_a_load_keeps_the_old_row_out_of_the_cache(world: World) {
    use cached_repo::LookedUp;
    world.create_table(counter::Entity).await;
    let counters = counter::Repository::new(&world.db().await);
    insert(&counters, 1, 10).await;
    for all in [false, true] {
        counters.invalidate(1).await.unwrap();
        let LookedUp::Miss(lease) = counters.cache().lookup(1).await else {
            panic!("it was invalidated");
        };
        let loaded = counter::Model {
            id: 1,
            value: -1,
            note: None,
            version: 1,
        };
        if all {
            counters.invalidate_all().await.unwrap();
        } else {
            counters.invalidate(1).await.unwrap();
        }
        assert_eq!(lease.fill(loaded).await.unwrap().value, -1);
        assert_eq!(find(&counters, 1).await, Some((10, Source::Database)));
    }
    assert_eq!(counters.stats().fills_refused, 2);
}

everywhere!(invalidate_all_forgets_one_entity_and_nothing_else);
/// Goal: after raw SQL on many rows `invalidate_all` makes every one of them readable as it is; other entities, also ones whose names begin alike, and
/// other namespaces keep what they have.
async fn invalidate_all_forgets_one_entity_and_nothing_else(world: World) {
    const ROWS: i32 = 700;
    world.create_table(counter::Entity).await;
    world.create_table(setting::Entity).await;
    let db = world.db().await;
    let neighbour = world
        .db_with(|config| config.namespace.push_str("_and_more"))
        .await;
    let counters = counter::Repository::new(&db);
    let theirs = counter::Repository::new(&neighbour);
    let settings = setting::Repository::new(&db);
    let rows: Vec<_> = (0..ROWS).map(|id| format!("({id}, 1, 1)")).collect();
    world
        .raw(&format!(
            "INSERT INTO counter (id, value, version) VALUES {}",
            rows.join(",")
        ))
        .await;
    for id in 0..ROWS {
        counters.find_by_id(id).await.unwrap().unwrap();
    }
    theirs.find_by_id(1).await.unwrap().unwrap();
    let theme = setting::ActiveModel {
        name: Set("theme".into()),
        value: Set("dark".into()),
    };
    settings.insert(theme).await.unwrap();
    settings.find_by_id("theme").await.unwrap();
    assert_eq!(find(&counters, ROWS - 1).await, Some((1, Source::Shared)));

    world.raw("UPDATE counter SET value = 2").await;
    let invalidations = counters.stats().invalidations;
    counters.invalidate_all().await.unwrap();
    assert_eq!(
        counters.stats().invalidations,
        invalidations + 1,
        "all at once"
    );
    for id in 0..ROWS {
        assert_eq!(find(&counters, id).await, Some((2, Source::Database)));
    }
    let warm = settings.find_by_id("theme").await.unwrap().unwrap();
    assert_eq!(warm.source(), Source::Shared);
    let warm = theirs.find_by_id(1).await.unwrap().unwrap();
    assert_eq!((warm.source(), warm.value), (Source::Shared, 1));
}

everywhere!(an_entity_is_listed_and_invalidated_by_its_name);
/// Goal: a tool that knows only the name of an entity can list it and invalidate it.
async fn an_entity_is_listed_and_invalidated_by_its_name(world: World) {
    world.create_table(counter::Entity).await;
    let db = world.db().await;
    assert!(db.entities().is_empty(), "no repository was opened");
    let counters = counter::Repository::new(&db);
    insert(&counters, 1, 1).await;
    counters.find_by_id(1).await.unwrap();
    world.raw("UPDATE counter SET value = 2").await;
    db.invalidate_entity("no_such_entity").await.unwrap();
    assert_eq!(find(&counters, 1).await, Some((1, Source::Shared)));
    db.invalidate_entity("counter").await.unwrap();
    assert_eq!(find(&counters, 1).await, Some((2, Source::Database)));
    let entities = db.entities();
    let (name, stats) = &entities[0];
    assert_eq!((name.as_str(), entities.len()), ("counter", 1));
    assert_eq!(*stats, counters.stats());
}

everywhere!(invalidate_all_reaches_keys_behind_the_longest_names);
/// Goal: the longest names, and a namespace that needs escaping, leave no room for their whole
/// prefix in a key of 200 bytes; invalidation still reaches the keys.
async fn invalidate_all_reaches_keys_behind_the_longest_names(world: World) {
    use cached_repo_tests::entities::keys::by_long_name;
    world.create_table(by_long_name::Entity).await;
    let db = world
        .db_with(|config| {
            let own = std::mem::take(&mut config.namespace);
            config.namespace = format!("{own}{}", "/".repeat(64 - own.len()));
        })
        .await;
    let rows = by_long_name::Repository::new(&db);
    for id in [1, 2] {
        let row = by_long_name::ActiveModel {
            id: Set(id),
            name: Set("before".into()),
            ..Default::default()
        };
        rows.insert(row).await.unwrap();
        let warm = rows.find_by_id(id).await.unwrap().unwrap();
        assert_eq!((warm.id, warm.source()), (id, Source::Shared));
    }
    let table = sea_orm::EntityName::table_name(&by_long_name::Entity);
    world
        .raw(&format!("UPDATE {table} SET name = 'after'"))
        .await;
    rows.invalidate_all().await.unwrap();
    for id in [1, 2] {
        let row = rows.find_by_id(id).await.unwrap().unwrap();
        assert_eq!((row.id, row.name.as_str()), (id, "after"));
    }
}

everywhere!(an_invalidation_reaches_other_processes);
/// Goal: what one process invalidates, another loads again; in-process caches are each their own.
async fn an_invalidation_reaches_other_processes(world: World) {
    world.create_table(user::Entity).await;
    let (one, other): (CachedDb, CachedDb) = (world.db().await, world.db().await);
    let (here, there) = (user::Repository::new(&one), user::Repository::new(&other));
    let ada = user::ActiveModel {
        email: Set("ada@example.com".into()),
        name: Set("Ada".into()),
        ..Default::default()
    };
    let id = here.insert(ada).await.unwrap().id;
    there.find_by_id(id).await.unwrap();
    for step in 0..2 {
        world
            .raw(&format!(r#"UPDATE "user" SET name = 'Ada {step}'"#))
            .await;
        if step == 0 {
            here.invalidate(id).await.unwrap();
        } else {
            here.invalidate_all().await.unwrap();
        }
        let seen = there.find_by_id(id).await.unwrap().unwrap();
        let expected = match world.tier() {
            Tier::Redis => format!("Ada {step}"),
            Tier::Memory => "Ada".to_owned(),
        };
        assert_eq!(seen.name, expected);
    }
}

/// Goal: a queued invalidation of this process does not keep a fresh read from repairing the cache
/// for others: the tier may have received that invalidation before the raw change.
#[tokio::test]
async fn a_fresh_read_repairs_a_row_with_a_queued_invalidation() {
    let redis = Redis::start().unwrap();
    let world = World::on_redis(Backend::Sqlite, redis.url()).await;
    world.create_table(counter::Entity).await;
    let ours = counter::Repository::new(&world.db().await);
    let other = counter::Repository::new(&world.db().await);
    insert(&ours, 1, 10).await;
    // Everything works but what raises an epoch, so an invalidation of the whole entity is queued from
    // now on.
    let forbid = ["ACL", "SETUSER", "default", "-hset"];
    deadpool_redis::redis::cmd(forbid[0])
        .arg(&forbid[1..])
        .query_async::<()>(&mut world.redis().await)
        .await
        .unwrap();
    ours.invalidate_all().await.unwrap_err();

    for (value, by_aside) in [(11, false), (12, true)] {
        assert_eq!(find(&other, 1).await, Some((value - 1, Source::Shared)));
        world
            .raw(&format!("UPDATE counter SET value = {value}"))
            .await;
        if by_aside {
            let LookedUp::Miss(lease) = ours.fresh().cache().lookup(1).await else {
                panic!("a fresh lookup is never a hit");
            };
            let row = counter::Entity::find_by_id(1).one(&world.conn).await;
            lease.fill(row.unwrap().unwrap()).await.unwrap();
        } else {
            assert_eq!(ours.refresh(1).await.unwrap().unwrap().value, value);
        }
        assert_eq!(find(&other, 1).await, Some((value, Source::Shared)));
    }
    // For itself the process still reads past the cache.
    let own = find(&ours, 1).await;
    assert_eq!(own, Some((12, Source::Database)));
}

everywhere!(a_trigger_raises_the_version_of_what_raw_sql_changes);
/// Goal: the triggers of the documentation make the version check see raw SQL, and leave the library's
/// own writes alone.
async fn a_trigger_raises_the_version_of_what_raw_sql_changes(world: World) {
    world.create_table(counter::Entity).await;
    let triggers: &[&str] = match world.backend() {
        DbBackend::Postgres => &[
            "CREATE FUNCTION raise_version() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               IF NEW.version = OLD.version THEN NEW.version := OLD.version + 1; END IF;
               RETURN NEW;
             END $$",
            "CREATE TRIGGER raise_version BEFORE UPDATE ON counter
               FOR EACH ROW EXECUTE FUNCTION raise_version()",
        ],
        DbBackend::MySql => &["CREATE TRIGGER raise_version BEFORE UPDATE ON counter FOR EACH ROW
            SET NEW.version = IF(NEW.version = OLD.version, OLD.version + 1, NEW.version)"],
        _ => &[
            "CREATE TRIGGER raise_version AFTER UPDATE ON counter WHEN NEW.version = OLD.version BEGIN
               UPDATE counter SET version = OLD.version + 1 WHERE id = NEW.id;
             END",
        ],
    };
    for trigger in triggers {
        world.raw(trigger).await;
    }
    let counters = counter::Repository::new(&world.db().await);
    let row = counter::ActiveModel {
        id: Set(1),
        value: Set(100),
        ..Default::default()
    };
    let read = counters.insert(row).await.unwrap().into_model();
    world.raw("UPDATE counter SET value = 50").await;
    counters.invalidate(1).await.unwrap();
    let conflict = counters.save(read).await.unwrap_err();
    assert!(conflict.is_conflict(), "{conflict}");
    let changed = counters
        .update_with(1, |row| row.value = Set(row.value.as_ref() + 1))
        .await
        .unwrap();
    assert_eq!((changed.value, changed.version), (51, 3));
    let row = counters.find_by_id(1).await.unwrap().unwrap();
    assert_eq!((row.value, row.version), (51, 3));
}
