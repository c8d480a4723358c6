//! Rows that are found by columns of many types.
#![deny(warnings, missing_docs, clippy::pedantic)]

use cached_repo::{
    __private::{Literal, Test},
    CachedEntity, LookupKind,
};
use sea_orm::{
    entity::prelude::*,
    prelude::{DateTime, Decimal},
};
use serde::{Deserialize, Serialize};

/// An enum in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum, Serialize, Deserialize)]
#[sea_orm(rs_type = "String", db_type = "Enum", enum_name = "state")]
pub enum State {
    /// One.
    #[sea_orm(string_value = "open")]
    Open,
    /// The other.
    #[sea_orm(string_value = "closed")]
    Closed,
}

/// A newtype.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, DeriveValueType)]
pub struct Slug(pub String);

/// A ticket.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
#[sea_orm(table_name = "ticket")]
#[cached(
    unique(day, number),
    index(state, urgent, max_rows = 10, name = "desk")
)]
#[cached(index(price), repository = "Tickets")]
#[cached(index(
    day,
    where = "state = 'open' AND was IS NULL AND \"number\" <> -1 AND (NOT urgent)",
    name = "open_on",
    max_rows = 10
))]
#[cached(unique(slug, number, where = "was <> 'closed'", name = "reopened"))]
pub struct Model {
    /// The key.
    #[sea_orm(primary_key)]
    pub id: i64,
    /// An enum.
    #[cached(index)]
    pub state: State,
    /// An optional enum.
    #[cached(index)]
    pub was: Option<State>,
    /// A newtype.
    #[cached(unique(name = "page"))]
    pub slug: Slug,
    /// A UUID.
    #[sea_orm(unique)]
    pub token: Uuid,
    /// An optional text, without regard to case.
    #[sea_orm(unique)]
    #[cached(normalize = "str::to_lowercase")]
    pub alias: Option<String>,
    /// A date.
    pub day: Date,
    /// A number.
    pub number: i16,
    /// A boolean.
    pub urgent: bool,
    /// A decimal.
    pub price: Decimal,
    /// A moment.
    #[cached(index)]
    pub since: DateTime,
    /// The version.
    #[cached(version)]
    pub version: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
/// None.
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// Every column has its methods, and they take what one has at hand.
#[expect(dead_code, reason = "it only has to compile")]
pub async fn finders(tickets: &Tickets, day: Date, since: DateTime, slug: Slug, token: Uuid) {
    let _ = tickets.find_all_by_state(State::Open).await;
    let _ = tickets.find_all_by_was(None).await;
    let _ = tickets.find_all_by_was(State::Closed).await;
    let _ = tickets.find_by_page(slug.clone()).await;
    let _ = tickets.find_by_pages(vec![slug]).await;
    let _ = tickets.find_by_token(token).await;
    let _ = tickets.find_by_tokens([token]).await;
    let _ = tickets.find_by_alias("Ada").await;
    let _ = tickets.find_by_aliass(["Ada".to_owned()]).await;
    let _ = tickets.find_by_day_and_number(day, 1).await;
    let _ = tickets.find_by_day_and_numbers([(day, 1), (day, 2)]).await;
    let _ = tickets.find_all_by_desk(State::Open, true).await;
    let _ = tickets.find_all_by_price(Decimal::ONE).await;
    let _ = tickets.find_all_by_since(since).await;
    let _ = tickets.fresh().find_by_alias(String::from("ada")).await;
    let _ = tickets.find_all_by_open_on(day).await;
    let _ = tickets.find_by_reopened(Slug("a".into()), 1).await;
    let _ = tickets.find_by_reopeneds([]).await;
}

/// Goal: the runtime is told what the struct says, in the order of the methods.
#[test]
fn lookups_are_what_the_struct_says() {
    let lookups = Model::lookups();
    let kinds: Vec<_> = lookups
        .iter()
        .map(|it| (it.columns.len(), it.kind))
        .collect();
    let list = LookupKind::Index { max_rows: None };
    let unique = LookupKind::Unique;
    let short = LookupKind::Index { max_rows: Some(10) };
    let of_fields = [list, list, unique, unique, unique, list].map(|kind| (1, kind));
    assert_eq!(kinds[..6], of_fields);
    assert_eq!(kinds[6..9], [(2, unique), (2, short), (1, list)]);
    assert_eq!(kinds[9..], [(1, short), (2, unique)]);
    let terms = lookups.iter().flat_map(|it| it.condition);
    let tests: Vec<_> = terms.map(|it| it.test).collect();
    assert_eq!(
        tests,
        [
            Test::Is(Literal::Text("open")),
            Test::Null,
            Test::IsNot(Literal::Integer(-1)),
            Test::Is(Literal::Boolean(false)),
            Test::IsNot(Literal::Text("closed")),
        ]
    );
    let normalizers = lookups.iter().flat_map(|it| it.columns);
    let normalizers: Vec<_> = normalizers.filter_map(|it| it.normalize).collect();
    assert_eq!(normalizers.len(), 1);
    assert_eq!(normalizers[0]("ADA"), "ada");
}
