//! Statements that end or divide a transaction. Inside a [`Transaction`](crate::Transaction) they are
//! refused: what was committed or undone behind its back would reach the cache wrongly.
//!
//! Looks at the first word only. A procedure that commits is not recognized, nor a second statement
//! in one text.

use sea_orm::{DbBackend, DbErr};

/// Begin, end and divide a transaction on every database.
const CONTROL: [&str; 9] = [
    "ABORT",
    "BEGIN",
    "COMMIT",
    "END",
    "PREPARE",
    "RELEASE",
    "ROLLBACK",
    "SAVEPOINT",
    "START",
];
/// Before these MySQL and MariaDB commit what was done so far.
const COMMITTING: [&str; 21] = [
    "ALTER",
    "ANALYZE",
    "CACHE",
    "CHANGE",
    "CREATE",
    "DROP",
    "FLUSH",
    "GRANT",
    "INSTALL",
    "LOAD",
    "LOCK",
    "OPTIMIZE",
    "RENAME",
    "REPAIR",
    "RESET",
    "REVOKE",
    "STOP",
    "TRUNCATE",
    "UNINSTALL",
    "UNLOCK",
    "XA",
];

/// Refuses a statement that would end or divide the transaction that it runs in.
pub(super) fn check(sql: &str, backend: DbBackend) -> Result<(), DbErr> {
    let (word, rest) = split_word(sql);
    let is_one_of = |words: &[&str]| words.iter().any(|other| word.eq_ignore_ascii_case(other));
    let next_is = |other: &str| split_word(rest).0.eq_ignore_ascii_case(other);
    if is_one_of(&CONTROL) {
        // A prepared statement is none of this, nor is MySQL's compound statement.
        if word.eq_ignore_ascii_case("PREPARE") && !next_is("TRANSACTION") {
            return Ok(());
        }
        return Err(refused(
            word,
            "use `begin`, `commit` and `rollback` of `Transaction`",
        ));
    }
    // MySQL's temporary tables, and LOAD DATA, are part of a transaction.
    let mut words = rest.split_whitespace().take(3);
    let is_harmless = words.any(|word| word.eq_ignore_ascii_case("TEMPORARY"))
        || (word.eq_ignore_ascii_case("LOAD") && !next_is("INDEX"));
    if backend == DbBackend::MySql && is_one_of(&COMMITTING) && !is_harmless {
        return Err(refused(
            word,
            "the database commits at it; run it outside the transaction",
        ));
    }
    Ok(())
}

fn refused(word: &str, what_to_do: &str) -> DbErr {
    DbErr::Custom(format!("`{word}` inside a transaction: {what_to_do}"))
}

/// The first word of a text, behind comments, and what follows it.
fn split_word(sql: &str) -> (&str, &str) {
    let empty = |letter: char| letter.is_whitespace() || letter == ';';
    let mut sql = sql.trim_start_matches(empty);
    loop {
        // MySQL and MariaDB run what is in such a comment.
        let run = sql.strip_prefix("/*!").or_else(|| sql.strip_prefix("/*M!"));
        if let Some(run) = run {
            sql = run.trim_start_matches(|letter: char| letter.is_ascii_digit() || empty(letter));
            continue;
        }
        let after = match sql.get(..2) {
            Some("--") => sql.split_once('\n').map(|(_, rest)| rest),
            Some("/*") => sql.split_once("*/").map(|(_, rest)| rest),
            _ if sql.starts_with('#') => sql.split_once('\n').map(|(_, rest)| rest),
            _ => break,
        };
        sql = after.unwrap_or_default().trim_start_matches(empty);
    }
    let end = sql.find(|letter: char| !letter.is_ascii_alphabetic());
    sql.split_at(end.unwrap_or(sql.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: control statements are recognized however they are written, and nothing else is.
    #[test]
    fn statements_that_end_a_transaction_are_refused() {
        let everywhere = [
            "COMMIT",
            " commit;",
            "-- done\nCOMMIT",
            "/* a */ /* b */ rollback to a",
            "# x\n begin",
            "savepoint a",
            "; COMMIT",
            "/*! COMMIT */",
            "/*M!100100 ROLLBACK */",
            "PREPARE TRANSACTION 'a'",
        ];
        let in_mysql = [
            "ALTER TABLE a ADD b int",
            "truncate a",
            "CREATE TABLE a (b int)",
        ];
        let nowhere = [
            "",
            "--",
            "/*",
            "SELECT 'commit'",
            "(SELECT 1)",
            "UPDATE commit SET a = 1",
            "PREPARE a AS SELECT 1",
            "committed",
            "WITH a AS (SELECT 1) DELETE FROM b",
            "CREATE TEMPORARY TABLE a (b int)",
            "CREATE OR REPLACE TEMPORARY TABLE a (b int)",
            "LOAD DATA INFILE 'a' INTO TABLE b",
            "ä",
        ];
        let backends = [DbBackend::Postgres, DbBackend::Sqlite, DbBackend::MySql];
        for backend in backends {
            let is_mysql = backend == DbBackend::MySql;
            for sql in everywhere {
                assert!(check(sql, backend).is_err(), "{sql}");
            }
            for sql in in_mysql {
                assert_eq!(check(sql, backend).is_err(), is_mysql, "{sql}");
            }
            for sql in nowhere {
                assert!(check(sql, backend).is_ok(), "{sql}");
            }
        }
    }
}
