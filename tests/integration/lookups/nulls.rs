//! Optional columns: SQL's NULL is found by `None`, and is nobody's value.

use cached_repo_tests::{
    World,
    entities::lookups::{member, remark},
};
use sea_orm::ActiveValue::Set;

use super::{members, new_member};

everywhere!(null_is_found_by_none_and_collides_with_no_number);
/// Goal: the list of NULLs and the list of any number are different ones, cold and warm, also when
/// rows move between them.
async fn null_is_found_by_none_and_collides_with_no_number(world: World) {
    let (_db, members) = members(&world).await;
    let list = async |boss_id: Option<i64>| -> Vec<String> {
        let emails = async || -> Vec<String> {
            let rows = members.find_all_by_boss_id(boss_id).await.unwrap();
            rows.iter().map(|row| row.email.clone()).collect()
        };
        let cold = emails().await;
        emails().await;
        assert_eq!(emails().await, cold);
        cold
    };
    for boss_id in [None, Some(0), Some(-1), Some(1)] {
        assert_eq!(list(boss_id).await, [""; 0]);
    }
    for (chair, (email, boss_id)) in [("a", None), ("b", Some(0)), ("c", None), ("d", Some(1))]
        .into_iter()
        .enumerate()
    {
        let mut row = new_member(email, 1, i32::try_from(chair).unwrap());
        row.boss_id = Set(boss_id);
        members.insert(row).await.unwrap();
    }
    assert_eq!(members.find_all_by_boss_id(None).await.unwrap().len(), 2);
    assert_eq!(list(None).await, ["a", "c"]);
    assert_eq!(list(Some(0)).await, ["b"]);
    assert_eq!(list(Some(1)).await, ["d"]);
    assert_eq!(list(Some(-1)).await, [""; 0]);
    let b = members.find_by_email("b").await.unwrap().unwrap().id;
    members
        .update_with(b, |row| row.boss_id = Set(None))
        .await
        .unwrap();
    assert_eq!(list(None).await, ["a", "b", "c"]);
    assert_eq!(list(Some(0)).await, [""; 0]);
    members
        .update_with(b, |row| row.boss_id = Set(Some(1)))
        .await
        .unwrap();
    assert_eq!(list(None).await, ["a", "c"]);
    assert_eq!(list(Some(1)).await, ["b", "d"]);
}

everywhere!(null_collides_with_no_text);
/// Goal: the same for texts, also those that look like NULL or like its spelling in a key.
async fn null_collides_with_no_text(world: World) {
    world.create_table(remark::Entity).await;
    let db = world.db().await;
    let remarks = remark::Repository::new(&db);
    let texts = [
        None,
        Some(""),
        Some("NULL"),
        Some("!"),
        Some("%21"),
        Some(","),
        Some("0"),
    ];
    let owned = |text: &Option<&str>| text.map(str::to_owned);
    for text in &texts {
        assert_eq!(remarks.find_all_by_text(owned(text)).await.unwrap(), []);
        assert_eq!(
            remarks.find_all_by_place(owned(text), None).await.unwrap(),
            []
        );
        assert_eq!(
            remarks.find_all_by_place(None, owned(text)).await.unwrap(),
            []
        );
    }
    let mut ids = Vec::new();
    for text in &texts {
        let row = remark::ActiveModel {
            text: Set(owned(text)),
            page: Set(owned(text)),
            ..Default::default()
        };
        ids.push(remarks.insert(row).await.unwrap().id);
    }
    for _ in 0..3 {
        for (text, id) in texts.iter().zip(&ids) {
            let found = remarks.find_all_by_text(owned(text)).await.unwrap();
            let found: Vec<_> = found.iter().map(|row| row.id).collect();
            assert_eq!(found, [*id], "{text:?}");
            let found = remarks
                .find_all_by_place(owned(text), owned(text))
                .await
                .unwrap();
            let found: Vec<_> = found.iter().map(|row| row.id).collect();
            assert_eq!(found, [*id], "{text:?}");
            if text.is_some() {
                assert_eq!(
                    remarks.find_all_by_place(owned(text), None).await.unwrap(),
                    []
                );
                assert_eq!(
                    remarks.find_all_by_place(None, owned(text)).await.unwrap(),
                    []
                );
            }
        }
    }
}

everywhere!(a_unique_column_may_hold_null_many_times);
/// Goal: rows without a badge do not get in each other's way, and a badge finds its one row; the
/// argument is the number, not an option of it.
async fn a_unique_column_may_hold_null_many_times(world: World) {
    let (_db, members) = members(&world).await;
    let mut rows = Vec::new();
    for (chair, badge) in [None, Some(0), None, Some(1)].into_iter().enumerate() {
        let mut row = new_member(&format!("m{chair}"), 1, i32::try_from(chair).unwrap());
        row.badge = Set(badge);
        rows.push(members.insert(row).await.unwrap());
    }
    for _ in 0..3 {
        assert_eq!(
            members.find_by_badge(0).await.unwrap().unwrap().id,
            rows[1].id
        );
        let found = members.find_by_badges([1, 2, 0, 1]).await.unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|row| row.as_ref().map(|row| row.id))
            .collect();
        let expected = [Some(rows[3].id), None, Some(rows[1].id), Some(rows[3].id)];
        assert_eq!(found, expected);
    }
    let id = rows[1].id;
    members
        .update_with(id, |row| row.badge = Set(None))
        .await
        .unwrap();
    assert_eq!(members.find_by_badge(0).await.unwrap(), None);
    members
        .update_with(rows[0].id, |row| row.badge = Set(Some(0)))
        .await
        .unwrap();
    for _ in 0..3 {
        let found: member::Model = members
            .find_by_badge(0)
            .await
            .unwrap()
            .unwrap()
            .into_model();
        assert_eq!(found.id, rows[0].id);
    }
}
