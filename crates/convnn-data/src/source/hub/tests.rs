#![allow(clippy::unwrap_used)]

#[path = "../../../tests/data/parquet_fixture.rs"]
mod parquet_fixture;
mod server;

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use self::parquet_fixture::{Row, encode, parquet, png};
use self::server::{Server, response, send};
use super::HubConfig;
use super::download::read;
use super::files::{Pinned, Repository, published};
use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::name::{DatasetName, Labels};
use crate::source::{Search, hex};

const REVISION: &str = "0123456789abcdef0123456789abcdef01234567";
const FOLDER: &str = "/datasets/uoft-cs/cifar10/resolve/0123456789abcdef0123456789abcdef01234567/plain_text/";
/// The folder of the files in the cache.
const CACHED: &str = "datasets--uoft-cs--cifar10/snapshots/0123456789abcdef0123456789abcdef01234567/plain_text";
/// The first test image of CIFAR-10.
const CAT: &[u8] = include_bytes!("../../../tests/golden/first_test_image.bin");

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
    parquet(&["label"], &[(Some(png(CAT)), vec![3])])
}

/// Two files, pinned, and a folder with the cache.
struct Client {
    folder: TempDir,
    files: [Vec<u8>; 2],
}

impl Client {
    fn new() -> Self {
        Self::with(train_file())
    }

    fn with(train: Vec<u8>) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), files: [train, test_file()] }
    }

    fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    fn cached(&self) -> PathBuf {
        self.cache().join(CACHED).join("train.parquet")
    }

    fn config(&self, endpoint: &str) -> HubConfig {
        let mut config = HubConfig::new(self.cache());
        config.endpoint = endpoint.to_owned();
        config.token = Some("secret-token".to_owned());
        config.timeout = Duration::from_millis(300);
        config
    }

    fn read(&self, config: &HubConfig) -> Result<Dataset> {
        let sums = self.files.each_ref().map(|file| hex(&Sha256::digest(file)));
        let pinned = |name, file: usize| Pinned { name, size: self.files[file].len() as u64, sha256: &sums[file] };
        let repository = Repository {
            name: "uoft-cs/cifar10",
            revision: REVISION,
            folder: "plain_text",
            train: pinned("train.parquet", 0),
            test: pinned("test.parquet", 1),
        };
        read(DatasetName::Cifar10, config, &repository)
    }

    fn open(&self, server: &Server) -> Result<Dataset> {
        self.read(&self.config(&server.endpoint()))
    }

    /// Opens files that `answer` serves, and expects that the download fails and leaves nothing behind; returns why, and the
    /// number of requests.
    #[track_caller]
    fn refused(&self, answer: impl Fn(&str, &mut TcpStream) + Send + 'static) -> (String, usize) {
        let server = Server::new(answer);
        let started = Instant::now();
        let error = self.open(&server).unwrap_err();
        let Error::Hub { reason, .. } = &error else { panic!("{error}") };
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
        assert!(!error.to_string().contains("secret"), "{error}");
        assert_eq!(files_below(self.folder.path()), Vec::<PathBuf>::new(), "{error}");
        (reason.clone(), server.requests().len())
    }

    /// A server of both files.
    fn good_server(&self) -> Server {
        let [train, test] = self.files.clone();
        Server::new(move |path, stream| {
            let found = [("train.parquet", &train), ("test.parquet", &test)];
            let found = found.into_iter().find(|(name, _)| path == format!("{FOLDER}{name}"));
            send(
                stream,
                &found.map_or_else(|| response("404 Not Found", &[], b""), |(_, file)| response("200 OK", &[], file)),
            );
        })
    }
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files
}

#[test]
fn a_fresh_download_holds_the_images_and_labels_of_the_sample() {
    let client = Client::new();
    let server = client.good_server();
    let data = client.open(&server).unwrap();
    let sample = Dataset::sample();
    assert_eq!(*data.train, sample.train.first(5));
    assert_eq!(*data.test, sample.test.first(1));
    assert_eq!(data.origin, format!("hub dataset uoft-cs/cifar10 at {REVISION}"));
    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    assert!(requests[0].starts_with(&format!("GET {FOLDER}train.parquet HTTP/1.1\r\n")), "{}", requests[0]);
    assert!(requests[0].to_lowercase().contains("\r\nauthorization: bearer secret-token\r\n"), "{}", requests[0]);
    let mut files = files_below(client.folder.path());
    files.sort();
    assert_eq!(files, ["test.parquet", "train.parquet"].map(|name| client.cache().join(CACHED).join(name)));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&files[0]).unwrap().permissions().mode() & 0o600, 0o600);
    }
}

#[test]
fn a_warm_cache_needs_no_requests_on_line_or_off_line() {
    let client = Client::new();
    let server = client.good_server();
    let first = client.open(&server).unwrap();
    let config = client.config(&server.endpoint());
    drop(server);
    let second = client.read(&config).unwrap();
    assert_eq!((first.train, first.test), (second.train, second.test));
    assert_eq!(client.read(&HubConfig { offline: true, ..config }).unwrap().origin, second.origin);
}

/// Other hub tools store a link to a blob.
#[cfg(unix)]
#[test]
fn a_cache_of_another_tool_is_used() {
    let client = Client::new();
    let repository = client.cache().join("datasets--uoft-cs--cifar10");
    fs::create_dir_all(repository.join("blobs")).unwrap();
    fs::create_dir_all(client.cache().join(CACHED)).unwrap();
    for (name, file) in ["train.parquet", "test.parquet"].iter().zip(&client.files) {
        fs::write(repository.join("blobs").join(name), file).unwrap();
        let link = client.cache().join(CACHED).join(name);
        std::os::unix::fs::symlink(format!("../../../blobs/{name}"), link).unwrap();
    }
    let config = HubConfig { offline: true, ..client.config("https://nowhere.invalid") };
    assert_eq!(client.read(&config).unwrap().train.len(), 5);
}

#[test]
fn a_cold_cache_off_line_fails_without_requests() {
    let client = Client::new();
    let server = client.good_server();
    let config = HubConfig { offline: true, ..client.config(&server.endpoint()) };
    assert_eq!(
        client.read(&config).unwrap_err().to_string(),
        format!(
            "uoft-cs/cifar10/plain_text/train.parquet is not in the hub cache {} and downloads are disabled \
             (HF_HUB_OFFLINE)",
            client.cache().display()
        )
    );
    assert!(server.requests().is_empty());
}

#[test]
fn a_damaged_file_in_the_cache_is_downloaded_again() {
    let client = Client::new();
    let server = client.good_server();
    client.open(&server).unwrap();
    let good = fs::read(client.cached()).unwrap();
    let mut flipped = good.clone();
    flipped[100] ^= 1;
    for damaged in [&flipped[..], &good[..100], &[&good[..], b"more"].concat(), b""] {
        fs::write(client.cached(), damaged).unwrap();
        let offline = HubConfig { offline: true, ..client.config(&server.endpoint()) };
        let message = client.read(&offline).unwrap_err().to_string();
        assert!(message.contains(": SHA-256 ") && message.contains("the file is damaged; delete '"), "{message}");
        assert_eq!(client.open(&server).unwrap().train.len(), 5);
        assert_eq!(fs::read(client.cached()).unwrap(), good);
    }
    #[cfg(unix)]
    {
        fs::remove_file(client.cached()).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(client.cached()).status().unwrap().success());
        assert_eq!(client.open(&server).unwrap().train.len(), 5);
    }
}

#[test]
fn a_body_of_another_length_is_refused() {
    let client = Client::new();
    let size = client.files[0].len();
    let longer = [client.files[0].clone(), vec![0]].concat();
    let (reason, requests) = client.refused(move |_, stream| send(stream, &response("200 OK", &[], &longer)));
    assert_eq!((reason, requests), (format!("{} bytes found, {size} expected", size + 1), 1));
    // 300 MB are announced for a small file: nothing of the body is read.
    let (reason, _) = client.refused(|_, stream| send(stream, b"HTTP/1.1 200 OK\r\nContent-Length: 301000000\r\n\r\n"));
    assert_eq!(reason, format!("301000000 bytes found, {size} expected"));
    // Without a length the body goes on for ever.
    let (reason, _) = client.refused(|_, stream| {
        send(stream, b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
        use std::io::Write;
        while stream.write_all(&[7; 4096]).is_ok() {}
    });
    assert_eq!(reason, format!("more than the expected {size} bytes"));
}

#[test]
fn other_contents_are_refused() {
    let client = Client::new();
    let mut wrong = client.files[0].clone();
    let expected = hex(&Sha256::digest(&wrong));
    wrong[10] ^= 1;
    let found = hex(&Sha256::digest(&wrong));
    let (reason, requests) = client.refused(move |_, stream| send(stream, &response("200 OK", &[], &wrong)));
    assert_eq!((reason, requests), (format!("SHA-256 {found} found, {expected} expected"), 1));
}

#[test]
fn a_cut_connection_is_tried_again_a_few_times() {
    let client = Client::new();
    let file = client.files[0].clone();
    let (reason, requests) = client.refused(move |_, stream| {
        let whole = response("200 OK", &[], &file);
        send(stream, &whole[..whole.len() - file.len() / 2]);
    });
    assert!(reason.contains(" bytes"), "{reason}");
    assert_eq!(requests, 4);

    // The second attempt succeeds, and nothing of the first one is left in the file.
    let [train, test] = client.files.clone();
    let count = AtomicUsize::new(0);
    let server = Server::new(move |path, stream| {
        let whole = response("200 OK", &[], if path.ends_with("train.parquet") { &train } else { &test });
        let cut = if count.fetch_add(1, Ordering::SeqCst) == 0 { 50 } else { 0 };
        send(stream, &whole[..whole.len() - cut]);
    });
    client.open(&server).unwrap();
    assert_eq!(fs::read(client.cached()).unwrap(), client.files[0]);
}

#[test]
fn silence_and_trickles_end_in_time() {
    let client = Client::new();
    let (reason, requests) = client.refused(|_, _| thread::sleep(Duration::from_millis(400)));
    assert_eq!((reason.as_str(), requests), ("no answer in time", 4));
    let size = client.files[0].len();
    // A byte now and then keeps every single wait short, but not the whole.
    let (reason, requests) = client.refused(move |_, stream| {
        use std::io::Write;
        send(stream, format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n").as_bytes());
        while stream.write_all(b"x").is_ok() {
            thread::sleep(Duration::from_millis(50));
        }
    });
    assert!(reason.contains("timeout") || reason.contains("timed out"), "{reason}");
    assert_eq!(requests, 4);
}

#[test]
fn statuses_say_whether_to_try_again() {
    let client = Client::new();
    for (status, expected) in [
        ("404 Not Found", 1),
        ("403 Forbidden", 1),
        ("401 Unauthorized", 1),
        ("429 Too Many Requests", 4),
        ("500 Internal Server Error", 4),
    ] {
        let answer = response(status, &["Retry-After: 0"], b"<html>error page</html>");
        let (reason, requests) = client.refused(move |_, stream| send(stream, &answer));
        assert!(
            reason.starts_with("http://127.0.0.1:") && reason.ends_with(&format!(" responds {status}")),
            "{reason}"
        );
        assert_eq!(requests, expected, "{status}");
    }
    // A wait that a server asks for has its limit, too.
    let answer = response("429 Too Many Requests", &["Retry-After: 86400"], b"");
    client.refused(move |_, stream| send(stream, &answer));
}

#[test]
fn a_hub_that_cannot_be_reached() {
    let client = Client::new();
    let server = client.good_server();
    let config = client.config(&server.endpoint());
    drop(server);
    let message = client.read(&config).unwrap_err().to_string();
    let expected =
        format!("uoft-cs/cifar10/plain_text/train.parquet could not be downloaded from {}: ", config.endpoint);
    assert!(message.starts_with(&expected) && message.to_lowercase().contains("refused"), "{message}");
    assert!(!message.contains('\n'), "{message}");
}

/// Storage behind the hub: the token stays with the hub.
#[test]
fn redirects_are_followed_without_the_token() {
    let client = Client::new();
    let storage = client.good_server();
    let to = storage.endpoint();
    let server = Server::new(move |path, stream| {
        let location = match path.strip_prefix("/again") {
            Some(path) => format!("Location: {to}{path}"),
            None => format!("Location: /again{path}"),
        };
        send(stream, &response("302 Found", &[&location], b""));
    });
    assert_eq!(client.open(&server).unwrap().train.len(), 5);
    assert_eq!((server.requests().len(), storage.requests().len()), (4, 2));
    assert!(server.requests().iter().all(|request| request.contains("secret-token")));
    assert!(storage.requests().iter().all(|request| !request.contains("secret-token")));
}

#[test]
fn redirects_to_elsewhere_and_without_end_are_refused() {
    for (location, expected) in [
        (
            "Location: http://example.com/file?signature=secret",
            "http://example.com is not encrypted; only https is used",
        ),
        ("Location: http://user:secret@10.0.0.1:81/file", "http://10.0.0.1:81 is not encrypted"),
        ("Location: file:///etc/passwd", ""),
        ("Location: //example.com/file", ""),
        ("Location: ", ""),
        ("X-Nothing: 1", "a redirect from http://127.0.0.1:"),
        ("Location: /round", "more than 5 redirects"),
    ] {
        let client = Client::new();
        let answer = response("307 Temporary Redirect", &[location], b"");
        let (reason, requests) = client.refused(move |_, stream| send(stream, &answer));
        assert!(reason.starts_with(expected), "{location}: {reason}");
        assert_eq!(requests, if location.ends_with("round") { 6 } else { 1 }, "{location}");
    }
}

#[test]
fn plain_http_goes_to_this_machine_only() {
    let client = Client::new();
    for endpoint in
        ["http://example.com", "http://user:secret@127.0.0.1.example.com/x", "ftp://127.0.0.1", "http://[::2]:80"]
    {
        let error = client.read(&client.config(endpoint)).unwrap_err().to_string();
        assert!(error.contains(" is not encrypted; only https is used, except on this machine"), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
    let error = client.read(&client.config("no url with:secret@")).unwrap_err().to_string();
    assert!(error.contains("not a valid URL") && !error.contains("secret"), "{error}");
}

#[test]
fn credentials_of_a_url_are_not_shown() {
    let config = Client::new().config("https://user:secret@mirror.example:8443/path?token=secret#secret");
    assert_eq!(config.shown_endpoint(), "https://mirror.example:8443");
    let config = HubConfig { proxy: Some("http://user:secret@proxy".to_owned()), ..config };
    assert!(!format!("{config:?}").contains("secret"), "{config:?}");
}

/// Nothing that a server says becomes part of a path.
#[test]
fn headers_that_name_paths_have_no_effect() {
    let client = Client::new();
    let files = client.files.clone();
    let server = Server::new(move |path, stream| {
        let headers = [
            "ETag: \"../../../../escaped\"",
            "X-Linked-ETag: \"../../../../escaped\"",
            "X-Repo-Commit: ../../../../../escaped",
            "Content-Disposition: attachment; filename=\"../../escaped\"",
        ];
        send(stream, &response("200 OK", &headers, &files[usize::from(!path.ends_with("train.parquet"))]));
    });
    client.open(&server).unwrap();
    let mut files = files_below(client.folder.path());
    files.sort();
    assert_eq!(files, ["test.parquet", "train.parquet"].map(|name| client.cache().join(CACHED).join(name)));
}

/// Opens a faulty training file; returns the message between the path of the file and the remedy.
fn message(train: Vec<u8>) -> String {
    let client = Client::with(train);
    let error = client.open(&client.good_server()).unwrap_err().to_string();
    let file = client.cached().display().to_string();
    let remedy = format!("; delete '{file}' to download it again");
    let message = error.strip_prefix(&format!("{file}: ")).and_then(|rest| rest.strip_suffix(&remedy));
    message.unwrap_or_else(|| panic!("{error}")).to_owned()
}

#[test]
fn a_damaged_image_is_named_by_its_row() {
    let mut rows = train_rows();
    let png = rows[3].0.as_mut().unwrap();
    png.truncate(png.len() / 2);
    let message = message(parquet(&["label"], &rows));
    assert!(message.starts_with("the image in row 3 is damaged ("), "{message}");
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
        let expected = format!("record 4 has fine label {label}, expected 0 to 9; the file is damaged");
        assert_eq!(message(parquet(&["label"], &rows)), expected);
    }
}

#[test]
fn a_missing_image_or_column_is_an_error() {
    let mut rows = train_rows();
    rows[2].0 = None;
    assert_eq!(message(parquet(&["label"], &rows)), "column img.bytes holds 1 of 2 values");
    assert_eq!(message(parquet(&["class"], &train_rows())), "no column label, only img.bytes, img.path, class");
    let message = message(b"no parquet file at all".to_vec());
    assert!(message.starts_with("Parquet error: "), "{message}");
}

#[test]
fn cifar_100_has_coarse_and_fine_labels() {
    let rows = [[99, 19], [0, 4]].map(|labels: [i64; 2]| (Some(png(CAT)), labels.to_vec()));
    let file = parquet(&["fine_label", "coarse_label"], &rows);
    let split = super::parquet::read(DatasetName::Cifar100, file.into(), Path::new("file"), "").unwrap();
    assert_eq!(split.labels(Labels::Fine), Some(&[99, 0][..]));
    assert_eq!(split.labels(Labels::Coarse), Some(&[19, 4][..]));
    assert_eq!(split.image(1), CAT);
}

/// The sizes add up to the download sizes that the cards of the data sets state.
#[test]
fn every_published_file_is_pinned() {
    for (name, expected) in [(DatasetName::Cifar10, 143_646_105), (DatasetName::Cifar100, 142_291_368)] {
        let repository = published(name).unwrap();
        assert_eq!(repository.revision.len(), 40);
        assert_eq!(repository.train.size + repository.test.size, expected);
        for file in [&repository.train, &repository.test] {
            assert!(file.sha256.len() == 64 && file.sha256.bytes().all(|byte| byte.is_ascii_hexdigit()));
        }
    }
    assert!(published(DatasetName::Mnist).is_none());
}

/// The public entry: another file of the right name is not the published one.
#[test]
fn the_search_reaches_the_hub_and_holds_it_to_the_published_files() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::new(|_, stream| send(stream, &response("200 OK", &[], b"short")));
    let search = Search::new(Some(Path::new("hub")), |name| match name {
        "HOME" => Some(home.path().into()),
        "HF_ENDPOINT" => Some(server.endpoint().into()),
        _ => None,
    });
    let message = search.open(DatasetName::Cifar10).unwrap_err().to_string();
    assert!(message.ends_with(": 5 bytes found, 119705255 expected"), "{message}");
    let message = search.open(DatasetName::Mnist).unwrap_err().to_string();
    assert_eq!(message, "MNIST is not read from the hub, only CIFAR-10 and CIFAR-100; give a data folder");
}
