//! The results of every run as CSV, beside the published numbers.

use crate::summary::Summary;

const HEADER: &str = "run,family,row,preset,dataset,seed,epochs,final_top1,final_top5,final_loss,last5_top1,last5_top5,\
best_top1,best_top5,params,gflops,seconds_per_epoch,published_final_top1,published_last5_top1,published_best_top1,\
published_epochs,published_source";

/// A line a finished run.
pub fn rows(summary: &Summary) -> String {
    let mut text = format!("{HEADER}\n");
    for family in &summary.families {
        for row in &family.rows {
            for record in &row.records {
                let (run, published) = (&record.result, &row.row.published);
                let cells = [
                    record.id.clone(),
                    family.family.id.clone(),
                    row.row.id.clone(),
                    run.preset.clone(),
                    run.dataset.clone(),
                    run.seed.to_string(),
                    run.epochs.to_string(),
                    run.last.top1.to_string(),
                    run.last.top5.to_string(),
                    run.last.loss.to_string(),
                    run.last5.top1.to_string(),
                    run.last5.top5.to_string(),
                    run.best.top1.to_string(),
                    run.best.top5.to_string(),
                    run.params.to_string(),
                    run.gflops.to_string(),
                    run.seconds_per_epoch.to_string(),
                    published.top1.to_string(),
                    published.last5_top1.to_string(),
                    published.best_top1.to_string(),
                    published.epochs.to_string(),
                    published.source.clone(),
                ];
                text += &format!("{}\n", cells.join(","));
            }
        }
    }
    text
}
