//! The models of `columns.rs` and `shapes.rs` in the default codec.
#![expect(clippy::duplicate_mod, reason = "each codec has these models")]

macro_rules! in_codec {
    ($(#[$attribute:meta])* pub struct Model $columns:tt) => {
        $(#[$attribute])*
        pub struct Model $columns
    };
}

#[path = "columns.rs"]
pub mod columns;
#[path = "shapes.rs"]
pub mod shapes;
