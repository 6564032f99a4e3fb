//! `convnn push`, and weights `hub:OWNER/NAME`, with a hub on this machine.

#[path = "../../../convnn-hub/tests/hub/server.rs"]
mod server;

use crate::command::{Finished, convnn, finish, succeed, tiny_vgg};
use server::{Request, Server, response};
use std::fs;
use std::path::Path;
use std::process::Command;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

fn command(home: &Path, endpoint: &str) -> Command {
    let mut command = convnn();
    for name in ["HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "HUGGING_FACE_HUB_TOKEN"] {
        command.env_remove(name);
    }
    command.env("HOME", home).env_remove("XDG_CACHE_HOME").env("HF_ENDPOINT", endpoint).env("HF_TOKEN", "secret-token");
    command.env("HF_HUB_DOWNLOAD_TIMEOUT", "1").env_remove("HTTPS_PROXY").env_remove("https_proxy");
    command
}

/// Serves the files of `folder` as the model owner/name, and takes every upload as files of a commit.
fn answer(request: &Request, folder: &Path) -> Vec<u8> {
    let json = |text: String| response("200 OK", &[], text.as_bytes());
    match request.path.as_str() {
        "/api/repos/create" => json("{}".to_owned()),
        "/api/models/owner/name/preupload/main" => json(r#"{"files":[]}"#.to_owned()),
        "/api/models/owner/name/commit/main" => json(r#"{"commitUrl":"https://hub/owner/name/commit/1"}"#.to_owned()),
        "/api/models/owner/name/revision/main?blobs=true" => {
            let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
            let files: Vec<_> = entries
                .map(|entry| {
                    let size = entry.metadata().unwrap().len();
                    format!(r#"{{"rfilename":"{}","size":{size}}}"#, entry.file_name().to_str().unwrap())
                })
                .collect();
            json(format!(r#"{{"sha":"{COMMIT}","siblings":[{}]}}"#, files.join(",")))
        }
        path => match path.strip_prefix(&format!("/owner/name/resolve/{COMMIT}/")) {
            Some(name) => response("200 OK", &[], &fs::read(folder.join(name)).unwrap()),
            None => response("404 Not Found", &[], b""),
        },
    }
}

#[track_caller]
fn refused(command: &mut Command, code: i32, part: &str) {
    let Finished { code: found, stderr, .. } = finish(command);
    let errors: Vec<_> = stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert!(errors.len() == 1 && errors[0].contains(part) && !stderr.contains("secret"), "{part}: {stderr}");
    assert_eq!(found, Some(code), "{stderr}");
}

#[test]
fn exported_weights_are_pushed_and_used_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let [run, out, home] = ["run", "out", "home"].map(|name| folder.path().join(name));
    succeed(&mut tiny_vgg(&run, 1));
    succeed(convnn().arg("export").arg(&run).arg(&out).arg("--half"));
    let served = out.clone();
    let server = Server::new(move |request, _| answer(request, &served));
    let command = || command(&home, &server.endpoint());

    let pushed = succeed(command().arg("push").arg(&out).args(["owner/name", "--private"]));
    assert_eq!(pushed.stdout, "https://hub/owner/name/commit/1\n");
    assert!(server.requests().iter().all(|request| request.head.contains("authorization: bearer secret-token")));
    let body = server.requests().last().unwrap().body.clone();
    // The header, the eight files that an export has, SHA256SUMS among them.
    assert_eq!(String::from_utf8(body).unwrap().lines().count(), 1 + fs::read_dir(&out).unwrap().count());

    let eval = |weights: &str, offline: bool| {
        let mut command = command();
        command.args(["eval", weights, "--data", "sample", "--json"]);
        command.env("HF_HUB_OFFLINE", if offline { "1" } else { "0" });
        let value: serde_json::Value = serde_json::from_str(&succeed(&mut command).stdout).unwrap();
        (value["top1"].clone(), value["loss"].clone())
    };
    let expected = eval(out.to_str().unwrap(), true);
    assert_eq!(eval("hub:owner/name", false), expected);
    let requests = server.requests().len();
    assert_eq!(eval("hub:owner/name", true), expected);
    assert_eq!(server.requests().len(), requests);

    refused(command().args(["eval", "hub:owner/none"]), 2, "has no model owner/none");
    refused(command().args(["eval", "hub:../name"]), 2, "is not the name of a model");
    refused(command().args(["eval", "hub:owner/name@.."]), 2, "is not the name of a branch");
    fs::write(out.join("README.md"), "changed").unwrap();
    refused(command().arg("push").arg(&out).arg("owner/name"), 2, "has changed since it was written");
    refused(command().arg("push").arg(&run).arg("owner/name"), 2, "holds no SHA256SUMS");
    refused(
        command().args(["eval", "hub:owner/name"]).env("HF_ENDPOINT", "http://127.0.0.1:1"),
        4,
        "looking up owner/name failed",
    );
}
