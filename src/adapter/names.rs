//! Which tensor of the base an adapter means. [ADP-2]

use std::collections::BTreeSet;

use crate::checkpoint::ModelSource;

/// The base's names, to be found whole or by their end.
pub(super) struct Names<'a> {
    names: BTreeSet<&'a str>,
    /// Each name back to front, sorted: those with a given end stand together.
    reversed: Vec<(Vec<u8>, &'a str)>,
}

/// What was found.
pub(super) enum Found<'a> {
    One(&'a str),
    None,
    /// Several, of which nothing says which is meant.
    Many(Vec<&'a str>),
}

impl<'a> Names<'a> {
    pub fn of(base: &'a dyn ModelSource) -> Self {
        let names: BTreeSet<&str> = base.infos().into_iter().map(|info| info.name.as_str()).collect();
        let mut reversed: Vec<_> = names.iter().map(|name| (backwards(name), *name)).collect();
        reversed.sort_unstable();
        Names { names, reversed }
    }

    /// The tensor of this name; else the only one whose name ends with it at a dot, or with which it ends at a dot: checkpoints of
    /// one model are saved with and without the name of the model's trunk before each tensor.
    pub fn find(&self, name: &str) -> Found<'a> {
        if let Some(exact) = self.names.get(name) {
            return Found::One(exact);
        }
        let end = backwards(&format!(".{name}"));
        let from = self.reversed.partition_point(|(reversed, _)| *reversed < end);
        let longer = self.reversed.iter().skip(from).take_while(|(reversed, _)| reversed.starts_with(&end));
        let longer = longer.map(|(_, name)| *name);
        let shorter = name.match_indices('.').filter_map(|(dot, _)| self.names.get(name.get(dot + 1..)?).copied());
        // Enough to say that there are many, and to name some.
        let all: Vec<&str> = longer.chain(shorter).take(5).collect();
        match all.as_slice() {
            [] => Found::None,
            [only] => Found::One(only),
            _ => Found::Many(all),
        }
    }
}

fn backwards(name: &str) -> Vec<u8> {
    name.bytes().rev().collect()
}
