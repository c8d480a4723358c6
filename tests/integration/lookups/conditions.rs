//! Lookups among the rows that meet a condition, and lookups that find more rows than they expect.

use cached_repo::{CachedDb, WriteError};
use cached_repo_tests::{
    World,
    entities::conditions::{
        animal, keeper, light_tenant,
        tenant::{self, Status},
        ware,
    },
};
use sea_orm::{
    ActiveValue::{Set, Unchanged},
    ColumnTrait, Condition, DbBackend, EntityTrait, QueryFilter, QueryOrder,
    prelude::DateTime,
};

use super::settled;

fn new_tenant(id: i32, number: i32) -> tenant::Model {
    tenant::Model {
        id,
        number,
        house: Some(1),
        status: Status::Active,
        banned: false,
        grade: Some("gold".into()),
        deleted_at: None,
        version: 1,
    }
}

fn now() -> Option<DateTime> {
    Some("2024-05-01T10:00:00".parse().unwrap())
}

fn active(row: tenant::Model) -> tenant::ActiveModel {
    let row: tenant::ActiveModel = row.into();
    sea_orm::ActiveModelTrait::reset_all(row)
}

async fn tenants(world: &World) -> (CachedDb, tenant::Repository) {
    world.create_table(tenant::Entity).await;
    if world.backend() != DbBackend::MySql {
        // MySQL and MariaDB have no partial indexes.
        world
            .raw("CREATE UNIQUE INDEX living ON tenant (number) WHERE deleted_at IS NULL")
            .await;
    }
    let db = world.db().await;
    let tenants = tenant::Repository::new(&db);
    (db, tenants)
}

/// Makes MariaDB compare the texts of a table as it does by default.
async fn ignore_case(world: &World, table: &str) {
    if world.backend() == DbBackend::MySql {
        world
            .raw(&format!(
                "ALTER TABLE {table} CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci"
            ))
            .await;
    }
}

/// What a number finds, one at a time and with others, from any source and from the cache.
async fn by_number(tenants: &tenant::Repository, number: i32) -> Option<i32> {
    let mut found = Vec::new();
    for _ in 0..3 {
        let row = tenants.find_by_number(number).await.unwrap();
        found.push(row.map(|row| row.id));
        let rows = tenants.find_by_numbers([-1, number]).await.unwrap();
        assert!(rows[0].is_none());
        found.push(rows[1].as_ref().map(|row| row.id));
    }
    assert!(
        found.iter().all(|id| *id == found[0]),
        "{number}: {found:?}"
    );
    found[0]
}

everywhere!(a_deleted_row_leaves_its_number_to_another);
/// Goal: soft delete. Among any number of deleted rows the living one is found, by one number and by
/// many, from the cache; and nothing if all are deleted.
async fn a_deleted_row_leaves_its_number_to_another(world: World) {
    let (db, tenants) = tenants(&world).await;
    assert_eq!(by_number(&tenants, 5).await, None);
    for id in 1..=4 {
        tenants.insert(active(new_tenant(id, 5))).await.unwrap();
        assert_eq!(by_number(&tenants, 5).await, Some(id));
        settled(&db).await;
        let _ = world.statements.take();
        assert_eq!(by_number(&tenants, 5).await, Some(id));
        assert_eq!(world.statements.verbs(), [""; 0], "it is cached");
        match id {
            1 => {
                let row = tenants.find_by_id(1).await.unwrap().unwrap().into_model();
                let deleted_at = now();
                let row = tenant::Model { deleted_at, ..row };
                tenants.save(row).await.unwrap();
            }
            2 => {
                let deleted = tenants.update_with(2, |row| row.deleted_at = Set(now()));
                deleted.await.unwrap();
            }
            3 => {
                let sql = "UPDATE tenant SET deleted_at = '2024-05-01 10:00:00' WHERE id = 3";
                world.raw(sql).await;
                tenants.invalidate(3).await.unwrap();
            }
            _ => drop(tenants.delete_by_id(4).await.unwrap()),
        }
        assert_eq!(by_number(&tenants, 5).await, None);
        settled(&db).await;
        let _ = world.statements.take();
        assert_eq!(by_number(&tenants, 5).await, None);
        assert_eq!(world.statements.verbs(), [""; 0], "the absence is cached");
    }
    // One comes back to life, in a transaction that is rolled back, and in one that is not.
    for keeps in [false, true] {
        let revived = db.transaction(async |tx| {
            let tenants = tenants.on(tx);
            tenants
                .update_with(2, |row| row.deleted_at = Set(None))
                .await?;
            let inside = tenants.find_by_number(5).await.unwrap();
            assert_eq!(inside.map(|row| row.id), Some(2));
            match keeps {
                true => Ok(()),
                false => Err(WriteError::VersionNotSet {
                    entity: "a whim".into(),
                }),
            }
        });
        assert_eq!(revived.await.is_ok(), keeps);
        assert_eq!(by_number(&tenants, 5).await, keeps.then_some(2));
    }
    assert_eq!(tenants.stats().lookups_ambiguous, 0);
}

/// The same numbers for the same seed (xorshift64*).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> i32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let roll = (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % sides;
        i32::try_from(roll).unwrap()
    }

    fn tenant(&mut self) -> tenant::Model {
        tenant::Model {
            house: [None, Some(1), Some(2)][self.roll(3) as usize],
            status: [Status::Waiting, Status::Active][self.roll(2) as usize],
            banned: self.roll(3) == 0,
            grade: [None, Some("gold"), Some("Gold"), Some("it's")][self.roll(4) as usize]
                .map(str::to_owned),
            deleted_at: [None, now()][self.roll(2) as usize],
            ..new_tenant(self.roll(5), self.roll(4))
        }
    }
}

/// One write of a random kind; a write that the database refuses has not happened.
async fn write(
    world: &World,
    tenants: &tenant::Repository,
    light: &light_tenant::Repository,
    dice: &mut Dice,
    may_be_raw: bool,
) -> Result<(), WriteError> {
    let new = dice.tenant();
    let found = tenants
        .find_by_id(new.id)
        .await?
        .map(|row| row.into_model());
    match (dice.roll(8), found) {
        (0 | 1, _) => drop(tenants.insert(active(new)).await?),
        (2, Some(found)) => {
            let version = found.version;
            tenants.save(tenant::Model { version, ..new }).await?;
        }
        (3 | 4, Some(found)) => {
            // Some columns, as whoever has read the row knows the others.
            let mut row: tenant::ActiveModel = found.into();
            match dice.roll(5) {
                0 => row.deleted_at = Set(new.deleted_at),
                1 => row.banned = Set(new.banned),
                2 => row.grade = Set(new.grade),
                3 => row.status = Set(new.status),
                _ => row.house = Set(new.house),
            }
            tenants.update(row).await?;
        }
        (5, Some(found)) => {
            // Only what the other model of the table knows.
            let row = light_tenant::ActiveModel {
                id: Unchanged(found.id),
                house: Set(new.house),
                banned: Set(new.banned),
                version: Unchanged(found.version),
                ..Default::default()
            };
            light.update(row).await?;
        }
        (6, Some(_)) => drop(tenants.delete_by_id(new.id).await?),
        (7, Some(_)) if may_be_raw => {
            let banned = new.banned;
            world
                .raw(&format!(
                    "UPDATE tenant SET banned = {banned} WHERE id = {}",
                    new.id
                ))
                .await;
            tenants.invalidate(new.id).await.unwrap();
        }
        _ => {}
    }
    Ok(())
}

async fn database(world: &World, condition: Condition) -> Vec<i32> {
    let rows = tenant::Entity::find().filter(condition);
    let rows = rows.order_by_asc(tenant::Column::Id).all(&world.conn).await;
    rows.unwrap().iter().map(|row| row.id).collect()
}

everywhere!(random_writes_leave_every_lookup_right);
/// Goal: whatever a write does to the columns of a lookup or of its condition, every lookup finds what
/// the database has. The texts differ in case: MariaDB calls them equal.
async fn random_writes_leave_every_lookup_right(world: World) {
    world.create_table(tenant::Entity).await;
    ignore_case(&world, "tenant").await;
    let db = world.db().await;
    let tenants = tenant::Repository::new(&db);
    let light = light_tenant::Repository::new(&db);
    let mut dice = Dice(0x5eed);
    let column = tenant::Column::House;
    for step in 0..250 {
        if dice.roll(6) == 0 {
            let committed = db.transaction(async |tx| {
                for _ in 0..2 {
                    // A refused statement may doom the transaction.
                    write(&world, &tenants.on(tx), &light.on(tx), &mut dice, false).await?;
                }
                Ok::<_, WriteError>(())
            });
            drop(committed.await);
        } else {
            drop(write(&world, &tenants, &light, &mut dice, true).await);
        }
        use tenant::Column::{Banned, DeletedAt, Grade, Number, Status as StatusColumn};
        for house in [Some(1), Some(2), None] {
            let in_house = || {
                let house = house.map_or_else(|| column.is_null(), |house| column.eq(house));
                Condition::all().add(house)
            };
            let guests = in_house()
                .add(StatusColumn.eq(Status::Active))
                .add(Banned.eq(false))
                .add(DeletedAt.is_null());
            let gone = in_house().add(DeletedAt.is_not_null()).add(Banned.eq(true));
            for _ in 0..2 {
                let ids = |rows: Vec<cached_repo::Cached<tenant::Model>>| -> Vec<i32> {
                    rows.iter().map(|row| row.id).collect()
                };
                let found = ids(tenants.find_all_by_guests(house).await.unwrap());
                assert_eq!(
                    found,
                    database(&world, guests.clone()).await,
                    "{step}: guests"
                );
                let found = ids(tenants.find_all_by_gone(house).await.unwrap());
                assert_eq!(found, database(&world, gone.clone()).await, "{step}: gone");
                let found = ids(tenants.find_all_by_house(house).await.unwrap());
                assert_eq!(found, database(&world, in_house()).await, "{step}: all");
                let gold = in_house().add(Grade.eq("gold"));
                let found = ids(tenants.find_all_by_gold(house).await.unwrap());
                assert_eq!(found, database(&world, gold).await, "{step}: gold");
                let others = in_house().add(Grade.ne("gold"));
                let found = ids(tenants.find_all_by_others(house).await.unwrap());
                assert_eq!(found, database(&world, others).await, "{step}: others");
                let peaceful = in_house().add(Banned.eq(false));
                let found = light.find_all_by_peaceful(house).await.unwrap();
                let found: Vec<_> = found.iter().map(|row| row.id).collect();
                assert_eq!(found, database(&world, peaceful).await, "{step}: peaceful");
            }
        }
        for number in 0..4 {
            // Without an index there may be several: the least key.
            let living = Condition::all()
                .add(Number.eq(number))
                .add(DeletedAt.is_null());
            let living = database(&world, living).await;
            assert_eq!(
                by_number(&tenants, number).await,
                living.first().copied(),
                "{step}"
            );
        }
        if step % 10 == 0 {
            settled(&db).await;
        }
    }
    assert!(tenants.stats().index_hits > 1_000);
}

everywhere!(a_lookup_with_a_condition_is_served_from_the_cache);
/// Goal: lists and empty lists cost no SQL; on MySQL and MariaDB those whose condition compares a text do,
/// and `Stats` counts them.
async fn a_lookup_with_a_condition_is_served_from_the_cache(world: World) {
    let (db, tenants) = tenants(&world).await;
    for id in 1..=3 {
        tenants.insert(active(new_tenant(id, id))).await.unwrap();
    }
    let look = async || {
        assert_eq!(tenants.find_all_by_guests(1).await.unwrap().len(), 3);
        assert_eq!(tenants.find_all_by_gone(1).await.unwrap().len(), 0);
    };
    let look_by_text = async || {
        assert_eq!(tenants.find_all_by_gold(1).await.unwrap().len(), 3);
        assert_eq!(tenants.find_all_by_others(1).await.unwrap().len(), 0);
    };
    for _ in 0..2 {
        look().await;
        settled(&db).await;
    }
    assert_eq!(tenants.stats().lookups_uncached, 0);
    for _ in 0..2 {
        look_by_text().await;
        settled(&db).await;
    }
    let _ = world.statements.take();
    look().await;
    assert_eq!(world.statements.verbs(), [""; 0]);
    look_by_text().await;
    let by_collation = world.backend() == DbBackend::MySql;
    let selects = world.statements.verbs().len();
    assert_eq!(selects, if by_collation { 2 } else { 0 });
    assert_eq!(tenants.stats().lookups_uncached > 0, by_collation);
}

everywhere!(a_foreign_key_that_is_set_to_null_moves_a_row_into_a_list);
/// Goal: `ON DELETE SET NULL` changes a column of the condition.
async fn a_foreign_key_that_is_set_to_null_moves_a_row_into_a_list(world: World) {
    world.create_table(keeper::Entity).await;
    world.create_table(animal::Entity).await;
    let db = world.db().await;
    let keepers = keeper::Repository::new(&db);
    let animals = animal::Repository::new(&db);
    for id in [1, 2] {
        let keeper = keeper::ActiveModel {
            id: Set(id),
            name: Set(id),
        };
        keepers.insert(keeper).await.unwrap();
        let animal = animal::ActiveModel {
            id: Set(id),
            cage: Set(7),
            keeper_id: Set(Some(id)),
            ..Default::default()
        };
        animals.insert(animal).await.unwrap();
    }
    let alone = async || -> Vec<i32> {
        let mut found = Vec::new();
        for _ in 0..3 {
            let rows = animals.find_all_by_cage(7).await.unwrap();
            found.push(rows.iter().map(|row| row.id).collect::<Vec<_>>());
            settled(&db).await;
        }
        assert!(found.iter().all(|ids| *ids == found[0]), "{found:?}");
        found.remove(0)
    };
    assert_eq!(alone().await, [0; 0]);
    keepers.delete_by_id(2).await.unwrap();
    assert_eq!(alone().await, [2]);
    keepers.delete_by_id(1).await.unwrap();
    assert_eq!(alone().await, [1, 2]);
}

everywhere!(a_row_meets_a_condition_by_what_the_database_has);
/// Goal: without a version, a column that an update calls unchanged may have changed.
async fn a_row_meets_a_condition_by_what_the_database_has(world: World) {
    world.create_table(ware::Entity).await;
    let db = world.db().await;
    let wares = ware::Repository::new(&db);
    let row = ware::ActiveModel {
        id: Set(1),
        code: Set("a".into()),
        kind: Set(1),
        listed: Set(Some(false)),
    };
    let stale = wares.insert(row).await.unwrap().into_model();
    let kind = async |kind| -> Vec<i32> {
        let mut found = Vec::new();
        for _ in 0..3 {
            let rows = wares.find_all_by_kind(kind).await.unwrap();
            found.push(rows.iter().map(|row| row.id).collect::<Vec<_>>());
            settled(&db).await;
        }
        assert!(
            found.iter().all(|ids| *ids == found[0]),
            "{kind}: {found:?}"
        );
        found.remove(0)
    };
    assert_eq!(kind(1).await, [0; 0]);
    assert_eq!(kind(2).await, [0; 0]);
    let listed = ware::ActiveModel {
        id: Unchanged(1),
        listed: Set(Some(true)),
        ..Default::default()
    };
    wares.update(listed).await.unwrap();
    assert_eq!(kind(1).await, [1]);
    let mut moved: ware::ActiveModel = stale.into();
    moved.kind = Set(2);
    assert_eq!(moved.listed, Unchanged(Some(false)), "as it was read");
    wares.update(moved).await.unwrap();
    assert_eq!(kind(1).await, [0; 0]);
    assert_eq!(kind(2).await, [1]);
    let unknown = ware::ActiveModel {
        id: Unchanged(1),
        listed: Set(None),
        ..Default::default()
    };
    wares.update(unknown).await.unwrap();
    assert_eq!(kind(2).await, [0; 0]);
}

everywhere!(a_unique_lookup_that_finds_several_rows_gives_the_same_one_in_every_way);
/// Goal: the row with the least key among those that are spelt as asked, alone and with others, cold and
/// warm, whatever is inserted or deleted around it. Such a lookup is not cached, and is counted.
async fn a_unique_lookup_that_finds_several_rows_gives_the_same_one_in_every_way(world: World) {
    world.create_table(ware::Entity).await;
    ignore_case(&world, "ware").await;
    let db = world.db().await;
    let wares = ware::Repository::new(&db);
    let is = async |expected: &[(&str, Option<i32>)]| {
        for _ in 0..3 {
            for (code, id) in expected {
                let row = wares.find_by_code(*code).await.unwrap();
                assert_eq!(row.map(|row| row.id), *id, "{code}");
            }
            let codes = expected.iter().map(|(code, _)| *code);
            let rows = wares.find_by_codes(codes).await.unwrap();
            let ids: Vec<_> = rows
                .iter()
                .map(|row| row.as_ref().map(|row| row.id))
                .collect();
            let expected: Vec<_> = expected.iter().map(|(_, id)| *id).collect();
            assert_eq!(ids, expected);
            for (code, id) in expected_pairs(&ids, &["a", "A", "b"]) {
                let row = wares.find_by_codes([code]).await.unwrap().remove(0);
                assert_eq!(row.map(|row| row.id), id, "{code} alone");
            }
            settled(&db).await;
        }
    };
    let insert = async |id, code: &str| {
        let row = ware::ActiveModel {
            id: Set(id),
            code: Set(code.into()),
            kind: Set(1),
            listed: Set(None),
        };
        wares.insert(row).await.unwrap();
    };
    // MariaDB calls `a` and `A` equal.
    let either = |id| {
        if world.backend() == DbBackend::MySql {
            Some(id)
        } else {
            None
        }
    };
    is(&[("a", None), ("A", None), ("b", None)]).await;
    insert(5, "a").await;
    is(&[("a", Some(5)), ("A", either(5)), ("b", None)]).await;
    insert(7, "a").await;
    is(&[("a", Some(5)), ("A", either(5)), ("b", None)]).await;
    insert(3, "a").await;
    is(&[("a", Some(3)), ("A", either(3)), ("b", None)]).await;
    assert!(wares.stats().lookups_ambiguous > 0);
    insert(1, "A").await;
    is(&[("a", Some(3)), ("A", Some(1)), ("b", None)]).await;
    insert(9, "b").await;
    wares.delete_by_id(3).await.unwrap();
    is(&[("a", Some(5)), ("A", Some(1)), ("b", Some(9))]).await;
    let unique = wares.stats().lookups_ambiguous;
    wares.find_by_code("b").await.unwrap();
    assert_eq!(wares.stats().lookups_ambiguous, unique);
    wares.delete_by_id(5).await.unwrap();
    wares.delete_by_id(1).await.unwrap();
    is(&[("a", Some(7)), ("A", either(7)), ("b", Some(9))]).await;
}

fn expected_pairs<'a>(
    ids: &[Option<i32>],
    codes: &[&'a str],
) -> impl Iterator<Item = (&'a str, Option<i32>)> {
    let pairs: Vec<_> = codes.iter().copied().zip(ids.iter().copied()).collect();
    pairs.into_iter()
}
