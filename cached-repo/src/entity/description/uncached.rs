//! What an entity caches less of than its users may expect, said once when it is opened.
//!
//! Does not decide what is cached.

use super::Entity;
use crate::entity::LookupKind;

impl Entity {
    /// Says which lookups cache less than their users may expect, and why.
    pub(crate) fn warn_of_uncached(&self) {
        let keys = self.key_columns.iter();
        let mut keys = keys.map(|at| self.columns[*at].problem(self.backend));
        if keys.any(|problem| problem.is_some()) {
            tracing::info!(
                entity = self.name,
                "that there is no row is not cached: the database may call other primary keys equal"
            );
        }
        for lookup in &self.lookups {
            let columns = lookup.columns.iter();
            let columns = columns.filter(|column| column.normalize.is_none());
            let problems =
                columns.filter_map(|column| self.columns[column.at].problem(self.backend));
            let terms = lookup.condition.iter();
            let terms = terms.filter(|term| !term.is_exact(&self.columns[term.at], self.backend));
            let terms = terms.map(|_| {
                "MySQL and MariaDB compare the texts of its condition by a collation: make the column \
                 an enum, a number or a boolean"
            });
            let Some(problem) = problems.chain(terms).next() else {
                continue;
            };
            let (entity, columns) = (&self.name, &lookup.name);
            match lookup.kind {
                LookupKind::Unique => tracing::info!(
                    entity,
                    columns,
                    "a unique lookup caches the rows that it finds, but not that there is none: \
                     {problem}"
                ),
                LookupKind::Index { .. } => tracing::warn!(
                    entity,
                    columns,
                    "a lookup is never cached, and every call asks the database: {problem}"
                ),
            }
        }
    }
}
