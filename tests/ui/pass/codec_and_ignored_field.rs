//! A column whose type has no serde, and the module that encodes it.
#![deny(warnings, missing_docs, clippy::pedantic)]

use cached_repo::CachedEntity;
use sea_orm::entity::prelude::*;

/// Not serde's.
#[derive(Clone, Debug, PartialEq, Eq, DeriveValueType)]
pub struct Mood(pub i32);

/// The codec.
pub mod codec {
    /// The codec of a mood.
    pub mod mood {
        use serde::{Deserialize, Deserializer, Serializer};

        use super::super::Mood;

        /// Writes a mood.
        ///
        /// # Errors
        /// When the number cannot be written.
        pub fn serialize<S: Serializer>(mood: &Mood, out: S) -> Result<S::Ok, S::Error> {
            out.serialize_i32(mood.0)
        }

        /// Reads a mood.
        ///
        /// # Errors
        /// When there is no number.
        pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Mood, D::Error> {
            i32::deserialize(input).map(Mood)
        }
    }
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
#[sea_orm(table_name = "user")]
pub struct Model {
    /// The key.
    #[sea_orm(primary_key)]
    pub id: i64,
    /// Encoded by the codec.
    #[cached(with = "codec::mood")]
    pub mood: Mood,
    /// Not a column.
    #[sea_orm(ignore)]
    pub draft: Draft,
}

/// Has no serde, and needs none: it is not stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Draft;

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
/// None.
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// Goal: the codec writes and reads its column, and the ignored field is its default.
#[test]
fn the_codec_is_used() {
    let user = Model {
        id: 1,
        mood: Mood(-3),
        draft: Draft,
    };
    assert_eq!(crate::through_the_cache(&user), user);
}
