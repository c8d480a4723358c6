//! The programs that are built: what they are made of, and where their files are.
//!
//! Both contenders get the same entities, the same functions in them, and the same `main`; only the
//! derive and the calls differ. No two entities share a type, as in a real program.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Who answers the calls of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contender {
    Ours,
    SeaOrm,
}

impl Contender {
    /// Ours first: the ratios are ours divided by SeaORM's.
    pub(super) const ALL: [Self; 2] = [Self::Ours, Self::SeaOrm];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::SeaOrm => "seaorm",
        }
    }
}

/// One of Cargo's profiles, with its defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Profile {
    Dev,
    Release,
}

impl Profile {
    pub(super) const ALL: [Self; 2] = [Self::Dev, Self::Release];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Release => "release",
        }
    }

    /// How many the bars are for.
    pub(super) fn default_entities(self) -> usize {
        match self {
            Self::Dev => 50,
            Self::Release => 20,
        }
    }

    /// Where Cargo puts what it builds, in the target directory.
    fn directory(self) -> &'static str {
        match self {
            Self::Dev => "debug",
            Self::Release => "release",
        }
    }
}

/// One program of the workspace.
#[derive(Clone, Debug)]
pub(super) struct Program {
    pub(super) contender: Contender,
    pub(super) profile: Profile,
    pub(super) entities: usize,
}

impl Program {
    /// The package's, the folder's and the binary's name.
    pub(super) fn name(&self) -> String {
        format!("{}-{}", self.profile.name(), self.contender.name())
    }

    pub(super) fn binary(&self, workspace: &Path) -> PathBuf {
        let built = workspace.join("target").join(self.profile.directory());
        built.join(self.name())
    }

    /// Replaces the program's files, unedited.
    pub(super) fn write(&self, workspace: &Path, library: &Path) -> Result<()> {
        let package = workspace.join(self.name());
        let sources = package.join("src");
        if sources.exists() {
            let removing = || format!("removing {}", sources.display());
            fs::remove_dir_all(&sources).with_context(removing)?;
        }
        write(&package.join("Cargo.toml"), &self.manifest(library))?;
        write(&sources.join("main.rs"), &self.main())?;
        for index in 0..self.entities {
            write(&sources.join(file(index)), &self.entity(index, 0))?;
        }
        Ok(())
    }

    /// Gives one function of the first entity another name and another text.
    pub(super) fn edit(&self, workspace: &Path, revision: u32) -> Result<()> {
        let path = workspace.join(self.name()).join("src").join(file(0));
        write(&path, &self.entity(0, revision))
    }

    fn manifest(&self, library: &Path) -> String {
        let ours = match self.contender {
            Contender::Ours => {
                let path = library.join("cached-repo");
                format!("cached-repo = {{ path = {path:?} }}\n")
            }
            Contender::SeaOrm => String::new(),
        };
        MANIFEST
            .replace("@name@", &self.name())
            .replace("@library@", &ours)
    }

    fn main(&self) -> String {
        let (connect, database) = match self.contender {
            Contender::Ours => (
                "cached_repo::CachedDb::builder(conn).namespace(\"bench\").build().await?",
                "cached_repo::CachedDb",
            ),
            Contender::SeaOrm => ("conn", "sea_orm::DatabaseConnection"),
        };
        let (mut modules, mut calls) = (String::new(), String::new());
        for index in 0..self.entities {
            let module = module(index);
            let _ = writeln!(modules, "mod {module};");
            let _ = writeln!(calls, "    {module}::exercise(&db).await?;");
        }
        MAIN.replace("@modules@", modules.trim_end())
            .replace("@calls@", calls.trim_end())
            .replace("@connect@", connect)
            .replace("@database@", database)
            .replace("@entities@", &self.entities.to_string())
    }

    /// The module of an entity. `revision` is part of one function's name and text.
    fn entity(&self, index: usize, revision: u32) -> String {
        let text = match self.contender {
            Contender::Ours => ENTITY
                .replace("@functions@", OUR_FUNCTIONS)
                .replace("@imports@", OUR_IMPORTS)
                .replace("@derive@", ", CachedEntity")
                .replace("@into_model@", ".into_model()")
                .replace("@index@", "    #[cached(index)]\n")
                .replace("@version@", "    #[cached(version)]\n"),
            Contender::SeaOrm => ENTITY
                .replace("@functions@", SEAORM_FUNCTIONS)
                .replace("@imports@", SEAORM_IMPORTS)
                .replace("@derive@", "")
                .replace("@into_model@", "")
                .replace("@index@", "")
                .replace("@version@", ""),
        };
        text.replace("@table@", &module(index))
            .replace("@revision@", &revision.to_string())
    }
}

/// The workspace of these programs: apart from ours, so that no profile of ours applies.
pub(super) fn workspace_manifest<'a>(programs: impl IntoIterator<Item = &'a Program>) -> String {
    let names = programs
        .into_iter()
        .map(|program| format!("{:?}", program.name()));
    let members = names.collect::<Vec<_>>().join(", ");
    format!("[workspace]\nresolver = \"3\"\nmembers = [{members}]\n")
}

pub(super) fn write(path: &Path, text: &str) -> Result<()> {
    let writing = || format!("writing {}", path.display());
    let directory = path.parent().context("a file is in a directory")?;
    fs::create_dir_all(directory).with_context(writing)?;
    fs::write(path, text).with_context(writing)
}

/// The name of an entity's module, and of its table.
fn module(index: usize) -> String {
    format!("account_{index:02}")
}

fn file(index: usize) -> String {
    format!("{}.rs", module(index))
}

const MANIFEST: &str = r#"[package]
name = "@name@"
version = "0.1.0"
edition = "2024"

[dependencies]
@library@sea-orm = { version = "2", features = ["runtime-tokio", "sqlx-sqlite"] }
tokio = { version = "1", features = ["macros", "rt-multi-thread"] }
"#;

const MAIN: &str = r#"//! Generated by `cargo xtask bench compile`.

@modules@

use sea_orm::{ConnectionTrait, Database};

type Db = @database@;
type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let Some(url) = std::env::args().nth(1) else {
        eprintln!("usage: PROGRAM DATABASE_URL");
        return Ok(());
    };
    let conn = Database::connect(url).await?;
    for index in 0..@entities@ {
        conn.execute_unprepared(&format!(
            "CREATE TABLE account_{index:02} (
                id INTEGER PRIMARY KEY, name TEXT NOT NULL, email TEXT NOT NULL UNIQUE,
                team_id BIGINT NOT NULL, note TEXT, active BOOLEAN NOT NULL, score DOUBLE NOT NULL,
                version BIGINT NOT NULL DEFAULT 1
            )"
        ))
        .await?;
    }
    let db: Db = @connect@;
@calls@
    println!("@entities@ entities");
    Ok(())
}
"#;

const ENTITY: &str = r#"use crate::{Db, Failure};
@imports@

#[derive(Clone, Debug, PartialEq, DeriveEntityModel@derive@)]
#[sea_orm(table_name = "@table@")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    pub name: String,
    #[sea_orm(unique)]
    pub email: String,
@index@    #[sea_orm(indexed)]
    pub team_id: i64,
    pub note: Option<String>,
    pub active: bool,
    pub score: f64,
@version@    pub version: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

pub async fn exercise(db: &Db) -> Result<(), Failure> {
    let id = insert(db, "Ada", "ada@example.com", 7).await?.id;
    let row = find(db, id).await?.ok_or("it was inserted")?;
    let row = rename_@revision@(db, row@into_model@).await?;
    let found = find_by_email(db, &row.email).await?.ok_or("it was saved")?;
    let team = find_team(db, 7).await?;
    if found.name != row.name || team.len() != 1 || team[0].id != id {
        return Err("@table@ finds something else than it saved".into());
    }
    delete(db, row@into_model@).await?;
    match find(db, id).await? {
        Some(_) => Err("@table@ finds what it deleted".into()),
        None => Ok(()),
    }
}

fn new_row(name: &str, email: &str, team_id: i64) -> ActiveModel {
    ActiveModel {
        name: Set(name.to_owned()),
        email: Set(email.to_owned()),
        team_id: Set(team_id),
        note: Set(Some(format!("{name} of team {team_id}"))),
        active: Set(true),
        score: Set(0.5),
        ..Default::default()
    }
}

@functions@"#;

const SEAORM_IMPORTS: &str =
    "use sea_orm::{ActiveValue::Set, IntoActiveModel, entity::prelude::*};";

const SEAORM_FUNCTIONS: &str = r#"async fn insert(db: &Db, name: &str, email: &str, team_id: i64) -> Result<Model, Failure> {
    Ok(new_row(name, email, team_id).insert(db).await?)
}

async fn find(db: &Db, id: i64) -> Result<Option<Model>, Failure> {
    Ok(Entity::find_by_id(id).one(db).await?)
}

async fn rename_@revision@(db: &Db, mut row: Model) -> Result<Model, Failure> {
    row.name = String::from("Ada the @revision@th");
    Ok(row.into_active_model().reset_all().update(db).await?)
}

async fn delete(db: &Db, row: Model) -> Result<(), Failure> {
    row.delete(db).await?;
    Ok(())
}

async fn find_by_email(db: &Db, email: &str) -> Result<Option<Model>, Failure> {
    let found = Entity::find().filter(Column::Email.eq(email));
    Ok(found.one(db).await?)
}

async fn find_team(db: &Db, team_id: i64) -> Result<Vec<Model>, Failure> {
    let found = Entity::find().filter(Column::TeamId.eq(team_id));
    Ok(found.all(db).await?)
}
"#;

const OUR_IMPORTS: &str = "\
use cached_repo::{Cached, CachedEntity};
use sea_orm::{ActiveValue::Set, entity::prelude::*};";

const OUR_FUNCTIONS: &str = r#"async fn insert(db: &Db, name: &str, email: &str, team_id: i64) -> Result<Cached<Model>, Failure> {
    let row = new_row(name, email, team_id);
    Ok(Repository::new(db).insert(row).await?)
}

async fn find(db: &Db, id: i64) -> Result<Option<Cached<Model>>, Failure> {
    Ok(Repository::new(db).find_by_id(id).await?)
}

async fn rename_@revision@(db: &Db, mut row: Model) -> Result<Cached<Model>, Failure> {
    row.name = String::from("Ada the @revision@th");
    Ok(Repository::new(db).save(row).await?)
}

async fn delete(db: &Db, row: Model) -> Result<(), Failure> {
    Ok(Repository::new(db).delete(row).await?)
}

async fn find_by_email(db: &Db, email: &str) -> Result<Option<Cached<Model>>, Failure> {
    Ok(Repository::new(db).find_by_email(email).await?)
}

async fn find_team(db: &Db, team_id: i64) -> Result<Vec<Cached<Model>>, Failure> {
    Ok(Repository::new(db).find_all_by_team_id(team_id).await?)
}
"#;

#[cfg(test)]
mod tests {
    use super::*;

    fn program(contender: Contender) -> Program {
        Program {
            contender,
            profile: Profile::Dev,
            entities: 2,
        }
    }

    /// The lines of `text` that `other` has not.
    fn only_in<'a>(text: &'a str, other: &str) -> Vec<&'a str> {
        let other: Vec<&str> = other.lines().collect();
        let lines = text.lines();
        lines.filter(|line| !other.contains(line)).collect()
    }

    /// Goal: nothing of a template is left over, in any file of any program.
    #[test]
    fn every_placeholder_is_replaced() {
        for contender in Contender::ALL {
            let program = program(contender);
            let texts = [
                program.manifest(Path::new("/library")),
                program.main(),
                program.entity(1, 3),
            ];
            for text in texts {
                let rest = text.replace("ada@example.com", "");
                assert!(!rest.contains('@'), "{text}");
            }
        }
    }

    /// Goal: the model differs by what a user adds to it, and by nothing else.
    #[test]
    fn our_model_is_seaorms_with_three_additions() {
        let model = |contender| {
            let text = program(contender).entity(1, 0);
            let from = text.find("#[derive").expect("a model");
            let to = text.find("#[derive(Copy").expect("relations");
            text[from..to].to_owned()
        };
        let (ours, seaorm) = (model(Contender::Ours), model(Contender::SeaOrm));
        assert_eq!(
            only_in(&ours, &seaorm),
            [
                "#[derive(Clone, Debug, PartialEq, DeriveEntityModel, CachedEntity)]",
                "    #[cached(index)]",
                "    #[cached(version)]",
            ]
        );
        assert_eq!(only_in(&seaorm, &ours).len(), 1, "the derive without us");
    }

    /// Goal: each program has all six functions for each entity, and calls them.
    #[test]
    fn both_do_the_same_six_things() {
        let functions = |text: &str| -> Vec<String> {
            let names = text
                .lines()
                .filter_map(|line| line.strip_prefix("async fn "));
            names
                .filter_map(|line| Some(line.split_once('(')?.0.to_owned()))
                .collect()
        };
        let ours = program(Contender::Ours).entity(0, 0);
        let seaorm = program(Contender::SeaOrm).entity(0, 0);
        assert_eq!(functions(&ours), functions(&seaorm));
        assert_eq!(functions(&ours).len(), 6);
        for text in [ours, seaorm] {
            for name in functions(&text) {
                assert!(text.contains(&format!(" {name}(db, ")), "{name} is called");
            }
        }
        let main = program(Contender::Ours).main();
        for module in ["account_00", "account_01"] {
            assert!(main.contains(&format!("mod {module};\n")), "{main}");
            assert!(
                main.contains(&format!(" {module}::exercise(&db)")),
                "{main}"
            );
        }
    }

    /// Goal: two revisions differ in one function and its call, so that Cargo has work, and little.
    #[test]
    fn an_edit_changes_one_function() {
        for contender in Contender::ALL {
            let before = program(contender).entity(0, 1);
            let after = program(contender).entity(0, 2);
            let changed = only_in(&after, &before);
            assert_eq!(changed.len(), 3, "{changed:?}");
            assert!(changed.iter().all(|line| line.contains('2')), "{changed:?}");
        }
    }

    /// Goal: the programs are a workspace of their own, and only ours depends on the library.
    #[test]
    fn a_manifest_names_its_package_and_the_library() {
        let programs = Contender::ALL.map(program);
        assert_eq!(
            workspace_manifest(&programs),
            "[workspace]\nresolver = \"3\"\nmembers = [\"dev-ours\", \"dev-seaorm\"]\n"
        );
        let [ours, seaorm] = programs.map(|program| program.manifest(Path::new("/library")));
        assert!(ours.contains("name = \"dev-ours\"\n"), "{ours}");
        assert_eq!(
            only_in(&ours, &seaorm)[1..],
            ["cached-repo = { path = \"/library/cached-repo\" }"]
        );
    }
}
