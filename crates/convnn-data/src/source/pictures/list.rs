//! Which pictures a folder holds, with their classes, in an order that depends on their names alone.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::error::{Error, Result};
use crate::loader::permutation;

/// Extensions of pictures.
const EXTENSIONS: [&str; 4] = ["png", "jpg", "jpeg", "webp"];

/// A picture on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Picture {
    pub path: PathBuf,
    pub label: u16,
}

/// The pictures of a folder.
#[derive(Debug)]
pub(super) struct Listing {
    /// Class names in order.
    pub classes: Vec<String>,
    pub train: Vec<Picture>,
    pub validation: Option<Vec<Picture>>,
    pub test: Vec<Picture>,
}

impl Listing {
    /// Lists the pictures of `path`: those of `train/CLASS`, else of `CLASS`, with the test pictures of `test/CLASS`, else of
    /// `val/CLASS`, else `test_share` of the pictures of every class.
    pub(super) fn read(path: &Path, test_share: f64) -> Result<Self> {
        let part = |name: &str| Some(path.join(name)).filter(|folder| folder.is_dir());
        let (train, test, validation) = (part("train"), part("test"), part("val"));
        let none = || Error::NoPictures { folder: path.to_owned() };
        if train.is_none() && (test.is_some() || validation.is_some()) {
            return Err(none());
        }
        let root = train.unwrap_or_else(|| path.to_owned());
        let folders = entries(&root, Path::is_dir)?;
        let named = |folder: &PathBuf| name(folder).ok_or_else(|| wrong(folder, "the name of a class must be UTF-8"));
        let classes: Vec<String> = folders.iter().map(named).collect::<Result<_>>()?;
        match classes.len() {
            0 => return Err(none()),
            1 => return Err(wrong(&root, "only one class folder found; expected at least two")),
            n if n > 1 << 16 => return Err(wrong(&root, &format!("{n} class folders found; expected at most 65536"))),
            _ => {}
        }
        let train = pictures(&root, &classes, true)?;
        let (test, validation) = match (test, validation) {
            (Some(test), validation) => (test, validation),
            (None, Some(validation)) => (validation, None),
            (None, None) => {
                let (train, test) = divide(train, classes.len(), test_share)?;
                return Ok(Self { classes, train, validation: None, test });
            }
        };
        let known = |folder: &Path| {
            let is_known = |class: &PathBuf| name(class).is_some_and(|name| classes.contains(&name));
            match entries(folder, Path::is_dir)?.into_iter().find(|class| !is_known(class)) {
                Some(class) => Err(wrong(&class, &format!("a class that {} does not have", root.display()))),
                None => pictures(folder, &classes, false),
            }
        };
        let test_pictures = known(&test)?;
        if test_pictures.is_empty() {
            return Err(Error::NoPictures { folder: test });
        }
        let validation = validation.as_deref().map(known).transpose()?;
        Ok(Self { train, validation, test: test_pictures, classes })
    }
}

/// Whether `path` has the layout of a folder of pictures: `train` with folders in it, or folders with pictures in them.
pub(super) fn looks_like_pictures(path: &Path) -> bool {
    let folders = |folder: &Path| entries(folder, Path::is_dir).unwrap_or_default();
    let train = path.join("train");
    if train.is_dir() {
        return !folders(&train).is_empty();
    }
    folders(path).iter().any(|folder| entries(folder, is_picture).is_ok_and(|pictures| !pictures.is_empty()))
}

/// The pictures of every class in the class's folder; with `all`, every class must have some.
fn pictures(root: &Path, classes: &[String], all: bool) -> Result<Vec<Picture>> {
    let mut pictures = Vec::new();
    for (label, class) in classes.iter().enumerate() {
        let folder = root.join(class);
        if !all && !folder.exists() {
            continue;
        }
        let paths = entries(&folder, is_picture)?;
        if paths.is_empty() {
            let expected = "no pictures found (.png, .jpg, .jpeg, .webp); add some, or remove the folder";
            return Err(wrong(&folder, expected));
        }
        pictures.extend(paths.into_iter().map(|path| Picture { path, label: label as u16 }));
    }
    Ok(pictures)
}

/// Takes `share` of the pictures of every class as test pictures, but not the last one of a class.
///
/// The choice is the same for every seed of a run, so that runs stay comparable.
fn divide(pictures: Vec<Picture>, classes: usize, share: f64) -> Result<(Vec<Picture>, Vec<Picture>)> {
    if !(share > 0. && share < 1.) {
        return Err(Error::TestShare(share));
    }
    let mut members = vec![Vec::new(); classes];
    for (index, picture) in pictures.iter().enumerate() {
        members[usize::from(picture.label)].push(index);
    }
    let mut generator = ChaCha8Rng::from_seed([0; 32]);
    let mut is_test = vec![false; pictures.len()];
    for class in members {
        let count = ((share * class.len() as f64).round() as usize).min(class.len() - 1);
        for place in permutation(&mut generator, class.len() as u32).into_iter().take(count) {
            is_test[class[place as usize]] = true;
        }
    }
    let mut is_test = is_test.into_iter();
    let (test, train): (Vec<_>, Vec<_>) = pictures.into_iter().partition(|_| is_test.next().unwrap_or_default());
    match test.first().or(train.first()) {
        Some(first) if test.is_empty() => {
            let root = first.path.ancestors().nth(2).unwrap_or(&first.path);
            Err(wrong(root, "too few pictures to set some aside for testing; add a folder test"))
        }
        _ => Ok((train, test)),
    }
}

/// The entries of `folder` that are not hidden and satisfy `wanted`, by name.
fn entries(folder: &Path, wanted: impl Fn(&Path) -> bool) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
        let path = entry.map_err(Error::io(folder))?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && wanted(&path) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn is_picture(path: &Path) -> bool {
    let extension = path.extension().and_then(OsStr::to_str).map(str::to_lowercase);
    extension.is_some_and(|extension| EXTENSIONS.contains(&extension.as_str())) && !path.is_dir()
}

/// The name of a class folder; `None` if it is not UTF-8.
fn name(folder: &Path) -> Option<String> {
    Some(folder.file_name()?.to_str()?.to_owned())
}

fn wrong(folder: &Path, reason: &str) -> Error {
    Error::Classes { folder: folder.to_owned(), reason: reason.to_owned() }
}
