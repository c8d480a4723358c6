//! Reads the sources of one crate: its files, its modules with their names, and every path that
//! the code mentions.
//!
//! Test code is left out: `#[cfg(test)]`, `#[test]`, and files that only such a `mod` reaches.
//! Nothing is resolved here, and macros are not expanded: their tokens are searched for paths.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result, anyhow};
use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{
    Attribute, Expr, Item, Lit, Macro, Meta, Token, Type, TypeParamBound, UseTree, Visibility,
    ext::IdentExt, punctuated::Punctuated,
};

/// A path as it is written, by segments.
pub(super) type Segments = Vec<String>;

/// What was read of one crate.
#[derive(Debug, Default)]
pub(super) struct Crate {
    pub(super) files: Vec<File>,
    /// The first one is the crate's root.
    pub(super) modules: Vec<Module>,
    pub(super) mentions: Vec<Mention>,
}

#[derive(Debug)]
pub(super) struct File {
    /// Relative to the crate's `src`.
    pub(super) path: String,
    /// `read::audit`; `crate` for the root.
    pub(super) module: String,
}

/// A file, or an inline module in one.
#[derive(Debug)]
pub(super) struct Module {
    pub(super) file: usize,
    pub(super) parent: Option<usize>,
    /// One name may stand for several things: a module, a function and a type, say.
    pub(super) names: HashMap<String, Vec<Name>>,
    pub(super) globs: Vec<Segments>,
}

#[derive(Debug)]
pub(super) enum Name {
    Item,
    Module(usize),
    Import(Segments),
    Reexport(Segments),
}

/// A path in the code of a module.
#[derive(Debug)]
pub(super) struct Mention {
    pub(super) module: usize,
    pub(super) line: usize,
    pub(super) path: Segments,
    pub(super) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// In an expression, a type, a bound, a pattern, or the tokens of a macro.
    Path,
    /// A private `use`; a glob's path ends with `*`.
    Use,
    /// A `use` that others can import from.
    Reexport,
    /// The type of an `impl` without a trait.
    InherentImpl,
}

impl Crate {
    /// Reads what `lib.rs` reaches of the files, which are named relative to `src`.
    pub(super) fn read(sources: &BTreeMap<String, String>) -> Result<Self> {
        let mut scan = Scan {
            sources,
            found: Self::default(),
            unread: Vec::new(),
            module: 0,
            directory: String::new(),
            in_test: false,
        };
        scan.add_file("lib.rs".to_owned(), "crate".to_owned(), None);
        while let Some(module) = scan.unread.pop() {
            let path = scan.found.files[scan.found.modules[module].file]
                .path
                .clone();
            let text = sources
                .get(&path)
                .with_context(|| format!("{path} does not exist"))?;
            let file = syn::parse_file(text)
                .map_err(|error| anyhow!("{path}:{}: {error}", error.span().start().line))?;
            scan.module = module;
            scan.directory = children_of(&path);
            scan.visit_file(&file);
        }
        Ok(scan.found)
    }
}

struct Scan<'a> {
    sources: &'a BTreeMap<String, String>,
    found: Crate,
    /// Modules whose files are still to be read.
    unread: Vec<usize>,
    module: usize,
    /// Where the files of this module's children are.
    directory: String,
    in_test: bool,
}

impl Scan<'_> {
    fn add_file(&mut self, path: String, module: String, parent: Option<usize>) -> usize {
        self.found.files.push(File { path, module });
        let module = self.add_module(self.found.files.len() - 1, parent);
        self.unread.push(module);
        module
    }

    fn add_module(&mut self, file: usize, parent: Option<usize>) -> usize {
        self.found.modules.push(Module {
            file,
            parent,
            names: HashMap::new(),
            globs: Vec::new(),
        });
        self.found.modules.len() - 1
    }

    fn name(&mut self, name: String, what: Name) {
        let names = &mut self.found.modules[self.module].names;
        names.entry(name).or_default().push(what);
    }

    fn mention(&mut self, path: Segments, span: Span, kind: Kind) {
        if !self.in_test && !path.is_empty() {
            self.found.mentions.push(Mention {
                module: self.module,
                line: span.start().line,
                path,
                kind,
            });
        }
    }

    /// A `mod name;` has one file, or several if a `cfg_attr` chooses between them.
    fn declare(&mut self, name: &str, attributes: &[Attribute]) {
        let file = &self.found.files[self.found.modules[self.module].file];
        let module = match file.module.as_str() {
            "crate" => name.to_owned(),
            parent => format!("{parent}::{name}"),
        };
        let named = attributes.iter().filter_map(path_in);
        let mut paths: Vec<String> = named
            .map(|path| format!("{}{path}", directory_of(&file.path)))
            .collect();
        if !attributes.iter().any(|a| a.path().is_ident("path")) {
            let folder = format!("{}{name}/mod.rs", self.directory);
            paths.push(match self.sources.contains_key(&folder) {
                true => folder,
                false => format!("{}{name}.rs", self.directory),
            });
        }
        for path in paths {
            let child = self.add_file(path, module.clone(), Some(self.module));
            self.name(name.to_owned(), Name::Module(child));
        }
    }

    fn use_tree(&mut self, tree: &UseTree, prefix: &mut Segments, kind: Kind) {
        let (item, alias) = match tree {
            UseTree::Path(path) => {
                prefix.push(text(&path.ident));
                self.use_tree(&path.tree, prefix, kind);
                prefix.pop();
                return;
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.use_tree(tree, prefix, kind);
                }
                return;
            }
            UseTree::Glob(glob) => {
                let globs = &mut self.found.modules[self.module].globs;
                globs.push(prefix.clone());
                let path = [prefix.as_slice(), &["*".to_owned()]].concat();
                return self.mention(path, glob.star_token.spans[0], kind);
            }
            UseTree::Name(name) => (&name.ident, &name.ident),
            UseTree::Rename(name) => (&name.ident, &name.rename),
        };
        let mut path = prefix.clone();
        if item != "self" {
            path.push(text(item));
        }
        let alias = if alias == "self" {
            path.last().cloned().unwrap_or_default()
        } else {
            text(alias)
        };
        self.name(
            alias,
            match kind {
                Kind::Reexport => Name::Reexport(path.clone()),
                _ => Name::Import(path.clone()),
            },
        );
        self.mention(path, item.span(), kind);
    }

    /// Searches what a macro is given, or is made of, for paths.
    fn tokens(&mut self, tokens: impl IntoIterator<Item = TokenTree>) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let is = |at: Option<usize>, sign: char| {
            at.and_then(|at| tokens.get(at))
                .is_some_and(|token| matches!(token, TokenTree::Punct(p) if p.as_char() == sign))
        };
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            if let TokenTree::Group(group) = token {
                self.tokens(group.stream());
            } else if let TokenTree::Ident(first) = token {
                let (one, two) = (at.checked_sub(1), at.checked_sub(2));
                let field = is(one, '.') && !is(two, '.');
                let tail = is(one, ':') && is(two, ':');
                let mut path = vec![text(first)];
                while is(Some(at + 1), ':') && is(Some(at + 2), ':') {
                    let Some(TokenTree::Ident(next)) = tokens.get(at + 3) else {
                        break;
                    };
                    path.push(text(next));
                    at += 3;
                }
                if !field && !tail {
                    self.mention(path, first.span(), Kind::Path);
                }
            }
            at += 1;
        }
    }
}

/// Overrides these visits so that a `#[cfg(test)]` on a node ends with the node.
macro_rules! ends_with_its_node {
    ($($visit:ident: $node:ident),* $(,)?) => {$(
        fn $visit(&mut self, node: &'ast syn::$node) {
            let before = self.in_test;
            visit::$visit(self, node);
            self.in_test = before;
        }
    )*};
}

impl<'ast> Visit<'ast> for Scan<'_> {
    ends_with_its_node! {
        visit_arm: Arm,
        visit_expr: Expr,
        visit_field: Field,
        visit_field_value: FieldValue,
        visit_file: File,
        visit_impl_item: ImplItem,
        visit_local: Local,
        visit_stmt_macro: StmtMacro,
        visit_trait_item: TraitItem,
        visit_variant: Variant,
    }

    /// A node's attributes are visited before the rest of it.
    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        self.in_test |= is_test(attribute);
    }

    fn visit_item(&mut self, item: &'ast Item) {
        let defined = match item {
            Item::Const(item) => Some(&item.ident),
            Item::Enum(item) => Some(&item.ident),
            Item::Fn(item) => Some(&item.sig.ident),
            Item::Macro(item) => item.ident.as_ref(),
            Item::Static(item) => Some(&item.ident),
            Item::Struct(item) => Some(&item.ident),
            Item::Trait(item) => Some(&item.ident),
            Item::Type(item) => Some(&item.ident),
            Item::Union(item) => Some(&item.ident),
            _ => None,
        };
        if let Some(ident) = defined {
            self.name(text(ident), Name::Item);
        }
        let before = self.in_test;
        visit::visit_item(self, item);
        self.in_test = before;
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if self.in_test || item.attrs.iter().any(is_test) {
            return;
        }
        let name = text(&item.ident);
        let Some((_, items)) = &item.content else {
            return self.declare(&name, &item.attrs);
        };
        let parent = self.module;
        let child = self.add_module(self.found.modules[parent].file, Some(parent));
        let outside = format!("{}{name}/", self.directory);
        let outside = std::mem::replace(&mut self.directory, outside);
        self.name(name, Name::Module(child));
        self.module = child;
        for item in items {
            self.visit_item(item);
        }
        self.module = parent;
        self.directory = outside;
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let external = item.leading_colon.is_some();
        if !self.in_test && !external && !item.attrs.iter().any(is_test) {
            let kind = match item.vis {
                Visibility::Inherited => Kind::Use,
                _ => Kind::Reexport,
            };
            self.use_tree(&item.tree, &mut Vec::new(), kind);
        }
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if item.trait_.is_none()
            && !item.attrs.iter().any(is_test)
            && let Some(path) = path_of(&item.self_ty)
        {
            self.mention(segments(path), item.impl_token.span, Kind::InherentImpl);
        }
        visit::visit_item_impl(self, item);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if let (None, Some(first)) = (path.leading_colon, path.segments.first()) {
            self.mention(segments(path), first.ident.span(), Kind::Path);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast Macro) {
        self.visit_path(&item.path);
        let name = item.path.segments.last().map(|last| text(&last.ident));
        let name = name.unwrap_or_default();
        if name.starts_with("quote") || name.starts_with("parse_quote") {
            // What is quoted is code of another crate; what `quote_spanned!` has before it is not.
            if name.ends_with("_spanned") {
                self.tokens(before_arrow(item.tokens.clone()));
            }
        } else {
            self.tokens(item.tokens.clone());
        }
    }
}

fn text(ident: &Ident) -> String {
    ident.unraw().to_string()
}

fn segments(path: &syn::Path) -> Segments {
    path.segments.iter().map(|s| text(&s.ident)).collect()
}

fn path_of(ty: &Type) -> Option<&syn::Path> {
    match ty {
        Type::Path(ty) if ty.qself.is_none() && ty.path.leading_colon.is_none() => Some(&ty.path),
        Type::Group(ty) => path_of(&ty.elem),
        Type::Paren(ty) => path_of(&ty.elem),
        Type::TraitObject(ty) => ty.bounds.iter().find_map(|bound| match bound {
            TypeParamBound::Trait(bound) => Some(&bound.path),
            _ => None,
        }),
        _ => None,
    }
}

fn before_arrow(tokens: TokenStream) -> impl Iterator<Item = TokenTree> {
    let mut tokens = tokens.into_iter().peekable();
    std::iter::from_fn(move || {
        let token = tokens.next()?;
        let arrow = matches!(&token, TokenTree::Punct(p) if p.as_char() == '=')
            && matches!(tokens.peek(), Some(TokenTree::Punct(p)) if p.as_char() == '>');
        (!arrow).then_some(token)
    })
    .fuse()
}

/// Whether an attribute keeps its node out of every build but that of the tests.
fn is_test(attribute: &Attribute) -> bool {
    let last = attribute.path().segments.last();
    if attribute.path().is_ident("cfg") {
        attribute.parse_args().is_ok_and(|meta| needs_test(&meta))
    } else {
        last.is_some_and(|last| last.ident == "test")
    }
}

fn needs_test(condition: &Meta) -> bool {
    match condition {
        Meta::Path(path) => path.is_ident("test"),
        Meta::List(list) if list.path.is_ident("all") => list
            .parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated)
            .is_ok_and(|all| all.iter().any(needs_test)),
        _ => false,
    }
}

/// The file that `#[path = "…"]` or `#[cfg_attr(…, path = "…")]` names.
fn path_in(attribute: &Attribute) -> Option<String> {
    let nested = attribute.path().is_ident("cfg_attr").then(|| {
        attribute
            .parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated)
            .unwrap_or_default()
    });
    let mut metas = nested.iter().flatten().chain([&attribute.meta]);
    metas.find_map(|meta| match meta {
        Meta::NameValue(pair) if pair.path.is_ident("path") => match &pair.value {
            Expr::Lit(syn::ExprLit {
                lit: Lit::Str(path),
                ..
            }) => Some(path.value()),
            _ => None,
        },
        _ => None,
    })
}

/// `read/` of `read/audit.rs`.
fn directory_of(path: &str) -> &str {
    path.rfind('/').map_or("", |slash| &path[..=slash])
}

/// `read/audit/` of `read/audit.rs`, `read/` of `read/mod.rs`.
fn children_of(path: &str) -> String {
    match path.strip_suffix(".rs") {
        Some(stem) if stem != "lib" && !stem.ends_with("/mod") => format!("{stem}/"),
        _ => directory_of(path).to_owned(),
    }
}
