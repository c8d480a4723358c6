//! The lookups of a model: `unique` and `index` on fields and on the struct, and SeaORM's `unique`
//! and `unique_key`, in the order in which they are written.
//!
//! A mistake removes the lookup that it is about, and no other one.

use std::{collections::HashMap, iter};

use proc_macro2::Span;
use syn::{Ident, ext::IdentExt};

use crate::{
    diag::{Diagnostics, did_you_mean, list},
    ir::{Condition, Lookup, Term},
    syntax::{ConditionAttr, FieldAttrs, FieldSyntax, LookupAttr, LookupKind, StructSyntax},
};

/// Methods that every repository has.
const TAKEN: &[&str] = &["find_by_id", "find_by_ids"];

/// A lookup that may still clash with others, and where an error about it is reported.
struct Candidate {
    lookup: Lookup,
    span: Span,
}

impl Candidate {
    fn new(name: String, fields: Vec<usize>, kind: LookupKind, span: Span) -> Self {
        let lookup = Lookup {
            name,
            fields,
            kind,
            condition: None,
        };
        Self { lookup, span }
    }

    fn only(mut self, condition: Option<Condition>) -> Self {
        self.lookup.condition = condition;
        self
    }
}

/// Collects the lookups of a model.
pub(crate) fn collect(input: &StructSyntax, diag: &mut Diagnostics) -> Vec<Lookup> {
    let mut candidates = of_fields(input, diag);
    for attr in &input.attrs.lookups {
        candidates.extend(of_struct(input, attr, diag));
    }
    candidates.retain(|it| has_only_columns(input, it, diag));
    without_clashes(candidates, diag)
}

fn of_fields(input: &StructSyntax, diag: &mut Diagnostics) -> Vec<Candidate> {
    let mut candidates: Vec<Candidate> = Vec::new();
    let mut groups: HashMap<String, usize> = HashMap::new();
    for (at, field) in input.fields.iter().enumerate() {
        if !can_have_lookups(input, field, diag) {
            continue;
        }
        candidates.extend(of_field(input, at, field, diag));
        for group in &field.attrs.sea_orm.unique_keys {
            let position = *groups.entry(group.value()).or_insert(candidates.len());
            match candidates.get_mut(position) {
                Some(candidate) => candidate.lookup.fields.push(at),
                None => {
                    let name = method_part(&group.value());
                    let unique = LookupKind::Unique;
                    candidates.push(Candidate::new(name, vec![at], unique, group.span()));
                }
            }
        }
    }
    candidates
}

fn can_have_lookups(input: &StructSyntax, field: &FieldSyntax, diag: &mut Diagnostics) -> bool {
    let mut attrs = field.attrs.unique.iter().chain(&field.attrs.index);
    let Some(attr) = attrs.next() else {
        return true;
    };
    if let Some(column) = attr.columns.first() {
        diag.error(
            column,
            "on a field there are no columns to list: move this to the struct",
        );
    }
    if input.is_only_key(field) {
        diag.error_at(
            attr.span,
            "`find_by_id` finds rows by the primary key already: remove this",
        );
    }
    !input.is_only_key(field)
}

/// The lookups of `unique` and `index` on a field.
fn of_field(
    input: &StructSyntax,
    at: usize,
    field: &FieldSyntax,
    diag: &mut Diagnostics,
) -> Vec<Candidate> {
    let FieldAttrs {
        unique,
        index,
        sea_orm,
        ..
    } = &field.attrs;
    let own_name = || field.name();
    let is_unique = sea_orm.unique && unique.is_none() && !input.is_only_key(field);
    let of_sea_orm = is_unique.then(|| {
        let span = field.ident.span();
        Candidate::new(own_name(), vec![at], LookupKind::Unique, span)
    });
    let ours = unique.iter().chain(index).map(move |attr| {
        let name = attr.name.as_ref().map_or_else(own_name, text);
        let condition = attr.condition.as_ref();
        let condition = condition.and_then(|it| resolve_condition(&input.fields, it, diag));
        Candidate::new(name, vec![at], attr.kind, attr.span).only(condition)
    });
    of_sea_orm.into_iter().chain(ours).collect()
}

/// The condition of a lookup, by the positions of its columns. After a mistake the lookup stays without
/// it, for the callers of its methods.
fn resolve_condition(
    fields: &[FieldSyntax],
    condition: &ConditionAttr,
    diag: &mut Diagnostics,
) -> Option<Condition> {
    let terms = condition
        .terms
        .iter()
        .map(|term| match condition_column(fields, &term.column) {
            Ok(field) => Some(Term {
                field,
                test: term.test.clone(),
            }),
            Err(problem) => {
                diag.error(&condition.literal, problem);
                None
            }
        });
    let terms: Vec<_> = terms.collect();
    Some(Condition {
        text: condition.literal.value(),
        span: condition.literal.span(),
        terms: terms.into_iter().collect::<Option<_>>()?,
    })
}

/// The position of a column that a condition names: as the table does, or as the model does.
fn condition_column(fields: &[FieldSyntax], word: &str) -> Result<usize, String> {
    let column = |field: &FieldSyntax| field.attrs.sea_orm.column_name.clone();
    let in_table = |field: &FieldSyntax| column(field).is_some_and(|name| name == word);
    let in_model = |field: &FieldSyntax| field.name() == word;
    let position = fields.iter().position(in_table);
    let Some(at) = position.or_else(|| fields.iter().position(in_model)) else {
        let names: Vec<_> = fields.iter().map(FieldSyntax::name).collect();
        let instead = match did_you_mean(word, names.iter().map(String::as_str)) {
            Some(meant) => format!("; did you mean `{meant}`?"),
            None => format!(", expected some of {}", list(&names)),
        };
        return Err(format!("the model has no column `{word}`{instead}"));
    };
    let field = &fields[at];
    if field.attrs.sea_orm.ignore {
        return Err(format!(
            "`{word}` is `#[sea_orm(ignore)]`, so the table has no such column"
        ));
    }
    let is_another = |(other, field): (usize, &FieldSyntax)| other != at && in_model(field);
    if fields.iter().enumerate().any(is_another) {
        return Err(format!(
            "`{word}` is the column of the field `{}`, and the name of another field: rename one of \
             them",
            field.name()
        ));
    }
    Ok(at)
}

/// A part of a method's name, made of the name of SeaORM's `unique_key`, which can be any text.
fn method_part(group: &str) -> String {
    let plain = |letter: char| match letter == '_' || letter.is_alphanumeric() {
        true => letter,
        false => '_',
    };
    group.chars().map(plain).collect()
}

fn of_struct(input: &StructSyntax, attr: &LookupAttr, diag: &mut Diagnostics) -> Option<Candidate> {
    let word = match attr.kind {
        LookupKind::Unique => "unique",
        LookupKind::Index { .. } => "index",
    };
    if attr.columns.is_empty() {
        diag.error_at(
            attr.span,
            format!(
                "on the struct `{word}` needs its columns: write `{word}(team_id, name)`, or put \
                 `#[cached({word})]` on a field"
            ),
        );
        return None;
    }
    let mut fields: Vec<usize> = Vec::new();
    for column in &attr.columns {
        let at = position(&input.fields, column, diag)?;
        if fields.contains(&at) {
            diag.error(
                column,
                format!("`{column}` is listed twice: remove one of the two"),
            );
            return None;
        }
        fields.push(at);
    }
    let words: Vec<_> = attr.columns.iter().map(text).collect();
    let joined = || words.join("_and_");
    let name = attr.name.as_ref().map_or_else(joined, text);
    let condition = attr.condition.as_ref();
    let condition = condition.and_then(|it| resolve_condition(&input.fields, it, diag));
    Some(Candidate::new(name, fields, attr.kind, attr.span).only(condition))
}

/// The position of the field that is called like a column of a lookup.
fn position(fields: &[FieldSyntax], column: &Ident, diag: &mut Diagnostics) -> Option<usize> {
    let names: Vec<_> = fields.iter().map(FieldSyntax::name).collect();
    let word = text(column);
    let position = names.iter().position(|name| *name == word);
    if position.is_none() {
        let instead = match did_you_mean(&word, names.iter().map(String::as_str)) {
            Some(meant) => format!("; did you mean `{meant}`?"),
            None => format!(", expected some of {}", list(&names)),
        };
        diag.error(column, format!("the model has no field `{word}`{instead}"));
    }
    position
}

fn text(ident: &Ident) -> String {
    ident.unraw().to_string()
}

fn has_only_columns(input: &StructSyntax, it: &Candidate, diag: &mut Diagnostics) -> bool {
    let mut fields = it.lookup.fields.iter().map(|&at| &input.fields[at]);
    let ignored = fields.find(|field| field.attrs.sea_orm.ignore);
    if let Some(field) = ignored {
        diag.error_at(
            it.span,
            format!(
                "`{}` is `#[sea_orm(ignore)]`, so the table has no such column to find rows by",
                field.ident
            ),
        );
    }
    ignored.is_none()
}

/// Reports lookups whose methods have the same name, and keeps the first of each.
fn without_clashes(candidates: Vec<Candidate>, diag: &mut Diagnostics) -> Vec<Lookup> {
    let mut seen: Vec<String> = TAKEN.iter().map(ToString::to_string).collect();
    let mut kept = Vec::with_capacity(candidates.len());
    for Candidate { lookup, span } in candidates {
        let methods = || iter::once(lookup.method()).chain(lookup.method_for_many());
        match methods().find(|method| seen.contains(method)) {
            Some(method) => diag.error_at(
                span,
                format!(
                    "there is a `{method}` already: give this one a name of its own, as in \
                     `unique(name = \"handle\")` or `index(team_id, name = \"team\")`"
                ),
            ),
            None => {
                seen.extend(methods());
                kept.push(lookup);
            }
        }
    }
    kept
}
