//! Invalidations that other processes announce and this one does not receive: the near cache must
//! notice, and serve nothing until they arrive again.

use std::time::Duration;

use cached_repo::{CachedDb, Config, ReadOptions, Source};
use cached_repo_harness::{Proxy, Redis};
use cached_repo_tests::{Backend, World, entities::near::badge, eventually, lapse, redis_pool};
use deadpool_redis::redis;
use sea_orm::ActiveValue::Set;

/// So long that no test sees its end.
const NEAR_TTL: Duration = Duration::from_secs(3600);
/// Longer than a test: a reply that is held for so long does not come.
const NEVER: Duration = Duration::from_secs(3600);

fn url(port: u16) -> String {
    format!("redis://127.0.0.1:{port}")
}

/// A process that asks the cache at one port and listens at another.
async fn listening(
    world: &World,
    cache: u16,
    subscription: u16,
    change: fn(&mut Config),
) -> CachedDb {
    let mut config = Config::default();
    config.namespace.clone_from(&world.namespace);
    config.near_ttl = NEAR_TTL;
    change(&mut config);
    CachedDb::builder(world.conn.clone())
        .config(config)
        .redis(redis_pool(&url(cache)))
        .subscriber(redis::Client::open(url(subscription)).unwrap())
        .build()
        .await
        .unwrap()
}

/// A world with one row, and a process besides those that may miss invalidations.
async fn with_a_row(redis: &Redis) -> (World, badge::Repository, i64) {
    let world = World::on_redis(Backend::Sqlite, redis.url()).await;
    world.create_table(badge::Entity).await;
    let writers = badge::Repository::new(&world.db().await);
    let row = badge::ActiveModel {
        code: Set(1),
        text: Set("old".into()),
        ..Default::default()
    };
    let id = writers.insert(row).await.unwrap().id;
    let shared = writers.with(ReadOptions::new().skip_near());
    eventually("the row is in the cache", async || {
        let row = shared.find_by_id(id).await.unwrap()?;
        (row.source() == Source::Shared).then_some(())
    })
    .await;
    (world, writers, id)
}

async fn write(badges: &badge::Repository, id: i64, text: &str) {
    let update = badges.update_with(id, |row| row.text = Set(text.into()));
    update.await.unwrap();
}

/// Reads until the answer comes from the near cache; what it is.
async fn near(badges: &badge::Repository, id: i64) -> String {
    eventually("the near cache answers", async || {
        let row = badges.find_by_id(id).await.unwrap()?;
        (row.source() == Source::Near).then(|| row.text.clone())
    })
    .await
}

/// Reads until the text is there, and then that the near cache does not answer.
async fn shows_without_near(badges: &badge::Repository, id: i64, text: &str) {
    eventually(text, async || {
        let row = badges.find_by_id(id).await.unwrap().unwrap();
        (row.text == text).then_some(())
    })
    .await;
    for _ in 0..20 {
        let row = badges.find_by_id(id).await.unwrap().unwrap();
        assert_eq!(row.text, text);
        assert_ne!(row.source(), Source::Near);
    }
}

outage! {
    /// Goal: several other caches kept serving changed rows while their subscription was broken,
    /// until their TTL. Here the near cache is emptied, and keeps nothing before the new
    /// subscription works.
    async fn a_broken_subscription_empties_the_near_cache() {
        let redis = Redis::start().unwrap();
        let (world, writers, id) = with_a_row(&redis).await;
        let subscription = Proxy::start(redis.port()).unwrap();
        let db = listening(&world, redis.port(), subscription.port(), |_| {}).await;
        let badges = badge::Repository::new(&db);
        assert_eq!(near(&badges, id).await, "old");

        subscription.refuse(true);
        subscription.cut();
        write(&writers, id, "new").await;
        shows_without_near(&badges, id, "new").await;

        subscription.refuse(false);
        assert_eq!(near(&badges, id).await, "new");
        write(&writers, id, "newer").await;
        eventually("the change has arrived", async || {
            let row = badges.find_by_id(id).await.unwrap().unwrap();
            (row.text == "newer").then_some(())
        })
        .await;
    }
}

outage! {
    /// Goal: for a process that only listens, a connection that hangs looks like one without
    /// messages. The heartbeat distinguishes the two.
    async fn a_silent_subscription_empties_the_near_cache() {
        let redis = Redis::start().unwrap();
        let (world, writers, id) = with_a_row(&redis).await;
        let subscription = Proxy::start(redis.port()).unwrap();
        let db = listening(&world, redis.port(), subscription.port(), |_| {}).await;
        let badges = badge::Repository::new(&db);
        assert_eq!(near(&badges, id).await, "old");

        subscription.delay(Duration::ZERO, NEVER);
        write(&writers, id, "new").await;
        shows_without_near(&badges, id, "new").await;

        subscription.calm();
        assert_eq!(near(&badges, id).await, "new");
    }
}

outage! {
    /// Goal: a heartbeat that arrives late, although in order, proves that nothing was missed until
    /// a while ago, and nothing about rows that are served now.
    async fn a_late_subscription_proves_nothing() {
        let redis = Redis::start().unwrap();
        let (world, writers, id) = with_a_row(&redis).await;
        let subscription = Proxy::start(redis.port()).unwrap();
        let db = listening(&world, redis.port(), subscription.port(), |_| {}).await;
        let badges = badge::Repository::new(&db);
        assert_eq!(near(&badges, id).await, "old");

        // As long as several heartbeats; the connection is never given up.
        subscription.delay(Duration::ZERO, Duration::from_millis(2_000));
        write(&writers, id, "new").await;
        shows_without_near(&badges, id, "new").await;
        lapse(Duration::from_millis(3_000)).await;
        shows_without_near(&badges, id, "new").await;

        subscription.calm();
        assert_eq!(near(&badges, id).await, "new");
    }
}

outage! {
    /// Goal: the subscription works, but at a server where nobody announces anything (after a
    /// failover, for example). The process notices it and keeps nothing near.
    async fn a_subscription_at_another_server_keeps_nothing_near() {
        let (redis, other) = (Redis::start().unwrap(), Redis::start().unwrap());
        let (world, writers, id) = with_a_row(&redis).await;
        let db = listening(&world, redis.port(), other.port(), |_| {}).await;
        let badges = badge::Repository::new(&db);
        shows_without_near(&badges, id, "old").await;
        let client = redis::Client::open(other.url()).unwrap();
        let mut admin = client.get_multiplexed_async_connection().await.unwrap();
        eventually("the subscription stands", async || {
            let channel = format!("{}:changed:1", world.namespace);
            let mut numsub = redis::cmd("PUBSUB");
            numsub.arg("NUMSUB").arg(channel);
            let (_, count): (String, u64) = numsub.query_async(&mut admin).await.unwrap();
            (count > 0).then_some(())
        })
        .await;
        // Time for many heartbeats.
        lapse(Duration::from_secs(2)).await;
        shows_without_near(&badges, id, "old").await;
        write(&writers, id, "new").await;
        shows_without_near(&badges, id, "new").await;
    }
}

outage! {
    /// Goal: while Redis is away nobody can announce anything, so nothing is served near; when it
    /// is back, near caches are too.
    async fn nothing_is_served_near_while_redis_is_away() {
        let mut redis = Redis::start().unwrap();
        let (world, writers, id) = with_a_row(&redis).await;
        let db = listening(&world, redis.port(), redis.port(), |_| {}).await;
        let badges = badge::Repository::new(&db);
        assert_eq!(near(&badges, id).await, "old");

        redis.kill().unwrap();
        write(&writers, id, "new").await;
        eventually("the outage is noticed", async || {
            let row = badges.find_by_id(id).await.unwrap().unwrap();
            (row.source() == Source::Database).then(|| assert_eq!(row.text, "new"))
        })
        .await;
        shows_without_near(&badges, id, "new").await;

        redis.restart().unwrap();
        assert_eq!(near(&badges, id).await, "new");
    }
}

outage! {
    /// Goal: an invalidation that arrives while a row is on its way from Redis wins: the row is
    /// not kept.
    async fn an_invalidation_overtakes_the_reply_that_it_is_about() {
        let redis = Redis::start().unwrap();
        let (world, writers, id) = with_a_row(&redis).await;
        let cache = Proxy::start(redis.port()).unwrap();
        let patient = |config: &mut Config| config.cache_timeout = Duration::from_secs(4);
        let db = listening(&world, cache.port(), redis.port(), patient).await;
        let badges = badge::Repository::new(&db);
        let row = badge::ActiveModel {
            code: Set(2),
            text: Set("another".into()),
            ..Default::default()
        };
        let another = writers.insert(row).await.unwrap().id;
        near(&badges, another).await;

        let gets = async || -> u64 {
            let stats: redis::InfoDict = redis::cmd("INFO")
                .arg("commandstats")
                .query_async(&mut world.redis().await)
                .await
                .unwrap();
            let calls = stats.get::<String>("cmdstat_get").unwrap_or_default();
            let calls = calls.split([',', '=']).nth(1).unwrap_or("0");
            calls.parse().unwrap()
        };
        let before = gets().await;
        cache.delay(Duration::ZERO, NEVER);
        let reader = tokio::spawn({
            let badges = badges.clone();
            async move { badges.find_by_id(id).await }
        });
        eventually("Redis has answered", async || (gets().await > before).then_some(())).await;
        let mut row = writers.fresh().find_by_id(id).await.unwrap().unwrap().into_model();
        row.text = "new".into();
        writers.save(row).await.unwrap();
        // The writer's announcement is on its way; later announcements arrive later.
        eventually("the announcement has arrived", async || {
            writers.invalidate(another).await.unwrap();
            let found = badges.clone();
            let found = tokio::time::timeout(Duration::from_millis(20), found.find_by_id(another));
            // A near hit would have come at once.
            found.await.is_err().then_some(())
        })
        .await;
        cache.calm();
        let found = reader.await.unwrap().unwrap().unwrap();
        assert_eq!(found.text, "old", "it was asked for before the write");
        let found = badges.find_by_id(id).await.unwrap().unwrap();
        assert_eq!(found.text, "new", "from {:?}", found.source());
    }
}

outage! {
    /// Goal: a process whose Redis user may not announce changes has no cache. Otherwise other
    /// processes would keep the rows that it has changed.
    async fn without_the_right_to_announce_there_is_no_cache() {
        let redis = Redis::start().unwrap();
        let (world, _, id) = with_a_row(&redis).await;
        let acl = |rules: &[&str]| {
            let mut acl = redis::cmd("ACL");
            acl.arg("SETUSER").arg("app").arg("on").arg(">secret").arg(rules);
            acl
        };
        let mut admin = world.redis().await;
        let rules = ["~*", "+@all", "resetchannels"];
        acl(&rules).exec_async(&mut admin).await.unwrap();
        let url = format!("redis://app:secret@127.0.0.1:{}", redis.port());
        let mut config = Config::default();
        config.namespace.clone_from(&world.namespace);
        config.redis = Some(deadpool_redis::Config::from_url(url));
        let db = CachedDb::builder(world.conn.clone()).config(config);
        let db = db.build().await.unwrap();
        let badges = badge::Repository::new(&db);
        let row = badges.find_by_id(id).await.unwrap().unwrap();
        assert_eq!(row.source(), Source::Database);
        assert!(db.connection_stats().unavailable > 0);

        let pattern = format!("&{}:changed*", world.namespace);
        acl(&[&pattern]).exec_async(&mut admin).await.unwrap();
        assert_eq!(near(&badges, id).await, "old");
    }
}
