// What `#[derive(CachedEntity)]` writes for a model in `src/tests.rs`.
// Refresh with `UPDATE_EXPECT=1 cargo test -p cached-repo-derive`.

/// The cached repository of [`Model`]; its methods are those of [`cached_repo::Repository`](::cached_repo::Repository).
#[derive(::core::clone::Clone, ::core::fmt::Debug)]
pub struct Users(::cached_repo::Repository<Model>);
const _: () = {
    use ::cached_repo::__private as __c;
    struct __Columns;
    #[allow(non_upper_case_globals, reason = "a column is named like its field")]
    impl __Columns {
        const id: __c::Column<i64> = __c::Column::<i64>::new("id");
        const email: __c::Column<String> = __c::Column::<String>::new("mail");
        const team_id: __c::Column<i64> = __c::Column::<i64>::new("team_id");
        const r#type: __c::Column<Option<Kind>> = __c::Column::<
            Option<Kind>,
        >::new("type");
        const tags: __c::Column<Tags> = __c::Column::with(
            "tags",
            |value, out| crate::codec::tags::serialize(value, out),
            |input| crate::codec::tags::deserialize(input),
        );
        const version: __c::Column<i64> = __c::Column::<i64>::new("version");
    }
    #[automatically_derived]
    impl __c::CachedEntity for Model {
        const DEFINITION: __c::Definition = __c::Definition {
            schema: __c::fingerprint(
                "id:i64\nmail:String\nteam_id:i64\ntype:Option<Kind>\ntags:Tags with crate::codec::tags\nversion:i64",
            ),
            options: __c::EntityOptions {
                name: __c::Some("person"),
                ttl: __c::Some(__c::Duration::from_secs(600)),
                negative_ttl: __c::Some(__c::Duration::from_millis(1500)),
                ..__c::EntityOptions::NONE
            },
        };
        fn version(&self) -> __c::Option<__c::Version> {
            __c::to_version::<i64>(self.version)
        }
        fn version_column() -> __c::Option<__c::ColumnOf<Self>> {
            __c::Some(__c::ColumnOf::<Self>::Version)
        }
        fn lookups() -> &'static [__c::LookupDef<Self>] {
            const LOOKUPS: &[__c::LookupDef<Model>] = &[
                __c::unique(
                    &[
                        __c::by(
                            __c::ColumnOf::<Model>::Email,
                            __c::Some(str::to_lowercase),
                        ),
                    ],
                ),
                __c::index(
                    &[__c::by(__c::ColumnOf::<Model>::TeamId, __c::None)],
                    __c::Some(100usize),
                ),
                __c::unique(
                    &[
                        __c::by(__c::ColumnOf::<Model>::TeamId, __c::None),
                        __c::by(__c::ColumnOf::<Model>::Type, __c::None),
                    ],
                ),
                __c::only(
                    __c::index(
                        &[__c::by(__c::ColumnOf::<Model>::TeamId, __c::None)],
                        __c::None,
                    ),
                    &[
                        __c::null::<
                            Model,
                            Option<Kind>,
                        >(__c::ColumnOf::<Model>::Type, true),
                        __c::text::<
                            Model,
                            String,
                            _,
                        >(__c::ColumnOf::<Model>::Email, false, "a"),
                    ],
                ),
            ];
            LOOKUPS
        }
        fn ids() -> __c::Option<__c::Column<__c::Vec<__c::Id<Self>>>> {
            __c::Some(__c::Column::new("primary key"))
        }
        fn encode(&self, row: &mut __c::RowEncoder) -> __c::Result<(), __c::RowError> {
            row.field(&__Columns::id, &self.id)?;
            row.field(&__Columns::email, &self.email)?;
            row.field(&__Columns::team_id, &self.team_id)?;
            row.field(&__Columns::r#type, &self.r#type)?;
            row.field(&__Columns::tags, &self.tags)?;
            row.field(&__Columns::version, &self.version)?;
            __c::Ok(())
        }
        fn decode(row: &mut __c::RowDecoder<'_>) -> __c::Result<Self, __c::RowError> {
            __c::Ok(Self {
                id: row.field(&__Columns::id)?,
                email: row.field(&__Columns::email)?,
                team_id: row.field(&__Columns::team_id)?,
                r#type: row.field(&__Columns::r#type)?,
                tags: row.field(&__Columns::tags)?,
                draft: ::core::default::Default::default(),
                version: row.field(&__Columns::version)?,
            })
        }
    }
    #[automatically_derived]
    impl __c::Versioned for Model {}
    #[allow(dead_code, reason = "not every program uses every method of a repository")]
    impl Users {
        /// Opens the repository of a database.
        #[must_use]
        pub fn new(db: &__c::CachedDb) -> Self {
            Self(__c::Repository::new(db))
        }
        /// The same repository inside a transaction.
        #[must_use]
        pub fn on(&self, tx: &__c::Transaction) -> Self {
            Self(self.0.on(tx))
        }
        /// The same repository with other settings for its reads.
        #[must_use]
        pub fn with(&self, options: __c::ReadOptions) -> Self {
            Self(self.0.with(options))
        }
        /// The same repository; its reads ask the database and repair the cache.
        #[must_use]
        pub fn fresh(&self) -> Self {
            Self(self.0.fresh())
        }
        /// Reads the row with this `email` through the cache; `None` if there is none.
        ///
        /// # Errors
        /// When the database fails.
        pub async fn find_by_email(
            &self,
            email: impl __c::Into<String>,
        ) -> __c::Result<__c::Option<__c::Cached<Model>>, __c::ReadError> {
            let values = __c::values([__c::value::<String>(email)]);
            __c::find_one(&self.0, 0usize, values).await
        }
        /// Reads the rows with these `email` through the cache, in the order asked: one request to the cache, and one statement for the rows that it does not have.
        ///
        /// # Errors
        /// When the database fails.
        pub async fn find_by_emails(
            &self,
            values: impl __c::IntoIterator<Item = impl __c::Into<String>>,
        ) -> __c::Result<__c::Vec<__c::Option<__c::Cached<Model>>>, __c::ReadError> {
            let values = __c::each(values, |email| [__c::value::<String>(email)]);
            __c::find_each(&self.0, 0usize, values).await
        }
        /// Reads the rows with this `team_id` through the cache, ordered by primary key.
        ///
        /// # Errors
        /// When the database fails.
        pub async fn find_all_by_team_id(
            &self,
            team_id: i64,
        ) -> __c::Result<__c::Vec<__c::Cached<Model>>, __c::ReadError> {
            let values = __c::values([__c::value::<i64>(team_id)]);
            __c::find_all(&self.0, 1usize, values).await
        }
        /// Reads the row with this `team_id` and `type` through the cache; `None` if there is none.
        ///
        /// # Errors
        /// When the database fails.
        pub async fn find_by_role(
            &self,
            team_id: i64,
            r#type: Kind,
        ) -> __c::Result<__c::Option<__c::Cached<Model>>, __c::ReadError> {
            let values = __c::values([
                __c::value::<i64>(team_id),
                __c::value::<Kind>(r#type),
            ]);
            __c::find_one(&self.0, 2usize, values).await
        }
        /// Reads the rows with these `team_id` and `type` through the cache, in the order asked: one request to the cache, and one statement for the rows that it does not have.
        ///
        /// # Errors
        /// When the database fails.
        pub async fn find_by_roles(
            &self,
            values: impl __c::IntoIterator<Item = (i64, Kind)>,
        ) -> __c::Result<__c::Vec<__c::Option<__c::Cached<Model>>>, __c::ReadError> {
            let values = __c::each(
                values,
                |(team_id, r#type)| [
                    __c::value::<i64>(team_id),
                    __c::value::<Kind>(r#type),
                ],
            );
            __c::find_each(&self.0, 2usize, values).await
        }
        /// Reads the rows with this `team_id` among those with `type IS NULL AND mail <> 'a'` through the cache, ordered by primary key.
        ///
        /// # Errors
        /// When the database fails.
        pub async fn find_all_by_guests(
            &self,
            team_id: i64,
        ) -> __c::Result<__c::Vec<__c::Cached<Model>>, __c::ReadError> {
            let values = __c::values([__c::value::<i64>(team_id)]);
            __c::find_all(&self.0, 3usize, values).await
        }
    }
    #[automatically_derived]
    impl ::core::ops::Deref for Users {
        type Target = __c::Repository<Model>;
        fn deref(&self) -> &Self::Target {
            &self.0
        }
    }
};
