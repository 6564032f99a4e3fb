//! The Rust sources of the workspace, and the paths that their production code names.

use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// The workspace's root folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// A source file.
pub struct Source {
    /// Its path from the root, with `/` between the parts.
    pub path: String,
    /// Its contents.
    pub text: String,
}

/// The `.rs` files below `folder`, sorted by path.
pub fn sources(folder: &str) -> Vec<Source> {
    let mut folders = vec![root().join(folder)];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
                sources.push(Source { path: name, text: fs::read_to_string(&path).unwrap() });
            }
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}

/// The module of a file: `src/a/b.rs` and `src/a/b/mod.rs` are both `a::b`.
pub fn module(path: &str) -> Vec<String> {
    let path = path.split_once("src/").map_or(path, |(_, path)| path);
    let path = path.strip_suffix(".rs").unwrap_or(path);
    let parts = path.split('/').filter(|part| !["lib", "main", "mod"].contains(part));
    parts.map(str::to_string).collect()
}

/// The tokens of `text`: comments are gone, and documentation is in string literals.
pub fn tokens(text: &str) -> Vec<TokenTree> {
    let stream: TokenStream = text.parse().unwrap();
    stream.into_iter().collect()
}

/// Whether the word `word` occurs in the tokens, at any depth.
pub fn contains_word(tokens: &[TokenTree], word: &str) -> bool {
    tokens.iter().any(|token| match token {
        TokenTree::Ident(ident) => ident == word,
        TokenTree::Group(group) => contains_word(&group.stream().into_iter().collect::<Vec<_>>(), word),
        _ => false,
    })
}

/// What the production code of a file refers to; items under `#[cfg(test)]` are skipped.
#[derive(Default)]
pub struct Names {
    /// Absolute paths within the crate, without the leading `crate`.
    pub paths: Vec<Vec<String>>,
    /// The names that each `use` brings into scope, with their paths as written.
    pub uses: Vec<(String, Vec<String>)>,
    /// Modules in files of their own that exist only in tests.
    pub test_modules: Vec<Vec<String>>,
}

impl Names {
    /// The names in `text`, the file of `module`.
    pub fn of(text: &str, module: &[String]) -> Self {
        let mut names = Self::default();
        names.read(&tokens(text), module);
        names
    }

    fn read(&mut self, tokens: &[TokenTree], module: &[String]) {
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            match token {
                _ if is_test_attribute(&tokens[at..]) => {
                    let item = item_length(&tokens[at..]);
                    if let Some(name) = module_declared(&tokens[at..at + item]) {
                        self.test_modules.push([module, &[name]].concat());
                    }
                    at += item;
                }
                TokenTree::Ident(ident) if ident == "use" && !is_punct(tokens.get(at + 1), '<') => {
                    let end = at + item_length(&tokens[at..]);
                    self.read_use(&tokens[at + 1..end], module);
                    at = end;
                }
                TokenTree::Ident(ident) if ident == "mod" => match (tokens.get(at + 1), tokens.get(at + 2)) {
                    (Some(TokenTree::Ident(name)), Some(TokenTree::Group(body))) => {
                        let inner: Vec<_> = body.stream().into_iter().collect();
                        self.read(&inner, &[module, &[name.to_string()]].concat());
                        at += 3;
                    }
                    _ => at += 1,
                },
                TokenTree::Ident(ident) if is_anchor(&ident.to_string()) && is_separator(&tokens[at + 1..]) => {
                    let mut leaves = Vec::new();
                    at += tree(&tokens[at..], &[], &mut leaves);
                    self.paths.extend(leaves.iter().filter_map(|(_, path)| absolute(path, module)));
                }
                TokenTree::Group(group) => {
                    self.read(&group.stream().into_iter().collect::<Vec<_>>(), module);
                    at += 1;
                }
                _ => at += 1,
            }
        }
    }

    fn read_use(&mut self, tokens: &[TokenTree], module: &[String]) {
        let mut leaves = Vec::new();
        tree(tokens, &[], &mut leaves);
        self.paths.extend(leaves.iter().filter_map(|(_, path)| absolute(path, module)));
        self.uses.append(&mut leaves);
    }
}

fn is_anchor(word: &str) -> bool {
    ["crate", "super", "self"].contains(&word)
}

fn is_punct(token: Option<&TokenTree>, wanted: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == wanted)
}

fn is_separator(tokens: &[TokenTree]) -> bool {
    is_punct(tokens.first(), ':') && is_punct(tokens.get(1), ':')
}

/// `path` from the crate's root, if it starts with `crate`, `super` or `self`.
fn absolute(path: &[String], module: &[String]) -> Option<Vec<String>> {
    let ups = path.iter().take_while(|part| *part == "super").count();
    let (base, rest) = match path.first()?.as_str() {
        "crate" => (&module[..0], &path[1..]),
        "self" => (module, &path[1..]),
        "super" => (&module[..module.len().saturating_sub(ups)], &path[ups..]),
        _ => return None,
    };
    Some([base, rest].concat())
}

/// Reads a path or a tree of paths, as after `use`: the name and the path of each leaf. Returns the number of tokens
/// read.
fn tree(tokens: &[TokenTree], prefix: &[String], leaves: &mut Vec<(String, Vec<String>)>) -> usize {
    let mut path = prefix.to_vec();
    let mut at = 0;
    loop {
        match tokens.get(at) {
            Some(TokenTree::Ident(part)) => path.push(part.to_string()),
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                let inner: Vec<_> = group.stream().into_iter().collect();
                for branch in inner.split(|token| is_punct(Some(token), ',')).filter(|branch| !branch.is_empty()) {
                    tree(branch, &path, leaves);
                }
                return at + 1;
            }
            Some(TokenTree::Punct(star)) if star.as_char() == '*' => path.push("*".into()),
            _ => break,
        }
        at += 1;
        if !is_separator(&tokens[at..]) {
            break;
        }
        at += 2;
    }
    // `use a::{self}` names `a`.
    if path.len() > prefix.len() && !prefix.is_empty() && path.last().is_some_and(|last| last == "self") {
        path.pop();
    }
    let name = match (tokens.get(at), tokens.get(at + 1)) {
        (Some(TokenTree::Ident(word)), Some(TokenTree::Ident(alias))) if word == "as" => alias.to_string(),
        _ => path.last().cloned().unwrap_or_default(),
    };
    leaves.push((name, path));
    at.max(1)
}

/// Whether the tokens start with an attribute that limits the next item to tests: `#[cfg(test)]`, `#[cfg(doctest)]` or
/// `#[cfg(all(test, …))]`.
fn is_test_attribute(tokens: &[TokenTree]) -> bool {
    let Some(TokenTree::Group(attribute)) = tokens.get(1).filter(|_| is_punct(tokens.first(), '#')) else {
        return false;
    };
    let text: String = attribute.stream().to_string().split_whitespace().collect();
    ["cfg(test)", "cfg(doctest)"].contains(&text.as_str()) || text.starts_with("cfg(all(test,")
}

/// The number of tokens of the first item, its attributes included.
fn item_length(tokens: &[TokenTree]) -> usize {
    let mut at = 0;
    while is_punct(tokens.get(at), '#') {
        at += 2;
    }
    // A `use` or a value may contain braces before the semicolon that ends it.
    let words = tokens[at..].iter().filter_map(|token| match token {
        TokenTree::Ident(word) => Some(word.to_string()),
        _ => None,
    });
    let words: Vec<String> = words.filter(|word| word != "pub").take(2).collect();
    let keyword = words.first().map_or("", String::as_str);
    let function = words.get(1).is_some_and(|word| ["fn", "unsafe", "async"].contains(&word.as_str()));
    let ends_in_semicolon = ["use", "static", "type", "let"].contains(&keyword) || keyword == "const" && !function;
    let last = tokens[at..].iter().position(|token| match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace && !ends_in_semicolon,
        _ => is_punct(Some(token), ';'),
    });
    last.map_or(tokens.len(), |last| at + last + 1)
}

/// The name in `mod name;`.
fn module_declared(item: &[TokenTree]) -> Option<String> {
    match item {
        [.., TokenTree::Ident(word), TokenTree::Ident(name), end] if word == "mod" && is_punct(Some(end), ';') => {
            Some(name.to_string())
        }
        _ => None,
    }
}
