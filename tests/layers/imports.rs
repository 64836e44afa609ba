//! Which file of a crate uses which: `use` declarations and paths in the code, resolved to the file that defines the item.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{Source, is_word};

type Names = Vec<String>;

/// One name that a `use` brings in.
struct Use {
    path: Names,
    /// `*` for all of a module.
    name: String,
    /// `pub use`: the name passes through, which is no import of its own.
    passes: bool,
}

/// What one file says.
struct Said {
    module: Names,
    uses: Vec<Use>,
    /// Paths in the code, of two names or more.
    paths: Vec<Names>,
    /// Words in the code apart from `use` declarations.
    words: BTreeSet<String>,
    children: BTreeSet<String>,
    defines: BTreeSet<String>,
}

/// The files of one crate and what they use.
pub struct Crate {
    files: BTreeMap<String, Said>,
    of_module: BTreeMap<Names, String>,
}

/// `src/codec/block/mod.rs` below `src` is the module codec, block.
fn module(path: &str) -> Names {
    let names = path.trim_end_matches(".rs").split('/').map(str::to_string);
    let mut names: Names = names.collect();
    if names.last().is_some_and(|last| matches!(last.as_str(), "mod" | "lib" | "main")) {
        names.pop();
    }
    names
}

/// The tree of one `use`, from token `i` on, below a prefix; returns the index after it.
fn tree(source: &Source, mut i: usize, mut path: Names, out: &mut Vec<(Names, String)>) -> usize {
    loop {
        match source.text(i) {
            "{" => {
                i += 1;
                while source.text(i) != "}" {
                    i = tree(source, i, path.clone(), out);
                    i += usize::from(source.text(i) == ",");
                }
                return i + 1;
            }
            "::" => {}
            "self" if !path.is_empty() => {}
            word => path.push(word.to_string()),
        }
        i += 1;
        if !matches!(source.text(i), "::" | "{") && source.text(i - 1) != "::" {
            break;
        }
    }
    let mut name = path.last().unwrap().clone();
    if source.text(i) == "as" {
        name = source.text(i + 1).to_string();
        i += 2;
    }
    out.push((path, name));
    i
}

impl Said {
    fn of(source: &Source, module: Names) -> Said {
        let mut said = Said {
            module,
            uses: Vec::new(),
            paths: Vec::new(),
            words: BTreeSet::new(),
            children: BTreeSet::new(),
            defines: BTreeSet::new(),
        };
        let mut i = 0;
        while i < source.tokens.len() {
            i = said.read(source, i);
        }
        said
    }

    /// Takes what stands at token `i`; returns the index after it.
    fn read(&mut self, source: &Source, i: usize) -> usize {
        let (word, next) = (source.text(i), source.text(i + 1));
        match word {
            "use" if next != "<" => {
                let passes = i > 0 && matches!(source.text(i - 1), "pub" | ")");
                let mut found = Vec::new();
                let end = tree(source, i + 1, Vec::new(), &mut found);
                self.uses.extend(found.into_iter().map(|(path, name)| Use { path, name, passes }));
                end
            }
            "mod" if source.text(i + 2) == ";" => {
                self.children.insert(next.to_string());
                i + 3
            }
            "fn" | "struct" | "enum" | "trait" | "type" | "const" | "static" | "union" => {
                self.defines.insert(next.to_string());
                i + 1
            }
            "macro_rules" => {
                self.defines.insert(source.text(i + 2).to_string());
                i + 3
            }
            _ if is_word(word) => self.path(source, i),
            _ => i + 1,
        }
    }

    fn path(&mut self, source: &Source, mut i: usize) -> usize {
        let mut path = vec![source.text(i).to_string()];
        self.words.insert(path[0].clone());
        while source.text(i + 1) == "::" && is_word(source.text(i + 2)) {
            i += 2;
            path.push(source.text(i).to_string());
        }
        if path.len() > 1 {
            self.paths.push(path);
        }
        i + 1
    }

    /// A path from the root of the crate, or none where it leads out of the crate.
    fn absolute(&self, path: &[String]) -> Option<Names> {
        let (first, rest) = (path[0].as_str(), &path[1..]);
        let mut out = match first {
            "crate" => return Some(rest.to_vec()),
            "self" => self.module.clone(),
            "super" => self.module[..self.module.len().checked_sub(1)?].to_vec(),
            child if self.children.contains(child) => [self.module.as_slice(), &[child.to_string()]].concat(),
            _ => return None,
        };
        for name in rest {
            if name == "super" {
                out.pop();
            } else {
                out.push(name.clone());
            }
        }
        Some(out)
    }

    /// Every path that this file takes something from: what it imports, and what it names in its code.
    fn taken(&self) -> Vec<Names> {
        let imports = self.uses.iter().filter(|u| !u.passes || self.words.contains(&u.name));
        let mut out: Vec<Names> = imports.map(|u| u.path.clone()).collect();
        for path in &self.paths {
            match self.uses.iter().find(|u| u.name == path[0]) {
                Some(found) => out.push([found.path.as_slice(), &path[1..]].concat()),
                None => out.push(path.clone()),
            }
        }
        out
    }
}

impl Crate {
    /// The sources below `root`, such as `src/`.
    pub fn of(sources: &[Source], root: &str) -> Crate {
        let below = sources.iter().map(|s| (s.path.strip_prefix(root).unwrap().to_string(), s));
        let files: BTreeMap<_, _> = below.map(|(path, s)| (path.clone(), Said::of(s, module(&path)))).collect();
        let of_module = files.iter().map(|(path, said)| (said.module.clone(), path.clone())).collect();
        Crate { files, of_module }
    }

    /// The file that defines what a path from the root of the crate names.
    fn file(&self, path: &[String], hops: usize) -> Option<String> {
        let depth = (0..=path.len()).rev().find(|&n| self.of_module.contains_key(&path[..n]))?;
        let file = &self.of_module[&path[..depth]];
        let Some(item) = path.get(depth).filter(|_| hops < 8) else { return Some(file.clone()) };
        let said = &self.files[file];
        if said.defines.contains(item) {
            return Some(file.clone());
        }
        // What a module passes on, or imports for itself and for the modules in it.
        if let Some(through) = said.uses.iter().find(|u| u.name == *item) {
            let target = said.absolute(&through.path)?;
            return self.file(&[target.as_slice(), &path[depth + 1..]].concat(), hops + 1);
        }
        let globs = said.uses.iter().filter(|u| u.name == "*" && u.passes).filter_map(|u| said.absolute(&u.path));
        for mut target in globs {
            *target.last_mut()? = item.clone();
            let found = self.file(&target, hops + 1)?;
            if self.files[&found].defines.contains(item) {
                return Some(found);
            }
        }
        Some(file.clone())
    }

    /// For each file the others that it uses. The root, which only passes names on, is no user.
    pub fn graph(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut out = BTreeMap::new();
        for (path, said) in self.files.iter().filter(|(path, _)| *path != "lib.rs") {
            let taken = said.taken();
            let files = taken.iter().filter_map(|p| self.file(&said.absolute(p)?, 0));
            out.insert(path.clone(), files.filter(|f| f != path && f != "lib.rs").collect());
        }
        out
    }

    /// For each file the paths that lead out of the crate: `std::fs`, `blake3::Hasher`.
    pub fn foreign(&self) -> BTreeMap<String, BTreeSet<String>> {
        let outside = |said: &Said| {
            let taken = said.taken();
            let imported = said.uses.iter().map(|u| u.path.clone());
            let all = taken.into_iter().chain(imported).filter(|p| said.absolute(p).is_none());
            all.map(|p| p.join("::")).collect()
        };
        self.files.iter().map(|(path, said)| (path.clone(), outside(said))).collect()
    }
}

/// The circles of a graph: sets of files of which each uses, by way of others, each.
pub fn circles(graph: &BTreeMap<String, BTreeSet<String>>) -> Vec<BTreeSet<String>> {
    let reach = |from: &String| {
        let (mut seen, mut todo) = (BTreeSet::new(), vec![from]);
        while let Some(file) = todo.pop() {
            todo.extend(graph[file].iter().filter(|next| seen.insert((*next).clone())));
        }
        seen
    };
    let reached: BTreeMap<_, _> = graph.keys().map(|file| (file.clone(), reach(file))).collect();
    let around = |file: &String| reached[file].iter().filter(|f| reached[*f].contains(file)).cloned().collect();
    let found: BTreeSet<BTreeSet<String>> = graph.keys().map(around).filter(|c: &BTreeSet<_>| !c.is_empty()).collect();
    found.into_iter().collect()
}
