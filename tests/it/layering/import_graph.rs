//! Which file needs which, and the circles among them.

use std::collections::{BTreeMap, BTreeSet};

use super::source_tree::{ModulePath, NamedPath, SourceFile};

/// File → the files that it names something of, by index.
pub(super) type ImportGraph = Vec<BTreeSet<usize>>;

/// The graph of these files, by what they import and by paths from `crate`, `super` and `self`. A
/// re-export alone is no need, and a name counts for the file that defines it, through any number
/// of re-exports.
pub(super) fn import_graph(files: &[SourceFile]) -> ImportGraph {
    let resolver = Resolver {
        files,
        modules: files
            .iter()
            .enumerate()
            .filter(|(_, file)| !file.module.is_empty())
            .map(|(index, file)| (file.module.clone(), index))
            .collect(),
    };
    let needs = |(index, file): (usize, &SourceFile)| {
        let found = file.paths.iter().filter_map(|path| {
            let absolute = absolute_path(file, path)?;
            resolver.defining_file(&absolute, &mut BTreeSet::new())
        });
        found.filter(|other| *other != index).collect()
    };
    files.iter().enumerate().map(needs).collect()
}

/// Groups of files that need each other, by place.
pub(super) fn circles(files: &[SourceFile], graph: &ImportGraph) -> Vec<Vec<String>> {
    let reach: Vec<BTreeSet<usize>> = (0..graph.len()).map(|at| reachable(graph, at)).collect();
    let mut found = BTreeSet::new();
    for at in 0..graph.len() {
        let group: BTreeSet<usize> = reach[at]
            .iter()
            .copied()
            .filter(|other| reach[*other].contains(&at))
            .collect();
        if group.len() > 1 {
            found.insert(group);
        }
    }
    let places = |group: BTreeSet<usize>| group.into_iter().map(|at| files[at].place.clone());
    found
        .into_iter()
        .map(|group| places(group).collect())
        .collect()
}

fn reachable(graph: &ImportGraph, from: usize) -> BTreeSet<usize> {
    let (mut found, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(at) = open.pop() {
        open.extend(graph[at].iter().copied().filter(|next| found.insert(*next)));
    }
    found
}

struct Resolver<'a> {
    files: &'a [SourceFile],
    modules: BTreeMap<ModulePath, usize>,
}

impl Resolver<'_> {
    fn defining_file(
        &self,
        path: &[String],
        seen: &mut BTreeSet<(usize, String)>,
    ) -> Option<usize> {
        let known = (1..=path.len()).rev().find_map(|length| {
            let file = self.modules.get(&path[..length])?;
            Some((*file, &path[length..]))
        });
        let (index, rest) = known?;
        let file = &self.files[index];
        let Some(name) = rest.first() else {
            return Some(index);
        };
        if file.items.contains(name) || !seen.insert((index, name.clone())) {
            return Some(index);
        }
        for reexport in &file.reexports {
            let target = join_paths(&file.module, &reexport.segments);
            if reexport.alias.as_ref() == Some(name) {
                return self.defining_file(&[target, rest[1..].to_vec()].concat(), seen);
            }
            if reexport.alias.is_none() {
                let found = self.defining_file(&[target, rest.to_vec()].concat(), seen);
                if let Some(found) = found.filter(|at| self.files[*at].items.contains(name)) {
                    return Some(found);
                }
            }
        }
        Some(index)
    }
}

/// The path from the crate's root; `None` for a path of another crate, or one that begins with
/// an imported name: the import counts.
fn absolute_path(file: &SourceFile, path: &NamedPath) -> Option<ModulePath> {
    let first = path.segments.first()?;
    let is_relative = matches!(first.as_str(), "crate" | "super" | "self");
    let is_child_import = path.is_import && file.children.contains(first);
    (is_relative || is_child_import).then(|| join_paths(&path.inside, &path.segments))
}

/// `names`, as written in the module `inside`, from the crate's root.
fn join_paths(inside: &[String], names: &[String]) -> ModulePath {
    let mut base = inside.to_vec();
    let mut names = names;
    while let [first, rest @ ..] = names {
        match first.as_str() {
            "crate" => base.clear(),
            "super" => {
                base.pop();
            }
            "self" => {}
            _ => break,
        }
        names = rest;
    }
    [base, names.to_vec()].concat()
}
