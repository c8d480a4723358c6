//! Entities that are found by values which can be spelt in several ways.

use cached_repo::CachedEntity;
use sea_orm::entity::prelude::*;

macro_rules! found_by {
    ($module:ident, $table:literal, $ty:ty, $doc:literal $(, $column_type:literal)?) => {
        #[doc = $doc]
        pub mod $module {
            use super::*;

            #[derive(Clone, Debug, PartialEq, DeriveEntityModel, CachedEntity)]
            #[sea_orm(table_name = $table)]
            #[cached(index(shelf, sought, name = "place"))]
            pub struct Model {
                #[sea_orm(primary_key, auto_increment = false)]
                pub id: i32,
                #[cached(index)]
                $(#[sea_orm(column_type = $column_type)])?
                pub sought: $ty,
                pub shelf: i32,
                #[cached(version)]
                pub version: i64,
            }

            #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
            pub enum Relation {}

            impl ActiveModelBehavior for ActiveModel {}
        }
    };
}

/// A moment of a type of one's own.
#[derive(Clone, Copy, Debug, PartialEq, DeriveValueType, serde::Serialize, serde::Deserialize)]
pub struct Instant(pub DateTimeWithTimeZone);

found_by!(by_date, "by_date", Date, "Found by a date.");
found_by!(by_time, "by_time", Time, "Found by a time.");
found_by!(by_local, "by_local", DateTime, "Found by a date and time.");
found_by!(by_utc, "by_utc", DateTimeUtc, "Found by a moment.");
found_by!(
    by_zoned,
    "by_zoned",
    DateTimeWithTimeZone,
    "Found by a moment with an offset."
);
found_by!(
    by_instant,
    "by_instant",
    Instant,
    "Found by a newtype of a moment."
);
found_by!(
    by_time_crate,
    "by_time_crate",
    TimeDateTimeWithTimeZone,
    "Found by a moment of the crate time."
);
found_by!(
    by_decimal,
    "by_decimal",
    Decimal,
    "Found by a decimal.",
    "Decimal(Some((12, 4)))"
);
found_by!(
    by_big_decimal,
    "by_big_decimal",
    BigDecimal,
    "Found by a decimal of any size.",
    "Decimal(Some((12, 4)))"
);
found_by!(by_float, "by_float", f32, "Found by a float.");
found_by!(by_double, "by_double", f64, "Found by a double.");
found_by!(by_zero_float, "by_zero_float", f32, "Found by a float.");
found_by!(by_zero_double, "by_zero_double", f64, "Found by a double.");
found_by!(by_uuid, "by_uuid", Uuid, "Found by a UUID.");
found_by!(
    by_bytes,
    "by_bytes",
    Vec<u8>,
    "Found by bytes.",
    "VarBinary(StringLen::N(16))"
);
found_by!(by_boolean, "by_boolean", bool, "Found by a boolean.");
