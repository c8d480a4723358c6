//! What reads returned that a near cache may have answered.
//!
//! See [the checker](super::super) for the rules.

use std::time::Duration;

use super::{Findings, Process, Read, Row, Rule};
use crate::{
    clock::Moment,
    settings::{BOUND, NEAR_BOUND},
};

impl Row<'_, '_> {
    /// A near read returned this state; an absence may be one of several, of which this is the
    /// first that is new enough.
    pub(super) fn near(
        &self,
        process: Process,
        read: &Read,
        state: usize,
        findings: &mut Findings,
    ) {
        let mut missed = state + 1..=self.newest;
        let staleness = self.staleness(read, state).unwrap_or_default();
        let latest = self.latest(read, state);
        let (lag, newer) = self.lag(read, latest).unwrap_or((Duration::ZERO, latest));
        let known = (state, self.newest);
        if missed.any(|at| self.is_own(at, process, read)) {
            self.violated(Rule::OwnWriteUnseen, process, read, known, findings);
        } else if staleness > BOUND {
            self.violated(Rule::BeyondTheBound, process, read, known, findings);
        } else if lag > NEAR_BOUND {
            self.violated(Rule::NearTooOld, process, read, (latest, newer), findings);
        } else if state < self.newest && lag > Duration::ZERO {
            findings.near.stale += 1;
            findings.near.stale_max = findings.near.stale_max.max(lag);
        } else if state < self.newest {
            findings.stale += 1;
            findings.stale_max = findings.stale_max.max(staleness);
        }
    }

    /// The last state that the read may have returned.
    fn latest(&self, read: &Read, state: usize) -> usize {
        if read.saw.is_some() {
            return state;
        }
        let states = self.timeline.states.iter().enumerate().rev();
        let mut absent = states.filter(|(_, it)| it.seen.is_none());
        let last = absent.find(|(at, _)| self.begun(*at) <= read.to);
        last.map_or(state, |(at, _)| at)
    }

    /// For how long the read should have returned something newer than this state, but for the near
    /// cache; and what.
    fn lag(&self, read: &Read, state: usize) -> Option<(Duration, usize)> {
        let newer = state + 1..self.timeline.states.len();
        newer
            .map(|at| (read.from.since(self.due(at)), at))
            .max_by_key(|(lag, _)| *lag)
    }

    /// When a state had been announced, for certain.
    fn due(&self, at: usize) -> Moment {
        let state = &self.timeline.states[at];
        match self.case.exposures.get(self.key, at) {
            Some(exposure) => exposure.until,
            None if state.visible < Moment::NEVER => state.committed,
            // It was before the acknowledgement.
            None => {
                let operations = self.case.operations.all();
                let acknowledged = state.writer().and_then(|at| operations[at].acknowledged());
                acknowledged.unwrap_or(Moment::NEVER)
            }
        }
    }
}
