//! A reader stops between its SELECT and its fill, and a writer changes the row meanwhile.

use cached_repo_tests::{
    World, eventually,
    gated::{Blot, Gate, Mine, leaf, page},
};
use sea_orm::ActiveValue::Set;

use super::{another, new_page, pages, renumbered, settled, shelf, short_block, slug, unique};

on_both_tiers!(a_list_that_was_read_before_an_insert_is_not_cached_after_it);
/// Goal: an index fill that races with an insert is refused: the reader, which began before,
/// returns the short list once, and no later reader does.
async fn a_list_that_was_read_before_an_insert_is_not_cached_after_it(world: World) {
    let (db, pages, others) = pages(&world).await;
    let text = unique("page");
    pages.insert(new_page(1, 1, &text)).await.unwrap();
    let gate = Gate::hold(&text);
    let reader = tokio::spawn({
        let pages = pages.clone();
        async move { shelf(&pages, 1).await }
    });
    gate.arrived(1).await;
    others.insert(new_page(2, 1, "new")).await.unwrap();
    gate.open();
    assert_eq!(reader.await.unwrap(), [1]);
    settled(&db).await;
    assert_eq!(pages.stats().fills_refused, 1);
    for _ in 0..3 {
        assert_eq!(shelf(&others, 1).await, [1, 2]);
        assert_eq!(shelf(&pages, 1).await, [1, 2]);
    }
}

on_both_tiers!(a_unique_row_that_was_read_before_it_moved_is_not_cached_after_it);
/// Goal: the same for a unique value: the fill of the index entry for the old row is refused. So is
/// the fill of the absence of the value that the row moves to.
async fn a_unique_row_that_was_read_before_it_moved_is_not_cached_after_it(world: World) {
    let (db, pages, others) = pages(&world).await;
    let text = unique("page");
    let page = pages.insert(new_page(1, 1, &text)).await.unwrap();
    assert_eq!(slug(&pages, 9).await, None);
    let gate = Gate::hold(&text);
    let reader = tokio::spawn({
        let pages = pages.clone();
        async move { slug(&pages, 1).await }
    });
    gate.arrived(1).await;
    others.save(renumbered(&page, 9, "moved")).await.unwrap();
    let again = page::ActiveModel {
        slug: Set(1),
        ..new_page(2, 1, "successor")
    };
    others.insert(again).await.unwrap();
    gate.open();
    assert_eq!(reader.await.unwrap(), Some(1));
    settled(&db).await;
    for _ in 0..3 {
        for reader in [&pages, &others] {
            assert_eq!(slug(reader, 1).await, Some(2));
            assert_eq!(slug(reader, 9).await, Some(1));
        }
    }
}

on_both_tiers!(an_index_entry_is_followed_while_its_row_is_updated_away);
/// Goal: the index entry is known, and the reader loads its row. Meanwhile the row leaves the value
/// and another takes it. No later caller gets the row that the reader loaded.
async fn an_index_entry_is_followed_while_its_row_is_updated_away(world: World) {
    let (db, pages, others) = pages(&world).await;
    let text = unique("page");
    let page = pages.insert(new_page(1, 1, &text)).await.unwrap();
    // The index entry is stored and its row is not: a lookup stores only its index entry.
    pages.invalidate(1).await.unwrap();
    assert_eq!(slug(&pages, 1).await, Some(1));
    settled(&db).await;
    let gate = Gate::hold(&text);
    let followers = pages.stats().index_hits;
    let reader = tokio::spawn({
        let pages = pages.clone();
        async move { slug(&pages, 1).await }
    });
    gate.arrived(1).await;
    assert_eq!(pages.stats().index_hits, followers + 1);
    others.save(renumbered(&page, 9, "moved")).await.unwrap();
    let again = page::ActiveModel {
        slug: Set(1),
        ..new_page(2, 1, "successor")
    };
    others.insert(again).await.unwrap();
    gate.open();
    assert_eq!(reader.await.unwrap(), Some(1));
    settled(&db).await;
    for _ in 0..3 {
        for reader in [&pages, &others] {
            assert_eq!(slug(reader, 1).await, Some(2));
            assert_eq!(slug(reader, 9).await, Some(1));
            assert_eq!(shelf(reader, 1).await, [1, 2]);
        }
    }
}

on_both_tiers!(a_lookup_does_not_join_one_that_began_before_a_write);
/// Goal: a lookup that starts after a write was acknowledged must not join a flight that read
/// before the write.
async fn a_lookup_does_not_join_one_that_began_before_a_write(world: World) {
    let (_db, pages, others) = pages(&world).await;
    let text = unique("page");
    pages.insert(new_page(1, 1, &text)).await.unwrap();
    let gate = Gate::hold(&text);
    let lookup = || {
        let pages = pages.clone();
        tokio::spawn(async move { shelf(&pages, 1).await })
    };
    let early = lookup();
    gate.arrived(1).await;
    others.insert(new_page(2, 1, "new")).await.unwrap();
    let misses = pages.stats().index_misses;
    let late: Vec<_> = (0..3).map(|_| lookup()).collect();
    eventually("the late lookups have missed", async || {
        (pages.stats().index_misses >= misses + 3).then_some(())
    })
    .await;
    gate.open();
    assert_eq!(early.await.unwrap(), [1]);
    for lookup in late {
        assert_eq!(lookup.await.unwrap(), [1, 2]);
    }
}

on_both_tiers!(lookups_beside_each_other_are_one_statement);
/// Goal: a stampede on a list or a unique value is one SELECT.
async fn lookups_beside_each_other_are_one_statement(world: World) {
    let (db, pages, _) = pages(&world).await;
    let text = unique("page");
    pages.insert(new_page(1, 1, &text)).await.unwrap();
    pages.find_by_id(1).await.unwrap();
    settled(&db).await;
    let _ = world.statements.take();
    let gate = Gate::hold(&text);
    let lookup = || {
        let pages = pages.clone();
        tokio::spawn(async move { shelf(&pages, 1).await })
    };
    let first = lookup();
    gate.arrived(1).await;
    let rest: Vec<_> = (0..50).map(|_| lookup()).collect();
    eventually("the lookups have missed", async || {
        (pages.stats().index_misses >= 51).then_some(())
    })
    .await;
    gate.open();
    for lookup in rest.into_iter().chain([first]) {
        assert_eq!(lookup.await.unwrap(), [1]);
    }
    assert_eq!(world.statements.verbs(), ["SELECT"]);
}

on_both_tiers!(rows_that_another_reader_is_loading_are_waited_for);
/// Goal: `find_by_ids` loads only rows that nobody is loading, and waits for the rest; no row is
/// loaded twice.
async fn rows_that_another_reader_is_loading_are_waited_for(world: World) {
    let (db, pages, others) = pages(&world).await;
    let text = unique("page");
    pages.insert(new_page(1, 1, &text)).await.unwrap();
    pages.insert(new_page(2, 1, "other")).await.unwrap();
    pages.invalidate_all().await.unwrap();
    settled(&db).await;
    let _ = world.statements.take();
    let gate = Gate::hold(&text);
    let loader = tokio::spawn({
        let others = others.clone();
        async move { others.find_by_id(1).await.unwrap().unwrap().id }
    });
    gate.arrived(1).await;
    let loads = pages.stats().loads;
    let many = tokio::spawn({
        let pages = pages.clone();
        async move { pages.find_by_ids([2, 1, 3, 1]).await.unwrap() }
    });
    eventually("the others are being loaded", async || {
        (pages.stats().loads > loads).then_some(())
    })
    .await;
    gate.open();
    assert_eq!(loader.await.unwrap(), 1);
    let found = many.await.unwrap();
    let found: Vec<_> = found
        .iter()
        .map(|row| row.as_ref().map(|row| row.id))
        .collect();
    assert_eq!(found, [Some(2), Some(1), None, Some(1)]);
    settled(&db).await;
    assert_eq!(world.statements.verbs(), ["SELECT"; 2]);
}

on_both_tiers!(a_fresh_read_ends_what_an_older_reader_is_about_to_store);
/// Goal: someone wrote past the library after readers had loaded a row and a list, and before they
/// stored them. A fresh read shows the change, and neither reader hides it again.
async fn a_fresh_read_ends_what_an_older_reader_is_about_to_store(world: World) {
    let (db, pages, others) = pages(&world).await;
    let text = unique("page");
    pages.insert(new_page(1, 1, &text)).await.unwrap();
    pages.invalidate_all().await.unwrap();
    let gate = Gate::hold(&text);
    let by_id = tokio::spawn({
        let pages = pages.clone();
        async move { pages.find_by_id(1).await.unwrap().unwrap().text.0.clone() }
    });
    gate.arrived(1).await;
    let by_shelf = tokio::spawn({
        let pages = pages.clone();
        async move { shelf(&pages, 1).await }
    });
    gate.arrived(2).await;
    world
        .raw(r#"UPDATE "page" SET text = 'changed' WHERE id = 1"#)
        .await;
    let fresh = others.fresh().find_by_slug(1).await.unwrap().unwrap();
    assert_eq!(fresh.text.0, "changed");
    world
        .raw(r#"INSERT INTO "page" (id, slug, shelf, text, version) VALUES (2, 2, 1, 'new', 1)"#)
        .await;
    assert!(others.fresh().find_by_id(2).await.unwrap().is_some());
    gate.open();
    assert_eq!(by_id.await.unwrap(), text);
    assert_eq!(by_shelf.await.unwrap(), [1]);
    settled(&db).await;
    for _ in 0..2 {
        for reader in [&pages, &others] {
            let found = reader.find_by_id(1).await.unwrap().unwrap();
            assert_eq!(found.text.0, "changed");
            assert_eq!(shelf(reader, 1).await, [1, 2]);
        }
    }
}

on_both_tiers!(a_writer_that_dies_after_its_commit_leaves_no_short_list);
/// Goal: a publish is lost. Until the block lapses nobody stores the list; the list that is stored
/// after that has the row. All answers in between have it.
async fn a_writer_that_dies_after_its_commit_leaves_no_short_list(world: World) {
    world.create_table(page::Entity).await;
    let db = world.db_with(short_block).await;
    let pages = page::Repository::new(&db);
    let others = page::Repository::new(&another(&world, &db).await);
    pages.insert(new_page(1, 1, "first")).await.unwrap();
    for reader in [&pages, &others] {
        assert_eq!(shelf(reader, 1).await, [1]);
        assert_eq!(slug(reader, 2).await, None);
    }
    let text = unique("last");
    {
        let _mine = Mine::lay(&text);
        pages.insert(new_page(2, 1, &text)).await.unwrap_err();
    }
    for reader in [&others, &pages] {
        eventually("the list is served from the cache", async || {
            let hits = reader.stats().index_hits;
            assert_eq!(shelf(reader, 1).await, [1, 2]);
            assert_eq!(slug(reader, 2).await, Some(2));
            (reader.stats().index_hits >= hits + 2).then_some(())
        })
        .await;
    }
}

on_both_tiers!(a_row_that_is_known_to_be_absent_and_listed_is_asked_for);
/// Goal: the same where the database makes the key, so that the absence of its row cannot be
/// blocked before the INSERT. The list has the row all the same.
async fn a_row_that_is_known_to_be_absent_and_listed_is_asked_for(world: World) {
    world.create_table(leaf::Entity).await;
    let db = world.db_with(short_block).await;
    let leaves = leaf::Repository::new(&db);
    let leaf = |text: &str| leaf::ActiveModel {
        tree: Set(1),
        text: Set(text.into()),
        ..Default::default()
    };
    let first = leaves.insert(leaf("first")).await.unwrap().id;
    assert_eq!(leaves.find_by_id(first + 1).await.unwrap(), None);
    settled(&db).await;
    let text = unique("last");
    {
        let _mine = Mine::lay(&text);
        leaves.insert(leaf(&text)).await.unwrap_err();
    }
    eventually("the list is served from the cache", async || {
        let hits = leaves.stats().index_hits;
        let rows = leaves.find_all_by_tree(1).await.unwrap();
        let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
        assert_eq!(ids, [first, first + 1]);
        (leaves.stats().index_hits > hits).then_some(())
    })
    .await;
    for _ in 0..3 {
        assert_eq!(leaves.find_all_by_tree(1).await.unwrap().len(), 2);
    }
}

on_both_tiers!(a_row_that_cannot_be_read_back_in_a_transaction_is_listed_all_the_same);
/// Goal: inside a transaction an INSERT is done and its row cannot be read. Neither its key nor its
/// list is known. If the caller commits all the same, everyone finds the row.
async fn a_row_that_cannot_be_read_back_in_a_transaction_is_listed_all_the_same(world: World) {
    world.create_table(leaf::Entity).await;
    let db = world.db().await;
    let leaves = leaf::Repository::new(&db);
    let leaf = |text: &str| leaf::ActiveModel {
        text: Set(text.into()),
        ..Default::default()
    };
    let first = leaves.insert(leaf("first")).await.unwrap();
    assert_eq!(first.tree, 7);
    assert_eq!(leaves.find_by_id(first.id + 1).await.unwrap(), None);
    assert_eq!(leaves.find_all_by_tree(7).await.unwrap().len(), 1);
    settled(&db).await;
    let text = unique("last");
    let tx = db.begin().await.unwrap();
    {
        let _blot = Blot::make(&text);
        leaves.on(&tx).insert(leaf(&text)).await.unwrap_err();
    }
    tx.commit().await.unwrap();
    for _ in 0..2 {
        assert_eq!(leaves.find_all_by_tree(7).await.unwrap().len(), 2);
        assert!(leaves.find_by_id(first.id + 1).await.unwrap().is_some());
    }
}
