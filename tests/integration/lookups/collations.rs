//! Values that the database calls equal although they differ: no wrong row, and no wrong absence.

use cached_repo_tests::{
    World,
    entities::lookups::{citext_nick, folded_nick, nick, padded},
};
use sea_orm::{ActiveValue::Set, ColumnTrait, DbBackend, EntityTrait, QueryFilter, QueryOrder};

use super::settled;

/// A table whose texts ignore case: by MariaDB's default collation, `NOCASE` or `citext`.
async fn create(world: &World, table: &str) {
    let statements: &[&str] = match world.backend() {
        DbBackend::Postgres => &[
            "CREATE EXTENSION IF NOT EXISTS citext",
            "CREATE TABLE {} (id bigserial PRIMARY KEY, name citext NOT NULL UNIQUE,
             clan citext NOT NULL, version bigint NOT NULL)",
        ],
        DbBackend::Sqlite => &["CREATE TABLE {} (id integer PRIMARY KEY AUTOINCREMENT,
             name text NOT NULL UNIQUE COLLATE NOCASE, clan text NOT NULL COLLATE NOCASE,
             version bigint NOT NULL)"],
        _ => &["CREATE TABLE {} (id bigint AUTO_INCREMENT PRIMARY KEY,
             name varchar(50) NOT NULL UNIQUE, clan varchar(50) NOT NULL,
             version bigint NOT NULL) COLLATE utf8mb4_general_ci"],
    };
    for statement in statements {
        world.raw(&statement.replace("{}", table)).await;
    }
}

/// Finds by every spelling, and again from the cache.
macro_rules! finds {
    ($nicks:ident, name $names:expr, $id:expr) => {
        for _ in 0..3 {
            for name in $names {
                let found = $nicks.find_by_name(name).await.unwrap();
                assert_eq!(found.map(|row| row.id), $id, "{name:?}");
            }
            let found = $nicks.find_by_names($names).await.unwrap();
            for (name, row) in $names.iter().zip(found) {
                assert_eq!(row.map(|row| row.id), $id, "{name:?} of many");
            }
        }
    };
    ($nicks:ident, clan $clans:expr, $ids:expr) => {
        for _ in 0..3 {
            for clan in $clans {
                let rows = $nicks.find_all_by_clan(clan).await.unwrap();
                let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
                assert_eq!(ids, $ids, "{clan:?}");
            }
        }
    };
}

/// Takes a row and a list through every spelling; `$spaces` says whether the database ignores
/// spaces behind a text.
macro_rules! every_spelling {
    ($nicks:ident, $module:ident, $spaces:expr) => {{
        let mut names = vec!["ada", "ADA", "Ada"];
        if $spaces {
            names.extend(["ada ", "ADA  "]);
        }
        let names = &names[..];
        let none: [i64; 0] = [];
        finds!($nicks, name names.iter().copied().collect::<Vec<_>>(), None);
        finds!($nicks, clan names.iter().copied(), none);
        let row = |name: &str, clan: &str| $module::ActiveModel {
            name: Set(name.into()),
            clan: Set(clan.into()),
            ..Default::default()
        };
        // Absences, in every spelling, end with an insert in one of them.
        let one = $nicks.insert(row("ADA", "Ada")).await.unwrap().id;
        finds!($nicks, name names.iter().copied().collect::<Vec<_>>(), Some(one));
        finds!($nicks, clan names.iter().copied(), [one]);
        // Lists, in every spelling, grow with an insert in another.
        let two = $nicks.insert(row("bob", "aDA")).await.unwrap().id;
        finds!($nicks, clan names.iter().copied(), [one, two]);
        // A row changes its spelling, and then leaves.
        $nicks.update_with(one, |row| row.name = Set("aDa".into())).await.unwrap();
        $nicks.update_with(one, |row| row.clan = Set("adA".into())).await.unwrap();
        finds!($nicks, name names.iter().copied().collect::<Vec<_>>(), Some(one));
        finds!($nicks, clan names.iter().copied(), [one, two]);
        $nicks.update_with(one, |row| row.name = Set("eve".into())).await.unwrap();
        $nicks.update_with(one, |row| row.clan = Set("other".into())).await.unwrap();
        finds!($nicks, name names.iter().copied().collect::<Vec<_>>(), None);
        finds!($nicks, clan names.iter().copied(), [two]);
        // Another takes its name, in one more spelling.
        $nicks.update_with(two, |row| row.name = Set("AdA".into())).await.unwrap();
        finds!($nicks, name names.iter().copied().collect::<Vec<_>>(), Some(two));
        $nicks.delete_by_id(two).await.unwrap().unwrap();
        finds!($nicks, name names.iter().copied().collect::<Vec<_>>(), None);
        finds!($nicks, clan names.iter().copied(), none);
        let three = $nicks.insert(row("Ada", "ADA")).await.unwrap().id;
        finds!($nicks, name names.iter().copied().collect::<Vec<_>>(), Some(three));
        finds!($nicks, clan names.iter().copied(), [three]);
    }};
}

/// Rows, lists and absences are found without SQL, in every spelling.
macro_rules! is_cached {
    ($world:ident, $db:ident, $nicks:ident) => {
        for _ in 0..2 {
            $nicks.find_by_name("ada").await.unwrap();
            $nicks.find_all_by_clan("ada").await.unwrap();
            $nicks.find_by_name("nobody").await.unwrap();
            $nicks.find_all_by_clan("nobody").await.unwrap();
            settled(&$db).await;
        }
        let _ = $world.statements.take();
        assert!($nicks.find_by_name("aDA").await.unwrap().is_some());
        assert_eq!($nicks.find_all_by_clan("ADa").await.unwrap().len(), 1);
        assert_eq!($nicks.find_by_name("NOBODY").await.unwrap(), None);
        assert_eq!($nicks.find_all_by_clan("NOBODY").await.unwrap(), []);
        let found = $nicks
            .find_by_names(["ADA", "ada", "NoBody"])
            .await
            .unwrap();
        let found: Vec<_> = found.iter().map(Option::is_some).collect();
        assert_eq!(found, [true, true, false]);
        assert_eq!($world.statements.verbs(), [""; 0]);
    };
}

everywhere!(with_a_normalizer_every_spelling_finds_the_row);
/// Goal: `normalize` gives one index entry to all values that the database calls equal: rows,
/// absences and lists are cached, and end whatever the spelling of the write.
async fn with_a_normalizer_every_spelling_finds_the_row(world: World) {
    create(&world, "folded_nick").await;
    let db = world.db().await;
    if world.backend() == DbBackend::Postgres {
        // SeaORM sends texts as text, and PostgreSQL compares a citext with a text byte by byte.
        let nicks = citext_nick::Repository::new(&db);
        every_spelling!(nicks, citext_nick, false);
        is_cached!(world, db, nicks);
    } else {
        let nicks = folded_nick::Repository::new(&db);
        every_spelling!(nicks, folded_nick, world.backend() == DbBackend::MySql);
        is_cached!(world, db, nicks);
    }
}

everywhere!(without_a_normalizer_the_default_collation_of_mysql_misleads_nobody);
/// Goal: on MySQL and MariaDB a text column without `normalize` is right whatever the collation:
/// the row is found in every spelling, absences and lists of texts are not cached.
async fn without_a_normalizer_the_default_collation_of_mysql_misleads_nobody(world: World) {
    if world.backend() == DbBackend::MySql {
        create(&world, "nick").await;
    } else {
        world.create_table(nick::Entity).await;
    }
    let nicks = nick::Repository::new(&world.db().await);
    if world.backend() == DbBackend::MySql {
        every_spelling!(nicks, nick, true);
        return;
    }
    // Elsewhere texts are compared by their bytes, and each spelling is another's.
    for (name, clan) in [("ada", "a"), ("ADA", "A"), ("ada ", "a ")] {
        assert_eq!(nicks.find_by_name(name).await.unwrap(), None);
        assert_eq!(nicks.find_all_by_clan(clan).await.unwrap(), []);
        let row = nick::ActiveModel {
            name: Set(name.into()),
            clan: Set(clan.into()),
            ..Default::default()
        };
        let id = nicks.insert(row).await.unwrap().id;
        finds!(nicks, name[name], Some(id));
        finds!(nicks, clan[clan], [id]);
    }
}

everywhere!(a_column_that_pads_its_texts_misleads_nobody);
/// Goal: `CHAR(n)`: PostgreSQL returns texts padded and ignores spaces behind them. A lookup finds
/// what the database finds, for any text that a caller writes or looks up.
async fn a_column_that_pads_its_texts_misleads_nobody(world: World) {
    world.create_table(padded::Entity).await;
    let codes = padded::Repository::new(&world.db().await);
    // As written, and as PostgreSQL gives it back.
    let spellings = ["ab", "ab ", "ab    "];
    let look = async || {
        let mut found = Vec::new();
        for _ in 0..3 {
            found.clear();
            for code in spellings {
                let plain = padded::Entity::find().filter(padded::Column::Code.eq(code));
                let plain = plain.one(&world.conn).await.unwrap();
                // PostgreSQL compares one text as a text, and several as `CHAR(n)`: what is found
                // is what either finds.
                let of_many = padded::Entity::find();
                let of_many = of_many.filter(padded::Column::Code.is_in([code, "nothing"]));
                let of_many = of_many.one(&world.conn).await.unwrap();
                let many = codes.find_by_codes([code, "nothing"]).await.unwrap();
                for row in [&codes.find_by_code(code).await.unwrap(), &many[0]] {
                    let row = row.as_deref();
                    let either = row == plain.as_ref() || row == of_many.as_ref();
                    assert!(either, "{code:?}: {row:?}");
                }
                found.extend(plain.map(|row| row.id));
                let plain = padded::Entity::find().filter(padded::Column::Lot.eq(code));
                let plain = plain
                    .order_by_asc(padded::Column::Id)
                    .all(&world.conn)
                    .await
                    .unwrap();
                let rows = codes.find_all_by_lot(code).await.unwrap();
                assert!(rows.iter().map(|row| &**row).eq(&plain), "{code:?}");
                found.extend(plain.iter().map(|row| row.id));
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    };
    let row = |code: &str, lot: &str| padded::ActiveModel {
        code: Set(code.into()),
        lot: Set(lot.into()),
        ..Default::default()
    };
    assert_eq!(look().await, [0; 0]);
    let one = codes.insert(row("ab", "ab")).await.unwrap().id;
    assert_eq!(look().await, [one]);
    let two = codes.insert(row("x", "ab")).await.unwrap().id;
    assert_eq!(look().await, [one, two]);
    codes
        .update_with(one, |row| row.code = Set("y".into()))
        .await
        .unwrap();
    codes
        .update_with(one, |row| row.lot = Set("y".into()))
        .await
        .unwrap();
    assert_eq!(look().await, [two]);
    codes
        .update_with(two, |row| row.code = Set("ab".into()))
        .await
        .unwrap();
    assert_eq!(look().await, [two]);
    codes.delete_by_id(two).await.unwrap();
    assert_eq!(look().await, [0; 0]);
}

everywhere!(spellings_that_are_asked_for_together_are_found_alike);
/// Goal: one row, and a cold batch that asks for it in several spellings: each finds what it finds alone.
async fn spellings_that_are_asked_for_together_are_found_alike(world: World) {
    if world.backend() == DbBackend::MySql {
        create(&world, "nick").await;
    } else {
        world.create_table(nick::Entity).await;
    }
    let nicks = nick::Repository::new(&world.db().await);
    let row = nick::ActiveModel {
        name: Set("ada".into()),
        clan: Set("a".into()),
        ..Default::default()
    };
    nicks.insert(row).await.unwrap();
    let names = ["ada", "ADA", "bob", "\u{e0}da"];
    let many = nicks.find_by_names(names).await.unwrap();
    let mut alone = Vec::new();
    for name in names {
        nicks.invalidate_all().await.unwrap();
        alone.push(nicks.find_by_name(name).await.unwrap());
    }
    assert_eq!(many, alone);
    let found = many.iter().filter(|row| row.is_some()).count();
    let by_collation = world.backend() == DbBackend::MySql;
    assert_eq!(found, if by_collation { 3 } else { 1 });
}
