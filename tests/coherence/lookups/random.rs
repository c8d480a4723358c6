//! Random writes and lookups, one after another, by two processes: after any of them, every lookup
//! finds what the database has.

use cached_repo::{CachedDb, TransactionError, WriteError};
use cached_repo_tests::{World, gated::page};
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QueryOrder};

use super::another;

const SEEDS: u64 = 6;
const STEPS: usize = 150;
/// Few keys and values, so that rows often conflict.
const IDS: u64 = 6;
const SLUGS: u64 = 5;
const SHELVES: u64 = 3;

/// The same numbers for the same seed (xorshift64*).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % sides
    }

    fn id(&mut self) -> i64 {
        i64::try_from(self.roll(IDS)).unwrap()
    }

    fn slug(&mut self) -> i32 {
        i32::try_from(self.roll(SLUGS)).unwrap()
    }

    fn shelf(&mut self) -> i32 {
        i32::try_from(self.roll(SHELVES)).unwrap()
    }
}

/// One write of a random kind; a write that the database refuses has not happened.
async fn write(pages: &page::Repository, dice: &mut Dice) -> Result<(), WriteError> {
    let (id, slug, shelf) = (dice.id(), dice.slug(), dice.shelf());
    match dice.roll(6) {
        0 | 1 => {
            let row = page::ActiveModel {
                id: Set(id),
                slug: Set(slug),
                shelf: Set(shelf),
                text: Set("text".into()),
                ..Default::default()
            };
            pages.insert(row).await?;
        }
        2 => {
            let row = pages.find_by_id(id).await?;
            if let Some(row) = row {
                let row = page::Model {
                    slug,
                    shelf,
                    ..row.into_model()
                };
                pages.save(row).await?;
            }
        }
        3 => {
            let (sets_slug, sets_shelf) = (dice.roll(2) == 0, dice.roll(2) == 0);
            let change = |row: &mut page::ActiveModel| {
                if sets_slug {
                    row.slug = Set(slug);
                }
                if sets_shelf {
                    row.shelf = Set(shelf);
                }
            };
            pages.update_with(id, change).await?;
        }
        4 => {
            pages.delete_by_id(id).await?;
        }
        _ => {
            if let Some(row) = pages.find_by_slug(slug).await? {
                pages.delete(row.into_model()).await?;
            }
        }
    }
    Ok(())
}

/// Several writes in a transaction, some of them in a savepoint, kept or undone.
async fn transaction(
    db: &CachedDb,
    pages: &page::Repository,
    dice: &mut Dice,
) -> Result<(), TransactionError<WriteError>> {
    db.transaction(async |tx| {
        write(&pages.on(tx), dice).await?;
        let nested = tx.transaction(async |nested| {
            write(&pages.on(nested), dice).await?;
            match dice.roll(2) {
                0 => Ok(()),
                _ => Err(WriteError::VersionNotSet {
                    entity: "a whim".into(),
                }),
            }
        });
        // Undone, for whatever reason.
        let _ = nested.await;
        write(&pages.on(tx), dice).await?;
        match dice.roll(3) {
            0 => Err(WriteError::VersionNotSet {
                entity: "a whim".into(),
            }),
            _ => Ok(()),
        }
    })
    .await
}

/// A statement past the library; then the cache is invalidated in one way or another.
async fn raw(world: &World, pages: &page::Repository, dice: &mut Dice) {
    let (id, shelf) = (dice.id(), dice.shelf());
    world
        .raw(&format!(
            r#"UPDATE "page" SET shelf = {shelf} WHERE id = {id}"#
        ))
        .await;
    match dice.roll(25) {
        // Rarely: it waits for other processes.
        0 => pages.invalidate_all().await.unwrap(),
        1..9 => pages.invalidate(id).await.unwrap(),
        9..17 => drop(pages.refresh(id).await.unwrap()),
        _ => drop(pages.fresh().find_by_ids([id]).await.unwrap()),
    }
}

/// Every lookup finds what the database has.
async fn check(world: &World, pages: &page::Repository, dice: &mut Dice, what: &str) {
    let shelf = dice.shelf();
    let plain = page::Entity::find()
        .filter(page::Column::Shelf.eq(shelf))
        .order_by_asc(page::Column::Id)
        .all(&world.conn)
        .await
        .unwrap();
    let found = pages.find_all_by_shelf(shelf).await.unwrap();
    assert!(
        found.iter().map(|row| &**row).eq(&plain),
        "{what}: shelf {shelf}: {found:?} and not {plain:?}"
    );
    let all = page::Entity::find().all(&world.conn).await.unwrap();
    let slug = dice.slug();
    let plain = all.iter().find(|row| row.slug == slug);
    let found = pages.find_by_slug(slug).await.unwrap();
    assert_eq!(found.as_deref(), plain, "{what}: slug {slug}");
    let slugs: Vec<_> = (0..3).map(|_| dice.slug()).collect();
    let found = pages.find_by_slugs(slugs.clone()).await.unwrap();
    for (slug, found) in slugs.iter().zip(found) {
        let plain = all.iter().find(|row| row.slug == *slug);
        assert_eq!(found.as_deref(), plain, "{what}: slug {slug} of {slugs:?}");
    }
    let ids: Vec<_> = (0..3).map(|_| dice.id()).collect();
    let found = pages.find_by_ids(ids.clone()).await.unwrap();
    for (id, found) in ids.iter().zip(found) {
        let plain = all.iter().find(|row| row.id == *id);
        assert_eq!(found.as_deref(), plain, "{what}: {id} of {ids:?}");
    }
}

on_both_tiers!(whatever_was_written_every_lookup_finds_what_the_database_has);
/// Goal: see above.
async fn whatever_was_written_every_lookup_finds_what_the_database_has(world: World) {
    world.create_table(page::Entity).await;
    let db = world.db().await;
    let other = another(&world, &db).await;
    let processes = [&db, &other].map(|db| (db, page::Repository::new(db)));
    for seed in 1..=SEEDS {
        let mut dice = Dice(seed);
        let mut happened = 0;
        for step in 0..STEPS {
            let (db, pages) = &processes[usize::from(dice.roll(2) == 0)];
            match dice.roll(8) {
                0 => happened += usize::from(transaction(db, pages, &mut dice).await.is_ok()),
                1 => raw(&world, pages, &mut dice).await,
                _ => happened += usize::from(write(pages, &mut dice).await.is_ok()),
            }
            let what = format!("seed {seed}, step {step}");
            for (_, pages) in &processes {
                check(&world, pages, &mut dice, &what).await;
            }
        }
        assert!(happened > STEPS / 4, "most writes were refused");
    }
    let stats = db.stats();
    assert!(
        stats.index_hits > 0 && stats.index_outdated > 0,
        "{stats:?}"
    );
}
