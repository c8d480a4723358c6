//! An entity whose rows can be held up, or made to panic, between the database and the library.
//!
//! [`Gate`] stops every task that decodes a row with a given text: a reader between its SELECT and
//! its fill, a writer between its commit and its publish. Needs a multi-thread runtime, because
//! rows are decoded synchronously.
#![expect(missing_docs, reason = "SeaORM's derives write undocumented items")]

use std::{
    collections::HashMap,
    sync::{Arc, Condvar, LazyLock, Mutex},
};

use sea_orm::{
    ColIdx, DbErr, QueryResult, TryGetError, TryGetable,
    sea_query::{ArrayType, ColumnType, Nullable, StringLen, Value, ValueType, ValueTypeErr},
};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// Versioned, with a key of the caller's and a text that may be gated.
pub mod note {
    use cached_repo::CachedEntity;
    use sea_orm::entity::prelude::*;

    use super::Text;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
    #[sea_orm(table_name = "note")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i64,
        pub text: Text,
        #[cached(version)]
        pub version: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// The same, found by a unique number and by a list.
pub mod page {
    use cached_repo::CachedEntity;
    use sea_orm::entity::prelude::*;

    use super::Text;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
    #[sea_orm(table_name = "page")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i64,
        #[sea_orm(unique)]
        pub slug: i32,
        #[cached(index)]
        pub shelf: i32,
        pub text: Text,
        #[cached(version)]
        pub version: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Found by a list, with a key that the database makes.
pub mod leaf {
    use cached_repo::CachedEntity;
    use sea_orm::entity::prelude::*;

    use super::Text;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
    #[sea_orm(table_name = "leaf")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i64,
        /// Without a value, the database sets 7.
        #[cached(index)]
        #[sea_orm(default_value = 7)]
        pub tree: i32,
        pub text: Text,
        #[cached(version)]
        pub version: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Found among the rows that are published.
pub mod draft {
    use cached_repo::CachedEntity;
    use sea_orm::entity::prelude::*;

    use super::Text;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
    #[sea_orm(table_name = "draft")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i64,
        #[cached(unique(where = "published"))]
        pub slug: i32,
        #[cached(index(where = "published"))]
        pub shelf: i32,
        pub published: bool,
        pub text: Text,
        #[cached(version)]
        pub version: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// A text that stops at its gate when it comes from the database, and never when it comes from the
/// cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Text(pub String);

/// What happens to a row with a certain text.
#[derive(Clone, Debug)]
enum Meeting {
    Hold(Arc<Hold>),
    Panic,
    Fail,
}

#[derive(Debug)]
struct Hold {
    arrived: watch::Sender<usize>,
    open: Mutex<bool>,
    opened: Condvar,
}

static MEETINGS: LazyLock<Mutex<HashMap<String, Meeting>>> = LazyLock::new(Mutex::default);

/// Stops every task that decodes a row with its text, until it is opened or dropped.
#[derive(Debug)]
pub struct Gate {
    text: String,
    hold: Arc<Hold>,
}

impl Gate {
    /// Stops rows with this text, which no other test may use.
    pub fn hold(text: &str) -> Self {
        let hold = Arc::new(Hold {
            arrived: watch::Sender::new(0),
            open: Mutex::new(false),
            opened: Condvar::new(),
        });
        let meeting = Meeting::Hold(Arc::clone(&hold));
        MEETINGS.lock().unwrap().insert(text.to_owned(), meeting);
        let text = text.to_owned();
        Self { text, hold }
    }

    /// Waits until this many tasks have stopped at the gate.
    pub async fn arrived(&self, count: usize) {
        let mut arrived = self.hold.arrived.subscribe();
        arrived.wait_for(|came| *came >= count).await.unwrap();
    }

    /// Lets all tasks through, now and later.
    pub fn open(&self) {
        *self.hold.open.lock().unwrap() = true;
        self.hold.opened.notify_all();
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        MEETINGS.lock().unwrap().remove(&self.text);
        self.open();
    }
}

/// Makes every task panic that decodes a row with its text, until it is dropped.
#[derive(Debug)]
pub struct Mine {
    text: String,
}

impl Mine {
    /// Starts the panics.
    pub fn lay(text: &str) -> Self {
        let text = text.to_owned();
        MEETINGS
            .lock()
            .unwrap()
            .insert(text.clone(), Meeting::Panic);
        Self { text }
    }
}

impl Drop for Mine {
    fn drop(&mut self) {
        MEETINGS.lock().unwrap().remove(&self.text);
    }
}

/// Makes every task fail that decodes a row with its text, until it is dropped.
#[derive(Debug)]
pub struct Blot {
    text: String,
}

impl Blot {
    /// Starts the failures.
    pub fn make(text: &str) -> Self {
        let text = text.to_owned();
        MEETINGS.lock().unwrap().insert(text.clone(), Meeting::Fail);
        Self { text }
    }
}

impl Drop for Blot {
    fn drop(&mut self) {
        MEETINGS.lock().unwrap().remove(&self.text);
    }
}

fn meet(text: &str) -> Result<(), TryGetError> {
    let meeting = MEETINGS.lock().unwrap().get(text).cloned();
    match meeting {
        None => {}
        Some(Meeting::Panic) => panic!("a test made this row panic"),
        Some(Meeting::Fail) => {
            let why = "a test made this row unreadable";
            return Err(TryGetError::DbErr(DbErr::Type(why.into())));
        }
        Some(Meeting::Hold(hold)) => {
            hold.arrived.send_modify(|count| *count += 1);
            tokio::task::block_in_place(|| {
                let open = hold.open.lock().unwrap();
                drop(hold.opened.wait_while(open, |open| !*open).unwrap());
            });
        }
    }
    Ok(())
}

impl TryGetable for Text {
    fn try_get_by<I: ColIdx>(row: &QueryResult, index: I) -> Result<Self, TryGetError> {
        let text = String::try_get_by(row, index)?;
        meet(&text)?;
        Ok(Self(text))
    }
}

impl From<Text> for Value {
    fn from(text: Text) -> Self {
        Self::String(Some(text.0))
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl ValueType for Text {
    fn try_from(value: Value) -> Result<Self, ValueTypeErr> {
        <String as ValueType>::try_from(value).map(Self)
    }

    fn type_name() -> String {
        "Text".into()
    }

    fn array_type() -> ArrayType {
        ArrayType::String
    }

    fn column_type() -> ColumnType {
        ColumnType::String(StringLen::None)
    }
}

impl Nullable for Text {
    fn null() -> Value {
        Value::String(None)
    }
}
