//! What a worker writes down of everything it does: one JSON line per event, in a file of its own.
//!
//! Invariants:
//! - A line is one `write` to a file opened for appending, so it survives a `kill -9`, and lines of
//!   several tasks do not mix. Only the last line of a killed worker may be cut short.
//! - An attempt is written before its statement is sent, and what it saw is written after.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::{
    clock::Moment,
    entities::{Key, Seen, Sought, Subject},
};

/// A life of a worker process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Process {
    pub(crate) worker: usize,
    /// Counted from 1; a restart is another process.
    pub(crate) life: u32,
}

impl Process {
    /// Reads every row after the faults are over.
    pub(crate) const VERIFIER: Self = Self {
        worker: usize::MAX,
        life: 1,
    };

    /// What the database knows its connections by.
    pub(crate) fn application(self) -> String {
        self.to_string()
    }

    pub(crate) fn log_file(self, directory: &Path) -> PathBuf {
        directory.join(format!("{self}.jsonl"))
    }
}

impl std::fmt::Display for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if *self == Self::VERIFIER {
            f.write_str("verifier")
        } else {
            write!(f, "w{}.{}", self.worker, self.life)
        }
    }
}

/// Names an operation of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct OpId(pub(crate) u64);

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Record {
    /// A row, or its absence, was read from outside any transaction that had changed it.
    Read(Read),
    /// A lookup did not return a row: it had another state then, or none.
    NotFound(NotFound),
    /// A transaction read a row that it had changed itself.
    OwnRead {
        op: OpId,
        at: Moment,
        key: Key,
        wrote: Option<String>,
        saw: Option<Seen>,
    },
    /// A write begins.
    Begin {
        op: OpId,
        at: Moment,
        verb: String,
        trouble: u64,
        /// When the cache is invalidated for this write.
        invalidated: Invalidated,
    },
    /// It is about to send a statement that changes a row.
    Try {
        op: OpId,
        at: Moment,
        key: Key,
        change: Change,
        /// The state that it expects the row to have, if it checks.
        base: Option<Seen>,
    },
    /// The database has made the key of an attempt's row.
    Keyed { op: OpId, attempt: usize, id: i64 },
    /// The base of an attempt (by its place in the operation) became known.
    Learn {
        op: OpId,
        attempt: usize,
        base: Seen,
    },
    /// An attempt has certainly changed nothing.
    Void { op: OpId, attempt: usize },
    /// No block of this operation that counts was placed before this moment.
    Arm { op: OpId, at: Moment },
    /// A write has ended.
    End {
        op: OpId,
        at: Moment,
        outcome: Outcome,
        trouble: u64,
        /// How many invalidations its process had queued then.
        pending: usize,
        why: String,
    },
    /// The process has no queued invalidation any more.
    Drained { at: Moment },
    /// A task panicked.
    Panic { at: Moment, what: String },
    /// The verifier found a row that the cache did not serve although all was quiet.
    Unreadable { at: Moment, key: Key },
}

/// A read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Read {
    pub(crate) verb: String,
    pub(crate) key: Key,
    pub(crate) from: Moment,
    pub(crate) to: Moment,
    pub(crate) saw: Option<Seen>,
    /// Whether the cache answered; absences do not show their source.
    pub(crate) cached: bool,
    pub(crate) near: Near,
}

/// What the near cache of its process had to do with a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Near {
    /// Nothing: it was passed over, or there is none.
    Skipped,
    /// It was allowed to answer; the row is from behind it.
    Missed,
    /// The row is from there.
    Hit,
    /// It was allowed to answer, and an absence does not say where it is from.
    Perhaps,
}

impl Near {
    /// Whether the answer may be the near cache's.
    pub(crate) fn may_have_answered(self) -> bool {
        matches!(self, Self::Hit | Self::Perhaps)
    }
}

/// A row that a lookup did not return.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NotFound {
    pub(crate) sought: Sought,
    /// The read, which saw nothing.
    pub(crate) read: Read,
}

/// What a statement does to a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Change {
    /// The row gets this value, and the next version.
    Put(String),
    /// The row gets this value and keeps its version, behind the library's back.
    PutKeepingVersion(String),
    Delete,
}

/// When the cache is invalidated for a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Invalidated {
    /// Before and after its commit, as the protocol has it.
    Before,
    /// Only after its commit: a statement past the library, and then `invalidate`.
    After,
    /// Only after its commit, and not at all if the cache fails: the same, and then `refresh`.
    Perhaps,
    /// Only after its commit, because the database makes the key: hole 7 of ARCHITECTURE.md.
    Keyless,
}

/// What the caller of an operation learnt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    /// It is committed.
    Acknowledged,
    /// Nothing of it is committed, nor will be.
    Failed,
    Unknown,
}

/// A worker's file.
#[derive(Debug)]
pub(crate) struct Log(File);

impl Log {
    pub(crate) fn create(file: &Path) -> Result<Self> {
        let options = OpenOptions::new().append(true).create_new(true).open(file);
        Ok(Self(
            options.with_context(|| format!("creating {}", file.display()))?,
        ))
    }

    /// # Panics
    /// When the disk is full: a history with holes proves nothing.
    pub(crate) fn write(&self, record: &Record) {
        let mut line = serde_json::to_vec(record).expect("a record is JSON");
        line.push(b'\n');
        (&self.0).write_all(&line).expect("the log can be written");
    }
}

impl Log {
    /// Records what a lookup returned: a read of each row that was found, and what it says of every
    /// other one of these.
    pub(crate) fn looked_up<M: Subject>(
        &self,
        verb: &str,
        sought: Sought,
        (from, to): (Moment, Moment),
        found: Vec<(Seen, i64)>,
        ids: impl IntoIterator<Item = i64>,
    ) {
        let mut ids: Vec<i64> = ids.into_iter().collect();
        ids.extend(found.iter().map(|(_, id)| *id));
        ids.sort_unstable();
        ids.dedup();
        for id in ids {
            let saw = found.iter().find(|(_, row)| *row == id);
            let read = Read {
                verb: verb.into(),
                key: Key {
                    table: M::TABLE,
                    id,
                },
                from,
                to,
                saw: saw.map(|(seen, _)| seen.clone()),
                cached: false,
                near: Near::Skipped,
            };
            self.write(&match &read.saw {
                Some(seen) if !sought.finds(seen) => Record::Panic {
                    at: to,
                    what: format!("{verb} for {sought:?} returned {seen:?}"),
                },
                Some(_) => Record::Read(read),
                None => Record::NotFound(NotFound {
                    sought: sought.clone(),
                    read,
                }),
            });
        }
    }
}

/// Reads a worker's file; the last line of a killed worker may be incomplete.
pub(crate) fn read(file: &Path) -> Result<Vec<Record>> {
    let text = std::fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    parse(&text).with_context(|| format!("reading {}", file.display()))
}

fn parse(text: &[u8]) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    let mut lines = text.split(|byte| *byte == b'\n').peekable();
    while let Some(line) = lines.next() {
        match serde_json::from_slice(line) {
            Ok(record) => records.push(record),
            // What follows the last newline.
            Err(_) if lines.peek().is_none() => {}
            Err(error) => bail!("line {}: {error}", records.len() + 1),
        }
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entities::Table;

    fn records() -> Vec<Record> {
        let key = Key {
            table: Table::Account,
            id: 7,
        };
        let seen = Seen {
            version: 3,
            value: "w1.1-20".into(),
            parent: None,
        };
        vec![
            Record::Begin {
                op: OpId(1),
                at: Moment(5),
                verb: "save".into(),
                trouble: 0,
                invalidated: Invalidated::Before,
            },
            Record::Try {
                op: OpId(1),
                at: Moment(6),
                key,
                change: Change::Put("w1.1-21".into()),
                base: Some(seen.clone()),
            },
            Record::Read(Read {
                verb: "find".into(),
                key,
                from: Moment(7),
                to: Moment(8),
                saw: Some(seen),
                cached: true,
                near: Near::Skipped,
            }),
        ]
    }

    /// Goal: what was written is read, also by another process.
    #[test]
    fn a_log_is_read_as_it_was_written() {
        let directory = tempfile::tempdir().unwrap();
        let file = Process { worker: 1, life: 2 }.log_file(directory.path());
        let log = Log::create(&file).unwrap();
        for record in records() {
            log.write(&record);
        }
        assert_eq!(read(&file).unwrap(), records());
    }

    /// Goal: only the end of a file may be torn; a hole in the middle is an error.
    #[test]
    fn only_the_last_line_may_be_torn() {
        let mut text = Vec::new();
        for record in records() {
            text.extend(serde_json::to_vec(&record).unwrap());
            text.push(b'\n');
        }
        assert_eq!(parse(&text[..text.len() - 9]).unwrap(), records()[..2]);
        let torn = [&text[..20], &text[25..]].concat();
        assert!(parse(&torn).is_err());
    }
}
