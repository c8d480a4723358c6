//! What each verb costs: statements on the database, commands on Redis, and the counters.

use std::{collections::BTreeMap, time::Duration};

use cached_repo::{Drained, Stats};
use cached_repo_harness::Redis;
use cached_repo_tests::{
    Backend, World,
    entities::{setting, user, verbs::counter},
};
use deadpool_redis::redis;
use sea_orm::{ActiveValue::Set, DbBackend};

const LIMIT: Duration = Duration::from_secs(10);

fn row(id: i32) -> counter::ActiveModel {
    counter::ActiveModel {
        id: Set(id),
        value: Set(0),
        ..Default::default()
    }
}

everywhere!(each_verb_issues_the_fewest_statements);
/// Goal: the statements of every verb, in order, on every database: one per write where the
/// database returns rows, and one SELECT more where it does not.
async fn each_verb_issues_the_fewest_statements(world: World) {
    world.create_table(counter::Entity).await;
    let counters = counter::Repository::new(&world.db().await);
    let mysql = world.backend() == DbBackend::MySql;
    let sent = |what: &str, expected: &[&str]| {
        assert_eq!(world.statements.verbs(), expected, "{what}");
    };
    let with_reload = |verb: &'static str| -> Vec<&str> {
        if mysql {
            vec![verb, "SELECT"]
        } else {
            vec![verb]
        }
    };
    let inserted = counters.insert(row(1)).await.unwrap().into_model();
    sent("insert", &with_reload("INSERT"));
    counters.find_by_id(1).await.unwrap();
    sent("warm find", &[]);
    let saved = counters.save(inserted.clone()).await.unwrap().into_model();
    sent("save", &with_reload("UPDATE"));
    counters.find_by_id(1).await.unwrap();
    sent("find after a save", &[]);
    counters
        .update_with(1, |row| row.value = Set(1))
        .await
        .unwrap();
    sent("update_with", &with_reload("UPDATE"));
    counters.save(inserted).await.unwrap_err();
    sent(
        "a conflict: the write, and what is there",
        &["UPDATE", "SELECT"],
    );
    counters.find_by_id(1).await.unwrap();
    sent("find after a conflict", &["SELECT"]);
    counters.delete(saved).await.unwrap_err();
    sent("a conflicting delete", &["DELETE", "SELECT"]);
    counters.refresh(1).await.unwrap();
    sent("refresh", &["SELECT"]);
    counters.invalidate(1).await.unwrap();
    counters.invalidate_all().await.unwrap();
    sent("invalidate", &[]);
    let row = counters.find_by_id(1).await.unwrap().unwrap();
    sent("cold find", &["SELECT"]);
    counters.delete(row.into_model()).await.unwrap();
    sent("delete", &["DELETE"]);
    counters.find_by_id(1).await.unwrap();
    sent("find of nothing", &["SELECT"]);
    counters.find_by_id(1).await.unwrap();
    sent("warm find of nothing", &[]);
    counters.delete_by_id(1).await.unwrap();
    let looks = if mysql { "SELECT" } else { "DELETE" };
    sent("delete_by_id of nothing", &[looks]);
    counters.insert(self::row(1)).await.unwrap();
    let _ = world.statements.take();
    counters.delete_by_id(1).await.unwrap();
    let deletes: &[_] = if mysql {
        &["SELECT", "DELETE"]
    } else {
        &["DELETE"]
    };
    sent("delete_by_id", deletes);
}

/// How often Redis was sent each command since the last call, besides those that scripts call, and
/// reading the epochs.
pub(crate) async fn commands(
    connection: &mut redis::aio::MultiplexedConnection,
) -> BTreeMap<String, u64> {
    let info: String = redis::cmd("INFO")
        .arg("commandstats")
        .query_async(connection)
        .await
        .unwrap();
    let () = redis::cmd("CONFIG")
        .arg("RESETSTAT")
        .query_async(connection)
        .await
        .unwrap();
    let mut calls: BTreeMap<String, u64> = info
        .lines()
        .filter_map(|line| {
            let (command, numbers) = line.strip_prefix("cmdstat_")?.split_once(':')?;
            let calls = numbers.strip_prefix("calls=")?.split(',').next()?;
            // What this function sends itself, and what scripts call.
            let ours = ["info", "config|resetstat"];
            let inside = ["set", "getrange", "pexpiretime", "time", "del", "flushall"];
            (!ours.contains(&command) && !inside.contains(&command))
                .then(|| (command.to_owned(), calls.parse().unwrap()))
        })
        .collect();
    // The epochs are read now and then, whatever the verb: by a script that is the only one with hashes.
    let epochs = calls.remove("hgetall").unwrap_or(0);
    for command in ["hset", "pttl", "pexpire"] {
        calls.remove(command);
    }
    if let Some(scripts) = calls.get_mut("evalsha") {
        *scripts -= epochs;
    }
    calls.retain(|_, calls| *calls > 0);
    calls
}

#[tokio::test]
/// Goal: a warm find is one GET and nothing else; a save is two scripts, called by name; nothing
/// pings, unwatches or sends a script's text.
async fn each_verb_costs_the_fewest_redis_commands() {
    let server = Redis::start().unwrap();
    let world = World::on_redis(Backend::Sqlite, server.url()).await;
    world.create_table(counter::Entity).await;
    world.create_table(user::Entity).await;
    world.create_table(setting::Entity).await;
    let db = world.db().await;
    let counters = counter::Repository::new(&db);
    let mut redis = world.redis().await;
    let _ = commands(&mut redis).await;
    let costs = |expected: &[(&str, u64)]| -> BTreeMap<String, u64> {
        expected
            .iter()
            .map(|(command, calls)| ((*command).to_owned(), *calls))
            .collect()
    };

    let inserted = counters.insert(row(1)).await.unwrap().into_model();
    assert_eq!(
        commands(&mut redis).await,
        costs(&[("evalsha", 2), ("publish", 1)]),
        "insert"
    );
    counters.find_by_id(1).await.unwrap();
    assert_eq!(
        commands(&mut redis).await,
        costs(&[("get", 1)]),
        "warm find"
    );
    counters.save(inserted.clone()).await.unwrap();
    assert_eq!(
        commands(&mut redis).await,
        costs(&[("evalsha", 2), ("publish", 1)]),
        "save"
    );
    counters.save(inserted).await.unwrap_err();
    assert_eq!(
        commands(&mut redis).await,
        costs(&[("evalsha", 2), ("publish", 1)]),
        "conflict"
    );
    counters.find_by_id(1).await.unwrap();
    assert_eq!(db.shutdown(LIMIT).await, Drained::All);
    assert_eq!(
        commands(&mut redis).await,
        costs(&[("evalsha", 2), ("get", 1)]),
        "cold find: look, lease, fill"
    );
    counters
        .update_with(1, |row| row.value = Set(5))
        .await
        .unwrap();
    assert_eq!(
        commands(&mut redis).await,
        costs(&[("evalsha", 2), ("get", 1), ("publish", 1)]),
        "update_with"
    );
    counters.refresh(1).await.unwrap();
    assert_eq!(
        commands(&mut redis).await,
        costs(&[("evalsha", 2), ("publish", 1)]),
        "refresh"
    );
    counters.invalidate(1).await.unwrap();
    assert_eq!(
        commands(&mut redis).await,
        costs(&[("evalsha", 1), ("publish", 1)]),
        "invalidate"
    );
    counters.delete_by_id(1).await.unwrap().unwrap();
    assert_eq!(
        commands(&mut redis).await,
        costs(&[("evalsha", 2), ("publish", 1)]),
        "delete_by_id"
    );

    let users = user::Repository::new(&db);
    let ada = user::ActiveModel {
        email: Set("ada@example.com".into()),
        name: Set("Ada".into()),
        ..Default::default()
    };
    users.insert(ada).await.unwrap();
    assert_eq!(
        commands(&mut redis).await,
        costs(&[("evalsha", 3), ("publish", 1)]),
        "an insert whose key the database makes, found by another column"
    );
    let settings = setting::Repository::new(&db);
    let theme = setting::ActiveModel {
        name: Set("theme".into()),
        value: Set("dark".into()),
    };
    let theme = settings.insert(theme).await.unwrap().into_model();
    let _ = commands(&mut redis).await;
    settings.save(theme).await.unwrap();
    assert_eq!(
        commands(&mut redis).await,
        costs(&[("evalsha", 2), ("publish", 1)]),
        "a save without a version"
    );
}

everywhere!(every_counter_moves_as_documented);
/// Goal: each counter counts what its documentation says, and nothing else moves.
async fn every_counter_moves_as_documented(world: World) {
    world.create_table(counter::Entity).await;
    let db = world.db().await;
    let counters = counter::Repository::new(&db);
    let mut last = counters.stats();
    let mut moved = async |what: &str, expected: &[(&str, u64)]| {
        // A row is stored behind the reader it is loaded for.
        assert_eq!(db.shutdown(LIMIT).await, Drained::All);
        let now = counters.stats();
        let before: BTreeMap<_, _> = last.iter().collect();
        let changes: BTreeMap<_, _> = now
            .iter()
            .map(|(name, count)| (name, count - before[name]))
            .filter(|(_, change)| *change > 0)
            .collect();
        assert_eq!(changes, expected.iter().copied().collect(), "{what}");
        last = now;
    };
    assert_eq!(counters.stats(), Stats::default());
    counters.find_by_id(1).await.unwrap();
    moved(
        "cold find of nothing",
        &[("misses", 1), ("loads", 1), ("fills", 1)],
    )
    .await;
    counters.find_by_id(1).await.unwrap();
    moved(
        "warm find of nothing",
        &[("shared_hits", 1), ("absent_hits", 1)],
    )
    .await;
    let first = counters.insert(row(1)).await.unwrap().into_model();
    moved("insert", &[("writes", 1), ("puts", 1)]).await;
    counters.find_by_id(1).await.unwrap();
    moved("warm find", &[("shared_hits", 1)]).await;
    counters.save(first.clone()).await.unwrap();
    moved("save", &[("writes", 1), ("puts", 1)]).await;
    counters.save(first.clone()).await.unwrap_err();
    moved("conflict", &[("conflicts", 1), ("invalidations", 1)]).await;
    counters.find_by_id(1).await.unwrap();
    moved("cold find", &[("misses", 1), ("loads", 1), ("fills", 1)]).await;
    counters.invalidate(1).await.unwrap();
    moved("invalidate", &[("invalidations", 1)]).await;
    counters.refresh(1).await.unwrap();
    moved("refresh", &[("loads", 1), ("fills", 1)]).await;
    counters.insert(row(1)).await.unwrap_err();
    moved("a refused insert", &[]).await;
    counters.refresh(1).await.unwrap();
    moved("refresh", &[("loads", 1), ("fills", 1)]).await;
    counters.delete_by_id(1).await.unwrap();
    moved("delete", &[("writes", 1), ("invalidations", 1)]).await;
    counters.delete_by_id(1).await.unwrap();
    moved("delete of nothing", &[("invalidations", 1)]).await;
    world.raw("DROP TABLE counter").await;
    counters.find_by_id(1).await.unwrap_err();
    moved(
        "a failed load",
        &[("misses", 1), ("loads", 1), ("load_errors", 1)],
    )
    .await;
    assert_eq!(db.stats(), counters.stats());
}

everywhere!(the_hit_rate_is_the_share_of_reads_from_the_cache);
/// Goal: one miss and three hits are a rate of three quarters; without reads it is 0, not NaN; a
/// database's counters are the sum of its entities'.
async fn the_hit_rate_is_the_share_of_reads_from_the_cache(world: World) {
    world.create_table(counter::Entity).await;
    world.create_table(setting::Entity).await;
    let db = world.db().await;
    assert_eq!(db.stats().hit_rate(), 0.0);
    let counters = counter::Repository::new(&db);
    let settings = setting::Repository::new(&db);
    for _ in 0..4 {
        counters.find_by_id(1).await.unwrap();
    }
    assert_eq!(counters.stats().hit_rate(), 0.75);
    settings.find_by_id("theme").await.unwrap();
    assert_eq!(settings.stats().hit_rate(), 0.0);
    assert_eq!(db.stats(), counters.stats() + settings.stats());
    assert_eq!(db.stats().hit_rate(), 0.6);
}
