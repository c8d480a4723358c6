//! `on_cache_failure`: what a write does while it cannot block or publish.

use cached_repo::{CachedDb, CommitError, OnCacheFailure, Source, TransactionError, WriteError};
use cached_repo_harness::Redis;
use cached_repo_tests::{
    World,
    entities::{
        policies::{payment, visit},
        user,
    },
    eventually,
    gated::note,
};
use sea_orm::{ActiveValue::Set, EntityTrait, PaginatorTrait};

use super::{as_users_do, new_note, on, until_given_up};

outage! {
    /// Goal: `Refuse`: nothing is written while the cache is away, whatever the verb, also an
    /// insert whose key the database makes.
    async fn with_refuse_nothing_is_written_while_redis_is_away() {
        let mut redis = Redis::start().unwrap();
        let world = on(&redis).await;
        world.create_table(user::Entity).await;
        let db = world
            .db_with(|config| {
                as_users_do(config);
                config.on_cache_failure = OnCacheFailure::Refuse;
            })
            .await;
        let (notes, users) = (note::Repository::new(&db), user::Repository::new(&db));
        let row = notes.insert(new_note(1, "old")).await.unwrap().into_model();
        redis.kill().unwrap();
        let mut new = row.clone();
        new.text = "new".into();
        let ada = user::ActiveModel {
            email: Set("ada@example.com".into()),
            name: Set("Ada".into()),
            ..Default::default()
        };
        let refused = [
            ("save", notes.save(new).await.err()),
            ("update_with", notes.update_with(1, |note| note.text = Set("new".into())).await.err()),
            ("insert", notes.insert(new_note(2, "new")).await.err()),
            ("insert, key by the database", users.insert(ada.clone()).await.err()),
            ("delete", notes.delete(row.clone()).await.err()),
            ("delete_by_id", notes.delete_by_id(1).await.err()),
        ];
        for (verb, error) in refused {
            assert!(matches!(error, Some(WriteError::CacheUnavailable { .. })), "{verb}: {error:?}");
        }
        let rows = note::Entity::find().all(&world.conn).await.unwrap();
        assert_eq!(rows, std::slice::from_ref(&row));
        assert_eq!(user::Entity::find().count(&world.conn).await.unwrap(), 0);
        assert_eq!(db.pending_invalidations(), 0);
        redis.restart().unwrap();
        eventually("writes are accepted again", async || {
            let mut new = row.clone();
            new.text = "new".into();
            notes.save(new).await.ok()
        })
        .await;
        users.insert(ada).await.unwrap();
    }
}

fn new_payment(id: i64) -> payment::ActiveModel {
    payment::ActiveModel {
        id: Set(id),
        amount: Set(0),
        ..Default::default()
    }
}

fn new_visit(id: i64) -> visit::ActiveModel {
    visit::ActiveModel {
        id: Set(id),
        amount: Set(0),
        ..Default::default()
    }
}

/// A database with a policy, whose entities have policies of their own, one row of each cached.
async fn with_both(
    world: &World,
    policy: OnCacheFailure,
) -> (CachedDb, payment::Repository, visit::Repository) {
    world.create_table(payment::Entity).await;
    world.create_table(visit::Entity).await;
    let db = world
        .db_with(|config| {
            as_users_do(config);
            config.on_cache_failure = policy;
        })
        .await;
    let (payments, visits) = (payment::Repository::new(&db), visit::Repository::new(&db));
    payments.insert(new_payment(1)).await.unwrap();
    visits.insert(new_visit(1)).await.unwrap();
    (db, payments, visits)
}

outage! {
    /// Goal: an entity that refuses, in a database that proceeds: its rows are not written while
    /// the cache is away, by any verb; those of other entities are.
    async fn an_entity_may_refuse_where_the_others_proceed() {
        let mut redis = Redis::start().unwrap();
        let world = on(&redis).await;
        let (db, payments, _) = with_both(&world, OnCacheFailure::Proceed).await;
        let row = payments.find_by_id(1).await.unwrap().unwrap().into_model();
        redis.pause().unwrap();
        until_given_up(&db).await;
        let refused = [
            ("save", payments.save(row.clone()).await.err()),
            ("update_with", payments.update_with(1, |it| it.amount = Set(7)).await.err()),
            ("insert", payments.insert(new_payment(2)).await.err()),
            ("delete", payments.delete(row.clone()).await.err()),
            ("delete_by_id", payments.delete_by_id(1).await.err()),
        ];
        for (verb, error) in refused {
            assert!(matches!(error, Some(WriteError::CacheUnavailable { .. })), "{verb}: {error:?}");
        }
        assert_eq!(payment::Entity::find().all(&world.conn).await.unwrap(), [row]);
        let notes = note::Repository::new(&db);
        assert!(notes.insert(new_note(1, "row")).await.unwrap().is_pending());
        assert_eq!(db.pending_invalidations(), 1);
        redis.resume().unwrap();
        eventually("writes are accepted again", async || {
            payments.update_with(1, |it| it.amount = Set(7)).await.ok()
        })
        .await;
    }
}

outage! {
    /// Goal: the reverse: an entity that proceeds, in a database that refuses.
    async fn an_entity_may_proceed_where_the_others_refuse() {
        let mut redis = Redis::start().unwrap();
        let world = on(&redis).await;
        let (db, _, visits) = with_both(&world, OnCacheFailure::Refuse).await;
        redis.pause().unwrap();
        until_given_up(&db).await;
        let saved = visits.update_with(1, |it| it.amount = Set(7)).await.unwrap();
        assert!(saved.is_pending());
        assert!(visits.insert(new_visit(2)).await.unwrap().is_pending());
        visits.delete_by_id(2).await.unwrap().unwrap();
        assert_eq!(visits.stats().pending_invalidations, 2);
        let notes = note::Repository::new(&db);
        let error = notes.insert(new_note(1, "row")).await.unwrap_err();
        assert!(matches!(error, WriteError::CacheUnavailable { .. }), "{error}");
        redis.resume().unwrap();
        eventually("what was pending is replayed", async || {
            let found = visits.find_by_id(1).await.unwrap().unwrap();
            assert_eq!(found.amount, 7);
            (db.pending_invalidations() == 0 && found.source() == Source::Shared).then_some(())
        })
        .await;
    }
}

outage! {
    /// Goal: a transaction is written as a whole or not at all: one entity that refuses makes the
    /// whole transaction refuse. Without one all proceed, whatever the database's policy.
    async fn a_transaction_is_refused_if_one_of_its_entities_refuses() {
        let mut redis = Redis::start().unwrap();
        for policy in [OnCacheFailure::Proceed, OnCacheFailure::Refuse] {
            let world = on(&redis).await;
            let (db, payments, visits) = with_both(&world, policy).await;
            redis.pause().unwrap();
            until_given_up(&db).await;
            let both = db
                .transaction(async |tx| -> Result<(), WriteError> {
                    visits.on(tx).update_with(1, |it| it.amount = Set(7)).await?;
                    payments.on(tx).update_with(1, |it| it.amount = Set(7)).await?;
                    Ok(())
                })
                .await;
            assert!(
                matches!(
                    &both,
                    Err(TransactionError::Commit(CommitError::CacheUnavailable { .. }))
                ),
                "{policy:?}: {both:?}"
            );
            let sum = async || {
                let visit = visit::Entity::find_by_id(1).one(&world.conn).await.unwrap().unwrap();
                let payment = payment::Entity::find_by_id(1).one(&world.conn).await.unwrap().unwrap();
                (visit.amount, payment.amount)
            };
            assert_eq!(sum().await, (0, 0), "{policy:?}");
            assert_eq!(db.pending_invalidations(), 0, "{policy:?}");

            db.transaction(async |tx| -> Result<(), WriteError> {
                visits.on(tx).update_with(1, |it| it.amount = Set(7)).await?;
                Ok(())
            })
            .await
            .unwrap();
            assert_eq!(sum().await, (7, 0), "{policy:?}");
            assert_eq!(db.pending_invalidations(), 1, "{policy:?}");
            redis.resume().unwrap();
            eventually("what was pending is replayed", async || {
                assert_eq!(visits.find_by_id(1).await.unwrap().unwrap().amount, 7);
                (db.pending_invalidations() == 0).then_some(())
            })
            .await;
        }
    }
}
