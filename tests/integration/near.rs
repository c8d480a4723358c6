//! The near cache: hits that ask neither Redis nor the database, and what ends them.

use std::time::Duration;

use cached_repo::{Cached, CachedDb, Config, ReadError, ReadOptions, Source};
use cached_repo_tests::{
    Backend, Tier, World,
    entities::near::{badge, seat, ticket, token},
    eventually, lapse, redis_pool,
};
use deadpool_redis::redis::{self, AsyncCommands};
use futures_util::future::BoxFuture;
use sea_orm::ActiveValue::Set;

/// Longer than any test: only what a test does ends a near hit.
fn for_ever(config: &mut Config) {
    config.near_ttl = Duration::from_secs(3600);
}

async fn badges(world: &World) -> badge::Repository {
    badge::Repository::new(&world.db_with(for_ever).await)
}

fn new_badge(code: i32, text: &str) -> badge::ActiveModel {
    badge::ActiveModel {
        code: Set(code),
        text: Set(text.into()),
        ..Default::default()
    }
}

/// Reads until the near cache answers; returns its text.
async fn near(badges: &badge::Repository, id: i64) -> String {
    eventually("the near cache answers", async || {
        let row = badges.find_by_id(id).await.unwrap()?;
        (row.source() == Source::Near).then(|| row.text.clone())
    })
    .await
}

everywhere!(a_near_hit_asks_nobody);
/// Goal: once a row is near, it is served with neither the shared tier nor the database there.
async fn a_near_hit_asks_nobody(world: World) {
    world.create_table(badge::Entity).await;
    let badges = badges(&world).await;
    let id = badges.insert(new_badge(1, "ada")).await.unwrap().id;
    assert_eq!(near(&badges, id).await, "ada");
    let before = badges.stats();
    let _ = world.statements.take();
    for _ in 0..10 {
        let row = badges.find_by_id(id).await.unwrap().unwrap();
        assert_eq!((row.source(), row.text.as_str()), (Source::Near, "ada"));
        assert!(!row.is_stale() && row.age() < Duration::from_secs(60));
    }
    let after = badges.stats();
    assert_eq!(after.near_hits - before.near_hits, 10);
    assert_eq!(after.shared_hits, before.shared_hits);
    assert!(world.statements.take().is_empty());
    assert!(after.hit_rate() > 0.8);
}

everywhere!(an_absence_is_known_near_until_the_row_is_inserted);
/// Goal: a row whose key the database makes is found at once, whichever process knew of its absence
/// and whichever inserts it.
async fn an_absence_is_known_near_until_the_row_is_inserted(world: World) {
    world.create_table(badge::Entity).await;
    let db = world.db_with(for_ever).await;
    let badges = badge::Repository::new(&db);
    let others = badge::Repository::new(&another(&world, &db).await);
    let last = badges.insert(new_badge(1, "first")).await.unwrap().id;
    for (next, inserts) in [(last + 1, &badges), (last + 2, &others)] {
        eventually("the absence is known near", async || {
            let before = badges.stats().near_hits;
            assert!(badges.find_by_id(next).await.unwrap().is_none());
            (badges.stats().near_hits > before).then_some(())
        })
        .await;
        assert!(badges.stats().absent_hits > 0);
        let code = i32::try_from(next).unwrap();
        let inserted = inserts.insert(new_badge(code, "next")).await.unwrap();
        assert_eq!(inserted.id, next);
        if next == last + 1 {
            // Its own process knows at once.
            assert!(badges.find_by_id(next).await.unwrap().is_some());
        }
        eventually("the row is found", async || {
            badges.find_by_id(next).await.unwrap()
        })
        .await;
    }
}

everywhere!(a_write_is_seen_by_its_own_process_at_once);
/// Goal: whatever is near, the next read after an acknowledged write shows it.
async fn a_write_is_seen_by_its_own_process_at_once(world: World) {
    world.create_table(badge::Entity).await;
    let db = world.db_with(for_ever).await;
    let badges = badge::Repository::new(&db);
    let mut row = badges.insert(new_badge(1, "0")).await.unwrap();
    let id = row.id;
    near(&badges, id).await;
    for turn in 0..30 {
        let mut model = row.into_model();
        model.text = turn.to_string();
        row = match turn % 2 {
            0 => badges.save(model).await.unwrap(),
            _ => db
                .transaction(async |tx| badges.on(tx).save(model).await)
                .await
                .unwrap(),
        };
        for _ in 0..3 {
            let found = badges.find_by_id(id).await.unwrap().unwrap();
            assert_eq!(found.text, turn.to_string(), "from {:?}", found.source());
        }
    }
    assert_eq!(near(&badges, id).await, "29", "it is still of use");
    badges.delete(row.into_model()).await.unwrap();
    assert!(badges.find_by_id(id).await.unwrap().is_none());
}

/// Another process where the tier is shared.
async fn another(world: &World, db: &CachedDb) -> CachedDb {
    match world.tier() {
        Tier::Redis => world.db_with(for_ever).await,
        Tier::Memory => db.clone(),
    }
}

everywhere!(what_another_process_does_ends_a_near_hit);
/// Goal: each way to change a row, or to say that it has changed, reaches the near caches of
/// others, which would have served the old state for an hour.
async fn what_another_process_does_ends_a_near_hit(world: World) {
    world.create_table(badge::Entity).await;
    let db = world.db_with(for_ever).await;
    let ours = badge::Repository::new(&db);
    let other_db = another(&world, &db).await;
    let theirs = badge::Repository::new(&other_db);
    let id = ours.insert(new_badge(1, "new")).await.unwrap().id;
    let shows = async |text: &str| {
        eventually(text, async || {
            let found = ours.find_by_id(id).await.unwrap();
            (found.map_or("gone".into(), |row| row.text.clone()) == text).then_some(())
        })
        .await;
    };
    let raw = async |text: &str| {
        let sql = format!("UPDATE \"badge\" SET \"text\" = '{text}'");
        world.raw(&sql).await;
    };
    near(&ours, id).await;
    let mut row = theirs.find_by_id(id).await.unwrap().unwrap().into_model();
    row.text = "saved".into();
    theirs.save(row).await.unwrap();
    shows("saved").await;

    near(&ours, id).await;
    let update = theirs.update_with(id, |row| row.text = Set("updated".into()));
    update.await.unwrap();
    shows("updated").await;

    near(&ours, id).await;
    let commit = async |tx: &cached_repo::Transaction| {
        let mut row = theirs.on(tx).find_by_id(id).await?.unwrap().into_model();
        assert_eq!(row.text, "updated");
        row.text = "committed".into();
        theirs.on(tx).save(row).await?;
        Ok::<_, cached_repo::Error>(())
    };
    other_db.transaction(commit).await.unwrap();
    shows("committed").await;

    near(&ours, id).await;
    raw("invalidated").await;
    theirs.invalidate(id).await.unwrap();
    shows("invalidated").await;

    near(&ours, id).await;
    raw("refreshed").await;
    theirs.refresh(id).await.unwrap();
    shows("refreshed").await;

    near(&ours, id).await;
    raw("all invalidated").await;
    theirs.invalidate_all().await.unwrap();
    shows("all invalidated").await;

    near(&ours, id).await;
    assert!(theirs.delete_by_id(id).await.unwrap().is_some());
    shows("gone").await;
}

everywhere!(only_plain_finds_look_near_first);
/// Goal: finds by several keys and by a unique column serve rows from the near cache too; a
/// transaction, `fresh` and `skip_near` do not.
async fn only_plain_finds_look_near_first(world: World) {
    world.create_table(badge::Entity).await;
    let db = world.db_with(for_ever).await;
    let badges = badge::Repository::new(&db);
    let mut ids = Vec::new();
    for code in 0..3 {
        ids.push(badges.insert(new_badge(code, "x")).await.unwrap().id);
    }
    for &id in &ids {
        near(&badges, id).await;
    }
    let many = badges.find_by_ids([ids[2], ids[0], ids[2]]).await.unwrap();
    let sources = many.iter().map(|row| {
        let row = row.as_ref().unwrap();
        (row.id, row.source())
    });
    let expected = [ids[2], ids[0], ids[2]].map(|id| (id, Source::Near));
    assert_eq!(sources.collect::<Vec<_>>(), expected);

    badges.find_by_code(1).await.unwrap();
    let found = badges.find_by_code(1).await.unwrap().unwrap();
    assert_eq!((found.id, found.source()), (ids[1], Source::Near));

    let strict = badges.with(ReadOptions::new().skip_near());
    let found = strict.find_by_id(ids[0]).await.unwrap().unwrap();
    assert_eq!(found.source(), Source::Shared);
    let some = strict.find_by_ids(ids.clone()).await.unwrap();
    assert!(
        some.iter()
            .flatten()
            .all(|row| row.source() == Source::Shared)
    );
    let found = badges.fresh().find_by_id(ids[0]).await.unwrap().unwrap();
    assert_eq!(found.source(), Source::Database);
    db.transaction(async |tx| {
        let found = badges.on(tx).find_by_id(ids[1]).await?.unwrap();
        assert_eq!(found.source(), Source::Database);
        Ok::<_, cached_repo::ReadError>(())
    })
    .await
    .unwrap();
}

everywhere!(a_near_entry_ends_with_its_ttl);
/// Goal: without an announcement of a change, the near cache serves a row for its TTL and no
/// longer.
async fn a_near_entry_ends_with_its_ttl(world: World) {
    world.create_table(ticket::Entity).await;
    let tickets = ticket::Repository::new(&world.db().await);
    let row = ticket::ActiveModel {
        id: Set(1),
        text: Set("old".into()),
    };
    tickets.insert(row).await.unwrap();
    eventually("the near cache answers", async || {
        let row = tickets.find_by_id(1).await.unwrap()?;
        (row.source() == Source::Near).then_some(())
    })
    .await;
    lapse(Duration::from_millis(120)).await;
    let found = tickets.find_by_id(1).await.unwrap().unwrap();
    assert_ne!(found.source(), Source::Near);
}

everywhere!(a_row_is_not_kept_near_for_longer_than_its_ttl);
/// Goal: what is about to expire in the shared tier is not kept longer near.
async fn a_row_is_not_kept_near_for_longer_than_its_ttl(world: World) {
    world.create_table(badge::Entity).await;
    let badges = badges(&world).await;
    let id = badges.insert(new_badge(1, "x")).await.unwrap().id;
    near(&badges, id).await;
    badges.invalidate(id).await.unwrap();
    let brief = badges.with(ReadOptions::new().ttl(Duration::from_millis(150)));
    eventually("the row is stored for a short time", async || {
        let found = brief.find_by_id(id).await.unwrap()?;
        (found.source() != Source::Database).then_some(())
    })
    .await;
    lapse(Duration::from_millis(160)).await;
    let found = badges.find_by_id(id).await.unwrap().unwrap();
    assert_eq!(found.source(), Source::Database);
}

everywhere!(a_near_cache_keeps_no_more_than_it_is_allowed);
/// Goal: of 400 rows, a bound of 64 entries keeps some 64, and one of 100,000 bytes keeps fewer
/// than a hundred rows of a kilobyte.
async fn a_near_cache_keeps_no_more_than_it_is_allowed(world: World) {
    const ROWS: i32 = 400;
    world.create_table(badge::Entity).await;
    world.create_table(seat::Entity).await;
    world.create_table(token::Entity).await;
    let db = world.db_with(for_ever).await;
    let badges = badge::Repository::new(&db);
    let id = badges.insert(new_badge(1, "x")).await.unwrap().id;
    let _ = near(&badges, id).await;
    let (seats, tokens) = (seat::Repository::new(&db), token::Repository::new(&db));
    let text = "x".repeat(1_000);
    for number in 0..ROWS {
        let row = seat::ActiveModel {
            hall: Set("great".into()),
            number: Set(number),
            text: Set(text.clone()),
        };
        seats.insert(row).await.unwrap();
        let row = token::ActiveModel {
            id: Set(number.into()),
            text: Set("x".into()),
        };
        tokens.insert(row).await.unwrap();
    }
    fn count<M>(rows: Vec<Option<Cached<M>>>) -> usize {
        let sources = rows.into_iter().map(|row| row.unwrap().source());
        sources.filter(|source| *source == Source::Near).count()
    }
    let ids: Vec<_> = (0..ROWS)
        .map(|number| ("great".to_owned(), number))
        .collect();
    seats.find_by_ids(ids.clone()).await.unwrap();
    let kept = count(seats.find_by_ids(ids).await.unwrap());
    assert!((10..100).contains(&kept), "{kept} rows in 100,000 bytes");
    let ids = 0..i64::from(ROWS);
    tokens.find_by_ids(ids.clone()).await.unwrap();
    let kept = count(tokens.find_by_ids(ids).await.unwrap());
    assert!((10..130).contains(&kept), "{kept} rows in 64 entries");
}

everywhere!(a_fresh_lookup_ends_what_is_kept_near);
/// Goal: after a read past the cache, by whatever lookup, the near cache serves nothing older,
/// although the shared tier has nothing that is wrong.
async fn a_fresh_lookup_ends_what_is_kept_near(world: World) {
    world.create_table(badge::Entity).await;
    let badges = badges(&world).await;
    let id = badges.insert(new_badge(1, "old")).await.unwrap().id;
    let lookups: [(&str, AsyncFind); 3] = [
        ("by code", |badges, _| {
            Box::pin(async move { badges.fresh().find_by_code(1).await })
        }),
        ("by id", |badges, id| {
            Box::pin(async move { badges.fresh().find_by_id(id).await })
        }),
        ("by ids", |badges, id| {
            Box::pin(async move {
                let rows = badges.fresh().find_by_ids([id]).await?;
                Ok(rows.into_iter().next().flatten())
            })
        }),
    ];
    for (how, find) in lookups {
        near(&badges, id).await;
        world
            .raw(&format!("UPDATE \"badge\" SET \"text\" = '{how}'"))
            .await;
        if world.tier() == Tier::Redis {
            let key = world.key("badge", id);
            let _: () = world.redis().await.del(key).await.unwrap();
        }
        let found = find(badges.clone(), id).await.unwrap().unwrap();
        assert_eq!(found.text, how);
        let found = badges.find_by_id(id).await.unwrap().unwrap();
        assert_eq!(found.text, how, "from {:?}", found.source());
    }
}

type AsyncFind = fn(
    badge::Repository,
    i64,
) -> BoxFuture<'static, Result<Option<Cached<badge::Model>>, ReadError>>;

everywhere!(near_caches_can_be_turned_off);
/// Goal: one setting, and no read is served near.
async fn near_caches_can_be_turned_off(world: World) {
    world.create_table(badge::Entity).await;
    let badges = badge::Repository::new(&world.db_with(|config| config.near = false).await);
    let id = badges.insert(new_badge(1, "x")).await.unwrap().id;
    for _ in 0..20 {
        let found = badges.find_by_id(id).await.unwrap().unwrap();
        assert_ne!(found.source(), Source::Near);
    }
    assert_eq!(badges.stats().near_hits, 0);
}

/// Goal: a key whose changes are not announced is not kept near: over a pool alone nobody listens,
/// so nothing is near and nothing is stale.
#[tokio::test]
async fn without_a_subscriber_nothing_is_kept_near() {
    let world = World::new(Backend::Sqlite, Tier::Redis).await;
    world.create_table(badge::Entity).await;
    let db = CachedDb::builder(world.conn.clone())
        .redis(redis_pool(&cached_repo_harness::redis_url()))
        .namespace(world.namespace.clone())
        .build()
        .await
        .unwrap();
    let badges = badge::Repository::new(&db);
    let id = badges.insert(new_badge(1, "x")).await.unwrap().id;
    for _ in 0..20 {
        let found = badges.find_by_id(id).await.unwrap().unwrap();
        assert_ne!(found.source(), Source::Near);
    }
    assert!(badges.stats().shared_hits > 0);
}

/// Goal: the settings of a server are enough for a near cache; a pool of one's own is not needed.
#[tokio::test]
async fn a_server_in_the_settings_is_listened_to() {
    let world = World::new(Backend::Sqlite, Tier::Redis).await;
    world.create_table(badge::Entity).await;
    let mut config = Config::default();
    config.namespace.clone_from(&world.namespace);
    let url = cached_repo_harness::redis_url();
    config.redis = Some(deadpool_redis::Config::from_url(url));
    for_ever(&mut config);
    let db = CachedDb::builder(world.conn.clone()).config(config);
    let badges = badge::Repository::new(&db.build().await.unwrap());
    let others = self::badges(&world).await;
    let id = badges.insert(new_badge(1, "x")).await.unwrap().id;
    near(&badges, id).await;
    let update = others.update_with(id, |row| row.text = Set("y".into()));
    update.await.unwrap();
    eventually("the change has arrived", async || {
        let row = badges.find_by_id(id).await.unwrap().unwrap();
        (row.text == "y").then_some(())
    })
    .await;
}

/// Goal: a message on the channel that is not a key can only cost hits.
#[tokio::test]
async fn noise_on_the_channel_is_taken_for_any_change() {
    let world = World::new(Backend::Sqlite, Tier::Redis).await;
    world.create_table(badge::Entity).await;
    let badges = badges(&world).await;
    let id = badges.insert(new_badge(1, "x")).await.unwrap().id;
    near(&badges, id).await;
    let channel = format!("{}:changed:1", world.namespace);
    let mut redis: redis::aio::MultiplexedConnection = world.redis().await;
    for noise in [&b"\xff\xfe"[..], b"*"] {
        let receivers: u64 = redis.publish(&channel, noise).await.unwrap();
        assert_eq!(receivers, 1);
        eventually("the near cache is empty", async || {
            let row = badges.find_by_id(id).await.unwrap().unwrap();
            (row.source() == Source::Shared).then_some(())
        })
        .await;
        near(&badges, id).await;
    }
}
