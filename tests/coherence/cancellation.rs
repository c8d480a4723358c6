//! Callers that go away: every future of the library is dropped at every await it has.
#![expect(
    clippy::async_yields_async,
    reason = "what is prepared is an operation, to be polled and dropped"
)]

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use cached_repo::{CachedDb, Drained, LookedUp, Source, WriteError, internals::Claims};
use cached_repo_tests::{
    Backend, Tier, World, eventually,
    gated::{Gate, note},
};
use sea_orm::ActiveValue::Set;

use crate::in_time;

/// More awaits than any operation has.
pub(crate) const MOST_POLLS: usize = 64;

/// Polls a future each time it asks for it, at most `times`, then drops it. Returns whether it was
/// done by then.
pub(crate) async fn poll_times(future: impl Future, times: usize) -> bool {
    let mut future = pin!(future);
    let mut polls = 0;
    poll_fn(|context| {
        if polls == times {
            return Poll::Ready(false);
        }
        polls += 1;
        match future.as_mut().poll(context) {
            Poll::Ready(_) => Poll::Ready(true),
            Poll::Pending if polls == times => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

fn new_note(id: i64, text: &str) -> note::ActiveModel {
    note::ActiveModel {
        id: Set(id),
        text: Set(text.into()),
        ..Default::default()
    }
}

/// A world in which no lease or block ends during a test by its time alone.
async fn patient(world: &World) -> (CachedDb, note::Repository) {
    world.create_table(note::Entity).await;
    let db = world
        .db_with(|config| {
            config.lease_ttl = Duration::from_secs(600);
            config.lease_wait = Duration::from_secs(600);
            config.block_ttl = Duration::from_secs(600);
            config.tombstone_ttl = Duration::from_secs(1200);
        })
        .await;
    let notes = note::Repository::new(&db);
    (db, notes)
}

/// Waits until the background work that dropped callers left behind has ended.
async fn is_quiet(db: &CachedDb) {
    assert_eq!(db.shutdown(Duration::from_secs(20)).await, Drained::All);
}

/// Soon the key is served from the cache with the row of the database, and has no lease and no
/// block.
async fn is_clean(world: &World, db: &CachedDb, notes: &note::Repository, at: usize) {
    is_quiet(db).await;
    is_clean_of(world, notes, 1, at).await;
}

async fn is_clean_of(world: &World, notes: &note::Repository, id: i64, at: usize) {
    let truth = eventually("the row is served from the cache", async || {
        let row = notes.find_by_id(id).await.unwrap()?;
        (row.source() == Source::Shared).then_some(row)
    })
    .await;
    use sea_orm::EntityTrait;
    let row = note::Entity::find_by_id(id).one(&world.conn).await.unwrap();
    assert_eq!(row.as_ref(), Some(&*truth), "dropped after {at} polls");
    if world.tier() == Tier::Redis {
        eventually("no lease and no block is left", async || {
            let entry = world.entry(&world.key("note", id)).await?;
            (entry.claims == Claims::None).then_some(())
        })
        .await;
    }
}

/// Drops `operation` after 0, 1, 2… polls until it ends by itself, and checks the key each time.
async fn dropped_everywhere<F: Future>(
    world: &World,
    db: &CachedDb,
    notes: &note::Repository,
    mut operation: impl AsyncFnMut(usize) -> F,
) {
    for at in 0..MOST_POLLS {
        let done = poll_times(operation(at).await, at).await;
        is_clean(world, db, notes, at).await;
        if done {
            return;
        }
    }
    panic!("more than {MOST_POLLS} polls");
}

on_both_tiers!(a_find_dropped_anywhere_leaves_no_lease);
/// Goal: see above, for a cold find.
async fn a_find_dropped_anywhere_leaves_no_lease(world: World) {
    let (db, notes) = patient(&world).await;
    notes.insert(new_note(1, "row")).await.unwrap();
    dropped_everywhere(&world, &db, &notes, async |_| {
        notes.invalidate(1).await.unwrap();
        notes.find_by_id(1)
    })
    .await;
}

on_both_tiers!(a_fresh_find_dropped_anywhere_leaves_no_lease);
/// Goal: the same for `refresh`, over a cached row and over none.
async fn a_fresh_find_dropped_anywhere_leaves_no_lease(world: World) {
    let (db, notes) = patient(&world).await;
    notes.insert(new_note(1, "row")).await.unwrap();
    dropped_everywhere(&world, &db, &notes, async |_| notes.refresh(1)).await;
    dropped_everywhere(&world, &db, &notes, async |_| {
        notes.invalidate(1).await.unwrap();
        notes.refresh(1)
    })
    .await;
}

on_both_tiers!(a_save_dropped_anywhere_is_whole_or_nothing);
/// Goal: the same for a save: it happens or it does not, and the cache agrees with the database.
async fn a_save_dropped_anywhere_is_whole_or_nothing(world: World) {
    let (db, notes) = patient(&world).await;
    notes.insert(new_note(1, "row")).await.unwrap();
    dropped_everywhere(&world, &db, &notes, async |at| {
        let mut row = notes.refresh(1).await.unwrap().unwrap().into_model();
        row.text = format!("after {at} polls").as_str().into();
        notes.save(row)
    })
    .await;
}

on_both_tiers!(an_insert_and_a_delete_dropped_anywhere_leave_no_block);
/// Goal: the same for a delete and the insert that follows it.
async fn an_insert_and_a_delete_dropped_anywhere_leave_no_block(world: World) {
    let (db, notes) = patient(&world).await;
    for at in 0..MOST_POLLS {
        let inserted = poll_times(notes.insert(new_note(1, "row")), at).await;
        let deleted = poll_times(notes.delete_by_id(1), at).await;
        is_quiet(&db).await;
        // One more whole round, which no block may hold up.
        notes.delete_by_id(1).await.unwrap();
        notes.insert(new_note(1, "again")).await.unwrap();
        for _ in 0..2 {
            let found = notes.find_by_id(1).await.unwrap().unwrap();
            assert_eq!(found.text.0, "again", "dropped after {at} polls");
        }
        notes.delete_by_id(1).await.unwrap();
        if inserted && deleted {
            return;
        }
    }
    panic!("more than {MOST_POLLS} polls");
}

on_both_tiers!(a_cache_aside_lookup_dropped_anywhere_leaves_no_lease);
/// Goal: the same for `cache().lookup` and for the lease it gives.
async fn a_cache_aside_lookup_dropped_anywhere_leaves_no_lease(world: World) {
    let (db, notes) = patient(&world).await;
    let row = notes.insert(new_note(1, "row")).await.unwrap().into_model();
    dropped_everywhere(&world, &db, &notes, async |_| {
        notes.invalidate(1).await.unwrap();
        async { notes.cache().lookup(1).await }
    })
    .await;
    dropped_everywhere(&world, &db, &notes, async |_| {
        notes.invalidate(1).await.unwrap();
        let LookedUp::Miss(lease) = notes.cache().lookup(1).await else {
            panic!("nothing is cached");
        };
        lease.fill(row.clone())
    })
    .await;
}

/// Goal: a caller goes away while its save waits in the database. It leaves neither a block nor an
/// unpublished commit.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_save_whose_caller_left_after_the_commit_is_published() {
    in_time(async {
        let world = World::new(Backend::Sqlite, Tier::Redis).await;
        let (db, notes) = patient(&world).await;
        let mut row = notes.insert(new_note(1, "old")).await.unwrap().into_model();
        let text = cached_repo_harness::unique("new");
        row.text = text.as_str().into();
        let gate = Gate::hold(&text);
        let caller = tokio::spawn({
            let notes = notes.clone();
            async move { notes.save(row).await }
        });
        gate.arrived(1).await;
        // The caller is dropped while it waits for the cache's answer.
        caller.abort();
        gate.open();
        assert!(caller.await.unwrap_err().is_cancelled());
        is_clean(&world, &db, &notes, 0).await;
        assert_eq!(notes.find_by_id(1).await.unwrap().unwrap().text.0, text);
        assert_eq!(notes.stats().puts, 2);
    })
    .await;
}

/// More polls than a transaction of several statements has.
const MOST_POLLS_OF_A_TRANSACTION: usize = 400;

type Outcome = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// Drops a transaction that gives rows 1 and 2 the same new text after 0, 1, 2… polls until it ends
/// by itself. Each time it has written both rows or none, and both are served from the cache.
async fn transaction_dropped_everywhere(
    world: World,
    transaction: impl AsyncFn(&CachedDb, &note::Repository, &str) -> Outcome,
) {
    let (db, notes) = patient(&world).await;
    for id in [1, 2] {
        notes.insert(new_note(id, "first")).await.unwrap();
    }
    for at in 0..MOST_POLLS_OF_A_TRANSACTION {
        let text = format!("after {at} polls");
        let mut outcome = None;
        poll_times(
            async { outcome = Some(transaction(&db, &notes, &text).await) },
            at,
        )
        .await;
        is_quiet(&db).await;
        let texts = both(&notes.fresh()).await;
        assert_eq!(texts[0], texts[1], "dropped after {at} polls");
        for id in [1, 2] {
            is_clean_of(&world, &notes, id, at).await;
        }
        match outcome {
            None => {}
            Some(Ok(())) => return assert_eq!(texts[0], text),
            // The database rolls a transaction back after it was dropped; until it has, SQLite is
            // locked.
            Some(Err(error)) => {
                assert_eq!(world.tier(), Tier::Memory, "{error}");
                assert!(error.to_string().contains("locked"), "{error}");
            }
        }
    }
    panic!("more than {MOST_POLLS_OF_A_TRANSACTION} polls");
}

async fn both(notes: &note::Repository) -> [String; 2] {
    let [one, two] = [notes.find_by_id(1).await, notes.find_by_id(2).await];
    [one, two].map(|row| row.unwrap().unwrap().text.0.clone())
}

async fn rename(notes: &note::Repository, id: i64, text: &str) -> Result<(), WriteError> {
    let text = |note: &mut note::ActiveModel| note.text = Set(text.into());
    notes.update_with(id, text).await?;
    Ok(())
}

on_both_tiers!(a_transaction_dropped_anywhere_is_whole_or_nothing);
/// Goal: no key stays unreadable (its block would last ten minutes here) and nothing stale is
/// served. From the COMMIT on the transaction is finished without its caller.
async fn a_transaction_dropped_anywhere_is_whole_or_nothing(world: World) {
    transaction_dropped_everywhere(world, async |db, notes, text| {
        db.transaction(async |tx| {
            rename(&notes.on(tx), 1, text).await?;
            rename(&notes.on(tx), 2, text).await
        })
        .await?;
        Ok(())
    })
    .await;
}

on_both_tiers!(a_transaction_with_a_savepoint_dropped_anywhere_is_whole_or_nothing);
/// Goal: the same with a nested transaction inside, and another that is rolled back.
async fn a_transaction_with_a_savepoint_dropped_anywhere_is_whole_or_nothing(world: World) {
    transaction_dropped_everywhere(world, async |db, notes, text| {
        let tx = db.begin().await?;
        rename(&notes.on(&tx), 1, text).await?;
        let undone = tx.begin().await?;
        rename(&notes.on(&undone), 1, "undone").await?;
        undone.rollback().await?;
        let kept = tx.begin().await?;
        rename(&notes.on(&kept), 2, text).await?;
        kept.commit().await?;
        tx.commit().await?;
        Ok(())
    })
    .await;
}

on_both_tiers!(a_savepoint_whose_rollback_was_dropped_does_not_hold_its_transaction_up);
/// Goal: the rollback of a nested transaction is dropped halfway. It is rolled back all the same,
/// and the outer one can continue or end: the locks do not outlive it.
async fn a_savepoint_whose_rollback_was_dropped_does_not_hold_its_transaction_up(world: World) {
    let (db, notes) = patient(&world).await;
    notes.insert(new_note(1, "first")).await.unwrap();
    for polls in 0..10 {
        for goes_on in [true, false] {
            let tx = db.begin().await.unwrap();
            let nested = tx.begin().await.unwrap();
            rename(&notes.on(&nested), 1, "undone").await.unwrap();
            poll_times(nested.rollback(), polls).await;
            let text = format!("after {polls} polls");
            if goes_on {
                rename(&notes.on(&tx), 1, &text).await.unwrap();
                tx.commit().await.unwrap();
            } else {
                drop(tx);
                eventually("the row is not locked", async || {
                    rename(&notes, 1, &text).await.ok()
                })
                .await;
            }
            assert_eq!(notes.find_by_id(1).await.unwrap().unwrap().text.0, text);
        }
    }
}
