//! What a user reads after a mistake: `ui/<reason>/<mistake>.rs` and what rustc says about it.
//!
//! Refresh the messages with `TRYBUILD=overwrite cargo test -p cached-repo-tests --test ui`, and
//! read them: each points at the mistake, says what to write instead, and stands alone.
//! `ui/pass/` holds what must compile; `expansion.rs` compiles and runs it.

use std::fs;

/// Goal: one mistake gives one error, on the right token, with its remedy.
#[test]
fn every_mistake_is_reported_where_it_is_and_with_its_remedy() {
    let cases = trybuild::TestCases::new();
    for reason in fs::read_dir("ui").expect("the cases are in tests/ui") {
        let reason = reason.expect("a folder of tests/ui can be read").path();
        if reason.is_dir() && !reason.ends_with("pass") {
            cases.compile_fail(reason.join("*.rs"));
        }
    }
}
