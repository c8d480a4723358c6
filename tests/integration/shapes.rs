//! The shapes of models: what serde hides, the dense and the expanded form, odd names, and two
//! shapes of one table during a deploy.

use cached_repo::{Source, WriteError};
use cached_repo_tests::{Backend, Tier, World};
use sea_orm::{ActiveValue::Set, EntityTrait, ModelTrait, NotSet};

use super::models::shapes::{author, book, deploy, member, odd, picky, place};

everywhere!(what_serde_hides_from_the_web_is_cached_all_the_same);
/// Goal: `skip`, `skip_serializing`, `skip_deserializing`, `rename` on `id`, the password, a token
/// and the version lose nothing in the cache: the row comes back whole and can be saved.
async fn what_serde_hides_from_the_web_is_cached_all_the_same(world: World) {
    world.create_table(member::Entity).await;
    let members = member::Repository::new(&world.db().await);
    let row = member::ActiveModel {
        login: Set("ada".into()),
        password: Set("secret".into()),
        api_token: Set(Some("token".into())),
        bio: Set(String::new()),
        ..Default::default()
    };
    let inserted = members.insert(row).await.unwrap();
    members.find_by_id(inserted.id).await.unwrap();
    let cached = members.find_by_id(inserted.id).await.unwrap().unwrap();
    let plain = member::Entity::find_by_id(inserted.id)
        .one(&world.conn)
        .await;
    let plain = plain.unwrap().unwrap();
    assert_eq!((cached.source(), &*cached), (Source::Shared, &plain));
    assert_eq!(plain.password, "secret");
    // The web API still sees what serde says.
    let web = serde_json::to_value(&*cached).unwrap();
    assert_eq!(web, serde_json::json!({"id": plain.id, "loginName": "ada"}));

    let saved = members.save(cached.into_model()).await.unwrap();
    let plain = member::Entity::find_by_id(saved.id).one(&world.conn).await;
    assert_eq!(plain.unwrap().as_ref(), Some(&*saved));
    assert_eq!((saved.password.as_str(), saved.version), ("secret", 2));
}

everywhere!(the_dense_form_with_relations_works);
/// Goal: `#[sea_orm::model]` entities are cached, and their relations still load from what the
/// cache returned.
async fn the_dense_form_with_relations_works(world: World) {
    world.create_table(author::Entity).await;
    world.create_table(book::Entity).await;
    let db = world.db().await;
    let authors = author::Repository::new(&db);
    let books = book::Repository::new(&db);
    let ada = author::ActiveModel {
        name: Set("Ada".into()),
        ..Default::default()
    };
    let ada = authors.insert(ada).await.unwrap();
    let notes = book::ActiveModel {
        author_id: Set(ada.id),
        title: Set("Notes".into()),
        ..Default::default()
    };
    let notes = books.insert(notes).await.unwrap();
    for _ in 0..2 {
        let cached = authors.find_by_id(ada.id).await.unwrap().unwrap();
        assert_eq!(cached, ada);
        let of_ada = cached.find_related(book::Entity).all(&world.conn).await;
        assert_eq!(of_ada.unwrap(), [(*notes).clone()]);
        assert_eq!(books.find_by_id(notes.id).await.unwrap().unwrap(), notes);
    }
    let saved = authors
        .update_with(ada.id, |row| row.name = Set("Ada L.".into()))
        .await
        .unwrap();
    assert_eq!((saved.name.as_str(), saved.version), ("Ada L.", 2));
    let stale = authors.save(ada.into_model()).await.unwrap_err();
    assert!(
        matches!(stale, WriteError::VersionConflict { .. }),
        "{stale}"
    );
}

everywhere!(the_expanded_form_works);
/// Goal: an entity written out in full, with a renamed key column and a small version, is found,
/// saved, conflicted on and deleted.
async fn the_expanded_form_works(world: World) {
    world.create_table(place::Entity).await;
    let places = place::Repository::new(&world.db().await);
    let row = place::ActiveModel {
        code: Set("fr".into()),
        name: Set("France".into()),
        version: NotSet,
    };
    let inserted = places.insert(row).await.unwrap().into_model();
    let mut change = places.find_by_id("fr").await.unwrap().unwrap().into_model();
    assert_eq!(change, inserted);
    change.name = "République française".into();
    let saved = places.save(change).await.unwrap();
    let cached = places.find_by_id("fr").await.unwrap().unwrap();
    assert_eq!((cached.source(), &cached), (Source::Shared, &saved));
    let stale = places.delete(inserted).await.unwrap_err();
    assert!(
        matches!(
            stale,
            WriteError::VersionConflict {
                expected: 1,
                found: 2,
                ..
            }
        ),
        "{stale}"
    );
    places.delete(cached.into_model()).await.unwrap();
    assert!(places.find_by_id("fr").await.unwrap().is_none());
}

everywhere!(renamed_ignored_and_encoded_columns_work);
/// Goal: renamed columns, a raw identifier, a column with a codec of its own and an ignored field
/// come back as plain SeaORM reads them; the entity's own name is in the keys.
async fn renamed_ignored_and_encoded_columns_work(world: World) {
    world.create_table(odd::Entity).await;
    let oddities = odd::Oddities::new(&world.db().await);
    let row = odd::ActiveModel {
        r#type: Set("a".into()),
        two_words: Set("b".into()),
        mood: Set(odd::Mood(-3)),
        ..Default::default()
    };
    let id = oddities.insert(row).await.unwrap().id;
    oddities.find_by_id(id).await.unwrap();
    let cached = oddities.find_by_id(id).await.unwrap().unwrap();
    let plain = odd::Entity::find_by_id(id).one(&world.conn).await;
    assert_eq!(
        (cached.source(), Some(&*cached)),
        (Source::Shared, plain.unwrap().as_ref())
    );
    assert_eq!(cached.draft, odd::Draft::default());
    let mut change = cached.into_model();
    change.mood = odd::Mood(i32::MAX - 1);
    change.draft = odd::Draft(vec!["not a column".into()]);
    let saved = oddities.save(change).await.unwrap();
    assert_eq!((saved.mood.0, saved.version), (i32::MAX - 1, 2));
    let cached = oddities.find_by_id(id).await.unwrap().unwrap();
    assert_eq!(
        (cached.source(), cached.mood.0),
        (Source::Shared, i32::MAX - 1)
    );
    if world.tier() == Tier::Redis {
        assert!(world.entry(&world.key("curious", id)).await.is_some());
    }
}

everywhere!(a_row_that_cannot_be_encoded_is_read_from_the_database);
/// Goal: a codec that fails on a value costs the cache, never the row: here the codec overflows in
/// the write's own task and must not take the write with it.
async fn a_row_that_cannot_be_encoded_is_read_from_the_database(world: World) {
    world.create_table(picky::Entity).await;
    let rows = picky::Repository::new(&world.db().await);
    let row = picky::ActiveModel {
        id: Set(1),
        mood: Set(picky::Mood(-1)),
        version: NotSet,
    };
    assert_eq!(rows.insert(row).await.unwrap().mood.0, -1);
    for _ in 0..2 {
        let found = rows.find_by_id(1).await.unwrap().unwrap();
        assert_eq!((found.mood.0, found.source()), (-1, Source::Database));
    }
    let saved = rows
        .update_with(1, |row| row.mood = Set(picky::Mood(5)))
        .await
        .unwrap();
    let found = rows.find_by_id(1).await.unwrap().unwrap();
    assert_eq!((found.source(), &found), (Source::Shared, &saved));
    // A value that is encoded and then refused is a miss, every time, and never an error.
    rows.update_with(1, |row| row.mood = Set(picky::Mood(13)))
        .await
        .unwrap();
    for _ in 0..2 {
        let found = rows.find_by_id(1).await.unwrap().unwrap();
        assert_eq!((found.mood.0, found.source()), (13, Source::Database));
    }
    assert!(rows.stats().misses_corrupt > 0);
}

#[tokio::test]
/// Goal: during a deploy, the old and the new struct on one key read each other's entries as
/// misses, counted as such, and never as a wrong row; a save through one is never stale for the
/// other.
async fn two_shapes_of_a_table_never_read_each_others_entries() {
    for backend in [Backend::Postgres, Backend::MariaDb, Backend::Sqlite] {
        let world = World::new(backend, Tier::Redis).await;
        world.create_table(deploy::new::Entity).await;
        let (before, after, other) = (world.db().await, world.db().await, world.db().await);
        let old = deploy::old::Repository::new(&before);
        let new = deploy::new::Repository::new(&after);
        let swapped = deploy::swapped::Repository::new(&other);
        let row = deploy::old::ActiveModel {
            id: Set(1),
            name: Set("0".into()),
            version: NotSet,
        };
        old.insert(row).await.unwrap();
        for round in 1..6 {
            let row = old.find_by_id(1).await.unwrap().unwrap();
            assert_eq!(row.name, (3 * (round - 1)).to_string());
            let name = (3 * round - 2).to_string();
            old.update_with(1, |row| row.name = Set(name.clone()))
                .await
                .unwrap();
            let row = new.find_by_id(1).await.unwrap().unwrap();
            assert_eq!(row.name, name);
            let name = (3 * round - 1).to_string();
            new.update_with(1, |row| {
                row.name = Set(name.clone());
                row.title = Set(Some("Dr".into()));
            })
            .await
            .unwrap();
            let row = swapped.find_by_id(1).await.unwrap().unwrap();
            assert_eq!((row.id, &row.name, row.version), (1, &name, 3 * round));
            let name = (3 * round).to_string();
            swapped
                .update_with(1, |row| row.name = Set(name.clone()))
                .await
                .unwrap();
        }
        let seen = [
            old.stats().misses_other_schema,
            new.stats().misses_other_schema,
            swapped.stats().misses_other_schema,
        ];
        // The first entry was the old struct's own.
        assert_eq!(seen, [4, 5, 5]);
        // A reader that misses replaces the entry with one of its own shape.
        let stored = new.find_by_id(1).await.unwrap().unwrap();
        assert_eq!(stored.source(), Source::Database);
        let warm = new.find_by_id(1).await.unwrap().unwrap();
        assert_eq!(
            (warm.source(), warm.title.as_deref()),
            (Source::Shared, Some("Dr"))
        );
        // An absence has no shape.
        old.delete_by_id(1).await.unwrap().unwrap();
        assert!(new.find_by_id(1).await.unwrap().is_none());
        assert!(old.find_by_id(1).await.unwrap().is_none());
        assert_eq!(old.stats().absent_hits, 1);
    }
}
