//! The rows: 20,000 cities of GeoNames, and how they get into the database.

use anyhow::{Context, Result};
use sea_orm::{
    ActiveModelTrait, ConnectionTrait, DatabaseConnection, EntityTrait, IntoActiveModel, Schema,
    sea_query::Table,
};

pub(crate) use self::entity::{ActiveModel, Column, Entity, Model as City, Repository};

/// The entity of a city, in a module of this name and with these options of the cache.
macro_rules! city_entity {
    ($module:ident $(, #[cached($($option:tt)*)])?) => {
        #[expect(unreachable_pub, reason = "SeaORM's derives want public items")]
        mod $module {
            use cached_repo::CachedEntity;
            use sea_orm::entity::prelude::*;
            use serde::{Deserialize, Serialize};

            /// The derives of serde are for the peers.
            #[derive(Clone, Debug, PartialEq, DeriveEntityModel, CachedEntity, Serialize, Deserialize)]
            #[sea_orm(table_name = "city")]
            $(#[cached($($option)*)])?
            pub struct Model {
                #[sea_orm(primary_key, auto_increment = false)]
                pub id: i64,
                pub name: String,
                pub country: String,
                pub admin1: String,
                pub latitude: f64,
                pub longitude: f64,
                pub population: i64,
                pub timezone: String,
                /// What makes a row of GeoNames, which takes 160 bytes as JSON, one of about 260.
                #[serde(default)]
                pub summary: String,
                #[cached(version)]
                #[serde(default)]
                pub version: i64,
            }

            #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
            pub enum Relation {}

            impl ActiveModelBehavior for ActiveModel {}
        }
    };
}
pub(crate) use city_entity;

city_entity!(entity);

/// How many there are; the file has 25,000.
pub(crate) const COUNT: usize = 20_000;

const CITIES: &str = include_str!("../../examples/data/cities.csv");

/// The most populous cities, largest first.
pub(crate) fn all() -> Result<Vec<City>> {
    csv::Reader::from_reader(CITIES.as_bytes())
        .deserialize()
        .take(COUNT)
        .map(|city| {
            let mut city: City = city.context("reading cities.csv")?;
            city.version = 1;
            city.summary = format!(
                "{}, in region {} of {}, has {} inhabitants; its clocks show the time of {}",
                city.name, city.admin1, city.country, city.population, city.timezone
            );
            Ok(city)
        })
        .collect()
}

/// Makes the table anew, with these rows.
pub(crate) async fn store(conn: &DatabaseConnection, cities: &[City]) -> Result<()> {
    conn.execute(Table::drop().table(Entity).if_exists())
        .await?;
    let schema = Schema::new(conn.get_database_backend());
    conn.execute(&schema.create_table_from_entity(Entity))
        .await?;
    for chunk in cities.chunks(1000) {
        let rows = chunk.iter().cloned();
        let rows = rows.map(|city| city.into_active_model().reset_all());
        Entity::insert_many(rows).exec(conn).await?;
    }
    conn.execute_unprepared("VACUUM ANALYZE city").await?;
    Ok(())
}
