//! Unique values that move from one row to another: nobody finds the row they left.

use cached_repo_tests::{World, entities::lookups::member};
use sea_orm::ActiveValue::Set;

use super::{id_of, members, new_member};

async fn rename(members: &member::Repository, id: i64, email: &str) {
    members
        .update_with(id, |row| row.email = Set(email.into()))
        .await
        .unwrap();
}

everywhere!(a_value_that_an_update_moves_is_found_where_it_is);
/// Goal: an update moves a row from one value to another. It ends the cached row of the first and
/// the cached absence of the second. Then another row takes the first value.
async fn a_value_that_an_update_moves_is_found_where_it_is(world: World) {
    let (_db, members) = members(&world).await;
    let ada = members.insert(new_member("a", 1, 1)).await.unwrap().id;
    assert_eq!(id_of(&members, "a").await, Some(ada));
    assert_eq!(id_of(&members, "b").await, None);
    rename(&members, ada, "b").await;
    assert_eq!(id_of(&members, "a").await, None);
    assert_eq!(id_of(&members, "b").await, Some(ada));

    let bob = members.insert(new_member("c", 1, 2)).await.unwrap().id;
    assert_eq!(id_of(&members, "c").await, Some(bob));
    rename(&members, bob, "a").await;
    assert_eq!(id_of(&members, "a").await, Some(bob));
    assert_eq!(id_of(&members, "c").await, None);
}

everywhere!(a_value_that_a_saved_row_takes_over_is_found_there);
/// Goal: the same by `save`, which writes every column, and without a lookup in between: the cached
/// index entry holds the key of the row that has left the value.
async fn a_value_that_a_saved_row_takes_over_is_found_there(world: World) {
    let (_db, members) = members(&world).await;
    let mut ada = members.insert(new_member("a", 1, 1)).await.unwrap();
    let mut bob = members.insert(new_member("b", 1, 2)).await.unwrap();
    for _ in 0..2 {
        assert_eq!(id_of(&members, "a").await, Some(ada.id));
        assert_eq!(id_of(&members, "b").await, Some(bob.id));
        let mut row = ada.into_model();
        row.email = "c".into();
        ada = members.save(row).await.unwrap();
        let mut row = bob.into_model();
        row.email = "a".into();
        bob = members.save(row).await.unwrap();
        let mut row = ada.into_model();
        row.email = "b".into();
        ada = members.save(row).await.unwrap();
        assert_eq!(id_of(&members, "a").await, Some(bob.id));
        assert_eq!(id_of(&members, "b").await, Some(ada.id));
        assert_eq!(id_of(&members, "c").await, None);
        std::mem::swap(&mut ada, &mut bob);
    }
}

everywhere!(a_value_of_a_deleted_row_is_found_in_the_row_that_takes_it);
/// Goal: delete and insert with the same unique values, several times; also the absence between.
async fn a_value_of_a_deleted_row_is_found_in_the_row_that_takes_it(world: World) {
    let (_db, members) = members(&world).await;
    for look_between in [false, true, false] {
        let row = members.insert(new_member("a", 1, 1)).await.unwrap();
        assert_eq!(id_of(&members, "a").await, Some(row.id));
        let seat = members.find_by_seat(1, 1).await.unwrap().unwrap();
        assert_eq!(seat.id, row.id);
        if look_between {
            members.delete(row.into_model()).await.unwrap();
            assert_eq!(id_of(&members, "a").await, None);
            assert_eq!(members.find_by_seat(1, 1).await.unwrap(), None);
        } else {
            members.delete_by_id(row.id).await.unwrap().unwrap();
        }
    }
    let last = members.insert(new_member("a", 1, 1)).await.unwrap();
    assert_eq!(id_of(&members, "a").await, Some(last.id));
    assert_eq!(id_of(&members, "a").await, Some(last.id));
}

everywhere!(values_that_are_swapped_in_a_transaction_are_found_swapped);
/// Goal: a swap through a temporary value. Inside, the transaction sees its own writes; outside,
/// readers see the old state until the commit, and the new one after it.
async fn values_that_are_swapped_in_a_transaction_are_found_swapped(world: World) {
    let (db, members) = members(&world).await;
    let other = world.db().await;
    let others = member::Repository::new(&other);
    let ada = members.insert(new_member("a", 1, 1)).await.unwrap().id;
    let bob = members.insert(new_member("b", 1, 2)).await.unwrap().id;
    assert_eq!(id_of(&members, "a").await, Some(ada));
    assert_eq!(id_of(&members, "b").await, Some(bob));
    assert_eq!(id_of(&members, "temporary").await, None);

    let tx = db.begin().await.unwrap();
    let inside = members.on(&tx);
    rename(&inside, ada, "temporary").await;
    assert_eq!(id_of(&inside, "a").await, None);
    assert_eq!(id_of(&inside, "temporary").await, Some(ada));
    rename(&inside, bob, "a").await;
    rename(&inside, ada, "b").await;
    let batch = inside.find_by_emails(["a", "temporary", "b"]).await;
    let batch: Vec<_> = batch
        .unwrap()
        .into_iter()
        .map(|row| row.map(|row| row.id))
        .collect();
    assert_eq!(batch, [Some(bob), None, Some(ada)]);

    assert_eq!(id_of(&members, "a").await, Some(ada));
    assert_eq!(id_of(&others, "a").await, Some(ada));
    assert_eq!(id_of(&others, "b").await, Some(bob));
    assert_eq!(id_of(&others, "temporary").await, None);
    tx.commit().await.unwrap();
    // In-process caches are each their own.
    let readers = match world.tier() {
        cached_repo_tests::Tier::Redis => vec![&members, &others],
        cached_repo_tests::Tier::Memory => vec![&members],
    };
    for reader in readers {
        assert_eq!(id_of(reader, "a").await, Some(bob));
        assert_eq!(id_of(reader, "b").await, Some(ada));
        assert_eq!(id_of(reader, "temporary").await, None);
    }
}

everywhere!(values_that_a_rolled_back_transaction_swapped_stay_where_they_are);
/// Goal: nothing that a rolled-back transaction or savepoint wrote is found, and what it was
/// cached under before is still right; what a savepoint kept is found.
async fn values_that_a_rolled_back_transaction_swapped_stay_where_they_are(world: World) {
    let (db, members) = members(&world).await;
    let ada = members.insert(new_member("a", 1, 1)).await.unwrap().id;
    assert_eq!(id_of(&members, "a").await, Some(ada));
    assert_eq!(id_of(&members, "b").await, None);

    let tx = db.begin().await.unwrap();
    rename(&members.on(&tx), ada, "b").await;
    tx.rollback().await.unwrap();
    assert_eq!(id_of(&members, "a").await, Some(ada));
    assert_eq!(id_of(&members, "b").await, None);

    let tx = db.begin().await.unwrap();
    let undone = tx.begin().await.unwrap();
    rename(&members.on(&undone), ada, "b").await;
    members
        .on(&undone)
        .insert(new_member("c", 1, 3))
        .await
        .unwrap();
    undone.rollback().await.unwrap();
    assert_eq!(id_of(&members.on(&tx), "a").await, Some(ada));
    assert_eq!(id_of(&members.on(&tx), "c").await, None);
    let kept = tx.begin().await.unwrap();
    let dan = members
        .on(&kept)
        .insert(new_member("d", 1, 4))
        .await
        .unwrap()
        .id;
    kept.commit().await.unwrap();
    assert_eq!(id_of(&members, "d").await, None);
    tx.commit().await.unwrap();
    assert_eq!(id_of(&members, "a").await, Some(ada));
    assert_eq!(id_of(&members, "b").await, None);
    assert_eq!(id_of(&members, "c").await, None);
    assert_eq!(id_of(&members, "d").await, Some(dan));
}

everywhere!(a_pair_of_unique_columns_moves_with_either_of_them);
/// Goal: a unique group is found by both its columns, wherever one of them moves.
async fn a_pair_of_unique_columns_moves_with_either_of_them(world: World) {
    let (_db, members) = members(&world).await;
    let ada = members.insert(new_member("a", 1, 1)).await.unwrap().id;
    let seat = async |team, chair| {
        let (cold, warm) = (
            members.find_by_seat(team, chair).await.unwrap(),
            members.find_by_seat(team, chair).await.unwrap(),
        );
        assert_eq!(cold, warm);
        cold.map(|row| row.id)
    };
    for (team, chair) in [(1, 2), (2, 1), (2, 2), (1, 1)] {
        assert_eq!(
            seat(team, chair).await,
            (team, chair).eq(&(1, 1)).then_some(ada)
        );
    }
    let moves: [(i64, i32); 4] = [(1, 2), (2, 2), (2, 1), (1, 1)];
    let mut from = (1, 1);
    for to in moves {
        members
            .update_with(ada, |row| {
                if from.0 != to.0 {
                    row.team_id = Set(to.0);
                }
                if from.1 != to.1 {
                    row.chair = Set(to.1);
                }
            })
            .await
            .unwrap();
        assert_eq!(seat(from.0, from.1).await, None, "{from:?} to {to:?}");
        assert_eq!(seat(to.0, to.1).await, Some(ada), "{from:?} to {to:?}");
        from = to;
    }
}
