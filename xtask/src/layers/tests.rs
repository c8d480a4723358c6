use std::collections::BTreeMap;

use super::*;

fn graph(files: &[(&str, &str)]) -> Graph {
    let sources: BTreeMap<String, String> = files
        .iter()
        .map(|(path, text)| ((*path).to_owned(), (*text).to_owned()))
        .collect();
    Graph::of(Crate::read(&sources).expect("the sources parse"))
}

/// `a.rs → b.rs` for each dependency; `⇒` for an implied one.
fn edges(files: &[(&str, &str)]) -> Vec<String> {
    let graph = graph(files);
    let shown = graph.edges.iter().map(|(&(from, to), edge)| {
        let arrow = if edge.implied { "⇒" } else { "→" };
        format!("{} {arrow} {}", graph.path(from), graph.path(to))
    });
    let mut shown: Vec<String> = shown.collect();
    shown.sort();
    shown
}

/// What a file `a.rs` with this text depends on, in a crate that has some of everything.
fn seen_in_a(text: &str) -> Vec<String> {
    let edges = edges(&[
        ("lib.rs", "mod a; mod b; mod c; pub use self::b::B as Root;"),
        ("a.rs", text),
        (
            "b.rs",
            "pub struct B; pub enum E { V } pub trait T {} pub fn f() {} pub const N: usize = 1;",
        ),
        ("c/mod.rs", "mod inner; pub use inner::*;"),
        ("c/inner.rs", "pub struct C; pub trait Ext {}"),
    ]);
    let edges = edges.into_iter().filter(|edge| edge.starts_with("a.rs"));
    edges.map(|edge| edge.replace("a.rs → ", "")).collect()
}

fn problems(layers: &str, files: &[(&str, &str)]) -> Vec<String> {
    let layers = Layers::parse(layers).expect("the list is well-formed");
    check(&graph(files), "src", &layers)
}

const NONE: [&str; 0] = [];

/// Goal: no spelling of a `use` hides what it imports.
#[test]
fn every_form_of_use_is_a_dependency() {
    for text in [
        "use crate::b::B;",
        "use super::b::B as Other;",
        "use self::super::b::B as _;",
        "use crate::{b::{self, f}};",
        "use super::{b::E::{self, V}};",
        "use crate::b::E::*;",
        "use crate::b::*;",
        "fn local() { use crate::b::B; }",
        "mod inline { use super::super::b::B; }",
        "pub(crate) use crate::b::B;",
        "use crate::b as other; fn f() { other::f() }",
        "use crate::b::made_by_a_macro;",
    ] {
        assert_eq!(seen_in_a(text), ["b.rs"], "{text}");
    }
    assert_eq!(seen_in_a("use crate::b;"), NONE, "nothing is used of it");
}

/// Goal: what is not imported but spelled out is found, wherever a path may stand.
#[test]
fn every_place_of_a_path_is_a_dependency() {
    for text in [
        "fn g() { crate::b::f() }",
        "fn g() -> usize { super::b::N }",
        "type X = Vec<Option<crate::b::B>>;",
        "fn g<X: crate::b::T>(_: X) {}",
        "fn g(_: impl Fn() -> crate::b::B) {}",
        "fn g<X>() where X: crate::b::T {}",
        "struct X([u8; crate::b::N]);",
        "struct X; impl crate::b::T for X {}",
        "fn g(x: X) { <X as crate::b::T>::h(x) }",
        "fn g(e: X) { match e { crate::b::E::V => {} } }",
        "fn g() { println!(\"{}\", crate::b::N) }",
        "fn g() { outer!(a => { inner![..crate::b::f()] }) }",
        "macro_rules! m { () => { $crate::b::f() } }",
        "fn g() { quote_spanned!(crate::b::f()=> text) }",
        "use crate::b; fn g() { vec![b::N] }",
    ] {
        assert_eq!(seen_in_a(text), ["b.rs"], "{text}");
    }
}

/// Goal: what only looks like a module of the crate is no dependency.
#[test]
fn names_of_other_crates_and_locals_are_not_dependencies() {
    for text in [
        "use std::fmt::{self, Debug};",
        "use ::b::B;",
        "fn g() { ::b::f() }",
        "fn g(b: usize) -> usize { b }",
        "struct X { b: u8 } fn g(x: X) -> u8 { vec![x.b][0] }",
        "fn g() { quote!(crate::b::f(); super::b::B) }",
        "fn g() { quote_spanned!(span=> crate::b::f()) }",
        "pub(in crate::b) struct X;",
    ] {
        assert_eq!(seen_in_a(text), NONE, "{text}");
    }
}

/// Goal: an import through the root or a parent counts for the file that defines the item.
#[test]
fn reexports_are_followed_to_the_definition() {
    for (text, expected) in [
        ("use crate::Root;", &["b.rs"][..]),
        ("fn g(_: crate::Root) {}", &["b.rs"]),
        ("use crate::c::C;", &["c/inner.rs"]),
        ("use super::c::C as X; fn g(_: X) {}", &["c/inner.rs"]),
        ("use crate::*; fn g(_: Root) {}", &["b.rs", "lib.rs"]),
        (
            "use crate::c::*; fn g(_: C) {}",
            &["c/inner.rs", "c/mod.rs"],
        ),
    ] {
        assert_eq!(seen_in_a(text), expected, "{text}");
    }
}

/// Goal: a parent may offer what its children define, and depends on what it uses itself.
#[test]
fn a_parents_reexport_is_no_dependency_but_its_import_is() {
    let with = |parent: &str| {
        edges(&[
            ("lib.rs", "mod p; pub use p::X;"),
            ("p/mod.rs", parent),
            ("p/child.rs", "pub struct X;"),
        ])
    };
    assert_eq!(with("mod child; pub use self::child::X;"), NONE);
    assert_eq!(with("mod child; pub use child::*;"), NONE);
    let uses = ["p/mod.rs → p/child.rs"];
    assert_eq!(with("mod child; use self::child::X;"), uses);
    assert_eq!(with("mod child; pub use child::X; fn f(_: X) {}"), uses);
    assert_eq!(with("mod child; fn f(_: child::X) {}"), uses);
}

/// Goal: a module that re-exports a function of its child's name does not confuse the search.
#[test]
fn a_module_and_a_function_may_share_their_name() {
    let edges = edges(&[
        ("lib.rs", "mod p; mod a; use a::a;"),
        ("p/mod.rs", "mod go; pub use go::{go, Way};"),
        ("p/go.rs", "pub fn go() {} pub struct Way;"),
        ("a.rs", "use crate::p::{go, Way}; pub fn a() { go() }"),
    ]);
    assert_eq!(edges, ["a.rs → p/go.rs", "lib.rs → a.rs"]);
}

/// Goal: methods that another file adds to a type are seen by all that have the type.
#[test]
fn an_inherent_impl_elsewhere_is_a_dependency_both_ways() {
    let files = [
        ("lib.rs", "mod p; mod other; mod user;"),
        ("p/mod.rs", "mod more; pub struct P; pub trait T {}"),
        ("p/more.rs", "use super::P; impl P { fn f() {} }"),
        (
            "other.rs",
            "use crate::p::{P as Q, T}; impl Q { fn g() {} } impl dyn T {} impl Clone for Q {}",
        ),
        ("user.rs", "use crate::p::P;"),
    ];
    assert_eq!(
        edges(&files),
        [
            "other.rs → p/mod.rs",
            "p/mod.rs ⇒ other.rs",
            "p/mod.rs ⇒ p/more.rs",
            "p/more.rs → p/mod.rs",
            "user.rs → p/mod.rs",
        ]
    );
    let problems = problems("p | user other", &files);
    let foreign: Vec<_> = problems.iter().filter(|p| p.contains("impl Q`")).collect();
    assert_eq!(
        foreign,
        [
            "src/other.rs: `impl Q`, line 1, adds methods to a type of p/mod.rs; move it there or \
             into a module below"
        ]
    );
    assert!(
        problems.iter().any(|p| p.contains("impl T`")),
        "{problems:?}"
    );
}

/// Goal: a child that adds methods is no circle, but what it hides is.
#[test]
fn an_added_method_closes_the_circle_that_it_hides() {
    let with = |more: &str, helper: &str| {
        problems(
            "crate p helper",
            &[
                ("lib.rs", "mod p; mod helper;"),
                ("p/mod.rs", "mod more; pub struct P;"),
                ("p/more.rs", more),
                ("helper.rs", helper),
            ],
        )
    };
    let more = "use super::P; impl P { fn f(&self) { crate::helper::help() } }";
    assert_eq!(with(more, "pub fn help() {}"), NONE);
    assert_eq!(
        with(more, "pub fn help() {}\nfn again(p: crate::p::P) { p.f() }"),
        ["src/helper.rs: in a circle of 3 files: \
             helper.rs → p/mod.rs (crate::p::P, line 2), \
             p/mod.rs → p/more.rs (impl P in p/more.rs, line 1), \
             p/more.rs → helper.rs (crate::helper::help, line 1)"]
    );
}

/// Goal: tests may import whatever they like, however they are marked.
#[test]
fn test_code_is_left_out() {
    for text in [
        "#[cfg(test)] mod tests { use crate::b::B; }",
        "#[cfg(test)] mod tests;",
        "#[cfg(all(test, feature = \"x\"))] use crate::b::B;",
        "#[cfg(test)] impl crate::b::B {}",
        "#[test] fn g() { crate::b::f() }",
        "#[tokio::test] async fn g() { crate::b::f() }",
        "struct X { #[cfg(test)] b: crate::b::B }",
        "struct X; impl X { #[cfg(test)] fn g(&self) { crate::b::f() } }",
        "fn g() { #[cfg(test)] crate::b::f(); #[cfg(test)] let x = crate::b::N; }",
        "fn g() { #[cfg(test)] { crate::b::f(); } }",
    ] {
        assert_eq!(seen_in_a(text), NONE, "{text}");
    }
    for text in [
        "#[cfg(not(test))] use crate::b::B;",
        "#[cfg(any(test, feature = \"x\"))] use crate::b::B;",
        "#[cfg(test)] fn g() {} fn h() { crate::b::f() }",
        "fn g() { #[cfg(test)] let x = 1; crate::b::f() }",
    ] {
        assert_eq!(seen_in_a(text), ["b.rs"], "{text}");
    }
}

/// Goal: modules are found where rustc finds them, and both files of a `cfg_attr` are read.
#[test]
fn files_are_found_as_rustc_finds_them() {
    let edges = edges(&[
        (
            "lib.rs",
            "mod a; #[path = \"odd.rs\"] mod named; mod z; mod inline { mod deep; }",
        ),
        (
            "a.rs",
            "mod below; use below::X; use crate::named::Y; fn f(_: z::Z) {}",
        ),
        ("a/below.rs", "pub struct X;"),
        ("odd.rs", "pub struct Y; use crate::pack::pack;"),
        (
            "z.rs",
            "#[cfg_attr(not(feature = \"lz4\"), path = \"no_pack.rs\")] mod pack; use pack::Pack;",
        ),
        ("z/pack.rs", "pub struct Pack;"),
        ("no_pack.rs", "pub struct Pack;"),
        ("inline/deep.rs", "use super::super::a::A;"),
    ]);
    assert_eq!(
        edges,
        [
            "a.rs → a/below.rs",
            "a.rs → odd.rs",
            "inline/deep.rs → a.rs",
            "odd.rs → lib.rs",
            "z.rs → no_pack.rs",
            "z.rs → z/pack.rs",
        ]
    );
    let missing = BTreeMap::from([("lib.rs".to_owned(), "mod gone;".to_owned())]);
    let error = Crate::read(&missing).expect_err("there is no such file");
    assert_eq!(error.to_string(), "gone.rs does not exist");
}

/// Goal: dependencies go down the list, and not between groups that are kept apart.
#[test]
fn a_file_depends_on_its_own_and_earlier_layers_only() {
    let files = [
        (
            "lib.rs",
            "mod low; mod read; mod write; mod near; use read::R;",
        ),
        ("low.rs", "use crate::near::N;"),
        (
            "read.rs",
            "use crate::low::L;\n\npub struct R; use crate::write::W;",
        ),
        ("write.rs", "use crate::low::L; pub struct W;"),
        (
            "near/mod.rs",
            "mod store; use crate::write::W; pub struct N;",
        ),
        ("near/store.rs", "use crate::low::L;"),
    ];
    let list = "
        low near::store
        read | write
        near
        crate
    ";
    let mut found = problems(list, &files);
    found.retain(|problem| !problem.contains("circle"));
    assert_eq!(
        found,
        [
            "src/low.rs: depends on a later layer: \
             low.rs → near/mod.rs (use crate::near::N, line 1)",
            "src/read.rs: depends on what its layer keeps apart: \
             read.rs → write.rs (use crate::write::W, line 3)",
        ]
    );
    assert!(problems(&list.replace('|', ""), &files).len() < 3);
}

/// Goal: the list names what there is, all of it, once.
#[test]
fn the_list_and_the_files_must_agree() {
    let files = [
        ("lib.rs", "mod reader; mod near;"),
        ("reader.rs", ""),
        ("near.rs", ""),
    ];
    assert_eq!(
        problems("read near", &files),
        [
            "src/lib.rs: in no layer; add `crate` to the list in xtask/src/layers.rs",
            "src/reader.rs: in no layer; add `reader` to the list in xtask/src/layers.rs",
            "src: no module `read`; take it out of the list of layers",
        ]
    );
    assert!(Layers::parse("a b\nc a").is_err());
}

/// Goal: a circle is reported once, with the shortest way around it.
#[test]
fn files_that_depend_on_each_other_are_reported_with_the_way() {
    let files = [
        ("lib.rs", "mod a; mod b; mod p;"),
        ("a.rs", "use crate::b::B;\npub struct A;"),
        ("b.rs", "\nuse crate::p::{X, P}; pub struct B;"),
        ("p/mod.rs", "pub mod x; pub use x::X; pub struct P;"),
        (
            "p/x.rs",
            "use super::P; pub struct X; fn f(_: crate::a::A) {}",
        ),
    ];
    assert_eq!(
        problems("a b p crate", &files),
        [
            "src/a.rs: in a circle of 3 files: a.rs → b.rs (use crate::b::B, line 1), \
             b.rs → p/x.rs (use crate::p::X, line 2), p/x.rs → a.rs (crate::a::A, line 1)"
        ]
    );
}

/// Goal: the lists can be read, and so can the crates they are about.
#[test]
fn the_libraries_can_be_checked() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = root.parent().expect("the workspace is above");
    super::problems(root).expect("both are read");
}
