//! `convnn bench`: lines of JSON, and a table.

use crate::command::{convnn, finish, succeed};
use serde_json::Value;

const CASE: &str = "select_b32_c192_n197_k9";

#[test]
fn a_case_prints_a_line_of_json() {
    let finished = succeed(convnn().args(["bench", "--cases", "select_b32_c192", "--repeats", "1", "--json"]));
    let [line] = finished.stdout.lines().collect::<Vec<_>>()[..] else { panic!("{finished:?}") };
    let line: Value = serde_json::from_str(line).unwrap();
    let keys: Vec<_> = line.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["case", "seconds", "repeats", "peak_rss_mib"]);
    assert_eq!((&line["case"], &line["repeats"]), (&Value::from(CASE), &Value::from(1)));
    assert!((1e-6..60.0).contains(&line["seconds"].as_f64().unwrap()), "{line}");
    if cfg!(target_os = "linux") {
        // The tokens alone are 4.6 MiB.
        assert!((5..1000).contains(&line["peak_rss_mib"].as_u64().unwrap()), "{line}");
    }
}

#[test]
fn the_table_compares_a_case_with_the_roof() {
    let finished = succeed(convnn().args(["bench", "--cases", CASE, "--repeats", "1", "--threads", "1"]));
    let lines: Vec<_> = finished.stdout.lines().collect();
    let number = |text: &str| text.parse::<f64>().unwrap();
    let [roof, heading, row] = lines[..] else { panic!("{finished:?}") };
    let roof = roof.strip_prefix("GEMM roof: ").unwrap().strip_suffix(" GFLOP/s, f32, threads: 1").unwrap();
    assert_eq!(heading.split_whitespace().next(), Some("case"));
    let [name, seconds, gflops, share, "%", _] = row.split_whitespace().collect::<Vec<_>>()[..] else {
        panic!("{row}")
    };
    assert_eq!(name, CASE);
    let expected = 2.0 * 32.0 * 197.0 * 197.0 * 192.0 / 1e9 / number(seconds);
    assert!((number(gflops) / expected - 1.0).abs() < 0.05, "{row}");
    assert!((number(share) - 100.0 * number(gflops) / number(roof)).abs() < 1.0, "{row} under {roof}");
}

#[test]
fn unusable_arguments_are_refused() {
    for arguments in [["--cases", "vgg12"], ["--one", "vgg11"], ["--repeats", "0"], ["--threads", "0"]] {
        let finished = finish(convnn().arg("bench").args(arguments));
        assert_eq!(finished.code, Some(2), "{finished:?}");
        assert_eq!((finished.stdout.as_str(), finished.stderr.lines().count()), ("", 1), "{finished:?}");
        assert!(finished.stderr.contains(arguments[1]), "{finished:?}");
    }
}
