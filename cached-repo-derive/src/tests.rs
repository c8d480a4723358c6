//! The whole derive, from tokens to tokens: the golden expansion, and what the schema
//! fingerprint depends on. Its messages are tested in `tests/ui`, where rustc shows them.

use std::{env, fs, path::Path};

use proc_macro2::TokenStream;
use quote::quote;

use crate::{cached_entity, diag::list, expand::compact, types::VERSION_TYPES};

/// The golden expansions.
const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/expansion");
/// What a user can still read in one go.
const MAX_LINES: usize = 150;

/// Goal: a reader sees what the derive writes. Refresh it with `UPDATE_EXPECT=1`.
#[test]
fn the_expansion_of_a_representative_model_is_the_checked_in_one() {
    let model = quote! {
        #[sea_orm(table_name = "user")]
        #[cached(ttl = "10m", negative_ttl = "1500ms", name = "person", repository = "Users")]
        #[cached(unique(team_id, r#type, name = "role"))]
        #[cached(index(team_id, where = "type IS NULL AND mail <> 'a'", name = "guests"))]
        pub struct Model {
            #[sea_orm(primary_key)]
            pub id: i64,
            #[sea_orm(column_name = "mail", unique)]
            #[cached(normalize = "str::to_lowercase")]
            pub email: String,
            #[cached(index(max_rows = 100))]
            pub team_id: i64,
            pub r#type: Option<Kind>,
            #[cached(with = "crate::codec::tags")]
            pub tags: Tags,
            #[sea_orm(ignore)]
            pub draft: bool,
            #[cached(version)]
            pub version: i64,
        }
    };
    assert_golden("user.rs", &printed(model));
}

/// Goal: the expansion of an ordinary entity stays short, since every entity of a program pays for it.
#[test]
fn ten_columns_and_two_lookups_expand_to_less_than_150_lines() {
    let expansion = printed(quote! {
        #[sea_orm(table_name = "account")]
        #[cached(ttl = "10m")]
        pub struct Model {
            #[sea_orm(primary_key)]
            pub id: i64,
            #[sea_orm(unique)]
            pub email: String,
            #[cached(index)]
            pub team_id: i64,
            pub name: String,
            pub role: Role,
            pub active: bool,
            pub balance: Decimal,
            pub bio: Option<String>,
            pub created_at: DateTimeUtc,
            #[cached(version)]
            pub version: i64,
        }
    });
    assert_golden("account.rs", &expansion);
    let lines = expansion.lines().count();
    assert!(
        lines < MAX_LINES,
        "the expansion has {lines} lines, and must have less than {MAX_LINES}"
    );
}

/// The expansion as `rustfmt` would print it.
fn printed(model: TokenStream) -> String {
    let file = syn::parse2(cached_entity(model)).expect("the expansion is a list of items");
    prettyplease::unparse(&file)
}

fn assert_golden(name: &str, expansion: &str) {
    let path = Path::new(GOLDEN).join(name);
    let actual = format!(
        "// What `#[derive(CachedEntity)]` writes for a model in `src/tests.rs`.\n\
         // Refresh with `UPDATE_EXPECT=1 cargo test -p cached-repo-derive`.\n\n{expansion}"
    );
    if env::var_os("UPDATE_EXPECT").is_some() {
        fs::create_dir_all(GOLDEN).expect("the golden folder can be made");
        fs::write(&path, &actual).expect("the golden file can be written");
    }
    let expected = fs::read_to_string(&path).expect("the golden file can be read");
    assert!(
        actual == expected,
        "the expansion changed; if that is meant, run again with UPDATE_EXPECT=1 and read the \
         difference\n{actual}"
    );
}

/// Goal: the struct beside a dense model gets no second repository.
#[test]
fn the_twin_of_a_dense_model_expands_to_nothing() {
    let twin = quote! {
        #[cached(ttl = "10m")]
        pub struct ModelEx {
            #[sea_orm(primary_key)]
            pub id: i64,
            #[sea_orm(has_many)]
            pub posts: HasMany<super::post::Entity>,
        }
    };
    assert!(cached_entity(twin).is_empty());
}

/// Goal: the name of a group is any text to SeaORM, and a method's name is not.
#[test]
fn the_name_of_a_unique_group_becomes_part_of_a_method_whatever_it_is() {
    let expansion = cached_entity(quote! {
        pub struct Model {
            #[sea_orm(primary_key)]
            pub id: i64,
            #[sea_orm(unique_key = "user-email 1")]
            pub team: i64,
            #[sea_orm(unique_key = "user-email 1")]
            pub email: i64,
        }
    });
    let text = expansion.to_string();
    assert!(text.contains("async fn find_by_user_email_1 ("), "{text}");
    assert!(text.contains("async fn find_by_user_email_1s ("), "{text}");
}

/// The lines that the expansion hands to `fingerprint`.
fn fingerprint_of(fields: TokenStream) -> String {
    fingerprint_in(&cached_entity(quote!(pub struct Model { #fields })).to_string())
}

fn fingerprint_in(expansion: &str) -> String {
    let text = compact(expansion);
    let (_, text) = text.split_once("fingerprint(\"").expect("a fingerprint");
    let (columns, _) = text.split_once("\")").expect("the end of the fingerprint");
    columns.to_owned()
}

/// Goal: a deploy that changes what is stored reads the old entries as misses.
#[test]
fn renaming_reordering_retyping_or_recoding_a_column_changes_the_fingerprint() {
    let fields = fingerprint_of(quote!(id: i64, tags: Vec<String>));
    assert_eq!(fields, r"id:i64\ntags:Vec<String>");
    for changed in [
        quote!(id: i64, labels: Vec<String>),
        quote!(tags: Vec<String>, id: i64),
        quote!(id: i32, tags: Vec<String>),
        quote!(id: i64),
        quote!(id: i64, tags: Vec<String>, more: i64),
        quote!(id: i64, #[sea_orm(column_name = "labels")] tags: Vec<String>),
        quote!(id: i64, #[cached(with = "codec")] tags: Vec<String>),
        // One column whose name is written like two columns.
        quote!(#[sea_orm(column_name = "id:i64\ntags")] tags: Vec<String>),
    ] {
        assert_ne!(fingerprint_of(changed), fields);
    }
}

/// Goal: a deploy that changes the codec reads the old entries as misses.
#[test]
fn another_codec_changes_the_fingerprint_and_another_size_to_compress_does_not() {
    let texts = |options: TokenStream| {
        let expansion = cached_entity(quote!(
            #[cached(#options)]
            pub struct Model {
                id: i64,
            }
        ));
        fingerprint_in(&expansion.to_string())
    };
    let plain = texts(quote!());
    assert_ne!(texts(quote!(codec = "json")), plain);
    assert_eq!(texts(quote!(codec = "messagepack")), plain);
    assert_eq!(texts(quote!(compress_above = "1KiB")), plain);
}

/// Goal: a change that leaves the stored bytes alone keeps the cache warm.
#[test]
fn attributes_visibility_and_ignored_fields_leave_the_fingerprint_alone() {
    assert_eq!(
        fingerprint_of(quote! {
            #[sea_orm(primary_key, auto_increment = false, extra(anything = "goes"))]
            pub id: i64,
            #[sea_orm(ignore)]
            pub draft: bool,
            #[serde(skip_serializing)]
            #[cached(version)]
            pub r#type: i64,
        }),
        fingerprint_of(quote!(id: i64, r#type: i64)),
    );
}

/// Goal: another compiler prints the same tokens with other spaces, and the cache stays warm.
#[test]
fn the_spaces_between_tokens_do_not_reach_the_fingerprint() {
    assert_eq!(compact("Vec < Option <i64 > >"), "Vec<Option<i64>>");
    assert_eq!(
        compact("Box < dyn  Any + 'static >"),
        "Box<dyn Any+'static>"
    );
}

/// Goal: the list that users read is the one that is checked.
#[test]
fn the_docs_list_every_type_of_a_version_column() {
    assert!(include_str!("lib.rs").contains(&list(VERSION_TYPES)));
}
