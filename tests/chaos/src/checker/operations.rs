//! Operations, put together from the lines of the histories.

use std::collections::HashMap;

use super::Evidence;
use crate::{
    clock::Moment,
    entities::{Key, Seen, UNKNOWN_ID},
    history::{Change, Invalidated, OpId, Outcome, Process, Record},
    settings::Policy,
};

/// A write, of one row or of several.
#[derive(Clone, Debug)]
pub(super) struct Operation<'a> {
    pub(super) process: Process,
    pub(super) policy: Policy,
    pub(super) verb: &'a str,
    pub(super) invalidated: Invalidated,
    pub(super) begin: Moment,
    /// No block of it that counts was placed before.
    pub(super) armed: Moment,
    pub(super) attempts: Vec<Attempt<'a>>,
    /// `None`: its process was killed.
    pub(super) end: Option<End<'a>>,
    trouble: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Attempt<'a> {
    pub(super) at: Moment,
    pub(super) key: Key,
    pub(super) change: &'a Change,
    pub(super) base: Option<&'a Seen>,
    /// The base is what it turned out to change, not what it demanded.
    pub(super) learnt: bool,
    /// It has certainly changed nothing.
    pub(super) void: bool,
}

impl Attempt<'_> {
    /// Whether it may have been about this row: the database may have made the key.
    pub(super) fn is_of(&self, key: Key) -> bool {
        self.key.table == key.table && (self.key.id == key.id || self.key.id == UNKNOWN_ID)
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct End<'a> {
    pub(super) at: Moment,
    pub(super) outcome: Outcome,
    pub(super) why: &'a str,
    /// Whether the cache failed its process in the meantime.
    pub(super) troubled: bool,
    /// When the queue of its process was empty; `None`: not as far as we know.
    pub(super) settled: Option<Moment>,
}

impl Operation<'_> {
    /// When its caller learnt that it is committed.
    pub(super) fn acknowledged(&self) -> Option<Moment> {
        let end = self.end.as_ref()?;
        (end.outcome == Outcome::Acknowledged).then_some(end.at)
    }

    pub(super) fn outcome(&self) -> Outcome {
        self.end
            .as_ref()
            .map_or(Outcome::Unknown, |end| end.outcome)
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Operations<'a> {
    all: Vec<Operation<'a>>,
    /// Which attempt gave a row a value.
    by_value: HashMap<&'a str, (usize, usize)>,
    /// Which attempts may have deleted a row.
    deletions: HashMap<Key, Vec<(usize, usize)>>,
}

impl<'a> Operations<'a> {
    pub(super) fn of(evidence: &'a Evidence) -> Self {
        let mut operations = Self::default();
        for testimony in &evidence.logs {
            let mut open: HashMap<OpId, usize> = HashMap::new();
            let drained: Vec<Moment> = testimony.records.iter().filter_map(drained).collect();
            for record in &testimony.records {
                operations.learn(
                    testimony.process,
                    testimony.policy,
                    record,
                    &mut open,
                    &drained,
                );
            }
        }
        for (at, operation) in operations.all.iter().enumerate() {
            for (index, attempt) in operation.attempts.iter().enumerate() {
                match attempt.change {
                    Change::Put(value) | Change::PutKeepingVersion(value) => {
                        operations.by_value.insert(value, (at, index));
                    }
                    Change::Delete => {
                        let deletions = operations.deletions.entry(attempt.key).or_default();
                        deletions.push((at, index));
                    }
                }
            }
        }
        operations
    }

    fn learn(
        &mut self,
        process: Process,
        policy: Policy,
        record: &'a Record,
        open: &mut HashMap<OpId, usize>,
        drained: &[Moment],
    ) {
        let (Record::Begin { op, .. }
        | Record::Try { op, .. }
        | Record::Learn { op, .. }
        | Record::Void { op, .. }
        | Record::Keyed { op, .. }
        | Record::Arm { op, .. }
        | Record::End { op, .. }) = record
        else {
            return;
        };
        if let Record::Begin {
            at,
            verb,
            trouble,
            invalidated,
            ..
        } = record
        {
            open.insert(*op, self.all.len());
            self.all.push(Operation {
                process,
                policy,
                verb,
                invalidated: *invalidated,
                begin: *at,
                armed: *at,
                attempts: Vec::new(),
                end: None,
                trouble: *trouble,
            });
            return;
        }
        let Some(operation) = open.get(op).and_then(|at| self.all.get_mut(*at)) else {
            return;
        };
        match record {
            Record::Try {
                at,
                key,
                change,
                base,
                ..
            } => operation.attempts.push(Attempt {
                at: *at,
                key: *key,
                change,
                base: base.as_ref(),
                learnt: false,
                void: false,
            }),
            Record::Keyed { attempt, id, .. } => {
                if let Some(attempt) = operation.attempts.get_mut(*attempt) {
                    attempt.key.id = *id;
                }
            }
            Record::Learn { attempt, base, .. } => {
                if let Some(attempt) = operation.attempts.get_mut(*attempt) {
                    attempt.base = Some(base);
                    attempt.learnt = *attempt.change == Change::Delete;
                }
            }
            Record::Void { attempt, .. } => {
                if let Some(attempt) = operation.attempts.get_mut(*attempt) {
                    attempt.void = true;
                }
            }
            Record::Arm { at, .. } => operation.armed = *at,
            Record::End {
                at,
                outcome,
                trouble,
                pending,
                why,
                ..
            } => {
                let settled = match pending {
                    0 => Some(*at),
                    _ => drained.iter().copied().find(|drained| drained > at),
                };
                operation.end = Some(End {
                    at: *at,
                    outcome: *outcome,
                    why,
                    troubled: *trouble != operation.trouble,
                    settled,
                });
            }
            _ => {}
        }
    }

    pub(super) fn all(&self) -> &[Operation<'a>] {
        &self.all
    }

    /// Which attempt of which operation gave a row this value.
    pub(super) fn of_value(&self, value: &str) -> Option<(usize, usize)> {
        self.by_value.get(value).copied()
    }

    /// Which attempts may have deleted a row of this key.
    pub(super) fn deletions(&self, key: Key) -> &[(usize, usize)] {
        self.deletions.get(&key).map_or(&[], Vec::as_slice)
    }
}

fn drained(record: &Record) -> Option<Moment> {
    match record {
        Record::Drained { at } => Some(*at),
        _ => None,
    }
}
