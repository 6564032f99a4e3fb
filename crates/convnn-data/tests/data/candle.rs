use std::env;
use std::process::Command;

use convnn_data::{Dataset, Labels};

use crate::parquet_fixture::{parquet, png};
use crate::server::Server;

#[test]
fn conversion_keeps_images_and_labels() {
    let data = Dataset::sample();
    let converted = data.to_candle().unwrap();
    assert_eq!(converted.labels, 10);
    assert_eq!(converted.train_images.dims(), [512, 3, 32, 32]);
    assert_eq!(converted.test_images.dims(), [256, 3, 32, 32]);
    let pixels = converted.test_images.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let equal = pixels.iter().zip(data.test.images()).all(|(&pixel, &byte)| (255. * pixel).round() == f32::from(byte));
    assert!(equal);
    let labels: Vec<u16> = converted.train_labels.to_vec1::<u8>().unwrap().into_iter().map(u16::from).collect();
    assert_eq!(labels, data.train.labels(Labels::Fine).unwrap());
}

/// Pins a fault of candle-datasets 0.11.1: its parquet reader transposes every image. Once this fails, the fault is
/// fixed, and our own parquet reader can go.
///
/// candle-datasets reads the URL of the hub from the environment, so it runs in a second process.
#[test]
fn the_parquet_reader_of_candle_datasets_transposes_images() {
    const CHILD: &str = "CONVNN_DATA_TEST_CHILD";
    if env::var_os(CHILD).is_some() {
        let theirs = candle_datasets::vision::cifar::load().unwrap().test_images;
        let theirs = theirs.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let transposed = |i: usize| crate::CAT[i / 1024 * 1024 + i % 32 * 32 + i / 32 % 32];
        let wrong = (0..theirs.len()).all(|i| (255. * theirs[i]).round() == f32::from(transposed(i)));
        assert!(wrong && theirs.len() == crate::CAT.len());
        println!("transposed");
        return;
    }
    let file = || parquet(&["label"], &[(Some(png(crate::CAT)), vec![3])]);
    let server = Server::new(&[
        ("/datasets/cifar10/resolve/refs%2Fconvert%2Fparquet/plain_text/train/0000.parquet", file()),
        ("/datasets/cifar10/resolve/refs%2Fconvert%2Fparquet/plain_text/test/0000.parquet", file()),
    ]);
    let home = tempfile::tempdir().unwrap();
    let child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "candle::the_parquet_reader_of_candle_datasets_transposes_images", "--nocapture"])
        .env(CHILD, "1")
        .env("HF_ENDPOINT", server.endpoint())
        .env("HF_HUB_CACHE", home.path())
        .env("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{output}{}", String::from_utf8_lossy(&child.stderr));
    assert!(output.contains("transposed\n"), "{output}");
}
