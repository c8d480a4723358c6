//! Readers while a COMMIT is in flight: its keys are blocked, also those that only the database
//! knew before it.

use cached_repo::{CommitError, Source};
use cached_repo_tests::{
    Backend, Tier, World,
    entities::lookups::card,
    gated::{leaf, page},
};
use sea_orm::{
    ActiveValue::{Set, Unchanged},
    ConnectionTrait, IntoActiveModel, TransactionTrait,
};

use super::{new_page, pages, settled, shelf, slug};
use crate::in_time;

/// Makes every COMMIT that changed a row of the table wait for a lock. The lock is held until the
/// transaction that this returns ends.
async fn hold_commits(world: &World, table: &str) -> sea_orm::DatabaseTransaction {
    world
        .raw(
            "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             PERFORM pg_advisory_xact_lock(4711); RETURN NULL; END $$",
        )
        .await;
    world
        .raw(&format!(
            "CREATE CONSTRAINT TRIGGER wait AFTER INSERT OR UPDATE ON {table}
             DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait()"
        ))
        .await;
    let lock = world.conn.begin().await.unwrap();
    lock.execute_unprepared("SELECT pg_advisory_xact_lock(4711)")
        .await
        .unwrap();
    lock
}

async fn renumber(pages: &page::Repository, id: i64, slug: i32) {
    pages
        .update_with(id, |page| {
            page.slug = Set(slug);
            page.shelf = Set(slug);
        })
        .await
        .unwrap();
}

async fn a_swap_under_way(tier: Tier) {
    let world = World::new(Backend::Postgres, tier).await;
    let (db, pages, others) = pages(&world).await;
    for id in [1, 2] {
        pages
            .insert(new_page(id, i32::try_from(id).unwrap(), "page"))
            .await
            .unwrap();
    }
    let is = async |one: i64, two: i64| {
        for reader in [&pages, &others] {
            assert_eq!(slug(reader, 1).await, Some(one));
            assert_eq!(slug(reader, 2).await, Some(two));
            assert_eq!(slug(reader, 99).await, None);
            assert_eq!(shelf(reader, 1).await, [one]);
            assert_eq!(shelf(reader, 2).await, [two]);
            assert_eq!(shelf(reader, 99).await, [0; 0]);
            let both = reader.find_by_slugs([2, 99, 1]).await.unwrap();
            let both: Vec<_> = both
                .iter()
                .map(|row| row.as_ref().map(|row| row.id))
                .collect();
            assert_eq!(both, [Some(two), None, Some(one)]);
        }
    };
    is(1, 2).await;
    is(1, 2).await;
    settled(&db).await;
    let held = hold_commits(&world, "page").await;
    let tx = db.begin().await.unwrap();
    renumber(&pages.on(&tx), 1, 99).await;
    renumber(&pages.on(&tx), 2, 1).await;
    renumber(&pages.on(&tx), 1, 2).await;
    // Its statements block nothing: all is as before, from the cache.
    is(1, 2).await;
    let found = pages.find_by_slug(1).await.unwrap().unwrap();
    assert_eq!(found.source(), Source::Shared);
    let commit = tokio::spawn(tx.commit());
    world.lock_waiters(1).await;
    // Both rows and all index entries are blocked: the database answers, and nothing is stored.
    let fills = db.stats().fills;
    is(1, 2).await;
    is(1, 2).await;
    let found = pages.find_by_slug(1).await.unwrap().unwrap();
    assert_eq!(found.source(), Source::Database);
    assert_eq!(db.stats().fills, fills);
    held.commit().await.unwrap();
    commit.await.unwrap().unwrap();
    is(2, 1).await;
    is(2, 1).await;
}

/// Goal: before, during and after a COMMIT that swaps two rows through a temporary value, readers
/// find what the database has.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_swap_is_seen_when_it_is_committed_over_redis() {
    in_time(a_swap_under_way(Tier::Redis)).await;
}

/// Goal: the same in the process.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_swap_is_seen_when_it_is_committed_in_the_process() {
    in_time(a_swap_under_way(Tier::Memory)).await;
}

/// Goal: a COMMIT that the database refuses: the blocks go, and all is as before.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_swap_that_is_refused_at_its_commit_leaves_all_as_it_was() {
    in_time(async {
        let world = World::new(Backend::Postgres, Tier::Redis).await;
        let (db, pages, others) = pages(&world).await;
        pages.insert(new_page(1, 1, "page")).await.unwrap();
        for statement in [
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             RAISE EXCEPTION 'no'; END $$",
            "CREATE CONSTRAINT TRIGGER refuse AFTER UPDATE ON page
             DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()",
        ] {
            world.raw(statement).await;
        }
        assert_eq!(slug(&others, 5).await, None);
        assert_eq!(shelf(&others, 5).await, [0; 0]);
        let tx = db.begin().await.unwrap();
        renumber(&pages.on(&tx), 1, 5).await;
        let error = tx.commit().await.unwrap_err();
        assert!(matches!(error, CommitError::Refused { .. }), "{error}");
        for _ in 0..3 {
            assert_eq!(slug(&others, 5).await, None);
            assert_eq!(shelf(&others, 5).await, [0; 0]);
            assert_eq!(slug(&others, 1).await, Some(1));
            assert_eq!(shelf(&others, 1).await, [1]);
        }
        let _ = world.statements.take();
        assert_eq!(shelf(&others, 1).await, [1]);
        assert_eq!(shelf(&others, 5).await, [0; 0]);
        assert_eq!(
            world.statements.verbs(),
            [""; 0],
            "nothing is blocked any more"
        );
    })
    .await;
}

async fn a_default_under_way(tier: Tier) {
    let world = World::new(Backend::Postgres, tier).await;
    world.create_table(leaf::Entity).await;
    let db = world.db().await;
    let leaves = leaf::Repository::new(&db);
    assert_eq!(leaves.find_all_by_tree(7).await.unwrap(), []);
    settled(&db).await;
    let held = hold_commits(&world, "leaf").await;
    let insert = tokio::spawn({
        let leaves = leaves.clone();
        async move {
            let leaf = leaf::ActiveModel {
                text: Set("leaf".into()),
                ..Default::default()
            };
            leaves.insert(leaf).await
        }
    });
    world.lock_waiters(1).await;
    let before = leaves.stats();
    assert_eq!(leaves.find_all_by_tree(7).await.unwrap(), []);
    let now = leaves.stats();
    assert_eq!(now.misses_writing, before.misses_writing + 1);
    assert_eq!(now.index_hits, before.index_hits);
    held.commit().await.unwrap();
    let row = insert.await.unwrap().unwrap();
    for _ in 0..2 {
        assert_eq!(
            leaves.find_all_by_tree(7).await.unwrap(),
            std::slice::from_ref(&row)
        );
    }
}

/// Goal: the database sets the looked-up column. The list that everyone knows to be empty is
/// blocked before the COMMIT, not only invalidated after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_list_that_only_the_database_knows_of_is_blocked_before_the_commit() {
    in_time(a_default_under_way(Tier::Redis)).await;
    in_time(a_default_under_way(Tier::Memory)).await;
}

async fn a_pair_under_way(tier: Tier) {
    let world = World::new(Backend::Postgres, tier).await;
    world
        .raw("CREATE TYPE suit AS ENUM ('hearts', 'spades')")
        .await;
    world.create_table(card::Entity).await;
    let db = world.db().await;
    let cards = card::Repository::new(&db);
    let card = card::ActiveModel {
        id: Set(1),
        deck: Set(1),
        up: Set(true),
        face: Set("king".into()),
        suit: Set(card::Suit::Hearts),
        price: Set(0),
    };
    let row = cards.insert(card).await.unwrap().into_model();
    let down = card::ActiveModel {
        id: Unchanged(1),
        up: Set(false),
        ..Default::default()
    };
    cards.update(down).await.unwrap();
    assert_eq!(cards.find_all_by_side(2, false).await.unwrap(), []);
    settled(&db).await;
    let held = hold_commits(&world, "card").await;
    let update = tokio::spawn({
        let cards = cards.clone();
        async move {
            let mut stale = row.into_active_model();
            stale.deck = Set(2);
            cards.update(stale).await
        }
    });
    world.lock_waiters(1).await;
    let before = cards.stats();
    assert_eq!(cards.find_all_by_side(2, false).await.unwrap(), []);
    let now = cards.stats();
    assert_eq!(now.misses_writing, before.misses_writing + 1);
    held.commit().await.unwrap();
    let row = update.await.unwrap().unwrap();
    for _ in 0..2 {
        let found = cards.find_all_by_side(2, false).await.unwrap();
        assert_eq!(found, std::slice::from_ref(&row));
    }
}

/// Goal: an unversioned update moves a row to a pair. It sets one half; the other half is not what
/// the caller expects. The pair that the row really gets is blocked before the COMMIT.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_pair_that_only_the_database_knows_is_blocked_before_the_commit() {
    in_time(a_pair_under_way(Tier::Redis)).await;
    in_time(a_pair_under_way(Tier::Memory)).await;
}
