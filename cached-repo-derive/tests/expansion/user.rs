// What `#[derive(CachedEntity)]` writes for the model in `src/tests.rs`.
// Refresh with `UPDATE_EXPECT=1 cargo test -p cached-repo-derive`.

const _: () = {
    use ::cached_repo::__private as __cached;
    struct __Columns;
    #[allow(non_upper_case_globals, reason = "a column is named like its field")]
    impl __Columns {
        const id: __cached::Column<i64> = __cached::Column::<i64>::new("id");
        const email: __cached::Column<String> = __cached::Column::<String>::new("mail");
        const r#type: __cached::Column<Option<Kind>> = __cached::Column::<
            Option<Kind>,
        >::new("type");
        const tags: __cached::Column<Tags> = __cached::Column::with(
            "tags",
            |value, out| crate::codec::tags::serialize(value, out),
            |input| crate::codec::tags::deserialize(input),
        );
        const version: __cached::Column<i64> = __cached::Column::<i64>::new("version");
    }
    #[automatically_derived]
    impl __cached::CachedEntity for Model {
        const DEFINITION: __cached::Definition = __cached::Definition {
            schema: __cached::fingerprint(
                &[
                    "id:i64",
                    "mail:String",
                    "type:Option<Kind>",
                    "tags:Tags with crate::codec::tags",
                    "version:i64",
                ],
            ),
            options: __cached::EntityOptions {
                name: ::core::option::Option::Some("person"),
                ttl: ::core::option::Option::Some(
                    ::core::time::Duration::from_secs(600),
                ),
                negative_ttl: ::core::option::Option::Some(
                    ::core::time::Duration::from_millis(1500),
                ),
                ..__cached::EntityOptions::NONE
            },
        };
        fn version(&self) -> ::core::option::Option<__cached::Version> {
            __cached::to_version::<i64>(self.version)
        }
        fn version_column() -> ::core::option::Option<__cached::ColumnOf<Self>> {
            ::core::option::Option::Some(__cached::ColumnOf::<Self>::Version)
        }
        fn encode(
            &self,
            row: &mut __cached::RowEncoder,
        ) -> ::core::result::Result<(), __cached::RowError> {
            row.field(&__Columns::id, &self.id)?;
            row.field(&__Columns::email, &self.email)?;
            row.field(&__Columns::r#type, &self.r#type)?;
            row.field(&__Columns::tags, &self.tags)?;
            row.field(&__Columns::version, &self.version)?;
            ::core::result::Result::Ok(())
        }
        fn decode(
            row: &mut __cached::RowDecoder<'_>,
        ) -> ::core::result::Result<Self, __cached::RowError> {
            ::core::result::Result::Ok(Self {
                id: row.field(&__Columns::id)?,
                email: row.field(&__Columns::email)?,
                r#type: row.field(&__Columns::r#type)?,
                tags: row.field(&__Columns::tags)?,
                draft: ::core::default::Default::default(),
                version: row.field(&__Columns::version)?,
            })
        }
    }
    #[automatically_derived]
    impl __cached::Versioned for Model {}
};
/// The cached repository of [`Model`]; its methods are those of [`cached_repo::Repository`](::cached_repo::Repository).
#[derive(::core::clone::Clone, ::core::fmt::Debug)]
pub struct Users(::cached_repo::Repository<Model>);
#[allow(dead_code, reason = "not every program uses every way to open a repository")]
impl Users {
    /// Opens the repository of a database.
    #[must_use]
    pub fn new(db: &::cached_repo::CachedDb) -> Self {
        Self(::cached_repo::Repository::new(db))
    }
    /// The same repository inside a transaction.
    #[must_use]
    pub fn on(&self, tx: &::cached_repo::Transaction) -> Self {
        Self(self.0.on(tx))
    }
    /// The same repository with other settings for its reads.
    #[must_use]
    pub fn with(&self, options: ::cached_repo::ReadOptions) -> Self {
        Self(self.0.with(options))
    }
    /// The same repository, asking the database whatever the cache holds, and
    /// repairing the cache.
    #[must_use]
    pub fn fresh(&self) -> Self {
        Self(self.0.fresh())
    }
}
#[automatically_derived]
impl ::core::ops::Deref for Users {
    type Target = ::cached_repo::Repository<Model>;
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}
