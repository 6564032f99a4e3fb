//! `download`: everything a hub may answer.

use crate::server::{Request, Server, response};
use crate::{config, files_below};
use convnn_hub::{Error, HubConfig, ModelId, download};
use sha2::{Digest, Sha256};
use std::fs;
use std::time::Instant;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const MODEL: &[u8] = b"the tensors of a model";
const CONFIG: &[u8] = b"{}";

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sums() -> Vec<u8> {
    format!("{}  config.json\n{}  model.safetensors\n", sha256(CONFIG), sha256(MODEL)).into_bytes()
}

/// The list of the files, with a `sha` of the test's choice.
fn list(commit: &str, model_size: usize) -> Vec<u8> {
    list_of(commit, model_size, &sha256(MODEL))
}

fn list_of(commit: &str, model_size: usize, model_sha256: &str) -> Vec<u8> {
    let text = format!(
        r#"{{"sha":"{commit}","siblings":[{{"rfilename":"config.json","size":{}}},{{"rfilename":"SHA256SUMS","size":{}}},
        {{"rfilename":"../../../../escaped","size":1}},{{"rfilename":"/etc/escaped","size":1}},
        {{"rfilename":"model.safetensors","size":{model_size},"lfs":{{"sha256":"{model_sha256}"}}}}]}}"#,
        CONFIG.len(),
        sums().len()
    );
    response("200 OK", &[], text.as_bytes())
}

/// What a good hub answers.
fn good(request: &Request) -> Vec<u8> {
    match request.path.as_str() {
        "/api/models/owner/name/revision/main?blobs=true" => list(COMMIT, MODEL.len()),
        path => match path.strip_prefix(&format!("/owner/name/resolve/{COMMIT}/")) {
            Some("config.json") => response("200 OK", &[], CONFIG),
            Some("SHA256SUMS") => {
                response("200 OK", &["ETag: \"../../../escaped\"", "X-Repo-Commit: ../escaped"], &sums())
            }
            Some("model.safetensors") => response("200 OK", &[], MODEL),
            _ => response("404 Not Found", &[], b""),
        },
    }
}

fn id() -> ModelId {
    "owner/name".parse().unwrap()
}

/// Downloads from a hub whose model file is answered by `answer`: fails with a line that contains `part`, and leaves no part
/// of the model behind.
#[track_caller]
fn model_refused(part: &str, answer: impl Fn(usize) -> Vec<u8> + Send + 'static) -> usize {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::new(move |request, number| match request.path.ends_with("model.safetensors") {
        true => answer(number),
        false => good(request),
    });
    let started = Instant::now();
    let line = download(&config(&server.endpoint(), folder.path()), &id()).unwrap_err().to_string();
    assert!(line.contains(part) && !line.contains('\n') && !line.contains("secret"), "{part}: {line}");
    assert!(line.starts_with("downloading model.safetensors of owner/name failed with http://127.0.0.1:"), "{line}");
    assert!(started.elapsed().as_secs() < 10);
    let files = files_below(folder.path());
    assert!(files.iter().all(|file| file.ends_with("config.json") || file.ends_with("SHA256SUMS")), "{files:?}");
    server.requests().iter().filter(|request| request.path.ends_with("model.safetensors")).count()
}

/// Unmounts at the end of a test.
#[cfg(target_os = "linux")]
struct Mounted<'a>(&'a std::path::Path);

#[cfg(target_os = "linux")]
impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(self.0).status();
    }
}

/// A model of 128 KiB on a disk of 256 KiB that is filled: one line, no part of it is left, and once there is room the
/// download succeeds.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_leaves_no_part_of_a_model() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let mounted =
        std::process::Command::new("mount").args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"]).arg(&disk).output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED a_full_disk_leaves_no_part_of_a_model: this user may not mount a file system");
        return;
    }
    let _mounted = Mounted(&disk);
    let model = vec![7; 128 << 10];
    let digest = sha256(&model);
    let sums = format!("{}  config.json\n{digest}  model.safetensors\n", sha256(CONFIG));
    let listed = list_of(COMMIT, model.len(), &digest);
    let server = Server::new(move |request, _| match request.path.rsplit('/').next() {
        Some("model.safetensors") => response("200 OK", &[], &model),
        Some("SHA256SUMS") => response("200 OK", &[], sums.as_bytes()),
        Some("main?blobs=true") => listed.clone(),
        _ => good(request),
    });
    let hub = config(&server.endpoint(), &disk);
    let ballast = disk.join("ballast");
    fs::write(&ballast, vec![0; 180 << 10]).unwrap();

    let error = download(&hub, &id()).unwrap_err();
    let line = error.to_string();
    assert!(line.ends_with("model.safetensors: No space left on device (os error 28)"), "{line}");
    assert!(line.starts_with(&*hub.cache.to_string_lossy()), "{line}");
    let full = std::io::ErrorKind::StorageFull;
    assert!(matches!(&error, Error::Io { source, .. } if source.kind() == full), "{error:?}");
    let left = files_below(&hub.cache);
    assert!(left.iter().all(|file| file.ends_with("config.json") || file.ends_with("SHA256SUMS")), "{left:?}");
    // It would fill up again.
    let asked = server.requests().iter().filter(|request| request.path.ends_with("model.safetensors")).count();
    assert_eq!(asked, 1);

    fs::remove_file(&ballast).unwrap();
    let path = download(&hub, &id()).unwrap();
    assert_eq!(fs::metadata(path.join("model.safetensors")).unwrap().len(), 128 << 10);
}

#[test]
fn a_model_is_downloaded_once_and_read_offline() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::new(|request, _| good(request));
    let hub = config(&server.endpoint(), folder.path());
    let path = download(&hub, &id()).unwrap();
    assert_eq!(path, hub.cache.join(format!("models--owner--name/snapshots/{COMMIT}")));
    assert_eq!(fs::read(path.join("model.safetensors")).unwrap(), MODEL);
    // Names and headers of the server have made no file.
    let mut expected = ["SHA256SUMS", "config.json", "model.safetensors"].map(|name| path.join(name)).to_vec();
    expected.insert(0, hub.cache.join("models--owner--name/refs/main"));
    assert_eq!(files_below(folder.path()), expected);
    assert!(server.requests().iter().all(|request| request.head.contains("authorization: bearer secret-token")));
    assert_eq!(server.requests().len(), 4);

    // The revision is looked up again, but nothing is downloaded.
    download(&hub, &id()).unwrap();
    assert_eq!(server.requests().len(), 5);
    let offline = HubConfig { offline: true, ..hub.clone() };
    assert_eq!(download(&offline, &id()).unwrap(), path);
    assert_eq!(download(&hub, &id().at(COMMIT).unwrap()).unwrap(), path);
    assert_eq!(server.requests().len(), 5, "no connection");
    let line = download(&offline, &"owner/other".parse().unwrap()).unwrap_err().to_string();
    assert!(line.starts_with("owner/other is not in the hub cache") && line.ends_with("(HF_HUB_OFFLINE)"), "{line}");

    // A damaged file is replaced.
    fs::write(path.join("model.safetensors"), vec![b'x'; MODEL.len()]).unwrap();
    download(&hub, &id()).unwrap();
    assert_eq!(fs::read(path.join("model.safetensors")).unwrap(), MODEL);
}

#[test]
fn damage_on_the_way_leaves_nothing_behind() {
    model_refused("after 12 of 22 bytes", |_| response("200 OK", &[], MODEL)[..70].to_vec());
    model_refused("bytes found, 22 expected", |_| response("200 OK", &[], &MODEL[1..]));
    model_refused("bytes found, 22 expected", |_| response("200 OK", &[], &[MODEL, b"more"].concat()));
    let once = model_refused("SHA-256", |_| response("200 OK", &[], &[b'x'; 22]));
    assert_eq!(once, 1, "another hash will not get better");
    assert_eq!(model_refused("responds 404 Not Found", |_| response("404 Not Found", &[], b"")), 1);
    assert_eq!(model_refused("responds 500", |_| response("500 Internal Server Error", &[], b"")), 4);
    let elsewhere = "Location: http://example.com/x?signature=secret";
    model_refused("http://example.com is not encrypted", move |_| response("302 Found", &[elsewhere], b""));
}

/// A hub that is busy is asked again, after the time that it names and no longer than the limit.
#[test]
fn a_busy_hub_is_asked_again() {
    for wait in ["0", "86400", "soon"] {
        let folder = tempfile::tempdir().unwrap();
        let header = format!("Retry-After: {wait}");
        let server = Server::new(move |request, number| match number {
            0 | 2 => response("429 Too Many Requests", &[&header], b""),
            _ => good(request),
        });
        let started = Instant::now();
        download(&config(&server.endpoint(), folder.path()), &id()).unwrap();
        assert!(started.elapsed().as_secs() < 5, "{wait}");
    }
    let always = model_refused("responds 429", |_| response("429 Too Many Requests", &["Retry-After: 0"], b""));
    assert_eq!(always, 4);
}

#[test]
fn what_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |answer: Vec<u8>| {
        let server = Server::new(move |_, _| answer.clone());
        let error = download(&config(&server.endpoint(), folder.path()), &id()).unwrap_err();
        assert_eq!(files_below(folder.path()).len(), 0);
        assert!(!error.to_string().contains('\n'));
        error
    };
    for status in ["404 Not Found", "401 Unauthorized"] {
        let error = refused(response(status, &[], br#"{"error":"Repository not found"}"#));
        assert!(matches!(error, Error::Missing { .. }), "{error}");
        assert!(
            error.to_string().contains("has no model owner/name") && error.to_string().contains("HF_TOKEN"),
            "{error}"
        );
    }
    let empty = format!(r#"{{"sha":"{COMMIT}","siblings":[]}}"#);
    let error = refused(response("200 OK", &[], empty.as_bytes()));
    assert_eq!(error.to_string(), "owner/name holds no config.json; expected the repository of a weights folder");
    for (answer, part) in [
        (list("../../../../escaped", 1), "states no commit"),
        (response("200 OK", &[], b"<html>"), "sends no JSON"),
        (response("200 OK", &[], format!(r#"{{"sha":"{COMMIT}"}}"#).as_bytes()), "lists no files"),
    ] {
        let error = refused(answer);
        assert!(error.to_string().contains(part), "{error}");
    }
    // Nobody listens there.
    let endpoint = Server::new(|_, _| Vec::new()).endpoint();
    let error = download(&config(&endpoint, folder.path()), &id()).unwrap_err().to_string();
    assert!(error.starts_with("looking up owner/name failed with http://127.0.0.1:"), "{error}");
    assert!(error.to_lowercase().contains("refused"), "{error}");
}

/// A model of an absurd size is refused before its download starts.
#[test]
fn sizes_have_limits() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::new(|request, _| match request.path.starts_with("/api/") {
        true => list(COMMIT, usize::MAX / 2),
        false => good(request),
    });
    let error = download(&config(&server.endpoint(), folder.path()), &id()).unwrap_err().to_string();
    assert!(error.contains("bytes of model.safetensors for owner/name; expected a smaller file"), "{error}");
}

/// A file is in the place of the cache.
#[cfg(unix)]
#[test]
fn a_cache_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("cache"), b"a file").unwrap();
    let server = Server::new(|request, _| good(request));
    let error = download(&config(&server.endpoint(), folder.path()), &id()).unwrap_err();
    let Error::Io { path, .. } = &error else { panic!("{error}") };
    assert!(path.starts_with(folder.path()), "{error}");
}
