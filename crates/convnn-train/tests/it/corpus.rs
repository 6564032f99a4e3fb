//! The corpus of the fuzz targets: nothing in it makes a reader panic.

use std::path::Path;
use std::time::{Duration, Instant};

#[path = "../../../../fuzz/src/lib.rs"]
mod targets;

fn run(target: &str, read: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut files = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let started = Instant::now();
        read(&std::fs::read(&path).unwrap());
        assert!(started.elapsed() < Duration::from_secs(5), "{} takes too long", path.display());
        files += 1;
    }
    assert!(files >= 3, "{target}: {files} inputs");
}

#[test]
fn corpus_of_every_target() {
    run("cifar", targets::cifar);
    run("configuration", targets::configuration);
    run("fixture", targets::fixture);
    run("weights", targets::weights);
    run("pickle", targets::pickle);
}
