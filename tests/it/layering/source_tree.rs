//! The source files of the crate, read with `syn`: what each defines, re-exports and names. Test
//! code (`#[cfg(test)]`) is left out.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use proc_macro2::{Ident, TokenStream, TokenTree};
use syn::{
    Attribute, ImplItem, Item, ItemMod, ItemUse, Meta, UseTree, Visibility,
    visit::{self, Visit},
};

/// A module's path in the crate: `crate::core::policy` is `["core", "policy"]`.
pub(super) type ModulePath = Vec<String>;

/// One source file.
#[derive(Debug, Default)]
pub(super) struct SourceFile {
    /// The path below `src/`, without `.rs` and `/mod`.
    pub place: String,
    pub module: ModulePath,
    /// The names of the items that it defines.
    pub items: BTreeSet<String>,
    /// Its child modules in other files.
    pub children: BTreeSet<String>,
    /// Paths in code and in private imports.
    pub paths: Vec<NamedPath>,
    /// The names that it imports, also those that it re-exports.
    pub imported: BTreeSet<String>,
    pub reexports: Vec<Reexport>,
    /// The names of macros that are called, with the line.
    pub macros: Vec<(usize, String)>,
}

/// A path as it is written, with where.
#[derive(Debug)]
pub(super) struct NamedPath {
    pub line: usize,
    pub segments: Vec<String>,
    /// The module that the path is written in; differs from the file's in a module with braces.
    pub inside: ModulePath,
    /// True in `use`, where the first segment is a crate, `crate`, `self`, `super` or a child.
    pub is_import: bool,
}

/// `pub use` of a name, or of all names of a module.
#[derive(Debug)]
pub(super) struct Reexport {
    pub line: usize,
    /// `None` for a glob.
    pub alias: Option<String>,
    pub segments: Vec<String>,
}

/// Reads the files of `src/` that `lib.rs` and `main.rs` declare, one after the other.
pub(super) fn read_crate(src: &Path) -> Vec<SourceFile> {
    let read = |path: &Path| fs::read_to_string(path).ok();
    let mut files = Vec::new();
    for root in ["lib", "main"] {
        read_module(&read, src, &src.join(format!("{root}.rs")), &[], &mut files);
    }
    files
}

/// The same of texts by their path below `src/`.
pub(super) fn read_texts(texts: &BTreeMap<&str, &str>) -> Vec<SourceFile> {
    let read = |path: &Path| texts.get(path.to_str()?).map(|text| (*text).to_owned());
    let mut files = Vec::new();
    read_module(&read, Path::new(""), Path::new("lib.rs"), &[], &mut files);
    files
}

impl SourceFile {
    /// One file of this text, without its children.
    pub(super) fn parse(place: &str, text: &str) -> Self {
        let module = place
            .split('/')
            .filter(|part| !matches!(*part, "lib" | "main"));
        let mut file = Self {
            place: place.to_owned(),
            module: module.map(ToOwned::to_owned).collect(),
            ..Self::default()
        };
        let syntax = syn::parse_file(text).unwrap_or_else(|error| panic!("{place}: {error}"));
        let inside = file.module.clone();
        let mut reader = Reader {
            file: &mut file,
            inside,
        };
        reader.visit_file(&syntax);
        file
    }
}

fn read_module(
    read: &impl Fn(&Path) -> Option<String>,
    src: &Path,
    path: &Path,
    module: &[String],
    files: &mut Vec<SourceFile>,
) {
    let text = read(path).unwrap_or_else(|| panic!("{} does not exist", path.display()));
    let relative = path
        .strip_prefix(src)
        .expect("below src")
        .with_extension("");
    let place = relative
        .to_string_lossy()
        .trim_end_matches("/mod")
        .to_owned();
    let file = SourceFile {
        module: module.to_vec(),
        ..SourceFile::parse(&place, &text)
    };
    let folder = src.join(module.join("/"));
    let children: Vec<String> = file.children.iter().cloned().collect();
    files.push(file);
    for child in children {
        let candidates = [
            folder.join(format!("{child}.rs")),
            folder.join(&child).join("mod.rs"),
        ];
        let path = candidates.into_iter().find(|path| read(path).is_some());
        let path: PathBuf =
            path.unwrap_or_else(|| panic!("{place} declares {child}, without a file"));
        let child_module = [module.to_vec(), vec![child]].concat();
        read_module(read, src, &path, &child_module, files);
    }
}

/// Collects what one file says.
struct Reader<'a> {
    file: &'a mut SourceFile,
    inside: ModulePath,
}

impl Reader<'_> {
    fn add_path(&mut self, line: usize, segments: Vec<String>, is_import: bool) {
        self.file.paths.push(NamedPath {
            line,
            segments,
            inside: self.inside.clone(),
            is_import,
        });
    }

    fn add_imports(&mut self, item: &ItemUse) {
        let line = item.use_token.span.start().line;
        let is_public = !matches!(item.vis, Visibility::Inherited);
        for (segments, alias) in flatten_use_tree(&item.tree) {
            self.file.imported.extend(alias.clone());
            if is_public {
                self.file.reexports.push(Reexport {
                    line,
                    alias,
                    segments,
                });
            } else {
                self.add_path(line, segments, true);
            }
        }
    }

    /// Paths and macros in the tokens of a macro call or an attribute, which `syn` does not parse.
    fn add_tokens(&mut self, tokens: &TokenStream) {
        let tokens: Vec<TokenTree> = tokens.clone().into_iter().collect();
        let is_punct = |at: usize, c: char| matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == c);
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Group(group) => self.add_tokens(&group.stream()),
                TokenTree::Ident(ident) => {
                    let mut segments = vec![ident.to_string()];
                    while is_punct(at + 1, ':') && is_punct(at + 2, ':') {
                        let Some(TokenTree::Ident(next)) = tokens.get(at + 3) else {
                            break;
                        };
                        segments.push(next.to_string());
                        at += 3;
                    }
                    let line = ident.span().start().line;
                    if is_punct(at + 1, '!') && !is_punct(at + 2, '=') {
                        self.file
                            .macros
                            .push((line, segments.last().cloned().unwrap_or_default()));
                    }
                    self.add_path(line, segments, false);
                }
                _ => {}
            }
            at += 1;
        }
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if is_for_tests(item_attributes(item)) {
            return;
        }
        self.file
            .items
            .extend(item_name(item).map(ToString::to_string));
        visit::visit_item(self, item);
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        let attributes = match item {
            ImplItem::Fn(function) => &function.attrs,
            ImplItem::Const(constant) => &constant.attrs,
            _ => return visit::visit_impl_item(self, item),
        };
        if !is_for_tests(attributes) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.add_imports(item);
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        let name = item.ident.to_string();
        if item.content.is_none() {
            self.file.children.insert(name);
            return;
        }
        self.inside.push(name);
        visit::visit_item_mod(self, item);
        self.inside.pop();
    }

    /// `pub(super)` names no need.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let line = path
            .segments
            .first()
            .map_or(0, |first| first.ident.span().start().line);
        let segments = path
            .segments
            .iter()
            .map(|segment| segment.ident.to_string());
        self.add_path(line, segments.collect(), false);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        let last = call.path.segments.last().map(|segment| &segment.ident);
        if let Some(name) = last {
            self.file
                .macros
                .push((name.span().start().line, name.to_string()));
        }
        self.visit_path(&call.path);
        self.add_tokens(&call.tokens);
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if let Meta::List(list) = &attribute.meta {
            self.add_tokens(&list.tokens);
        }
    }
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) => list.path.is_ident("cfg") && list.tokens.to_string() == "test",
        Meta::Path(path) => path.is_ident("test"),
        Meta::NameValue(_) => false,
    })
}

fn item_attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn item_name(item: &Item) -> Option<&Ident> {
    Some(match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        _ => return None,
    })
}

/// Each path of a `use` tree, with the name that it is known by; `None` for a glob, whose path is
/// that of the module.
fn flatten_use_tree(tree: &UseTree) -> Vec<(Vec<String>, Option<String>)> {
    let under = |name: &Ident, inner: Vec<(Vec<String>, Option<String>)>| {
        let prefix = |(segments, alias): (Vec<String>, Option<String>)| {
            let own = alias.clone().filter(|alias| alias != "self");
            let path = [vec![name.to_string()], segments].concat();
            (
                path,
                if alias.is_some() {
                    own.or_else(|| Some(name.to_string()))
                } else {
                    None
                },
            )
        };
        inner.into_iter().map(prefix).collect()
    };
    match tree {
        UseTree::Path(path) => under(&path.ident, flatten_use_tree(&path.tree)),
        UseTree::Name(name) if name.ident == "self" => vec![(Vec::new(), Some("self".to_owned()))],
        UseTree::Name(name) => vec![(vec![name.ident.to_string()], Some(name.ident.to_string()))],
        UseTree::Rename(rename) => {
            let path = (rename.ident != "self").then(|| rename.ident.to_string());
            vec![(path.into_iter().collect(), Some(rename.rename.to_string()))]
        }
        UseTree::Glob(_) => vec![(Vec::new(), None)],
        UseTree::Group(group) => group.items.iter().flat_map(flatten_use_tree).collect(),
    }
}
