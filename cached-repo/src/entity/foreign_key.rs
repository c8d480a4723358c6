//! Foreign keys, as SeaORM's relations declare them: by the names of tables and columns, because the
//! other table's model need not be known.
//!
//! Does not know which of the tables have models.

use sea_orm::{
    Identity, RelationDef,
    sea_query::{DynIden, ForeignKeyAction, TableName, TableRef},
};

/// What the database does to the rows that refer to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Action {
    /// Nothing that changes them.
    Nothing,
    /// It changes their foreign key to NULL or to its default.
    Unset,
    /// It deletes or changes them with the row.
    Cascade,
}

/// A foreign key.
#[derive(Clone, Debug)]
pub(crate) struct ForeignKey {
    /// The table that has it.
    pub(crate) child: String,
    pub(crate) columns: Vec<DynIden>,
    /// The table that it refers to.
    pub(crate) parent: String,
    pub(crate) referenced: Vec<DynIden>,
    pub(crate) on_delete: Action,
    pub(crate) on_update: Action,
}

impl ForeignKey {
    /// Whether both are of the same columns.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        (&self.child, &self.columns) == (&other.child, &other.columns)
            && (&self.parent, &self.referenced) == (&other.parent, &other.referenced)
    }

    /// Adds what another declaration of it says.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.on_delete = self.on_delete.max(other.on_delete);
        self.on_update = self.on_update.max(other.on_update);
    }

    /// The foreign key behind a relation; `cascades` if the model says that it does, whatever the
    /// relation says.
    pub(crate) fn of(relation: RelationDef, cascades: bool) -> Option<Self> {
        let RelationDef {
            from_tbl,
            to_tbl,
            from_col,
            to_col,
            is_owner,
            on_delete,
            on_update,
            ..
        } = relation;
        let action = |action: Option<ForeignKeyAction>| match action {
            _ if cascades => Action::Cascade,
            Some(ForeignKeyAction::Cascade) => Action::Cascade,
            Some(ForeignKeyAction::SetNull | ForeignKeyAction::SetDefault) => Action::Unset,
            _ => Action::Nothing,
        };
        let (from, to) = ((from_tbl, from_col), (to_tbl, to_col));
        // The relation's owner is the table that is referred to.
        let ((child, columns), (parent, referenced)) =
            if is_owner { (to, from) } else { (from, to) };
        let foreign_key = Self {
            child: table_name(child)?,
            columns: names(columns),
            parent: table_name(parent)?,
            referenced: names(referenced),
            on_delete: action(on_delete),
            on_update: action(on_update),
        };
        let acts = [foreign_key.on_delete, foreign_key.on_update] != [Action::Nothing; 2];
        acts.then_some(foreign_key)
    }
}

fn names(columns: Identity) -> Vec<DynIden> {
    columns.into_iter().collect()
}

/// A table's name, with its schema if that is given.
pub(crate) fn table_name(table: TableRef) -> Option<String> {
    match table {
        TableRef::Table(TableName(schema, table), _) => Some(match schema {
            Some(schema) => format!("{}.{}", schema.1, table),
            None => table.to_string(),
        }),
        _ => None,
    }
}
