//! Lookups by unique columns and by indexes: rows are found through the cache, and never wrongly.

use std::time::Duration;

use cached_repo::{CachedDb, Drained};
use cached_repo_tests::{World, entities::lookups::member};
use sea_orm::ActiveValue::{NotSet, Set};

mod absences;
mod basics;
mod batches;
mod collations;
mod conditions;
mod cost;
mod harm;
mod lists;
mod made_by_the_database;
mod moves;
mod nulls;
mod repairs;
mod spelt;
mod unique_batches;

const LIMIT: Duration = Duration::from_secs(10);

fn new_member(email: &str, team_id: i64, chair: i32) -> member::ActiveModel {
    member::ActiveModel {
        id: NotSet,
        email: Set(email.into()),
        badge: Set(None),
        team_id: Set(team_id),
        chair: Set(chair),
        boss_id: Set(None),
        active: Set(true),
        version: NotSet,
    }
}

/// An empty table of members.
async fn members(world: &World) -> (CachedDb, member::Repository) {
    world.create_table(member::Entity).await;
    let db = world.db().await;
    let members = member::Repository::new(&db);
    (db, members)
}

/// Waits until the background fills are done.
async fn settled(db: &CachedDb) {
    assert_eq!(db.shutdown(LIMIT).await, Drained::All);
}

/// The key of the member with this email, from any source, and again from the cache.
async fn id_of(members: &member::Repository, email: &str) -> Option<i64> {
    let first = members.find_by_email(email).await.unwrap();
    let then = members.find_by_email(email).await.unwrap();
    let warm = members.find_by_email(email).await.unwrap();
    assert_eq!(first, then, "{email}");
    assert_eq!(first, warm, "{email}");
    first.map(|row| row.id)
}

/// The emails of a team, in order, from any source, and again from the cache.
async fn team(members: &member::Repository, team_id: i64) -> Vec<String> {
    let emails = async || -> Vec<String> {
        let rows = members.find_all_by_team_id(team_id).await.unwrap();
        rows.iter().map(|row| row.email.clone()).collect()
    };
    let first = emails().await;
    assert_eq!(first, emails().await, "team {team_id}");
    assert_eq!(first, emails().await, "team {team_id}");
    first
}
