//! Entities for the verbs: counters, hooks, versions of every type.

/// A number that many writers raise.
pub mod counter {
    use cached_repo::CachedEntity;
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
    #[sea_orm(table_name = "counter")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i32,
        pub value: i64,
        pub note: Option<String>,
        #[cached(version)]
        pub version: i32,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// A key that `before_save` makes.
pub mod minted {
    use cached_repo::CachedEntity;
    use sea_orm::{ActiveValue::Set, entity::prelude::*};

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
    #[sea_orm(table_name = "minted")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub name: String,
        #[cached(version)]
        pub version: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    /// The key that the hook makes for a name.
    #[must_use]
    pub fn id_of(name: &str) -> Uuid {
        let mut bytes = [7; 16];
        for (byte, of_name) in bytes.iter_mut().zip(name.bytes()) {
            *byte = of_name;
        }
        Uuid::from_bytes(bytes)
    }

    #[async_trait::async_trait]
    impl ActiveModelBehavior for ActiveModel {
        async fn before_save<C: ConnectionTrait>(
            mut self,
            _: &C,
            insert: bool,
        ) -> Result<Self, DbErr> {
            if insert && self.id.is_not_set() {
                self.id = Set(id_of(self.name.as_ref()));
            }
            Ok(self)
        }
    }
}

/// Records which hooks ran, and fails where the test wants it.
pub mod hooked {
    use std::sync::Mutex;

    use cached_repo::CachedEntity;
    use sea_orm::{ActiveValue::Set, entity::prelude::*};

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
    #[sea_orm(table_name = "hooked")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i64,
        /// The journal that the hooks write to.
        pub test: String,
        /// `"refuse …"` names the hook that fails.
        pub name: String,
        #[cached(version)]
        pub version: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    static JOURNAL: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());

    tokio::task_local! {
        /// The user of the request, as a middleware would set it.
        pub static AUTHOR: &'static str;
    }

    /// Takes what the hooks have recorded for a test's rows.
    #[must_use]
    pub fn journal(test: &str) -> Vec<String> {
        let mut journal = JOURNAL.lock().unwrap();
        let mine = journal.extract_if(.., |(of, _)| of == test);
        mine.map(|(_, line)| line).collect()
    }

    fn run(hook: &str, insert: Option<bool>, test: &str, name: &str) -> Result<(), DbErr> {
        let insert = insert.map_or("", |insert| if insert { " insert" } else { " update" });
        let author = AUTHOR.try_with(|author| format!(" by {author}"));
        let line = format!("{hook}{insert} {name}{}", author.unwrap_or_default());
        JOURNAL.lock().unwrap().push((test.to_owned(), line));
        if name == format!("refuse {hook}") {
            return Err(DbErr::Custom(format!("{hook} refused")));
        }
        assert!(name != format!("panic {hook}"), "as the test asked for");
        Ok(())
    }

    #[async_trait::async_trait]
    impl ActiveModelBehavior for ActiveModel {
        async fn before_save<C: ConnectionTrait>(
            mut self,
            _: &C,
            insert: bool,
        ) -> Result<Self, DbErr> {
            run(
                "before_save",
                Some(insert),
                self.test.as_ref(),
                self.name.as_ref(),
            )?;
            let trimmed = self.name.as_ref().trim().to_owned();
            if trimmed != *self.name.as_ref() {
                self.name = Set(trimmed);
            }
            Ok(self)
        }

        async fn after_save<C: ConnectionTrait>(
            mut model: Model,
            _: &C,
            insert: bool,
        ) -> Result<Model, DbErr> {
            run("after_save", Some(insert), &model.test, &model.name)?;
            if model.name == "decorate" {
                model.name = "decorated, for the caller only".to_owned();
            }
            Ok(model)
        }

        async fn before_delete<C: ConnectionTrait>(self, _: &C) -> Result<Self, DbErr> {
            run(
                "before_delete",
                None,
                self.test.as_ref(),
                self.name.as_ref(),
            )?;
            Ok(self)
        }

        async fn after_delete<C: ConnectionTrait>(self, _: &C) -> Result<Self, DbErr> {
            run("after_delete", None, self.test.as_ref(), self.name.as_ref())?;
            Ok(self)
        }
    }
}

/// A rival writes the row before every update of it.
pub mod contested {
    use cached_repo::CachedEntity;
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
    #[sea_orm(table_name = "contested")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i64,
        pub value: i64,
        #[cached(version)]
        pub version: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    #[async_trait::async_trait]
    impl ActiveModelBehavior for ActiveModel {
        async fn before_save<C: ConnectionTrait>(
            self,
            db: &C,
            insert: bool,
        ) -> Result<Self, DbErr> {
            if !insert {
                let rival = "UPDATE contested SET version = version + 1, value = value + 100";
                db.execute_unprepared(rival).await?;
            }
            Ok(self)
        }
    }
}

/// Nothing but a key: a table that joins two others.
pub mod link {
    use cached_repo::CachedEntity;
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
    #[sea_orm(table_name = "link")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub left: i64,
        #[sea_orm(primary_key, auto_increment = false)]
        pub right: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

macro_rules! versioned_by {
    ($module:ident, $table:literal, $ty:ty) => {
        /// A version of another type.
        pub mod $module {
            use cached_repo::CachedEntity;
            use sea_orm::entity::prelude::*;

            #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
            #[sea_orm(table_name = $table)]
            pub struct Model {
                #[sea_orm(primary_key)]
                pub id: i32,
                pub name: String,
                #[cached(version)]
                pub version: $ty,
            }

            #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
            pub enum Relation {}

            impl ActiveModelBehavior for ActiveModel {}
        }
    };
}
versioned_by!(versioned_i16, "versioned_i16", i16);
versioned_by!(versioned_i32, "versioned_i32", i32);
versioned_by!(versioned_i64, "versioned_i64", i64);
versioned_by!(versioned_u32, "versioned_u32", u32);
versioned_by!(versioned_u64, "versioned_u64", u64);
