use std::fs;
use std::path::{Path, PathBuf};

use convnn_data::{Dataset, DatasetName, Error, HubConfig, Labels, Result, Search, Source};
use tempfile::TempDir;

use crate::parquet_fixture::{Row, encode, parquet, png};
use crate::server::{Answer, COMMIT, Server};

const TRAIN: &str = "/datasets/uoft-cs/cifar10/resolve/main/plain_text/train-00000-of-00001.parquet";
const TEST: &str = "/datasets/uoft-cs/cifar10/resolve/main/plain_text/test-00000-of-00001.parquet";
/// The training file in the cache.
const CACHED: &str = "datasets--uoft-cs--cifar10/snapshots/0123456789abcdef0123456789abcdef01234567/plain_text/train-00000-of-00001.parquet";

/// The first five training images of the sample.
fn train_rows() -> Vec<Row> {
    let train = Dataset::sample().train;
    let labels = train.labels(Labels::Fine).unwrap();
    (0..5).map(|i| (Some(png(train.image(i))), vec![labels[i].into()])).collect()
}

fn train_file() -> Vec<u8> {
    parquet(&["label"], &train_rows())
}

/// The first test image.
fn test_file() -> Vec<u8> {
    parquet(&["label"], &[(Some(png(crate::CAT)), vec![3])])
}

fn serve(train: Answer) -> Server {
    Server::new(&[(TRAIN, train), (TEST, Answer::File(test_file()))])
}

fn good_server() -> Server {
    serve(Answer::File(train_file()))
}

struct Client {
    cache: TempDir,
}

impl Client {
    fn new() -> Self {
        Self { cache: tempfile::tempdir().unwrap() }
    }

    fn config(&self, server: &Server) -> HubConfig {
        let mut config = HubConfig::new(self.cache.path());
        config.endpoint = server.endpoint();
        config.token = Some("secret".to_owned());
        config
    }

    fn open(&self, server: &Server) -> Result<Dataset> {
        open(DatasetName::Cifar10, self.config(server))
    }

    fn cached(&self) -> PathBuf {
        self.cache.path().join(CACHED)
    }
}

fn open(name: DatasetName, config: HubConfig) -> Result<Dataset> {
    Dataset::open(name, &Source::Hub(config))
}

/// Opens a faulty training file; returns the message between the path of the file and the remedy.
fn message(train: Vec<u8>) -> String {
    let client = Client::new();
    let error = client.open(&serve(Answer::File(train))).unwrap_err().to_string();
    let file = client.cached().display().to_string();
    let repository = client.cache.path().join("datasets--uoft-cs--cifar10");
    let remedy = format!("delete '{}' to download it again", repository.display());
    let message = error.strip_prefix(&format!("{file}: ")).and_then(|rest| rest.strip_suffix(&remedy));
    message.unwrap_or_else(|| panic!("{error}")).to_owned()
}

#[test]
fn a_fresh_download_holds_the_images_and_labels_of_the_sample() {
    let (client, server) = (Client::new(), good_server());
    let data = client.open(&server).unwrap();
    let sample = Dataset::sample();
    assert_eq!(*data.train, sample.train.first(5));
    assert_eq!(*data.test, sample.test.first(1));
    assert_eq!(data.test.image(0), crate::CAT);
    assert_eq!(data.origin, format!("hub dataset uoft-cs/cifar10 at {COMMIT}"));
    let requests = server.requests();
    assert!(requests[0].starts_with(&format!("HEAD {TRAIN} HTTP/1.1\r\n")), "{}", requests[0]);
    assert!(requests[0].contains("authorization: Bearer secret"), "{}", requests[0]);
}

#[test]
fn the_second_time_the_cache_is_used_without_requests() {
    let client = Client::new();
    let server = good_server();
    let config = client.config(&server);
    let first = open(DatasetName::Cifar10, config.clone()).unwrap();
    drop(server);
    let second = open(DatasetName::Cifar10, config.clone()).unwrap();
    assert_eq!((first.train, first.test), (second.train, second.test));
    let offline = HubConfig { offline: true, ..config };
    assert_eq!(open(DatasetName::Cifar10, offline).unwrap().origin, second.origin);
}

#[test]
fn cifar_100_has_coarse_and_fine_labels() {
    let file = |rows: &[[i64; 2]]| {
        let rows: Vec<Row> = rows.iter().map(|labels| (Some(png(crate::CAT)), labels.to_vec())).collect();
        Answer::File(parquet(&["fine_label", "coarse_label"], &rows))
    };
    let server = Server::new(&[
        (
            "/datasets/uoft-cs/cifar100/resolve/main/cifar100/train-00000-of-00001.parquet",
            file(&[[99, 19], [0, 4], [19, 11]]),
        ),
        ("/datasets/uoft-cs/cifar100/resolve/main/cifar100/test-00000-of-00001.parquet", file(&[[49, 10]])),
    ]);
    let client = Client::new();
    let data = open(DatasetName::Cifar100, client.config(&server)).unwrap();
    assert_eq!(data.train.labels(Labels::Fine), Some(&[99, 0, 19][..]));
    assert_eq!(data.train.labels(Labels::Coarse), Some(&[19, 4, 11][..]));
    assert_eq!(data.test.labels(Labels::Coarse), Some(&[10][..]));
    assert_eq!(data.test.image(0), crate::CAT);
}

#[test]
fn offline_with_a_cold_cache_fails_without_requests() {
    let (client, server) = (Client::new(), good_server());
    let config = HubConfig { offline: true, ..client.config(&server) };
    let error = open(DatasetName::Cifar10, config).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "uoft-cs/cifar10/plain_text/train-00000-of-00001.parquet is not in the hub cache {} and \
             downloads are disabled (HF_HUB_OFFLINE)",
            client.cache.path().display()
        )
    );
    assert!(server.requests().is_empty());
}

#[test]
fn a_file_missing_from_the_hub() {
    let (client, server) = (Client::new(), Server::new(&[]));
    let error = client.open(&server).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "uoft-cs/cifar10/plain_text/train-00000-of-00001.parquet could not be downloaded from {}: Entry not found: \
             plain_text/train-00000-of-00001.parquet in uoft-cs/cifar10",
            server.endpoint()
        )
    );
}

#[test]
fn a_hub_that_cannot_be_reached() {
    let client = Client::new();
    let server = good_server();
    let config = client.config(&server);
    drop(server);
    let message = open(DatasetName::Cifar10, config).unwrap_err().to_string();
    assert!(message.contains("could not be downloaded from http://127.0.0.1:"), "{message}");
    assert!(message.contains("onnection refused"), "the innermost cause is reported: {message}");
    assert!(!message.contains('\n'), "{message}");
}

#[test]
fn an_interrupted_download_leaves_no_file() {
    let client = Client::new();
    let error = client.open(&serve(Answer::Cut(train_file()))).unwrap_err();
    assert!(matches!(error, Error::Hub { .. }), "{error}");
    assert!(!client.cached().exists());
    assert_eq!(client.open(&good_server()).unwrap().train.len(), 5);
}

/// hf-hub 1.0 stores the body of an error page as the file; its checksum reveals it.
#[test]
fn wrong_contents_are_detected_and_removed_from_the_cache() {
    for wrong in [Answer::ErrorPage(train_file()), Answer::Damaged(train_file())] {
        let client = Client::new();
        let server = serve(wrong);
        let error = client.open(&server).unwrap_err();
        let Error::Checksum { file, algorithm, .. } = &error else {
            panic!("{error}");
        };
        assert_eq!((file.as_path(), *algorithm), (&*client.cached(), "SHA-256"));
        let stored = server.requests().iter().filter(|request| request.contains("/storage")).count();
        assert_eq!(stored, 2, "the file is downloaded a second time");
        assert!(fs::symlink_metadata(client.cached()).is_err(), "not even a link remains");
        assert_eq!(client.open(&good_server()).unwrap().train.len(), 5);
    }
}

#[test]
fn a_damaged_file_in_the_cache_is_downloaded_again() {
    let (client, server) = (Client::new(), good_server());
    client.open(&server).unwrap();
    let damage = || {
        let mut bytes = fs::read(client.cached()).unwrap();
        bytes.truncate(100);
        fs::write(client.cached(), bytes).unwrap();
    };
    damage();
    assert_eq!(client.open(&server).unwrap().train.len(), 5);
    damage();
    let offline = HubConfig { offline: true, ..client.config(&server) };
    let message = open(DatasetName::Cifar10, offline).unwrap_err().to_string();
    assert!(message.contains(": SHA-256 "), "{message}");
    assert!(message.contains("the file is damaged, delete '"), "{message}");
}

#[test]
fn a_damaged_image_is_named_by_its_row() {
    let mut rows = train_rows();
    let png = rows[3].0.as_mut().unwrap();
    png.truncate(png.len() / 2);
    let message = message(parquet(&["label"], &rows));
    assert!(message.starts_with("the image in row 3 is damaged ("), "{message}");
    assert!(message.ends_with("); "), "{message}");
}

#[test]
fn an_image_of_the_wrong_size_is_refused() {
    for (width, height) in [(32, 31), (33, 32)] {
        let mut rows = train_rows();
        rows[1].0 = Some(encode(width, height, &vec![0; 3 * (width * height) as usize]));
        let message = message(parquet(&["label"], &rows));
        assert!(message.starts_with("the image in row 1 is damaged ("), "{message}");
    }
}

#[test]
fn a_label_out_of_range_is_named_by_its_row() {
    for label in [10, -1, 256] {
        let mut rows = train_rows();
        rows[4].1 = vec![label];
        assert_eq!(
            message(parquet(&["label"], &rows)),
            format!("record 4 has fine label {label}, expected 0 to 9; the file is damaged, ")
        );
    }
}

#[test]
fn a_missing_image_or_column_is_an_error() {
    let mut rows = train_rows();
    rows[2].0 = None;
    assert_eq!(message(parquet(&["label"], &rows)), "column img.bytes holds 1 of 2 values; ");
    assert_eq!(message(parquet(&["class"], &train_rows())), "no column label, only img.bytes, img.path, class; ");
    let message = message(b"no parquet file at all".to_vec());
    assert!(message.starts_with("Parquet error: "), "{message}");
}

#[test]
fn the_search_reaches_the_hub_through_its_variables() {
    let server = good_server();
    let home = tempfile::tempdir().unwrap();
    let search = Search::new(None, |name| match name {
        "HOME" => Some(home.path().into()),
        "HF_ENDPOINT" => Some(server.endpoint().into()),
        "HF_TOKEN" => Some("secret".into()),
        _ => None,
    });
    assert_eq!(search.open(DatasetName::Cifar10).unwrap().train.len(), 5);
    let cached = home.path().join(".cache/huggingface/hub").join(CACHED);
    assert!(cached.exists());
    // Damaged data is reported as such, not as missing.
    fs::write(Path::new(&cached), b"short").unwrap();
    let server = serve(Answer::Damaged(train_file()));
    let mut search = search.clone();
    search.hub.as_mut().unwrap().endpoint = server.endpoint();
    assert!(matches!(search.open(DatasetName::Cifar10), Err(Error::Checksum { .. })));
}
