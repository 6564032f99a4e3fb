//! `push`: the steps of an upload, and what may go wrong.

use crate::config;
use crate::server::{Request, Server, response};
use convnn_hub::{Error, HubConfig, ModelId, Push, push};
use sha2::{Digest, Sha256};
use std::path::Path;

fn files() -> Vec<(String, Vec<u8>)> {
    let tensors = (0..5000u32).flat_map(u32::to_le_bytes).collect();
    vec![("README.md".to_owned(), b"a card".to_vec()), ("model.safetensors".to_owned(), tensors)]
}

fn sent(hub: &HubConfig, name: &str) -> Result<String, Error> {
    let id: ModelId = name.parse().unwrap();
    push(hub, &Push { id: &id, private: true, files: &files(), summary: "weights" })
}

/// What a good hub answers; `storage` is where large files go, in parts of `chunk` bytes if there are any.
fn good(request: &Request, host: &str, chunk: Option<usize>) -> Vec<u8> {
    let oid: String = Sha256::digest(&files()[1].1).iter().map(|byte| format!("{byte:02x}")).collect();
    let json = |text: String| response("200 OK", &[], text.as_bytes());
    let path = request.path.as_str();
    match path {
        "/api/repos/create" => response("409 Conflict", &[], b"{}"),
        "/api/models/owner/name/branch/dev%2F1" => json("{}".to_owned()),
        "/owner/name.git/info/lfs/objects/batch" => {
            let header = match chunk {
                Some(size) => {
                    let urls: Vec<_> = (1..=files()[1].1.len().div_ceil(size))
                        .map(|part| format!(r#","{part:05}":"http://{host}/part/{part}""#))
                        .collect();
                    format!(r#""header":{{"chunk_size":"{size}"{}}},"#, urls.concat())
                }
                None => String::new(),
            };
            json(format!(
                r#"{{"objects":[{{"oid":"{oid}","actions":{{"upload":{{{header}"href":"http://{host}/storage"}},
                "verify":{{"href":"http://{host}/verify"}}}}}}]}}"#
            ))
        }
        _ if path.contains("/preupload/") => json(
            r#"{"files":[{"path":"README.md","uploadMode":"regular"},{"path":"model.safetensors","uploadMode":"lfs"}]}"#
                .to_owned(),
        ),
        _ if path.contains("/commit/") => json(r#"{"commitUrl":"https://hub/commit/1"}"#.to_owned()),
        _ if path.starts_with("/part/") => response("200 OK", &[&format!("ETag: \"{}\"", &path[6..])], b""),
        "/storage" | "/verify" => response("200 OK", &[], b""),
        _ => response("404 Not Found", &[], b""),
    }
}

fn host(request: &Request) -> &str {
    request.head.lines().find_map(|line| line.strip_prefix("host: ")).unwrap()
}

#[test]
fn one_commit_has_the_small_files_and_the_stored_ones() {
    let server = Server::new(|request, _| good(request, host(request), None));
    let url = sent(&config(&server.endpoint(), Path::new("")), "owner/name@dev/1").unwrap();
    assert_eq!(url, "https://hub/commit/1");
    let requests = server.requests();
    let paths: Vec<_> = requests.iter().map(|request| format!("{} {}", request.method, request.path)).collect();
    assert_eq!(
        paths,
        [
            "POST /api/repos/create",
            "POST /api/models/owner/name/branch/dev%2F1",
            "POST /api/models/owner/name/preupload/dev%2F1",
            "POST /owner/name.git/info/lfs/objects/batch",
            "PUT /storage",
            "POST /verify",
            "POST /api/models/owner/name/commit/dev%2F1",
        ]
    );
    assert!(requests.iter().all(|request| request.head.contains("authorization: bearer secret-token")));
    let text = |index: usize| String::from_utf8(requests[index].body.clone()).unwrap();
    assert_eq!(text(0), r#"{"name":"name","organization":"owner","private":true,"type":"model"}"#);
    assert_eq!(requests[4].body, files()[1].1);
    let commit = text(6);
    let lines: Vec<_> = commit.lines().collect();
    assert_eq!(lines[0], r#"{"key":"header","value":{"summary":"weights","description":""}}"#);
    assert_eq!(lines[1], r#"{"key":"file","value":{"path":"README.md","encoding":"base64","content":"YSBjYXJk"}}"#);
    assert!(
        lines[2].starts_with(r#"{"key":"lfsFile","value":{"path":"model.safetensors","algo":"sha256","oid":""#),
        "{}",
        lines[2]
    );
    assert!(lines[2].ends_with(r#","size":20000}}"#) && lines.len() == 3);
}

#[test]
fn large_files_go_in_parts() {
    let server = Server::new(|request, _| good(request, host(request), Some(6000)));
    sent(&config(&server.endpoint(), Path::new("")), "owner/name").unwrap();
    let requests = server.requests();
    let parts: Vec<_> = requests.iter().filter(|request| request.path.starts_with("/part/")).collect();
    assert_eq!(parts.iter().map(|part| part.body.len()).collect::<Vec<_>>(), [6000, 6000, 6000, 2000]);
    assert_eq!(parts.iter().flat_map(|part| part.body.clone()).collect::<Vec<_>>(), files()[1].1);
    let list = requests.iter().find(|request| request.path == "/storage").unwrap();
    let list = String::from_utf8(list.body.clone()).unwrap();
    assert!(list.contains(r#"{"partNumber":4,"etag":"\"4\""}"#), "{list}");
}

/// The token goes to the hub, not to its storage.
#[test]
fn the_token_stays_with_the_hub() {
    let storage = Server::new(|request, _| good(request, "", None));
    let address = storage.endpoint().replace("http://", "");
    let server = Server::new(move |request, _| good(request, &address, None));
    sent(&config(&server.endpoint(), Path::new("")), "owner/name").unwrap();
    assert_eq!(storage.requests().len(), 2);
    assert!(storage.requests().iter().all(|request| !request.head.contains("secret")));
}

#[test]
fn refusals_are_one_line_and_there_is_no_commit() {
    for (at, answer, part, tries) in [
        (
            "/api/repos/create",
            response("401 Unauthorized", &[], br#"{"error":"Invalid\nsecret-token"}"#),
            "401 Unauthorized (Invalid …)",
            1,
        ),
        ("/api/models/owner/name/preupload/main", response("403 Forbidden", &[], b""), "responds 403 Forbidden", 1),
        (
            "/storage",
            response("503 Service Unavailable", &["Retry-After: 0"], b""),
            "uploading model.safetensors failed",
            4,
        ),
        ("/storage", b"HTTP/1.1 2".to_vec(), "uploading model.safetensors failed", 4),
        ("/owner/name.git/info/lfs/objects/batch", response("200 OK", &[], b"{}"), "names no storage", 1),
    ] {
        let fails = answer.clone();
        let server = Server::new(move |request, _| match request.path == at {
            true => fails.clone(),
            false => good(request, host(request), None),
        });
        let line = sent(&config(&server.endpoint(), Path::new("")), "owner/name").unwrap_err().to_string();
        assert!(line.contains(part) && !line.contains('\n') && !line.contains("secret"), "{at}: {line}");
        let requests = server.requests();
        assert_eq!(requests.iter().filter(|request| request.path == at).count(), tries, "{at}: {line}");
        assert!(requests.iter().all(|request| !request.path.contains("/commit/")), "{at}");
    }
    let folder = tempfile::tempdir().unwrap();
    let hub = HubConfig { token: None, ..config("http://127.0.0.1:1", folder.path()) };
    assert!(matches!(sent(&hub, "owner/name"), Err(Error::NoToken)));
    let offline = HubConfig { offline: true, ..config("http://127.0.0.1:1", folder.path()) };
    assert!(matches!(sent(&offline, "owner/name"), Err(Error::Offline { .. })));
    let line = sent(&config("http://example.com", folder.path()), "owner/name").unwrap_err().to_string();
    assert!(line.contains("is not encrypted"), "{line}");
}

/// Such a token may not create repositories, not even the one that it is for.
#[test]
fn a_token_for_one_repository_is_enough() {
    for (exists, fails) in [("200 OK", false), ("404 Not Found", true)] {
        let server = Server::new(move |request, _| match request.path.as_str() {
            "/api/repos/create" => response("403 Forbidden", &[], b"{}"),
            "/api/models/owner/name" => response(exists, &[], b"{}"),
            _ => good(request, host(request), None),
        });
        let pushed = sent(&config(&server.endpoint(), Path::new("")), "owner/name");
        assert_eq!(pushed.is_err(), fails, "{exists}: {pushed:?}");
    }
}

/// The token in a file, as other tools store it.
#[test]
fn the_token_may_lie_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let hub = HubConfig { token: None, token_file: Some(file.clone()), ..config("http://127.0.0.1:1", folder.path()) };
    assert_eq!(hub.token(), None);
    for (text, token) in [("hf_one\n", Some("hf_one")), (" \n", None), ("two\r\nlines: x", None)] {
        std::fs::write(&file, text).unwrap();
        assert_eq!(hub.token().as_deref(), token, "{text:?}");
    }
}
