//! The report as one self-contained HTML page. It works without JavaScript; with it, tables are sorted by a click.

use anyhow::Result;
use convnn_chart::Medium;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::chart;
use super::table::{Origin, Table};
use super::words::{
    DAGGER, METHOD, claim, datasets, environments, figures, made, published_difference, published_note, training_note,
    verdict,
};
use crate::files::read;
use crate::summary::{FamilySummary, Judged, Summary, Verdict};
use crate::workspace::root;

const STYLE: &str = include_str!("style.css");
const SORT: &str = include_str!("sort.js");

/// The whole page.
pub fn page(summary: &Summary) -> Result<String> {
    let title = format!("ConvNN reproduction: {}", summary.name);
    let families = summary.families.iter().map(|one| family(one)).collect::<Result<Vec<_>>>()?;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { (headline(summary)) }
                    p.made { (title) " · " (summary.records.len()) " of " (summary.planned) " runs · " (made(summary)) }
                    p.note { (summary.budget.note) }
                }
                main {
                    (claims(summary))
                    nav {
                        @for family in &summary.families {
                            a href={ "#" (family.family.id) } { (family.family.title) }
                        }
                    }
                    @for family in families { (family) }
                    (neighbors()?)
                    (runs(summary))
                }
                script { (PreEscaped(SORT)) }
            }
        }
    };
    Ok(page.into_string())
}

/// What the runs show, in a sentence.
fn headline(summary: &Summary) -> String {
    let judged: Vec<&Judged> = summary.families.iter().flat_map(|family| &family.verdicts).collect();
    let count = |wanted: &str| judged.iter().filter(|judged| verdict(judged) == wanted).count();
    if judged.iter().all(|judged| matches!(judged.verdict, Verdict::Open(_))) {
        let (finished, planned) = (summary.records.len(), summary.planned);
        let is_smoke = summary.families.iter().all(|family| family.training.sample);
        let works = if is_smoke && finished == planned { "Every part of ConvNN works: " } else { "" };
        return format!("{works}{finished} of {planned} runs finished");
    }
    format!(
        "{} of {} claims held, {} did not, {} could not be decided with these runs",
        count("holds"),
        judged.len(),
        count("does not hold"),
        count("not decidable")
    )
}

fn claims(summary: &Summary) -> Markup {
    let judged: Vec<&Judged> = summary.families.iter().flat_map(|family| &family.verdicts).collect();
    let is_published = judged.iter().any(|judged| judged.published.iter().any(Option::is_some));
    html! {
        @if !judged.is_empty() {
            section {
                h2 { "Claims" }
                div.scroll {
                    table.claims {
                        thead {
                            tr {
                                th { "claim" }
                                th { "here" }
                                th { "difference in top-1, with its 95 % interval" }
                                @if is_published { th.published { "published" } }
                            }
                        }
                        tbody {
                            @for judged in judged {
                                @let word = verdict(judged);
                                tr {
                                    td { (claim(judged)) }
                                    td { strong class=(word.replace(' ', "-")) { (word) } }
                                    td { (figures(judged)) }
                                    @if is_published { td.published { (published_difference(judged)) } }
                                }
                            }
                        }
                    }
                }
                p.small { (METHOD) }
            }
        }
    }
}

fn family(family: &FamilySummary) -> Result<Markup> {
    let about = family.family;
    let accuracy = chart::accuracy(family, Medium::Page)?;
    let cost = chart::cost(family, Medium::Page)?;
    let training = chart::training(family, Medium::Page)?;
    let table = Table::new(family);
    Ok(html! {
        section id=(about.id) {
            h2 { (about.title) }
            p { (about.about) " " (datasets(family)) "." }
            @if let Some(svg) = accuracy { figure.one { (PreEscaped(svg)) } }
            (rows(&table))
            p.small {
                @if !table.same.is_empty() { "In every row: " (table.same.join(", ")) ". " }
                (training_note(family)) "."
                @if let Some(note) = published_note(family) { " " span.published { (note) } ". " (DAGGER) }
            }
            @if let Some(svg) = cost {
                details { summary { "Accuracy over operations and time" } figure { (PreEscaped(svg)) } }
            }
            @if let Some(svg) = training {
                details { summary { "Training curves" } figure { (PreEscaped(svg)) } }
            }
        }
    })
}

fn rows(table: &Table) -> Markup {
    let class = |c: usize| match table.columns[c].origin {
        Origin::Name => Some("name"),
        Origin::Ours => None,
        Origin::Published => Some("published"),
    };
    html! {
        div.scroll {
            table.sortable {
                thead {
                    tr {
                        @for (c, column) in table.columns.iter().enumerate() {
                            th class=[class(c)] {
                                @if column.origin == Origin::Published { "published" br; }
                                (column.heading)
                            }
                        }
                        th { "seeds" }
                    }
                }
                tbody {
                    @for (row, runs) in table.rows.iter().zip(&table.runs) {
                        tr {
                            @for (c, cell) in row.iter().enumerate() {
                                td class=[class(c)] { (cell) }
                            }
                            td { @for id in runs { a href={ "#" (id) } { (seed(id)) } " " } }
                        }
                    }
                }
            }
        }
    }
}

/// The seed in the id of a run.
fn seed(id: &str) -> &str {
    id.rsplit_once("-s").map_or(id, |(_, seed)| seed)
}

/// The picture of the README: what the shipped hybrid chooses.
fn neighbors() -> Result<Markup> {
    let picture = read(&root().join("docs/pictures/neighbors.svg"))?;
    // As an image, the rules of its style sheet stay inside.
    let encoded = ["%", "#", "<", ">", "\"", "\n"]
        .iter()
        .fold(picture, |text, character| text.replace(character, &format!("%{:02X}", character.as_bytes()[0])));
    Ok(html! {
        section id="neighbors" {
            h2 { "Which neighbors are chosen" }
            p {
                "The nine neighbors of a pixel in each layer of the shipped hybrid, beside the window of a convolution: "
                code { "convnn neighbors docs/pictures/horse.png --at 14,10" } "."
            }
            figure { img src={ "data:image/svg+xml," (encoded) } alt="Nine neighbors of a pixel, layer by layer" loading="lazy"; }
        }
    })
}

fn runs(summary: &Summary) -> Markup {
    html! {
        section id="runs" {
            h2 { "Runs" }
            p { "Each run is one command; the same seed gives the same numbers. Click a run to see its full configuration." }
            @for record in &summary.records {
                details id=(record.id) {
                    summary { code { (record.id) } " " (format!("{:.2} %", record.result.last.top1)) }
                    pre { (record.command) }
                    pre { (serde_json::to_string_pretty(&record.config).unwrap_or_default()) }
                }
            }
            @for environment in environments(summary) { p.small { (environment) } }
        }
    }
}
