//! What holds for rows in MessagePack holds for rows in JSON.
#![expect(clippy::duplicate_mod, reason = "the same tests, with other models")]

use cached_repo_tests::entities::json as models;

#[path = "columns.rs"]
mod columns;
#[path = "shapes.rs"]
mod shapes;
