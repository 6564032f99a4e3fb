//! The figures of both sides, their ratios and floors, for the terminal and as Markdown and CSV.

use anyhow::Result;

use super::floors::{Floors, Speedup};
use super::machine::Conditions;
use super::side::{Measurement, OURS, PEER};

/// Everything measured so far.
pub struct Report<'a> {
    floors: &'a Floors,
    conditions: Conditions,
    measured: Vec<(u16, &'static str, Measurement)>,
}

impl<'a> Report<'a> {
    /// A report without measurements.
    pub const fn new(floors: &'a Floors, conditions: Conditions) -> Self {
        Self { floors, conditions, measured: Vec::new() }
    }

    /// Adds what `side` measured in `round`.
    pub fn add(&mut self, round: u16, side: &'static str, measurement: Measurement) {
        self.measured.push((round, side, measurement));
    }

    /// The heading of the terminal table.
    pub fn heading(&self) -> String {
        let widths = self.widths();
        aligned(&HEADINGS.map(str::to_owned), &widths)
    }

    /// The line of a case in the terminal table.
    pub fn row(&self, speedup: &Speedup) -> String {
        aligned(&self.cells(speedup), &self.widths())
    }

    /// The limits on our own cases, one per line, as far as the cases were measured.
    pub fn own_cases(&self) -> String {
        self.own_lines().into_iter().map(|line| line + "\n").collect()
    }

    /// Every measurement.
    pub fn csv(&self) -> Result<String> {
        let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
        writer.write_record(["round", "side", "case", "seconds", "repeats", "peak_rss_mib"])?;
        for measurement in &self.measured {
            writer.serialize(measurement)?;
        }
        Ok(String::from_utf8(writer.into_inner()?)?)
    }

    /// The page: how the cases were measured, the table, and the limits on our own cases.
    pub fn markdown(&self) -> String {
        let Conditions { command, versions, commit, machine } = &self.conditions;
        let mut text = format!(
            "# Training steps and inference compared with the peer\n\n\
             Seconds are the best of all repeats and rounds after a warm-up; the two sides ran in turn, one process \
             per case. The ratio is the peer's seconds divided by ours. All measurements are in `measurements.csv`.\n\n\
             - command: `{command}`\n- machine: {machine}\n- versions: {versions}\n- commit: {commit}\n\n"
        );
        text += &format!("| {} |\n|---{}|\n", HEADINGS.join(" | "), "|---:".repeat(HEADINGS.len() - 1));
        for speedup in self.floors.speedup.iter().filter(|speedup| self.best(OURS, &speedup.case).is_some()) {
            text += &format!("| {} |\n", self.cells(speedup).join(" | "));
        }
        let own = self.own_lines();
        if !own.is_empty() {
            text +=
                &format!("\nOur own cases:\n\n{}", own.iter().map(|line| format!("- {line}\n")).collect::<String>());
        }
        text
    }

    fn widths(&self) -> [usize; 7] {
        let case = self.floors.speedup.iter().map(|speedup| speedup.case.len()).max().unwrap_or(0);
        [case, 9, 9, 6, 9, 9, 9]
    }

    fn cells(&self, speedup: &Speedup) -> [String; 7] {
        let case = &speedup.case;
        let (ours, peer) = (self.best(OURS, case), self.best(PEER, case));
        let seconds = |seconds: Option<f64>| seconds.map_or("–".into(), |seconds| format!("{seconds:.4}"));
        let memory = |side| self.memory(side, case).map_or("–".into(), |mib| mib.to_string());
        let ratio = peer.zip(ours).map(|(peer, ours)| peer / ours);
        let judged = ratio.map_or("–".into(), |ratio| format!("{ratio:.2}"));
        let floor = format!("{} {}", speedup.at_least, mark(ratio.is_some_and(|ratio| ratio >= speedup.at_least)));
        [case.clone(), seconds(peer), seconds(ours), judged, floor, memory(PEER), memory(OURS)]
    }

    fn own_lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for ratio in &self.floors.ratio {
            let of = |side| Some(self.best(side, &ratio.case)? / self.best(side, &ratio.of)?);
            if let Some((ours, peer)) = of(OURS).zip(of(PEER)) {
                let (case, of, most) = (&ratio.case, &ratio.of, ratio.at_most);
                let mark = mark(ours <= most);
                lines.push(format!("{case} / {of}: {ours:.2}, at most {most} {mark}; the peer's is {peer:.2}"));
            }
        }
        for memory in &self.floors.memory {
            if let Some(mib) = self.memory(OURS, &memory.case) {
                let (case, most) = (&memory.case, memory.at_most_mib);
                lines.push(format!("peak memory of {case}: {mib} MiB, at most {most} {}", mark(mib <= most)));
            }
        }
        lines
    }

    /// Seconds of the fastest round.
    fn best(&self, side: &str, case: &str) -> Option<f64> {
        self.of(side, case).map(|measured| measured.seconds).min_by(f64::total_cmp)
    }

    /// Peak memory of all rounds.
    fn memory(&self, side: &str, case: &str) -> Option<u64> {
        self.of(side, case).filter_map(|measured| measured.peak_rss_mib).max()
    }

    fn of(&self, side: &str, case: &str) -> impl Iterator<Item = &Measurement> {
        self.measured.iter().filter(move |(_, s, m)| *s == side && m.case == case).map(|(_, _, measured)| measured)
    }
}

const HEADINGS: [&str; 7] = ["case", "peer s", "ours s", "ratio", "at least", "peer MiB", "ours MiB"];

/// Marks whether a goal is met.
const fn mark(met: bool) -> &'static str {
    if met { "✓" } else { "✗" }
}

fn aligned(cells: &[String; 7], widths: &[usize; 7]) -> String {
    let mut line = format!("{:width$}", cells[0], width = widths[0]);
    for (cell, width) in cells.iter().zip(widths).skip(1) {
        line += &format!("  {cell:>width$}");
    }
    line + "\n"
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::workspace::data_folder;

    fn report(floors: &Floors) -> Report<'_> {
        let conditions = Conditions {
            command: "cargo xtask bench".into(),
            versions: "convnn 1".into(),
            commit: "abc".into(),
            machine: "a machine".into(),
        };
        let mut report = Report::new(floors, conditions);
        for (round, side, case, seconds, mib) in [
            (1, OURS, "vgg11_hybrid_step", 2.0, 2600),
            (1, PEER, "vgg11_hybrid_step", 6.0, 4000),
            (2, OURS, "vgg11_hybrid_step", 2.5, 2700),
            (2, PEER, "vgg11_hybrid_step", 5.0, 3900),
            (1, OURS, "vgg11_conv_step", 1.6, 2500),
            (1, PEER, "vgg11_conv_step", 2.5, 3000),
        ] {
            let measured = Measurement { case: case.into(), seconds, repeats: 3, peak_rss_mib: Some(mib) };
            report.add(round, side, measured);
        }
        report
    }

    #[test]
    fn the_best_round_counts_and_is_compared_with_its_floor() {
        let floors = Floors::read(&data_folder("bench")).unwrap();
        let page = report(&floors).markdown();
        // The best of each side: 5.0 / 2.0; memory is the peak.
        assert!(page.contains("| vgg11_hybrid_step | 5.0000 | 2.0000 | 2.50 | 3 ✗ | 4000 | 2700 |"), "{page}");
        assert!(page.contains("| vgg11_conv_step | 2.5000 | 1.6000 | 1.56 | 1.5 ✓ | 3000 | 2500 |"), "{page}");
        assert!(
            page.contains("vgg11_hybrid_step / vgg11_conv_step: 1.25, at most 1.4 ✓; the peer's is 2.00"),
            "{page}"
        );
        assert!(page.contains("peak memory of vgg11_hybrid_step: 2700 MiB, at most 2662 ✗"), "{page}");
        assert!(!page.contains("vit_tiny"), "{page}");
    }

    #[test]
    fn every_measurement_is_a_row_of_the_csv() {
        let floors = Floors::read(&data_folder("bench")).unwrap();
        let csv = report(&floors).csv().unwrap();
        assert_eq!(csv.lines().count(), 7);
        assert_eq!(csv.lines().nth(2), Some("1,peer,vgg11_hybrid_step,6.0,3,4000"));
    }
}
