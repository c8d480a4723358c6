//! A violation for people: what happened to its key around it, in order.

use super::{Evidence, Violation, operations::Operations, shown};
use crate::{
    clock::Moment,
    entities::Key,
    history::{Change, Near, Outcome, Record},
    settings::{BLOCK, Policy},
};

/// The limit of printed lines.
const MOST_LINES: usize = 120;

pub(super) fn explain(evidence: &Evidence, violation: &Violation) -> String {
    let mut text = format!("VIOLATION {:?}: {}\n", violation.rule, violation.what);
    let Some(key) = violation.key else {
        return text;
    };
    let (from, to) = (
        violation.from.minus(BLOCK * 2),
        violation.to.plus(BLOCK / 4),
    );
    let mut lines = lines(evidence, key);
    lines.sort();
    let around: Vec<_> = lines
        .iter()
        .filter(|(at, _)| *at >= from && *at <= to)
        .collect();
    // The violation is at the end.
    let skipped = around.len().saturating_sub(MOST_LINES);
    if skipped > 0 {
        text += &format!("    … {skipped} lines before\n");
    }
    for (at, line) in &around[skipped..] {
        let before = violation.to.since(*at).as_secs_f64() * 1000.0;
        let after = at.since(violation.to).as_secs_f64() * 1000.0;
        text += &format!("    {:>+10.3} ms  {line}\n", after - before);
    }
    text
}

fn lines(evidence: &Evidence, key: Key) -> Vec<(Moment, String)> {
    let mut lines = evidence.events.clone();
    for loss in &evidence.losses {
        if loss.key.is_none_or(|lost| lost == key) {
            lines.push((loss.from, "the cache begins to forget".into()));
            lines.push((loss.to, "the cache has forgotten".into()));
        }
    }
    for audited in evidence.audit.iter().filter(|it| it.key == key) {
        let state = shown(audited.state.as_ref());
        let line = format!(
            "COMMIT of {state} by {} (transaction {})",
            audited.application, audited.xid
        );
        lines.push((audited.committed, line));
    }
    for testimony in &evidence.logs {
        for record in &testimony.records {
            if let Record::Read(read) = record
                && read.key == key
            {
                let source = match read.near {
                    Near::Hit => "from its near cache",
                    Near::Perhaps => "perhaps from its near cache",
                    _ if read.cached => "from the cache",
                    _ => "from the database",
                };
                let line = format!(
                    "{} {} since {:.3} ms saw {} {source}",
                    testimony.process,
                    read.verb,
                    read.to.since(read.from).as_secs_f64() * 1000.0,
                    shown(read.saw.as_ref())
                );
                lines.push((read.to, line));
            }
        }
    }
    for operation in Operations::of(evidence).all() {
        let attempts: Vec<_> = operation
            .attempts
            .iter()
            .filter(|it| it.is_of(key) || key.table.may_change_with(it.key.table))
            .collect();
        if attempts.is_empty() {
            continue;
        }
        let name = format!(
            "{}{} {}",
            operation.process,
            match operation.policy {
                Policy::Proceed => " (proceeds)",
                Policy::Refuse => "",
            },
            operation.verb
        );
        lines.push((operation.begin, format!("{name} begins")));
        for attempt in attempts {
            let what = match attempt.change {
                Change::Put(value) => format!("write {value}"),
                Change::PutKeepingVersion(value) => format!("write {value}, keeping the version"),
                Change::Delete if attempt.key != key => format!("delete {}", attempt.key),
                Change::Delete => "delete it".into(),
            };
            if attempt.key != key && *attempt.change != Change::Delete {
                continue;
            }
            let base = attempt.base.map_or(String::new(), |base| {
                format!(" after {}", shown(Some(base)))
            });
            let void = if attempt.void { " (in vain)" } else { "" };
            lines.push((attempt.at, format!("{name} tries to {what}{base}{void}")));
        }
        if operation.armed > operation.begin {
            lines.push((operation.armed, format!("{name} is about to block")));
        }
        if let Some(end) = operation.end {
            let outcome = match end.outcome {
                Outcome::Acknowledged => "acknowledged",
                Outcome::Failed => "failed",
                Outcome::Unknown => "of unknown outcome",
            };
            let troubled = if end.troubled {
                ", the cache failed it"
            } else {
                ""
            };
            let queued = match end.settled {
                Some(at) if at == end.at => String::new(),
                Some(at) => format!(", queued for {:?}", at.since(end.at)),
                None => ", queued".into(),
            };
            let why = if end.why.is_empty() { "" } else { ": " };
            lines.push((
                end.at,
                format!("{name} is {outcome}{troubled}{queued}{why}{}", end.why),
            ));
        }
    }
    lines
}
