//! Rows of other tables that the database deletes or changes with a row, by foreign keys with
//! `ON DELETE` or `ON UPDATE`: found in the transaction of the write, so that their keys are blocked
//! before its COMMIT.
//!
//! Invariants:
//! - The row itself is locked first: no row that refers to it comes or goes until the end of the
//!   transaction. On SQLite nothing can be locked; if another writer comes between, the statement fails
//!   as busy.
//! - At most [`MAX_ROWS`] rows are found. Beyond, all that may refer to them is invalidated entity by
//!   entity.
//!
//! Knows the tables of which a repository was opened in this process, and no triggers.

use std::{collections::HashSet, sync::Arc};

use sea_orm::{
    ConnectionTrait, DbErr,
    sea_query::{DynIden, SelectStatement, Value, ValueTuple},
};

use crate::{
    cached::AnyModel,
    catalog::Catalog,
    context::EntityContext,
    database::Executor,
    entity::{
        Entity,
        foreign_key::{Action, ForeignKey},
        is_null,
        ops::ModelRef,
    },
    invalidation::Journal,
    policy::OnCacheFailure,
    protocol::{Key, Version},
};

/// Rows that one write may find; each costs a key or more to be blocked.
const MAX_ROWS: usize = 1_000;

/// The rows that change with a write.
pub(super) struct Cascade {
    journal: Journal,
    /// Rows that are changed, to be read again once they are.
    changed: Vec<Changed>,
    rows: usize,
    /// The row itself and those found so far: rows may refer to themselves and to each other.
    seen: HashSet<Key>,
}

/// Rows of a table that have new values, and how to find them.
struct Changed {
    models: Vec<Arc<EntityContext>>,
    columns: Vec<DynIden>,
    values: Vec<Vec<Value>>,
}

/// Rows of one table that are deleted or changed.
struct Affected {
    table: String,
    models: Vec<Arc<EntityContext>>,
    /// As the first of the models has them.
    rows: Vec<AnyModel>,
}

/// Whether the database may delete or change other rows with a deleted row of this table.
pub(super) fn delete_cascades(context: &EntityContext) -> bool {
    let referring = context
        .shared
        .catalog
        .referring_to(&context.entity.table_name);
    referring.iter().any(|key| key.on_delete != Action::Nothing)
}

/// Whether the database may change other rows if these columns of a row, by position, change.
pub(super) fn update_cascades(context: &EntityContext, set: impl Fn(usize) -> bool) -> bool {
    let entity = &context.entity;
    let referring = context.shared.catalog.referring_to(&entity.table_name);
    referring.iter().any(|key| {
        let referenced = key.referenced.iter();
        key.on_update != Action::Nothing
            && referenced
                .filter_map(|name| entity.positions(std::slice::from_ref(name)))
                .any(|at| at.into_iter().any(&set))
    })
}

impl Cascade {
    /// Finds the rows that the database will delete or change with a row that is about to be deleted.
    pub(super) async fn of_delete(
        context: &Arc<EntityContext>,
        conn: &Executor<'_>,
        row: &AnyModel,
    ) -> Result<Self, DbErr> {
        let mut cascade = Self::empty();
        cascade.seen.insert(context.entity.key_of(&**row));
        let mut deleted = vec![Affected {
            table: context.entity.table_name.clone(),
            models: vec![Arc::clone(context)],
            rows: vec![Arc::clone(row)],
        }];
        while let Some(affected) = deleted.pop() {
            for key in context.shared.catalog.referring_to(&affected.table) {
                let Some(children) = cascade
                    .children(&affected, &key, key.on_delete, conn)
                    .await?
                else {
                    continue;
                };
                if key.on_delete == Action::Cascade {
                    cascade.note_deleted(&children);
                    deleted.push(children);
                } else {
                    cascade.note_changed(children, None);
                }
            }
        }
        Ok(cascade)
    }

    /// Finds the rows that the database will change with a row that is about to be updated. `after` gives
    /// the new value of a column, `None` for a column that stays.
    pub(super) async fn of_update(
        context: &Arc<EntityContext>,
        conn: &Executor<'_>,
        row: &AnyModel,
        after: impl Fn(usize) -> Option<Value>,
    ) -> Result<Self, DbErr> {
        let mut cascade = Self::empty();
        let entity = &*context.entity;
        let before = Affected {
            table: entity.table_name.clone(),
            models: vec![Arc::clone(context)],
            rows: vec![Arc::clone(row)],
        };
        for key in context.shared.catalog.referring_to(&before.table) {
            let referenced = entity.positions(&key.referenced);
            let new_value = |at: usize| after(at).unwrap_or_else(|| entity.ops.value(&**row, at));
            let new = referenced.map(|at| at.into_iter().map(new_value).collect::<Vec<_>>());
            if new.is_some() && new == values_of(entity, &**row, &key.referenced) {
                continue;
            }
            if let Some(children) = cascade.children(&before, &key, key.on_update, conn).await? {
                let new = new.filter(|_| key.on_update == Action::Cascade);
                let found_by = new.map(|values| (key.columns.clone(), vec![values]));
                cascade.note_changed(children, found_by);
            }
        }
        Ok(cascade)
    }

    fn empty() -> Self {
        Self {
            journal: Journal::default(),
            changed: Vec::new(),
            rows: 0,
            seen: HashSet::new(),
        }
    }

    /// The rows that refer to these by a foreign key; `None` if nothing happens to them.
    async fn children(
        &mut self,
        parents: &Affected,
        key: &ForeignKey,
        action: Action,
        conn: &Executor<'_>,
    ) -> Result<Option<Affected>, DbErr> {
        let Some(shared) = parents.models.first().map(|model| &model.shared) else {
            return Ok(None);
        };
        let mut models = shared.catalog.models_of(&key.child);
        if action == Action::Nothing || parents.rows.is_empty() {
            return Ok(None);
        }
        if models.is_empty() {
            // Without a model its rows cannot be found, nor the rows that refer to them.
            self.note_all(&shared.catalog, &key.child);
            return Ok(None);
        }
        // One that has all columns of the foreign key first.
        models.sort_by_key(|model| model.entity.positions(&key.columns).is_none());
        let parent = &parents.models[0].entity;
        let values = parents.rows.iter();
        let values = values.map(|row| values_of(parent, &**row, &key.referenced));
        // Nothing refers to NULL.
        let refers = |values: &Option<Vec<Value>>| {
            values
                .as_ref()
                .is_none_or(|values| !values.iter().any(is_null))
        };
        let values: Option<Vec<_>> = values.filter(refers).collect();
        if values.as_ref().is_some_and(Vec::is_empty) {
            return Ok(None);
        }
        let room = MAX_ROWS - self.rows;
        let (Some(columns), Some(values), true) =
            (models[0].entity.positions(&key.columns), values, room > 0)
        else {
            self.note_all(&shared.catalog, &key.child);
            return Ok(None);
        };
        let entity = &*models[0].entity;
        let select = entity.select_matching(&columns, &values, room + 1);
        let Some(mut rows) = fetch(entity, conn, &select).await? else {
            self.note_all(&shared.catalog, &key.child);
            return Ok(None);
        };
        if rows.len() > room {
            self.note_all(&shared.catalog, &key.child);
            return Ok(None);
        }
        rows.retain(|row| self.seen.insert(entity.key_of(&**row)));
        self.rows += rows.len();
        Ok(Some(Affected {
            table: key.child.clone(),
            models,
            rows,
        }))
    }

    /// Notes that any row of a table, and of those that refer to it, may have changed.
    fn note_all(&mut self, catalog: &Catalog<EntityContext>, table: &str) {
        let mut tables = vec![table.to_owned()];
        let mut at = 0;
        while let Some(table) = tables.get(at).cloned() {
            for model in catalog.models_of(&table) {
                self.journal.note_entities([model.as_a_whole()]);
            }
            for key in catalog.referring_to(&table) {
                if !tables.contains(&key.child) {
                    tables.push(key.child);
                }
            }
            at += 1;
        }
    }

    fn note_deleted(&mut self, deleted: &Affected) {
        self.journal.note_entities(deleted.others());
        for (model, id, version) in deleted.in_each_model() {
            let change = match version {
                Some(version) => model.row_change(version.next(), None),
                None => model.raw_change(),
            };
            self.journal.note(model.entity.row_key(&id), change);
        }
    }

    /// Notes changed rows, which are found again by these values, else by their keys.
    fn note_changed(
        &mut self,
        changed: Affected,
        found_by: Option<(Vec<DynIden>, Vec<Vec<Value>>)>,
    ) {
        self.journal.note_entities(changed.others());
        for (model, id, _) in changed.in_each_model() {
            // No version orders the change against writes in flight.
            self.journal
                .note(model.entity.row_key(&id), model.raw_change());
        }
        let first = &*changed.models[0].entity;
        let (columns, values) = found_by.unwrap_or_else(|| {
            let names = first.key_columns.iter();
            let names = names.map(|at| first.columns[*at].name.clone()).collect();
            let ids = changed.rows.iter().map(|row| first.id_of(&**row));
            (names, ids.map(|id| id.into_iter().collect()).collect())
        });
        self.changed.push(Changed {
            models: changed.models,
            columns,
            values,
        });
    }

    /// The changes that are known before the statement is sent.
    pub(super) fn before_statement(&self) -> Journal {
        self.journal.clone()
    }

    /// The changes that are known once the statement has run: the changed rows and the index entries that
    /// lead to them now. If a row cannot be read, its entity as a whole.
    pub(super) async fn after_statement(self, conn: &Executor<'_>) -> (Journal, Result<(), DbErr>) {
        let mut journal = Journal::default();
        for Changed {
            models,
            columns,
            values,
        } in &self.changed
        {
            for model in models.iter().filter(|_| !values.is_empty()) {
                let entity = &*model.entity;
                let mut read = Ok(None);
                if let Some(columns) = entity.positions(columns) {
                    let select = entity.select_matching(&columns, values, MAX_ROWS);
                    read = fetch(entity, conn, &select).await;
                }
                let Ok(Some(rows)) = read else {
                    journal.note_entities([model.as_a_whole()]);
                    if let Err(error) = read {
                        return (journal, Err(error));
                    }
                    continue;
                };
                for row in rows {
                    journal.note(entity.key_of(&*row), model.raw_change());
                    for key in entity.index_keys_of(&*row) {
                        journal.note(key, model.index_change());
                    }
                }
            }
        }
        (journal, Ok(()))
    }
}

/// The rows that a statement gives; `None` if one of them is none of the model.
async fn fetch(
    entity: &Entity,
    conn: &Executor<'_>,
    select: &SelectStatement,
) -> Result<Option<Vec<AnyModel>>, DbErr> {
    let rows = conn.query_all(select).await?;
    let rows = rows.iter().map(|row| entity.ops.read(row));
    Ok(rows.collect::<Result<_, _>>().ok())
}

impl Affected {
    /// The rows' primary keys and versions, for each of the models that agree on what the key is; see
    /// [`others`](Self::others).
    fn in_each_model(&self) -> Vec<(&EntityContext, ValueTuple, Option<Version>)> {
        let first = &*self.models[0].entity;
        let rows = self.rows.iter().flat_map(|row| {
            let (id, version) = (first.id_of(&**row), first.ops.version(&**row));
            self.models.iter().filter_map(move |model| {
                let id = first.id_in(&model.entity, &id)?;
                Some((&**model, id, version))
            })
        });
        rows.collect()
    }

    /// The models with another primary key.
    fn others(&self) -> impl Iterator<Item = (Arc<str>, OnCacheFailure)> {
        let first = &*self.models[0].entity;
        let others = self.models.iter();
        let others = others.filter(|model| !first.has_key_of(&model.entity));
        others.map(|model| model.as_a_whole())
    }
}

fn values_of(entity: &Entity, row: ModelRef<'_>, names: &[DynIden]) -> Option<Vec<Value>> {
    let columns = entity.positions(names)?.into_iter();
    Some(columns.map(|at| entity.ops.value(row, at)).collect())
}
