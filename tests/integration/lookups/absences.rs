//! Cached absences: each ends as soon as someone writes the row.

use std::time::Duration;

use cached_repo::ReadOptions;
use cached_repo_tests::{
    World,
    entities::lookups::{member, quiet},
};
use sea_orm::ActiveValue::Set;

use super::{id_of, members, new_member, settled, team};

everywhere!(an_insert_with_a_key_of_the_databases_ends_every_absence);
/// Goal: a unique value, a pair, an empty list and the next key are known to be absent, without
/// SQL. An insert whose key only the database knows ends all of these absences.
async fn an_insert_with_a_key_of_the_databases_ends_every_absence(world: World) {
    let (db, members) = members(&world).await;
    let last = members.insert(new_member("last", 9, 9)).await.unwrap().id;
    let _ = world.statements.take();
    for warm in [false, true] {
        assert_eq!(members.find_by_id(last + 1).await.unwrap(), None);
        assert_eq!(members.find_by_email("ada").await.unwrap(), None);
        assert_eq!(members.find_by_badge(7).await.unwrap(), None);
        assert_eq!(members.find_by_seat(1, 1).await.unwrap(), None);
        assert_eq!(members.find_all_by_team_id(1).await.unwrap(), []);
        assert_eq!(members.find_all_by_team(1, true).await.unwrap(), []);
        assert_eq!(members.find_all_by_boss_id(last).await.unwrap(), []);
        settled(&db).await;
        let verbs = world.statements.verbs();
        // MySQL calls texts equal that differ, so their absence is not known.
        let again = usize::from(world.backend() == sea_orm::DbBackend::MySql);
        assert_eq!(verbs.len(), if warm { again } else { 7 }, "{verbs:?}");
    }
    let mut ada = new_member("ada", 1, 1);
    ada.badge = Set(Some(7));
    ada.boss_id = Set(Some(last));
    let ada = members.insert(ada).await.unwrap();
    assert_eq!(ada.id, last + 1);
    for _ in 0..3 {
        for found in [
            members.find_by_id(ada.id).await.unwrap(),
            members.find_by_email("ada").await.unwrap(),
            members.find_by_badge(7).await.unwrap(),
            members.find_by_seat(1, 1).await.unwrap(),
        ] {
            assert_eq!(found.as_ref(), Some(&ada));
        }
        for found in [
            members.find_all_by_team_id(1).await.unwrap(),
            members.find_all_by_team(1, true).await.unwrap(),
            members.find_all_by_boss_id(last).await.unwrap(),
        ] {
            assert_eq!(found, std::slice::from_ref(&ada));
        }
    }
}

everywhere!(an_update_ends_the_absences_of_its_new_values);
/// Goal: the same for an update; what it leaves alone stays known to be absent.
async fn an_update_ends_the_absences_of_its_new_values(world: World) {
    let (_db, members) = members(&world).await;
    let ada = members.insert(new_member("ada", 1, 1)).await.unwrap().id;
    assert_eq!(members.find_by_badge(7).await.unwrap(), None);
    assert_eq!(members.find_by_badge(8).await.unwrap(), None);
    assert_eq!(team(&members, 2).await, [""; 0]);
    members
        .update_with(ada, |row| {
            row.badge = Set(Some(7));
            row.team_id = Set(2);
        })
        .await
        .unwrap();
    let _ = world.statements.take();
    assert_eq!(members.find_by_badge(8).await.unwrap(), None);
    assert_eq!(world.statements.verbs(), [""; 0]);
    assert_eq!(members.find_by_badge(7).await.unwrap().unwrap().id, ada);
    assert_eq!(team(&members, 2).await, ["ada"]);
    assert_eq!(team(&members, 1).await, [""; 0]);
}

everywhere!(without_negative_caching_every_absence_is_asked_for);
/// Goal: `negative_ttl = "0s"`, on the entity or on the call, caches no absence: one SELECT each
/// time.
async fn without_negative_caching_every_absence_is_asked_for(world: World) {
    world.create_table(quiet::Entity).await;
    world.create_table(member::Entity).await;
    let db = world.db().await;
    let quiets = quiet::Repository::new(&db);
    let members = member::Repository::new(&db);
    let none = members.with(ReadOptions::new().negative_ttl(Duration::ZERO));
    for _ in 0..3 {
        assert_eq!(quiets.find_by_number(1).await.unwrap(), None);
        assert_eq!(quiets.find_all_by_group(1).await.unwrap(), []);
        assert_eq!(quiets.find_by_numbers([1, 2]).await.unwrap(), [None, None]);
        assert_eq!(none.find_by_badge(1).await.unwrap(), None);
        assert_eq!(none.find_all_by_team_id(1).await.unwrap(), []);
        settled(&db).await;
        assert_eq!(world.statements.verbs(), ["SELECT"; 5]);
    }
    assert_eq!(quiets.stats().fills, 0);
    assert_eq!(members.stats().fills, 0);
    let row = quiet::ActiveModel {
        number: Set(1),
        group: Set(1),
        ..Default::default()
    };
    let row = quiets.insert(row).await.unwrap();
    for _ in 0..2 {
        assert_eq!(quiets.find_by_number(1).await.unwrap(), Some(row.clone()));
        assert_eq!(
            quiets.find_all_by_group(1).await.unwrap(),
            std::slice::from_ref(&row)
        );
    }
    settled(&db).await;
    let _ = world.statements.take();
    quiets.find_by_number(1).await.unwrap();
    quiets.find_all_by_group(1).await.unwrap();
    assert_eq!(world.statements.verbs(), [""; 0]);
}

everywhere!(an_index_entry_to_a_deleted_row_is_followed_once);
/// Goal: an index entry holds the key of a row that is gone. Nothing is found, this is counted, and
/// the next lookup answers without SQL.
async fn an_index_entry_to_a_deleted_row_is_followed_once(world: World) {
    let (db, members) = members(&world).await;
    let mut ada = new_member("ada", 1, 1);
    ada.badge = Set(Some(7));
    let ada = members.insert(ada).await.unwrap().id;
    assert_eq!(members.find_by_badge(7).await.unwrap().unwrap().id, ada);
    settled(&db).await;
    members.delete_by_id(ada).await.unwrap().unwrap();
    assert_eq!(members.stats().index_outdated, 0);
    assert_eq!(members.find_by_badge(7).await.unwrap(), None);
    assert_eq!(members.stats().index_outdated, 1);
    settled(&db).await;
    let _ = world.statements.take();
    assert_eq!(members.find_by_badge(7).await.unwrap(), None);
    assert_eq!(members.find_by_badges([7]).await.unwrap(), [None]);
    assert_eq!(world.statements.verbs(), [""; 0]);
    assert_eq!(members.stats().index_outdated, 1);
}

everywhere!(an_index_entry_to_a_row_with_another_value_is_followed_once);
/// Goal: the same where the row still exists and has another value.
async fn an_index_entry_to_a_row_with_another_value_is_followed_once(world: World) {
    let (db, members) = members(&world).await;
    let mut ada = new_member("ada", 1, 1);
    ada.badge = Set(Some(7));
    let ada = members.insert(ada).await.unwrap().id;
    members.find_by_badge(7).await.unwrap().unwrap();
    settled(&db).await;
    members
        .update_with(ada, |row| row.badge = Set(Some(8)))
        .await
        .unwrap();
    assert_eq!(members.find_by_badge(7).await.unwrap(), None);
    assert_eq!(members.stats().index_outdated, 1);
    settled(&db).await;
    let _ = world.statements.take();
    assert_eq!(members.find_by_badge(7).await.unwrap(), None);
    assert_eq!(world.statements.verbs(), [""; 0]);
    assert_eq!(members.stats().index_outdated, 1);
    assert_eq!(id_of(&members, "ada").await, Some(ada));
    assert_eq!(members.find_by_badge(8).await.unwrap().unwrap().id, ada);
}
