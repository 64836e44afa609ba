//! Repositories on a hub: `hf://[datasets/|spaces/]OWNER/NAME[@REVISION][/FILE]`. [PLC-9]

use std::fmt;

use stitchpack::Result;
use stitchpack::error::Escaped;

use crate::location::refusal::bad;

/// What kind of repository it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RepoKind {
    /// A model, which is what a repository is unless it says otherwise.
    Model,
    /// A data set.
    Dataset,
    /// A space.
    Space,
}

/// A repository, or a file in one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HubPlace {
    /// The kind of repository.
    pub kind: RepoKind,
    /// `OWNER/NAME`, or `NAME` alone for the repositories that have no owner.
    pub repo: String,
    /// A branch, tag or commit; none means the default branch.
    pub revision: Option<String>,
    /// A file of the repository; none means all of it.
    pub file: Option<String>,
}

impl HubPlace {
    pub(super) fn parse(text: &str, rest: &str) -> Result<Self> {
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        let kinds = [("datasets/", RepoKind::Dataset), ("spaces/", RepoKind::Space)];
        let prefixed = kinds.iter().find_map(|(prefix, kind)| Some((*kind, rest.strip_prefix(prefix)?)));
        let (kind, rest) = prefixed.unwrap_or((RepoKind::Model, rest));
        let (repo, revision, file) = match rest.split_once('@') {
            Some((repo, tail)) => {
                let (revision, file) = split_revision(tail);
                (repo, Some(revision), file)
            }
            None => {
                let (repo, file) = split_repo(rest);
                (repo, None, file)
            }
        };
        if !is_repo(repo) {
            return Err(bad(text, "names no repository; write hf://OWNER/NAME[@REVISION][/FILE]"));
        }
        if revision.is_some_and(|revision| !is_revision(revision)) {
            return Err(bad(text, "has a revision that is not legal"));
        }
        let parts = |file: &str| file.split('/').all(|part| !matches!(part, "" | "." | ".."));
        if file.is_some_and(|file| !parts(file) || file.contains(['?', '#'])) {
            return Err(bad(text, "has a file path with empty, . or .. parts, or with a query"));
        }
        Ok(HubPlace { kind, repo: repo.into(), revision: revision.map(Into::into), file: file.map(Into::into) })
    }
}

/// The repository, which has at most two parts, and the file after it.
fn split_repo(text: &str) -> (&str, Option<&str>) {
    match text.match_indices('/').nth(1) {
        Some((i, _)) => (text.get(..i).unwrap_or(text), text.get(i.saturating_add(1)..)),
        None => (text, None),
    }
}

/// The revision, which has three parts where it begins with `refs/` and one otherwise, and the file after it.
fn split_revision(text: &str) -> (&str, Option<&str>) {
    let slashes = if text.starts_with("refs/") { 2 } else { 0 };
    match text.match_indices('/').nth(slashes) {
        Some((i, _)) => (text.get(..i).unwrap_or(text), text.get(i.saturating_add(1)..)),
        None => (text, None),
    }
}

fn is_repo(text: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let part = |part: &str| (1..=96).contains(&part.len()) && part.chars().all(legal) && !part.starts_with(['.', '-']);
    text.split('/').count() <= 2 && text.split('/').all(part) && !text.contains("..")
}

fn is_revision(text: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | '+');
    !text.is_empty() && text.len() <= 255 && text.chars().all(legal) && !text.contains("..") && !text.contains("//")
}

impl fmt::Display for HubPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            RepoKind::Model => "",
            RepoKind::Dataset => "datasets/",
            RepoKind::Space => "spaces/",
        };
        write!(f, "hf://{kind}{}", self.repo)?;
        self.revision.iter().try_for_each(|revision| write!(f, "@{revision}"))?;
        self.file.iter().try_for_each(|file| write!(f, "/{}", Escaped(file)))
    }
}
