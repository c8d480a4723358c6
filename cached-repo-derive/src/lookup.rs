//! What rows are found by besides their primary key: `unique` and `index`, on a field or on the
//! struct, and SeaORM's `unique` and `unique_key`, put together and checked.
//!
//! Every mistake drops the lookup it is about and spares the others.

use std::{collections::HashMap, num::NonZeroUsize};

use proc_macro2::{Span, TokenStream};
use syn::{
    GenericArgument, Ident, LitInt, LitStr, PathArguments, Token, Type, ext::IdentExt,
    parenthesized, parse::ParseStream, punctuated::Punctuated, spanned::Spanned, token::Paren,
};

use crate::{
    attr::last_segment,
    diag::{Diagnostics, did_you_mean, list},
    model::{Codec, Field, Model},
    option::{Given, skip_value},
};

/// What may stand beside the columns.
const SETTINGS: &[&str] = &["max_rows", "name"];
/// Names that the repository has already.
const TAKEN: &[&str] = &["find_by_id", "find_by_ids"];

/// Columns that rows are found by.
pub(crate) struct Lookup {
    /// What follows `find_by_` or `find_all_by_`.
    pub(crate) name: String,
    /// The model's fields, by position.
    pub(crate) fields: Vec<usize>,
    pub(crate) kind: Kind,
    span: Span,
}

/// How many rows a lookup can find.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Unique,
    /// Any number, of which so many are kept.
    Index {
        max_rows: Option<usize>,
    },
}

impl Lookup {
    /// The methods that find by it.
    pub(crate) fn methods(&self) -> Vec<String> {
        match self.kind {
            Kind::Unique => vec![
                format!("find_by_{}", self.name),
                format!("find_by_{}s", self.name),
            ],
            Kind::Index { .. } => vec![format!("find_all_by_{}", self.name)],
        }
    }
}

/// `unique` or `index` as it was written: `index`, `index(max_rows = 100)`, `index(a, b)`.
pub(crate) struct Wanted {
    pub(crate) span: Span,
    pub(crate) columns: Vec<Ident>,
    pub(crate) name: Option<Ident>,
    pub(crate) kind: Kind,
}

/// Reads the arguments of `unique` or `index`.
pub(crate) fn wanted(given: &Given<'_>, kind: Kind, diag: &mut Diagnostics) -> Option<Wanted> {
    let mut wanted = Wanted {
        span: given.meta.path.span(),
        columns: Vec::new(),
        name: None,
        kind,
    };
    let (name, example) = (given.key.name, given.key.example);
    let on_the_struct = example.contains('(');
    let input = given.meta.input;
    if !input.peek(Paren) {
        let rest = skip_value(input);
        if rest.is_empty() {
            return Some(wanted);
        }
        let instead = match on_the_struct {
            true => format!("takes its columns in parentheses: write `{example}`"),
            false => format!("takes no value: write `{name}` alone"),
        };
        diag.error(rest, format!("`{name}` {instead}"));
        return (!on_the_struct).then_some(wanted);
    }
    let read = || {
        let content;
        parenthesized!(content in input);
        let read = wanted.arguments(&content, diag);
        // What is left would be another error.
        content.parse::<TokenStream>()?;
        read
    };
    if let Err(error) = { read }() {
        let (what, example) = match (on_the_struct, kind) {
            (true, _) => ("columns and settings", example),
            (false, Kind::Unique) => ("settings", "unique(name = \"handle\")"),
            (false, Kind::Index { .. }) => ("settings", "index(max_rows = 100)"),
        };
        diag.error_at(
            error.span(),
            format!("`{name}` takes {what} with commas between them: write `{example}`"),
        );
        return (!on_the_struct).then_some(wanted);
    }
    // Whatever is wrong with a setting, the method is there for its callers.
    Some(wanted)
}

impl Wanted {
    /// Reads columns and settings.
    fn arguments(&mut self, content: ParseStream<'_>, diag: &mut Diagnostics) -> syn::Result<()> {
        while !content.is_empty() {
            let word = content.call(Ident::parse_any)?;
            if !content.peek(Token![=]) {
                self.columns.push(word);
            } else {
                content.parse::<Token![=]>()?;
                self.setting(&word, content, diag);
            }
            if !content.is_empty() {
                content.parse::<Token![,]>()?;
            }
        }
        Ok(())
    }

    /// Reads `max_rows = 100` or `name = "…"`, behind the `=`.
    fn setting(&mut self, word: &Ident, content: ParseStream<'_>, diag: &mut Diagnostics) {
        let value = skip_value(content);
        // On the value, or where it should be.
        let wrong = |message: &str| match value.is_empty() {
            true => syn::Error::new(word.span(), message),
            false => syn::Error::new_spanned(&value, message),
        };
        match (word.to_string().as_str(), self.kind) {
            ("name", _) => {
                let name = syn::parse2::<LitStr>(value.clone());
                match name.and_then(|name| name.parse::<Ident>()) {
                    Ok(ident) => self.name = Some(ident),
                    Err(_) => diag.push(wrong(
                        "`name` is what follows `find_by_` in the method's name: write \
                         `name = \"handle\"`",
                    )),
                }
            }
            ("max_rows", Kind::Index { .. }) => {
                let rows = syn::parse2::<LitInt>(value.clone());
                match rows.and_then(|rows| rows.base10_parse::<NonZeroUsize>()) {
                    Ok(rows) => {
                        self.kind = Kind::Index {
                            max_rows: Some(rows.get()),
                        }
                    }
                    Err(_) => diag.push(wrong(
                        "`max_rows` is how many rows of one search are kept: write \
                         `max_rows = 100`",
                    )),
                }
            }
            ("max_rows", Kind::Unique) => {
                diag.error(word, "a unique lookup finds one row: remove `max_rows`");
            }
            (other, _) => {
                let hint = match did_you_mean(other, SETTINGS.iter().copied()) {
                    Some(meant) => format!("; did you mean `{meant}`?"),
                    None => String::new(),
                };
                let expected = list(SETTINGS.iter().copied());
                diag.error(
                    word,
                    format!("unknown setting `{other}`, expected one of {expected}{hint}"),
                );
            }
        }
    }
}

/// Puts together what the model's rows are found by.
pub(crate) fn collect(model: &Model, diag: &mut Diagnostics) -> Vec<Lookup> {
    let mut found = of_fields(model, diag);
    for wanted in &model.attrs.lookups {
        found.extend(of_struct(model, wanted, diag));
    }
    found.retain(|lookup| fields_are_columns(model, lookup, diag));
    found = without_clashes(found, diag);
    normalizers_are_used(model, &found, diag);
    if !found.is_empty() {
        keys_have_serde(model, diag);
    }
    found
}

fn of_fields(model: &Model, diag: &mut Diagnostics) -> Vec<Lookup> {
    let is_only_key = |field: &Field| {
        let keys = model.fields.iter().filter(|field| field.attrs.primary_key);
        field.attrs.primary_key && keys.count() == 1
    };
    let mut found: Vec<Lookup> = Vec::new();
    let mut groups: HashMap<String, usize> = HashMap::new();
    for (at, field) in model.fields.iter().enumerate() {
        let own = |wanted: &Wanted| Lookup {
            name: match &wanted.name {
                Some(name) => name.unraw().to_string(),
                None => field.ident.unraw().to_string(),
            },
            fields: vec![at],
            kind: wanted.kind,
            span: wanted.span,
        };
        let asked = field.attrs.unique.as_ref().or(field.attrs.index.as_ref());
        if let Some(wanted) = asked {
            if let Some(column) = wanted.columns.first() {
                diag.error(
                    column,
                    "on a field there are no columns to list: move this to the struct",
                );
            }
            if is_only_key(field) {
                diag.error_at(
                    wanted.span,
                    "`find_by_id` finds rows by the primary key already: remove this",
                );
                continue;
            }
        }
        let unique = field.attrs.unique.as_ref().map(own);
        let index = field.attrs.index.as_ref().map(own);
        if let (Some(index), true) = (&index, unique.is_some() || field.attrs.sea_unique) {
            diag.error_at(
                index.span,
                format!(
                    "`{}` is unique, so `find_by_{0}` finds its one row: remove `index`",
                    field.ident.unraw()
                ),
            );
        }
        match (unique, field.attrs.sea_unique) {
            (Some(unique), _) => found.push(unique),
            (None, true) if !is_only_key(field) => found.push(Lookup {
                name: field.ident.unraw().to_string(),
                fields: vec![at],
                kind: Kind::Unique,
                span: field.ident.span(),
            }),
            _ => {}
        }
        found.extend(index);
        for group in &field.attrs.unique_keys {
            let position = *groups.entry(group.value()).or_insert(found.len());
            match found.get_mut(position) {
                Some(lookup) => lookup.fields.push(at),
                None => found.push(Lookup {
                    name: method_part(&group.value()),
                    fields: vec![at],
                    kind: Kind::Unique,
                    span: group.span(),
                }),
            }
        }
    }
    found
}

/// The name of a group of SeaORM's, which is part of an index's name and may be any text, as part
/// of a method's.
fn method_part(group: &str) -> String {
    let plain = |letter: char| match letter == '_' || letter.is_alphanumeric() {
        true => letter,
        false => '_',
    };
    group.chars().map(plain).collect()
}

fn of_struct(model: &Model, wanted: &Wanted, diag: &mut Diagnostics) -> Option<Lookup> {
    let word = match wanted.kind {
        Kind::Unique => "unique",
        Kind::Index { .. } => "index",
    };
    if wanted.columns.is_empty() {
        diag.error_at(
            wanted.span,
            format!(
                "on the struct `{word}` needs its columns: write `{word}(team_id, name)`, or put \
                 `#[cached({word})]` on a field"
            ),
        );
        return None;
    }
    let mut fields: Vec<usize> = Vec::new();
    for column in &wanted.columns {
        let names = || {
            model
                .fields
                .iter()
                .map(|field| field.ident.unraw().to_string())
        };
        let Some(at) = names().position(|name| column.unraw() == name) else {
            let names: Vec<_> = names().collect();
            let word = column.unraw().to_string();
            let hint = match did_you_mean(&word, names.iter().map(String::as_str)) {
                Some(meant) => format!("; did you mean `{meant}`?"),
                None => format!(
                    ", expected some of {}",
                    list(names.iter().map(String::as_str))
                ),
            };
            diag.error(column, format!("the model has no field `{word}`{hint}"));
            return None;
        };
        if fields.contains(&at) {
            diag.error(
                column,
                format!("`{column}` is listed twice: remove one of the two"),
            );
            return None;
        }
        fields.push(at);
    }
    let joined = || {
        let names = wanted
            .columns
            .iter()
            .map(|column| column.unraw().to_string());
        names.collect::<Vec<_>>().join("_and_")
    };
    Some(Lookup {
        name: wanted
            .name
            .as_ref()
            .map_or_else(joined, |name| name.unraw().to_string()),
        fields,
        kind: wanted.kind,
        span: wanted.span,
    })
}

fn fields_are_columns(model: &Model, lookup: &Lookup, diag: &mut Diagnostics) -> bool {
    for &at in &lookup.fields {
        let field = &model.fields[at];
        if matches!(field.codec, Codec::Ignored) {
            diag.error_at(
                lookup.span,
                format!(
                    "`{}` is `#[sea_orm(ignore)]`, so the table has no such column to find rows by",
                    field.ident
                ),
            );
            return false;
        }
    }
    true
}

/// Reports lookups whose methods have the same name, and keeps the first of each.
fn without_clashes(found: Vec<Lookup>, diag: &mut Diagnostics) -> Vec<Lookup> {
    let mut seen: Vec<String> = TAKEN.iter().map(ToString::to_string).collect();
    let mut kept = Vec::with_capacity(found.len());
    for lookup in found {
        let methods = lookup.methods();
        match methods.iter().find(|method| seen.contains(method)) {
            Some(method) => diag.error_at(
                lookup.span,
                format!(
                    "there is a `{method}` already: give this one a name of its own, as in \
                     `unique(name = \"handle\")` or `index(team_id, name = \"team\")`"
                ),
            ),
            None => {
                seen.extend(methods);
                kept.push(lookup);
            }
        }
    }
    kept
}

fn normalizers_are_used(model: &Model, found: &[Lookup], diag: &mut Diagnostics) {
    for (at, field) in model.fields.iter().enumerate() {
        let Some(normalize) = &field.attrs.normalize else {
            continue;
        };
        if !found.iter().any(|lookup| lookup.fields.contains(&at)) {
            diag.error_at(
                normalize.span,
                format!(
                    "nothing is found by `{0}`, so `normalize` has no effect: add \
                     `#[cached(index)]` to `{0}`, or remove it",
                    field.ident
                ),
            );
        } else if !is_text(&field.ty) {
            diag.error(
                &field.ty,
                "`normalize` gives texts one spelling: it goes with a `String` column",
            );
        }
    }
}

/// A list of keys is stored by the serde of the key's own types.
fn keys_have_serde(model: &Model, diag: &mut Diagnostics) {
    for field in model.fields.iter().filter(|field| field.attrs.primary_key) {
        if let Some(with) = &field.attrs.with {
            diag.error_at(
                with.span,
                "rows are found by other columns, so the cache keeps lists of primary keys: derive \
                 `Serialize` and `Deserialize` on the key's type and remove `with`",
            );
        }
    }
}

fn is_text(ty: &Type) -> bool {
    let is_string = |ty: &Type| last_segment(ty).is_some_and(|name| name == "String");
    is_string(ty) || inner_of_option(ty).is_some_and(is_string)
}

/// `T` of `Option<T>`.
pub(crate) fn inner_of_option(ty: &Type) -> Option<&Type> {
    let path = match ty {
        Type::Path(path) => path,
        Type::Group(group) => return inner_of_option(&group.elem),
        Type::Paren(paren) => return inner_of_option(&paren.elem),
        _ => return None,
    };
    let last = path.path.segments.last()?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else {
        return None;
    };
    let mut arguments: Vec<&GenericArgument> = {
        let all: &Punctuated<GenericArgument, Token![,]> = &arguments.args;
        all.iter().collect()
    };
    match (
        last.ident == "Option",
        arguments.pop(),
        arguments.is_empty(),
    ) {
        (true, Some(GenericArgument::Type(inner)), true) => Some(inner),
        _ => None,
    }
}
