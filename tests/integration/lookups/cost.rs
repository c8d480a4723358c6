//! What lookups, and writes of entities with lookups, cost in commands on Redis.

use cached_repo::CachedDb;
use cached_repo_harness::Redis;
use cached_repo_tests::{Backend, World, entities::lookups::member};
use sea_orm::ActiveValue::Set;

use super::{members, new_member, settled};
use crate::counting::commands;

struct Scene {
    _server: Redis,
    world: World,
    db: CachedDb,
    members: member::Repository,
    ids: Vec<i64>,
    redis: deadpool_redis::redis::aio::MultiplexedConnection,
}

impl Scene {
    /// Twenty members in two teams; nothing is cached.
    async fn new() -> Self {
        let server = Redis::start().unwrap();
        let world = World::on_redis(Backend::Sqlite, server.url()).await;
        let (db, members) = members(&world).await;
        let mut ids = Vec::new();
        for chair in 0..20 {
            let row = new_member(&format!("m{chair}"), i64::from(chair) % 2, chair);
            ids.push(members.insert(row).await.unwrap().id);
        }
        members.invalidate_all().await.unwrap();
        settled(&db).await;
        let mut redis = world.redis().await;
        let () = deadpool_redis::redis::cmd("FLUSHALL")
            .query_async(&mut redis)
            .await
            .unwrap();
        let mut scene = Self {
            _server: server,
            world,
            db,
            members,
            ids,
            redis,
        };
        scene.spent().await;
        scene
    }

    /// The commands and the statements since the last call.
    async fn spent(&mut self) -> (Vec<(String, u64)>, Vec<String>) {
        settled(&self.db).await;
        let commands = commands(&mut self.redis).await.into_iter().collect();
        (commands, self.world.statements.verbs())
    }

    async fn costs(&mut self, what: &str, commands: &[(&str, u64)], statements: &[&str]) {
        let (sent, verbs) = self.spent().await;
        let sent: Vec<_> = sent
            .iter()
            .map(|(name, calls)| (name.as_str(), *calls))
            .collect();
        assert_eq!(sent, commands, "{what}");
        assert_eq!(verbs, statements, "{what}");
    }
}

#[tokio::test]
/// Goal: one MGET and, for unknown keys, one SELECT, a lease and a fill each; a warm lookup is one
/// MGET.
async fn many_keys_are_one_mget_and_one_select() {
    let mut scene = Scene::new().await;
    let (members, ids) = (scene.members.clone(), scene.ids.clone());
    members.find_by_ids(ids.clone()).await.unwrap();
    scene
        .costs("cold", &[("evalsha", 40), ("mget", 1)], &["SELECT"])
        .await;
    members.find_by_ids(ids.clone()).await.unwrap();
    scene.costs("warm", &[("mget", 1)], &[]).await;
    members.invalidate(ids[3]).await.unwrap();
    scene.spent().await;
    members
        .find_by_ids(ids.iter().copied().chain(ids.clone()))
        .await
        .unwrap();
    scene
        .costs("all but one", &[("evalsha", 2), ("mget", 1)], &["SELECT"])
        .await;
}

#[tokio::test]
/// Goal: warm, one MGET for the index entries and one for the rows; cold, one SELECT.
async fn many_emails_are_two_mgets_when_they_are_warm() {
    let mut scene = Scene::new().await;
    let members = scene.members.clone();
    let emails = || (0..20).map(|chair| format!("m{chair}"));
    members.find_by_emails(emails()).await.unwrap();
    scene
        .costs("cold", &[("evalsha", 40), ("mget", 1)], &["SELECT"])
        .await;
    members.find_by_emails(emails()).await.unwrap();
    scene
        .costs(
            "index entries",
            &[("evalsha", 40), ("mget", 2)],
            &["SELECT"],
        )
        .await;
    members.find_by_emails(emails()).await.unwrap();
    scene.costs("warm", &[("mget", 2)], &[]).await;
    let seats = || (0..20).map(|chair| (i64::from(chair) % 2, chair));
    members.find_by_seats(seats()).await.unwrap();
    scene
        .costs("cold pairs", &[("evalsha", 40), ("mget", 1)], &["SELECT"])
        .await;
    members.find_by_seats(seats()).await.unwrap();
    scene.costs("warm pairs", &[("mget", 2)], &[]).await;
}

#[tokio::test]
/// Goal: a warm lookup is one GET for the index entry and one MGET for its rows, however many; a
/// single row is a GET, which other readers can share. A known absence is one GET.
async fn a_lookup_is_two_commands_when_it_is_warm() {
    let mut scene = Scene::new().await;
    let members = scene.members.clone();
    members.find_all_by_team_id(1).await.unwrap();
    scene
        .costs("cold list", &[("evalsha", 2), ("get", 1)], &["SELECT"])
        .await;
    members.find_all_by_team_id(1).await.unwrap();
    scene
        .costs(
            "the rows of a list",
            &[("evalsha", 20), ("get", 1), ("mget", 1)],
            &["SELECT"],
        )
        .await;
    members.find_all_by_team_id(1).await.unwrap();
    scene
        .costs("warm list", &[("get", 1), ("mget", 1)], &[])
        .await;
    members.find_by_email("m1").await.unwrap();
    scene
        .costs("cold email", &[("evalsha", 2), ("get", 1)], &["SELECT"])
        .await;
    members.find_by_email("m1").await.unwrap();
    scene.costs("warm email", &[("get", 2)], &[]).await;
    members.find_by_email("nobody").await.unwrap();
    scene.spent().await;
    members.find_by_email("nobody").await.unwrap();
    scene.costs("warm absence", &[("get", 1)], &[]).await;
}

#[tokio::test]
/// Goal: an update that changes no looked-up column costs the same as without lookups, and keeps
/// every index entry. One that does costs two more commands for each; `save` writes every column,
/// so it blocks all of them.
async fn a_write_pays_for_the_index_entries_it_may_change_and_for_no_others() {
    let mut scene = Scene::new().await;
    let (members, id) = (scene.members.clone(), scene.ids[1]);
    let versions = || member::ActiveModel {
        id: sea_orm::ActiveValue::Unchanged(id),
        ..Default::default()
    };
    for _ in 0..2 {
        members.find_all_by_team_id(1).await.unwrap();
        members.find_all_by_team(1, true).await.unwrap();
        members.find_by_email("m1").await.unwrap();
    }
    scene.spent().await;
    // The version is in no lookup; nothing else is set.
    let row = members.find_by_id(id).await.unwrap().unwrap();
    scene.spent().await;
    let same = member::ActiveModel {
        version: sea_orm::ActiveValue::Unchanged(row.version),
        // The key is no lookup.
        id: Set(id),
        ..versions()
    };
    members.update(same).await.unwrap();
    scene
        .costs(
            "nothing looked up",
            &[("evalsha", 2), ("publish", 1)],
            &["UPDATE"],
        )
        .await;
    members.find_all_by_team_id(1).await.unwrap();
    scene
        .costs("the list is still cached", &[("get", 1), ("mget", 1)], &[])
        .await;

    members
        .update_with(id, |row| row.active = Set(false))
        .await
        .unwrap();
    scene
        .costs(
            "one list",
            &[("evalsha", 4), ("get", 1), ("publish", 1)],
            &["UPDATE"],
        )
        .await;
    members.find_all_by_team_id(1).await.unwrap();
    scene
        .costs("another list", &[("get", 1), ("mget", 1)], &[])
        .await;
    members
        .update_with(id, |row| row.email = Set("mail".into()))
        .await
        .unwrap();
    scene
        .costs(
            "an email",
            &[("evalsha", 4), ("get", 1), ("publish", 1)],
            &["UPDATE"],
        )
        .await;

    let row = members.find_by_id(id).await.unwrap().unwrap().into_model();
    scene.spent().await;
    members.save(row).await.unwrap();
    // The row; email, seat, team, team and active, boss. The badge is NULL, which no lookup asks
    // for.
    scene
        .costs("save", &[("evalsha", 12), ("publish", 1)], &["UPDATE"])
        .await;
    members.find_all_by_team_id(1).await.unwrap();
    scene
        .costs(
            "the list after a save",
            &[("evalsha", 2), ("get", 1)],
            &["SELECT"],
        )
        .await;
    members.delete_by_id(id).await.unwrap();
    scene
        .costs("a delete", &[("evalsha", 2), ("publish", 1)], &["DELETE"])
        .await;
}
