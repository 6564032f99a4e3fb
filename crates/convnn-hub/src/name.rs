//! Names of models, checked before they become parts of paths and URLs.

use crate::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// A model on the hub, written `OWNER/NAME` or `OWNER/NAME@REVISION`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelId {
    name: String,
    revision: String,
}

impl ModelId {
    /// The name, `OWNER/NAME`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The branch, tag or commit; `main` if none was given.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// Whether the revision is a full commit, which always has the same files.
    pub fn is_commit(&self) -> bool {
        is_commit(&self.revision)
    }

    /// The same model at another revision.
    ///
    /// # Errors
    /// [`Error::Name`] if `revision` cannot be one.
    pub fn at(self, revision: &str) -> Result<Self> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
        let parts = || revision.split('/').all(|part| !part.is_empty() && !part.starts_with('.'));
        let fits = revision.len() <= 200 && revision.chars().all(plain) && parts() && !revision.contains("..");
        match fits {
            true => Ok(Self { revision: revision.to_owned(), ..self }),
            false => Err(Error::Name {
                what: "a branch, a tag or a commit",
                found: revision.to_owned(),
                expected: "letters, digits and ._-/",
            }),
        }
    }
}

/// 40 hexadecimal digits.
pub(crate) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl FromStr for ModelId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, revision) = text.split_once('@').unwrap_or((text, "main"));
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let is_part = |part: &str| {
            let edges = |c: char| c == '.' || c == '-';
            let whole = !part.is_empty() && part.len() <= 96 && part.chars().all(plain);
            whole && !part.starts_with(edges) && !part.ends_with(edges) && !part.contains("..") && !part.contains("--")
        };
        match name.split('/').collect::<Vec<_>>()[..] {
            [owner, model] if is_part(owner) && is_part(model) => {
                Self { name: name.to_owned(), revision: String::new() }.at(revision)
            }
            _ => Err(Error::Name {
                what: "a model",
                found: text.to_owned(),
                expected: "OWNER/NAME or OWNER/NAME@REVISION, of letters, digits and ._-",
            }),
        }
    }
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.revision.as_str() {
            "main" => f.write_str(&self.name),
            revision => write!(f, "{}@{revision}", self.name),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parts_of_paths_and_nothing_more() {
        let id: ModelId = "convnn/cifar10-hybrid@refs/pr/1".parse().unwrap();
        assert_eq!((id.name(), id.revision()), ("convnn/cifar10-hybrid", "refs/pr/1"));
        assert_eq!("a/b".parse::<ModelId>().unwrap().to_string(), "a/b");
        for bad in [
            "", "a", "a/", "/b", "a/b/c", "../b", "a/..", "a/.b", "-a/b", "a/b@", "a/b@..", "a/b@../x", "a/b@/x",
            "a/b@x//y", "a/b@.git", "a b/c", "a/b?x", "a/b#x", "a/b%2e", "a/b@x y", "a--b/c", "a/b\n", "ä/b",
        ] {
            let line = bad.parse::<ModelId>().unwrap_err().to_string();
            assert!(line.contains("is not the name of"), "{bad}: {line}");
        }
    }
}
