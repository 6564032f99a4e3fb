//! The results of every run as CSV, next to the published numbers.

use anyhow::Result;

use crate::summary::Summary;

const HEADER: &str = "family,row,run,preset,dataset,seed,epochs,final_top1,final_top5,final_loss,last5_top1,last5_top5,\
best_top1,best_top5,params,gflops,seconds_per_epoch,published_final_top1,published_last5_top1,published_best_top1,\
published_params,published_gflops_logged,published_gflops_recount,published_seconds_per_epoch,published_epochs,published_run";

/// One line per row and finished run; the published columns are empty for a row without a published run.
pub fn text(summary: &Summary) -> Result<String> {
    let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
    writer.write_record(HEADER.split(','))?;
    for family in &summary.families {
        for row in &family.rows {
            let published = row.row.published.as_ref();
            for record in row.records() {
                let result = &record.result;
                writer.serialize((
                    (&family.family.id, &row.row.id, &record.id),
                    (&result.preset, &result.dataset, result.seed, result.epochs),
                    (result.last.top1, result.last.top5, result.last.loss),
                    (result.last5.top1, result.last5.top5, result.best.top1, result.best.top5),
                    (result.params, result.gflops, result.seconds_per_epoch),
                    (
                        published.map(|run| run.top1),
                        published.map(|run| run.last5_top1),
                        published.map(|run| run.best_top1),
                    ),
                    (published.map(|run| run.parameters), published.map(|run| run.gflops_logged)),
                    (published.and_then(|run| run.gflops_recount), published.map(|run| run.train_s_per_epoch)),
                    (published.map(|run| run.epochs), published.map(|run| &run.source)),
                ))?;
            }
        }
    }
    Ok(String::from_utf8(writer.into_inner()?)?)
}
