//! Experiments as data: the files in `xtask/experiments`.
//!
//! A family (`NAME.toml`) spans its rows with axes, says how each budget trains them, and lists the claims that they decide.
//! Its rows may have published counterparts. `budgets.toml` says what each budget is for.

mod axis;
mod family;
mod published;
mod row;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::files::{list, read_toml, shown, write};
use crate::workspace::data_folder;
use published::Tables;

pub use axis::{DATASET, Selector, ValueName};
pub use family::{Claim, Family, Settings, Training};
pub use published::Published;
pub use row::Row;

/// All experiments, checked.
#[derive(Debug)]
pub struct Experiments {
    /// What each budget is for, by name.
    pub budgets: BTreeMap<String, Budget>,
    /// The families in order.
    pub families: Vec<Family>,
    /// The published numbers.
    pub tables: Tables,
}

/// What a budget is for.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// One line for the list of budgets.
    pub summary: String,
    /// The note above the figures of every report.
    pub note: String,
    /// Whether claims can be judged at this size.
    pub verdicts: bool,
    /// Whether rows are trained like their published runs, if for fewer epochs: published figures are then those of the same
    /// epoch.
    #[serde(default)]
    pub as_published: bool,
    /// Settings of the trainer that families share, by name.
    #[serde(default)]
    pub recipes: BTreeMap<String, Settings>,
}

/// The file of the budgets, beside the families.
const BUDGETS: &str = "budgets.toml";

/// A commented family to start from.
const TEMPLATE: &str = include_str!("template.txt");

impl Experiments {
    /// Reads all experiments in `folder`, and the published numbers in `paper`. Refuses references to an axis, a value, a
    /// budget, a row or a published number that does not exist.
    pub fn read(folder: &Path, paper: &Path) -> Result<Self> {
        // A folder without budgets of its own takes those of the workspace.
        let own = folder.join(BUDGETS);
        let budgets_file = if own.exists() { own } else { data_folder("experiments").join(BUDGETS) };
        let budgets: BTreeMap<String, Budget> = read_toml(&budgets_file)?;
        let tables = Tables::read(paper)?;
        let mut families = Vec::new();
        for path in list(folder, "toml")?.iter().filter(|path| **path != budgets_file) {
            let mut family: Family = read_toml(path)?;
            family.id = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            family.resolve(&budgets, &tables).with_context(|| shown(path))?;
            families.push(family);
        }
        families.sort_by_key(|family| family.order);
        Ok(Self { budgets, families, tables })
    }

    /// The family named `id`.
    pub fn family(&self, id: &str) -> Result<&Family> {
        let known = || self.families.iter().map(|family| format!("\n  {}", family.id)).collect::<String>();
        let found = self.families.iter().find(|family| family.id == id);
        found.with_context(|| format!("no family `{id}`; available families:{}", known()))
    }
}

/// Writes the commented template of a family to `folder`, and returns its path.
pub fn create(folder: &Path, name: &str) -> Result<std::path::PathBuf> {
    let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    ensure!(plain, "--new {name}: expected a name of letters, digits and `_`");
    let path = folder.join(format!("{name}.toml"));
    ensure!(!path.exists(), "{} already exists; choose another name", shown(&path));
    write(&path, TEMPLATE)?;
    Ok(path)
}
