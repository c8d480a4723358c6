//! Lists by an index: ordered, bounded, and never too short.

use std::time::Duration;

use cached_repo::{Cached, Source};
use cached_repo_tests::{
    World,
    entities::lookups::{
        card::{self, Suit},
        label,
    },
    eventually, lapse,
};
use sea_orm::{
    ActiveValue::{Set, Unchanged},
    DbBackend,
};

use super::{members, new_member, settled, team};

fn new_card(id: i32, deck: i32) -> card::ActiveModel {
    card::ActiveModel {
        id: Set(id),
        deck: Set(deck),
        up: Set(true),
        face: Set(format!("face {id}")),
        suit: Set(Suit::Hearts),
        price: Set(0),
    }
}

fn ids(rows: &[Cached<card::Model>]) -> Vec<i32> {
    rows.iter().map(|row| row.id).collect()
}

/// The deck's cards, the same three times.
async fn deck(cards: &card::Repository, deck: i32) -> Vec<i32> {
    let first = ids(&cards.find_all_by_deck(deck).await.unwrap());
    for _ in 0..2 {
        assert_eq!(ids(&cards.find_all_by_deck(deck).await.unwrap()), first);
    }
    first
}

async fn create(world: &World) {
    if world.backend() == DbBackend::Postgres {
        world
            .raw("CREATE TYPE suit AS ENUM ('hearts', 'spades')")
            .await;
    }
    world.create_table(card::Entity).await;
}

async fn cards(world: &World) -> (cached_repo::CachedDb, card::Repository) {
    create(world).await;
    let db = world.db().await;
    let cards = card::Repository::new(&db);
    (db, cards)
}

everywhere!(a_list_past_its_ttl_is_served_while_it_is_reloaded_behind);
/// Goal: `stale_ttl` covers a list as it covers a row: past its TTL it is served at once, and
/// loaded again in the background.
async fn a_list_past_its_ttl_is_served_while_it_is_reloaded_behind(world: World) {
    const TTL: Duration = Duration::from_millis(200);
    create(&world).await;
    let db = world
        .db_with(|config| {
            config.ttl = TTL;
            config.early_refresh = 0.0;
            config.stale_ttl = Duration::from_secs(3600);
        })
        .await;
    let cards = card::Repository::new(&db);
    for id in [1, 2] {
        cards.insert(new_card(id, 1)).await.unwrap();
    }
    assert_eq!(ids(&cards.find_all_by_deck(1).await.unwrap()), [1, 2]);
    settled(&db).await;
    world
        .raw(
            "INSERT INTO card (id, deck, up, face, suit, price) \
             VALUES (3, 1, true, 'face 3', 'hearts', 0)",
        )
        .await;
    lapse(TTL * 2).await;
    let before = cards.stats();
    assert_eq!(ids(&cards.find_all_by_deck(1).await.unwrap()), [1, 2]);
    let after = cards.stats();
    assert_eq!(after.index_hits, before.index_hits + 1);
    assert_eq!(after.index_misses, before.index_misses);
    settled(&db).await;
    assert!(cards.stats().refreshes > before.refreshes);
    assert_eq!(ids(&cards.find_all_by_deck(1).await.unwrap()), [1, 2, 3]);
}

everywhere!(a_list_is_ordered_by_key);
/// Goal: whatever the order of the inserts, cold and warm; a composite key counts by its columns.
async fn a_list_is_ordered_by_key(world: World) {
    let (db, cards) = cards(&world).await;
    for id in [30, 4, 200] {
        cards.insert(new_card(id, 1)).await.unwrap();
    }
    assert_eq!(deck(&cards, 1).await, [4, 30, 200]);
    settled(&db).await;
    let rows = cards.find_all_by_deck(1).await.unwrap();
    assert!(rows.iter().all(|row| row.source() == Source::Shared));

    world.create_table(label::Entity).await;
    let labels = label::Repository::new(&db);
    for (language, code) in [("en", 2), ("de", 10), ("de", 9)] {
        let row = label::ActiveModel {
            language: Set(language.into()),
            code: Set(code),
            text: Set("same".into()),
        };
        labels.insert(row).await.unwrap();
    }
    for _ in 0..3 {
        let rows = labels.find_all_by_text("same").await.unwrap();
        let found: Vec<_> = rows
            .iter()
            .map(|row| (row.language.as_str(), row.code))
            .collect();
        assert_eq!(found, [("de", 9), ("de", 10), ("en", 2)]);
    }
}

everywhere!(a_list_that_is_too_long_comes_from_the_database);
/// Goal: up to `max_rows` a list is cached; beyond, each lookup asks the database and is counted.
/// When rows leave the list, it is cached again.
async fn a_list_that_is_too_long_comes_from_the_database(world: World) {
    let (db, cards) = cards(&world).await;
    for id in 1..=3 {
        cards.insert(new_card(id, 1)).await.unwrap();
    }
    assert_eq!(deck(&cards, 1).await, [1, 2, 3]);
    settled(&db).await;
    let _ = world.statements.take();
    assert_eq!(deck(&cards, 1).await, [1, 2, 3]);
    assert_eq!(world.statements.verbs(), [""; 0]);
    assert_eq!(cards.stats().lists_too_long, 0);

    cards.insert(new_card(4, 1)).await.unwrap();
    let _ = world.statements.take();
    for count in 1..=3 {
        assert_eq!(ids(&cards.find_all_by_deck(1).await.unwrap()), [1, 2, 3, 4]);
        settled(&db).await;
        assert_eq!(world.statements.verbs(), ["SELECT"]);
        assert_eq!(cards.stats().lists_too_long, count);
    }
    cards.delete_by_id(2).await.unwrap();
    assert_eq!(deck(&cards, 1).await, [1, 3, 4]);
    settled(&db).await;
    let _ = world.statements.take();
    assert_eq!(deck(&cards, 1).await, [1, 3, 4]);
    assert_eq!(world.statements.verbs(), [""; 0]);
    assert_eq!(cards.stats().lists_too_long, 3);
}

everywhere!(the_default_bound_of_lists_is_the_databases);
/// Goal: `Config::index_max_rows` holds for indexes without `max_rows`.
async fn the_default_bound_of_lists_is_the_databases(world: World) {
    let (_, cards) = cards(&world).await;
    let small = world.db_with(|config| config.index_max_rows = 2).await;
    for id in 1..=3 {
        cards.insert(new_card(id, id % 2)).await.unwrap();
    }
    let cards = card::Repository::new(&small);
    for _ in 0..2 {
        assert_eq!(cards.find_all_by_suit(Suit::Hearts).await.unwrap().len(), 3);
    }
    settled(&small).await;
    assert_eq!(cards.stats().lists_too_long, 2);
    assert_eq!(deck(&cards, 1).await, [1, 3]);
    assert_eq!(cards.stats().lists_too_long, 2);
}

everywhere!(a_list_of_at_most_one_row_is_not_taken_for_a_unique_row);
/// Goal: `max_rows = 1` on a text: where the database calls two spellings equal, the list has both
/// rows, however it was cached before.
async fn a_list_of_at_most_one_row_is_not_taken_for_a_unique_row(world: World) {
    let (_db, cards) = cards(&world).await;
    if world.backend() == DbBackend::MySql {
        world
            .raw("ALTER TABLE card MODIFY face varchar(64) COLLATE utf8mb4_general_ci NOT NULL")
            .await;
    }
    let face = async |text: &str| {
        let first = ids(&cards.find_all_by_face(text).await.unwrap());
        for _ in 0..2 {
            assert_eq!(ids(&cards.find_all_by_face(text).await.unwrap()), first);
        }
        first
    };
    let insert = async |id, text: &str| {
        let row = card::ActiveModel {
            face: Set(text.into()),
            ..new_card(id, 1)
        };
        cards.insert(row).await.unwrap();
    };
    insert(1, "king").await;
    assert_eq!(face("king").await, [1]);
    insert(2, "KING").await;
    let both = world.backend() == DbBackend::MySql;
    let expected = |own: i32| if both { vec![1, 2] } else { vec![own] };
    assert_eq!(face("king").await, expected(1));
    assert_eq!(face("KING").await, expected(2));
}

everywhere!(a_writer_moves_rows_between_lists);
/// Goal: after each move both lists are right, and so are those by another index and by a pair;
/// rows that were deleted are in none.
async fn a_writer_moves_rows_between_lists(world: World) {
    let (_db, members) = members(&world).await;
    let mut keys = Vec::new();
    for (chair, email) in ["a", "b", "c"].into_iter().enumerate() {
        let row = new_member(email, 1, i32::try_from(chair).unwrap());
        keys.push(members.insert(row).await.unwrap().id);
    }
    assert_eq!(team(&members, 1).await, ["a", "b", "c"]);
    assert_eq!(team(&members, 2).await, [""; 0]);
    for (round, key) in keys.iter().enumerate() {
        members
            .update_with(*key, |row| row.team_id = Set(2))
            .await
            .unwrap();
        assert_eq!(team(&members, 1).await, ["a", "b", "c"][round + 1..]);
        assert_eq!(team(&members, 2).await, ["a", "b", "c"][..=round]);
    }
    let side = async |team, active| {
        let emails = async || -> Vec<String> {
            let rows = members.find_all_by_team(team, active).await.unwrap();
            rows.iter().map(|row| row.email.clone()).collect()
        };
        let first = emails().await;
        assert_eq!(emails().await, first);
        first
    };
    assert_eq!(side(2, true).await, ["a", "b", "c"]);
    assert_eq!(side(2, false).await, [""; 0]);
    members
        .update_with(keys[1], |row| row.active = Set(false))
        .await
        .unwrap();
    assert_eq!(side(2, true).await, ["a", "c"]);
    assert_eq!(side(2, false).await, ["b"]);
    members.delete_by_id(keys[1]).await.unwrap();
    assert_eq!(side(2, false).await, [""; 0]);
    assert_eq!(team(&members, 2).await, ["a", "c"]);
}

everywhere!(a_list_that_rows_have_left_is_loaded_once);
/// Goal: an index entry with too many keys costs one SELECT, not one for each lookup or for each
/// row that has left: the entry without them is stored.
async fn a_list_that_rows_have_left_is_loaded_once(world: World) {
    let (db, members) = members(&world).await;
    let mut keys = Vec::new();
    for (chair, email) in ["a", "b", "c", "d"].into_iter().enumerate() {
        let row = new_member(email, 1, i32::try_from(chair).unwrap());
        keys.push(members.insert(row).await.unwrap().id);
    }
    assert_eq!(team(&members, 1).await.len(), 4);
    members.delete_by_id(keys[0]).await.unwrap();
    members
        .update_with(keys[1], |row| row.team_id = Set(2))
        .await
        .unwrap();
    settled(&db).await;
    assert_eq!(members.stats().index_outdated, 0);
    assert_eq!(team(&members, 1).await, ["c", "d"]);
    settled(&db).await;
    assert_eq!(members.stats().index_outdated, 1);
    let hits = members.stats().shared_hits;
    let _ = world.statements.take();
    assert_eq!(team(&members, 1).await, ["c", "d"]);
    assert_eq!(world.statements.verbs(), [""; 0]);
    assert_eq!(
        members.stats().shared_hits,
        hits + 3 * 2,
        "two rows each time"
    );
}

everywhere!(lists_by_an_enum_are_cached);
/// Goal: a column that is an enum, a native one on PostgreSQL, is found by its value, and its lists
/// are cached, the empty one too.
async fn lists_by_an_enum_are_cached(world: World) {
    let (db, cards) = cards(&world).await;
    let suit = async |suit| ids(&cards.find_all_by_suit(suit).await.unwrap());
    assert_eq!(suit(Suit::Spades).await, [0; 0]);
    for id in 1..=2 {
        cards.insert(new_card(id, 1)).await.unwrap();
    }
    for _ in 0..2 {
        assert_eq!(suit(Suit::Hearts).await, [1, 2]);
        assert_eq!(suit(Suit::Spades).await, [0; 0]);
        settled(&db).await;
    }
    let _ = world.statements.take();
    assert_eq!(suit(Suit::Hearts).await, [1, 2]);
    assert_eq!(suit(Suit::Spades).await, [0; 0]);
    assert_eq!(world.statements.verbs(), [""; 0]);
    let row = card::ActiveModel {
        id: Unchanged(2),
        suit: Set(Suit::Spades),
        ..Default::default()
    };
    cards.update(row).await.unwrap();
    for _ in 0..2 {
        assert_eq!(suit(Suit::Hearts).await, [1]);
        assert_eq!(suit(Suit::Spades).await, [2]);
    }
}

everywhere!(an_unversioned_row_moves_by_what_the_database_has);
/// Goal: without a version, a column that an update calls unchanged may have changed. The row must
/// be found under the pair that it really has, not under the pair that the caller expects.
async fn an_unversioned_row_moves_by_what_the_database_has(world: World) {
    let (_db, cards) = cards(&world).await;
    let side = async |deck, up| ids(&cards.find_all_by_side(deck, up).await.unwrap());
    let row = cards.insert(new_card(1, 1)).await.unwrap().into_model();
    assert!(row.up);
    let other = card::ActiveModel {
        id: Unchanged(1),
        up: Set(false),
        ..Default::default()
    };
    cards.update(other).await.unwrap();
    // Everyone knows these lists by now, and that nothing is in them.
    for (deck, up) in [(2, true), (2, false), (1, true)] {
        assert_eq!(side(deck, up).await, [0; 0]);
        assert_eq!(side(deck, up).await, [0; 0]);
    }
    assert_eq!(side(1, false).await, [1]);
    let mut stale = sea_orm::IntoActiveModel::into_active_model(row);
    stale.deck = Set(2);
    let now = cards.update(stale).await.unwrap();
    assert!(!now.up, "it was not written");
    for _ in 0..2 {
        assert_eq!(side(2, false).await, [1]);
        assert_eq!(side(2, true).await, [0; 0]);
        assert_eq!(side(1, false).await, [0; 0]);
        assert_eq!(deck(&cards, 2).await, [1]);
    }
}

everywhere!(more_writers_than_a_key_has_slots_insert_into_one_list);
/// Goal: 200 inserts into one list at once all succeed, and all are in it. It is cached again once the
/// block that many of them shared has lapsed.
async fn more_writers_than_a_key_has_slots_insert_into_one_list(world: World) {
    create(&world).await;
    let cards = card::Repository::new(&world.db().await);
    let writers: Vec<_> = (0..200)
        .map(|id| {
            let cards = cards.clone();
            tokio::spawn(async move { cards.insert(new_card(id, id)).await.map(|row| row.id) })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap().unwrap();
    }
    let expected: Vec<_> = (0..200).collect();
    for _ in 0..2 {
        assert_eq!(
            ids(&cards.find_all_by_suit(Suit::Hearts).await.unwrap()),
            expected
        );
    }
    eventually("the list is cached", async || {
        let _ = world.statements.take();
        cards.find_all_by_suit(Suit::Hearts).await.unwrap();
        world.statements.verbs().is_empty().then_some(())
    })
    .await;
}
