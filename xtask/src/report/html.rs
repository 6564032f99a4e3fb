//! The report as one self-contained HTML page.

use anyhow::Result;
use convnn_chart::Medium;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::chart::{self, Figure};
use super::table::{DAGGER, Origin, Table, published_note, training_note};
use super::{environment, published_difference, verdict};
use crate::summary::{FamilySummary, Summary};

const STYLE: &str = include_str!("style.css");

/// The whole page.
pub fn page(summary: &Summary) -> Result<String> {
    let title = format!("ConvNN reproduction: {}", summary.name);
    let families = summary.families.iter().map(family).collect::<Result<Vec<_>>>()?;
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
                h1 { (title) }
                p.note { (summary.preset.note) }
                @for family in families { (family) }
                (runs(summary))
            }
        }
    };
    Ok(page.into_string())
}

fn family(family: &FamilySummary) -> Result<Markup> {
    let about = family.family;
    let charts = [Figure::TestTop1, Figure::TrainLoss].map(|figure| chart::svg(&[(family, figure)], Medium::Page));
    let [top1, loss] = charts;
    let (top1, loss) = (top1?, loss?);
    Ok(html! {
        section {
            h2 { (about.title) }
            p { (about.about) }
            (table(family))
            p.small {
                (training_note(family)) "."
                @if let Some((note, runs)) = published_note(family).zip(about.published.as_ref()) {
                    " " span.published { (note) } "; source: " (runs.source) ". " (DAGGER)
                }
            }
            div.charts {
                figure { (PreEscaped(top1)) }
                figure { (PreEscaped(loss)) }
            }
            @if !family.verdicts.is_empty() { (claims(family)) }
        }
    })
}

fn table(family: &FamilySummary) -> Markup {
    let table = Table::new(family);
    let class = |c: usize| match table.columns[c].origin {
        Origin::Ours => None,
        Origin::Published => Some("published"),
    };
    html! {
        div.scroll {
            table {
                thead {
                    tr {
                        @for (c, column) in table.columns.iter().enumerate() {
                            th class=[class(c)] {
                                @if column.origin == Origin::Published { "published" br; }
                                (column.heading)
                            }
                        }
                    }
                }
                tbody {
                    @for row in &table.rows {
                        tr {
                            @for (c, cell) in row.iter().enumerate() {
                                td class=[class(c)] { (cell) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn claims(family: &FamilySummary) -> Markup {
    let is_published = family.family.published.is_some();
    html! {
        h3 { "Claims" }
        div.scroll {
            table.claims {
                thead {
                    tr {
                        th { "claim" }
                        @if is_published { th.published { "published" } }
                        th { "here" }
                        th { "why" }
                    }
                }
                tbody {
                    @for (claim, found) in &family.verdicts {
                        @let (word, figures) = verdict(found);
                        tr {
                            td { (claim.text) }
                            @if is_published { td.published { (published_difference(family, claim)) } }
                            td { strong { (word) } }
                            td { (figures) }
                        }
                    }
                }
            }
        }
    }
}

fn runs(summary: &Summary) -> Markup {
    html! {
        section {
            h2 { "Runs" }
            p { "Each run is one command; the same seed gives the same numbers." }
            pre {
                @for record in summary.records() { (record.command) "\n" }
            }
            @if let Some(record) = summary.records().next() {
                p.small { (environment(&record.environment)) }
            }
        }
    }
}
