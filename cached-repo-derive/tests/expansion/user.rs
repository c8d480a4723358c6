// What `#[derive(CachedEntity)]` writes for the model in `src/tests.rs`.
// Refresh with `UPDATE_EXPECT=1 cargo test -p cached-repo-derive`.

const _: () = {
    use ::cached_repo::__private as __cached;
    struct __Columns;
    #[allow(non_upper_case_globals, reason = "a column is named like its field")]
    impl __Columns {
        const id: __cached::Column<i64> = __cached::Column::<i64>::new("id");
        const email: __cached::Column<String> = __cached::Column::<String>::new("mail");
        const team_id: __cached::Column<i64> = __cached::Column::<i64>::new("team_id");
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
                    "team_id:i64",
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
        fn lookups() -> &'static [__cached::LookupDef<Self>] {
            &[
                __cached::LookupDef {
                    columns: &[
                        __cached::LookupColumn {
                            column: __cached::ColumnOf::<Self>::Email,
                            normalize: ::core::option::Option::Some(str::to_lowercase),
                        },
                    ],
                    kind: __cached::LookupKind::Unique,
                },
                __cached::LookupDef {
                    columns: &[
                        __cached::LookupColumn {
                            column: __cached::ColumnOf::<Self>::TeamId,
                            normalize: ::core::option::Option::None,
                        },
                    ],
                    kind: __cached::LookupKind::Index {
                        max_rows: ::core::option::Option::Some(100usize),
                    },
                },
                __cached::LookupDef {
                    columns: &[
                        __cached::LookupColumn {
                            column: __cached::ColumnOf::<Self>::TeamId,
                            normalize: ::core::option::Option::None,
                        },
                        __cached::LookupColumn {
                            column: __cached::ColumnOf::<Self>::Type,
                            normalize: ::core::option::Option::None,
                        },
                    ],
                    kind: __cached::LookupKind::Unique,
                },
            ]
        }
        fn ids() -> ::core::option::Option<
            __cached::Column<::std::vec::Vec<__cached::Id<Self>>>,
        > {
            ::core::option::Option::Some(__cached::Column::new("primary key"))
        }
        fn encode(
            &self,
            row: &mut __cached::RowEncoder,
        ) -> ::core::result::Result<(), __cached::RowError> {
            row.field(&__Columns::id, &self.id)?;
            row.field(&__Columns::email, &self.email)?;
            row.field(&__Columns::team_id, &self.team_id)?;
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
                team_id: row.field(&__Columns::team_id)?,
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
#[allow(
    dead_code,
    reason = "not every program finds rows by everything they are found by"
)]
impl Users {
    /// Reads the row with this `email` through the cache; `None` if there is none.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn find_by_email(
        &self,
        email: impl ::core::convert::Into<String>,
    ) -> ::core::result::Result<
        ::core::option::Option<::cached_repo::Cached<Model>>,
        ::cached_repo::ReadError,
    > {
        let values = ::std::vec::Vec::from([
            ::core::convert::Into::<
                ::cached_repo::__private::Value,
            >::into(::core::convert::Into::<String>::into(email)),
        ]);
        ::cached_repo::__private::find_one(&self.0, 0usize, values).await
    }
    /// Reads the rows with these `email` through the cache, in the order asked: one question to the cache, and one statement for the rows that it does not know.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn find_by_emails(
        &self,
        values: impl ::core::iter::IntoIterator<
            Item = impl ::core::convert::Into<String>,
        >,
    ) -> ::core::result::Result<
        ::std::vec::Vec<::core::option::Option<::cached_repo::Cached<Model>>>,
        ::cached_repo::ReadError,
    > {
        let values = ::core::iter::IntoIterator::into_iter(values);
        let values = ::core::iter::Iterator::map(
            values,
            |email| ::std::vec::Vec::from([
                ::core::convert::Into::<
                    ::cached_repo::__private::Value,
                >::into(::core::convert::Into::<String>::into(email)),
            ]),
        );
        let values = ::core::iter::Iterator::collect(values);
        ::cached_repo::__private::find_each(&self.0, 0usize, values).await
    }
    /// Reads the rows with this `team_id` through the cache, ordered by primary key.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn find_all_by_team_id(
        &self,
        team_id: i64,
    ) -> ::core::result::Result<
        ::std::vec::Vec<::cached_repo::Cached<Model>>,
        ::cached_repo::ReadError,
    > {
        let values = ::std::vec::Vec::from([
            ::core::convert::Into::<::cached_repo::__private::Value>::into(team_id),
        ]);
        ::cached_repo::__private::find_all(&self.0, 1usize, values).await
    }
    /// Reads the row with this `team_id` and `type` through the cache; `None` if there is none.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn find_by_role(
        &self,
        team_id: i64,
        r#type: Kind,
    ) -> ::core::result::Result<
        ::core::option::Option<::cached_repo::Cached<Model>>,
        ::cached_repo::ReadError,
    > {
        let values = ::std::vec::Vec::from([
            ::core::convert::Into::<::cached_repo::__private::Value>::into(team_id),
            ::core::convert::Into::<::cached_repo::__private::Value>::into(r#type),
        ]);
        ::cached_repo::__private::find_one(&self.0, 2usize, values).await
    }
    /// Reads the rows with these `team_id` and `type` through the cache, in the order asked: one question to the cache, and one statement for the rows that it does not know.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn find_by_roles(
        &self,
        values: impl ::core::iter::IntoIterator<Item = (i64, Kind)>,
    ) -> ::core::result::Result<
        ::std::vec::Vec<::core::option::Option<::cached_repo::Cached<Model>>>,
        ::cached_repo::ReadError,
    > {
        let values = ::core::iter::IntoIterator::into_iter(values);
        let values = ::core::iter::Iterator::map(
            values,
            |(team_id, r#type)| ::std::vec::Vec::from([
                ::core::convert::Into::<::cached_repo::__private::Value>::into(team_id),
                ::core::convert::Into::<::cached_repo::__private::Value>::into(r#type),
            ]),
        );
        let values = ::core::iter::Iterator::collect(values);
        ::cached_repo::__private::find_each(&self.0, 2usize, values).await
    }
}
