//! A row begins or ceases to meet the condition of a lookup while a reader loads: whatever the order,
//! no later reader misses it, or gets it although it has left.

use cached_repo_tests::{
    World, eventually,
    gated::{Gate, draft},
};
use sea_orm::ActiveValue::Set;

use super::{another, settled, unique};

/// An empty table of drafts; one process, and another.
async fn drafts(world: &World) -> (cached_repo::CachedDb, draft::Repository, draft::Repository) {
    world.create_table(draft::Entity).await;
    let db = world.db().await;
    let other = another(world, &db).await;
    let (drafts, others) = (draft::Repository::new(&db), draft::Repository::new(&other));
    (db, drafts, others)
}

fn new_draft(id: i64, slug: i32, published: bool, text: &str) -> draft::ActiveModel {
    draft::ActiveModel {
        id: Set(id),
        slug: Set(slug),
        shelf: Set(1),
        published: Set(published),
        text: Set(text.into()),
        ..Default::default()
    }
}

async fn shelf(drafts: &draft::Repository) -> Vec<i64> {
    let rows = drafts.find_all_by_shelf(1).await.unwrap();
    rows.iter().map(|row| row.id).collect()
}

async fn slug(drafts: &draft::Repository, slug: i32) -> Option<i64> {
    let row = drafts.find_by_slug(slug).await.unwrap();
    let many = drafts.find_by_slugs([slug]).await.unwrap().remove(0);
    let (row, many) = (row.map(|row| row.id), many.map(|row| row.id));
    assert_eq!(row, many, "{slug}");
    row
}

async fn publish(drafts: &draft::Repository, id: i64, published: bool) {
    let changed = drafts.update_with(id, |row| row.published = Set(published));
    changed.await.unwrap();
}

on_both_tiers!(a_row_that_meets_the_condition_while_a_lookup_loads_is_not_missed);
/// Goal: the reader has its SELECT behind it when another row is published. Its short list is not
/// stored.
async fn a_row_that_meets_the_condition_while_a_lookup_loads_is_not_missed(world: World) {
    let (db, drafts, others) = drafts(&world).await;
    let text = unique("draft");
    drafts.insert(new_draft(1, 1, true, &text)).await.unwrap();
    drafts.insert(new_draft(2, 2, false, "a")).await.unwrap();
    let gate = Gate::hold(&text);
    let reader = tokio::spawn({
        let drafts = drafts.clone();
        async move { shelf(&drafts).await }
    });
    gate.arrived(1).await;
    publish(&others, 2, true).await;
    gate.open();
    assert_eq!(reader.await.unwrap(), [1]);
    settled(&db).await;
    assert!(drafts.stats().fills_refused >= 1);
    for _ in 0..3 {
        for reader in [&drafts, &others] {
            assert_eq!(shelf(reader).await, [1, 2]);
            assert_eq!(slug(reader, 2).await, Some(2));
        }
    }
}

on_both_tiers!(an_absence_ends_when_a_row_meets_the_condition);
/// Goal: nothing is published under a number, and everyone knows. A row with the number is published by
/// another process, which sets the flag alone.
async fn an_absence_ends_when_a_row_meets_the_condition(world: World) {
    let (db, drafts, others) = drafts(&world).await;
    drafts.insert(new_draft(1, 5, false, "a")).await.unwrap();
    for _ in 0..2 {
        for reader in [&drafts, &others] {
            assert_eq!(slug(reader, 5).await, None);
            assert_eq!(shelf(reader).await, [0; 0]);
            settled(&db).await;
        }
    }
    publish(&others, 1, true).await;
    for _ in 0..3 {
        for reader in [&drafts, &others] {
            assert_eq!(slug(reader, 5).await, Some(1));
            assert_eq!(shelf(reader).await, [1]);
        }
    }
}

on_both_tiers!(an_index_entry_is_followed_while_its_row_ceases_to_meet_the_condition);
/// Goal: the index entry is known, and the reader loads its row. Meanwhile the row is withdrawn and
/// another is published under its number. No later caller gets the one that has left.
async fn an_index_entry_is_followed_while_its_row_ceases_to_meet_the_condition(world: World) {
    let (db, drafts, others) = drafts(&world).await;
    let text = unique("draft");
    drafts.insert(new_draft(1, 5, true, &text)).await.unwrap();
    drafts.insert(new_draft(2, 5, false, "b")).await.unwrap();
    drafts.invalidate(1).await.unwrap();
    assert_eq!(slug(&drafts, 5).await, Some(1));
    settled(&db).await;
    drafts.invalidate(1).await.unwrap();
    // The invalidation took the index entry with it: the lookup stores it, and no row.
    assert!(drafts.find_by_slug(5).await.unwrap().is_some());
    settled(&db).await;
    let gate = Gate::hold(&text);
    let followed = drafts.stats().index_hits;
    let reader = tokio::spawn({
        let drafts = drafts.clone();
        async move { drafts.find_by_slug(5).await.unwrap().map(|row| row.id) }
    });
    gate.arrived(1).await;
    assert_eq!(drafts.stats().index_hits, followed + 1);
    let withdrawn = tokio::spawn({
        let others = others.clone();
        async move {
            // Its own row passes the gate too.
            let row = draft::ActiveModel {
                id: sea_orm::ActiveValue::Unchanged(1),
                published: Set(false),
                text: Set("withdrawn".into()),
                version: sea_orm::ActiveValue::Unchanged(1),
                ..Default::default()
            };
            others.update(row).await.unwrap();
            publish(&others, 2, true).await;
        }
    });
    withdrawn.await.unwrap();
    gate.open();
    assert_eq!(reader.await.unwrap(), Some(1));
    settled(&db).await;
    for _ in 0..3 {
        for reader in [&drafts, &others] {
            assert_eq!(slug(reader, 5).await, Some(2));
            assert_eq!(shelf(reader).await, [2]);
        }
    }
}

on_both_tiers!(a_write_of_a_row_that_fails_the_condition_leaves_its_lists_alone);
/// Goal: a row that does not meet the condition before or after a save costs no list its entry.
async fn a_write_of_a_row_that_fails_the_condition_leaves_its_lists_alone(world: World) {
    let (db, drafts, others) = drafts(&world).await;
    drafts.insert(new_draft(1, 1, true, "a")).await.unwrap();
    drafts.insert(new_draft(2, 2, false, "b")).await.unwrap();
    eventually("the list is cached", async || {
        shelf(&drafts).await;
        settled(&db).await;
        let _ = world.statements.take();
        assert_eq!(shelf(&drafts).await, [1]);
        world.statements.take().is_empty().then_some(())
    })
    .await;
    let row = others.find_by_id(2).await.unwrap().unwrap().into_model();
    others.save(row).await.unwrap();
    others.insert(new_draft(3, 3, false, "c")).await.unwrap();
    let _ = world.statements.take();
    assert_eq!(shelf(&drafts).await, [1]);
    assert_eq!(world.statements.verbs(), [""; 0]);
}
