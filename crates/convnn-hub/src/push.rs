//! Uploads: a commit on the hub, whose large files go to its storage first.
//!
//! The steps are those of the hub's own client: the repository and the branch are created if they are missing, the hub says
//! which files are large, those are sent to the storage that the Git LFS protocol names, and one commit has them all.

use crate::fetch::{
    Expected, Failure, Refusal, Size, agent, copy, failure, fetch, on_hub, parse, permit, refusal, retried, same_origin,
};
use crate::{Error, HubConfig, ModelId, Result, hex};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use ureq::http::{Method, Uri, header};
use ureq::{Agent, Body, http};

/// What to upload.
#[derive(Clone, Debug)]
pub struct Push<'a> {
    /// The model; its revision is the branch.
    pub id: &'a ModelId,
    /// Whether a repository that does not exist yet is to be private.
    pub private: bool,
    /// Names and contents.
    pub files: &'a [(String, Vec<u8>)],
    /// The first line of the commit.
    pub summary: &'a str,
}

/// Uploads files to a model on the hub in one commit; returns the URL of the commit. Other files there stay.
///
/// # Errors
/// [`Error::NoToken`], [`Error::Offline`], or a request that the hub rejects. The upload becomes visible with its commit;
/// before that, at most the repository and the branch have been created.
pub fn push(config: &HubConfig, push: &Push<'_>) -> Result<String> {
    if config.offline {
        return Err(Error::Offline { what: format!("{} cannot be uploaded", push.id) });
    }
    let token = config.token().ok_or(Error::NoToken)?;
    let largest = push.files.iter().map(|(_, bytes)| bytes.len()).max().unwrap_or(0) as u64;
    let failed = |reason: String| transfer(config, "the upload", &reason.into());
    let endpoint = parse(&config.endpoint).map_err(failed)?;
    let agent = agent(config, largest.saturating_mul(2)).map_err(failed)?;
    Session { config, token, endpoint, agent, push }.run()
}

const JSON: &str = "application/json";
const LFS: &str = "application/vnd.git-lfs+json";

/// The most bytes of an answer.
const MOST_ANSWER: u64 = 4 << 20;

/// Bytes of the beginning of a file that the hub decides by.
const SAMPLE: usize = 512;

struct Session<'a> {
    config: &'a HubConfig,
    token: String,
    endpoint: Uri,
    agent: Agent,
    push: &'a Push<'a>,
}

impl Session<'_> {
    fn run(&self) -> Result<String> {
        let id = self.push.id;
        self.create()?;
        let large = self.large()?;
        self.store(&large)?;
        let mut lines = vec![json!({ "key": "header", "value": { "summary": self.push.summary, "description": "" } })];
        for (name, bytes) in self.push.files {
            lines.push(if large.contains(&name.as_str()) {
                let value =
                    json!({ "path": name, "algo": "sha256", "oid": hex(&Sha256::digest(bytes)), "size": bytes.len() });
                json!({ "key": "lfsFile", "value": value })
            } else {
                let value = json!({ "path": name, "encoding": "base64", "content": BASE64_STANDARD.encode(bytes) });
                json!({ "key": "file", "value": value })
            });
        }
        let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let path = format!("api/models/{}/commit/{}", id.name(), self.branch());
        let answer = self.post(&path, "application/x-ndjson", body.as_bytes(), "the commit")?;
        let url = answer["commitUrl"].as_str().map(str::to_owned);
        url.ok_or_else(|| self.wrong("states no commit", "the URL of the commit"))
    }

    /// Creates the repository and the branch, if they are missing.
    fn create(&self) -> Result<()> {
        let (owner, name) = self.push.id.name().split_once('/').unwrap_or_default();
        let body = json!({ "name": name, "organization": owner, "private": self.push.private, "type": "model" });
        let model = format!("api/models/{}", self.push.id.name());
        self.create_at("api/repos/create", &body, &model, "creating the repository")?;
        match self.push.id.revision() {
            "main" => Ok(()),
            _ => {
                let (path, branch) = (format!("{model}/branch/{}", self.branch()), self.branch());
                self.create_at(&path, &json!({}), &format!("{model}/revision/{branch}"), "creating the branch")
            }
        }
    }

    /// Creates what is described at `result` once it exists.
    fn create_at(&self, path: &str, body: &Value, result: &str, what: &str) -> Result<()> {
        match self.send(Method::POST, &on_hub(self.config, path), JSON, body.to_string().as_bytes()) {
            // It is there already.
            Err(Refusal { status: Some(409), .. }) => Ok(()),
            // A token for one repository may not create any, but may write to the one that is there.
            Err(Refusal { status: Some(403), .. }) if self.exists(result) => Ok(()),
            Err(refusal) => Err(transfer(self.config, what, &refusal)),
            Ok(_) => Ok(()),
        }
    }

    /// Whether the hub describes something at `path` to this token.
    fn exists(&self, path: &str) -> bool {
        let expected = Expected { size: Size::AtMost(MOST_ANSWER), sha256: None };
        fetch(self.config, path, expected, &mut std::io::sink()).is_ok()
    }

    /// The names of the files that the hub keeps in its storage.
    fn large(&self) -> Result<Vec<&str>> {
        let files = self.push.files;
        let describe = |(name, bytes): &(String, Vec<u8>)| {
            let sample = BASE64_STANDARD.encode(&bytes[..bytes.len().min(SAMPLE)]);
            json!({ "path": name, "size": bytes.len(), "sample": sample })
        };
        let body = json!({ "files": files.iter().map(describe).collect::<Vec<_>>() });
        let path = format!("api/models/{}/preupload/{}", self.push.id.name(), self.branch());
        let answer = self.post(&path, JSON, body.to_string().as_bytes(), "the announcement of the files")?;
        let list = answer["files"].as_array().ok_or_else(|| self.wrong("lists no files", "how to upload each file"))?;
        let is_large = |name: &str| list.iter().any(|file| file["path"] == *name && file["uploadMode"] == "lfs");
        Ok(files.iter().map(|(name, _)| name.as_str()).filter(|name| is_large(name)).collect())
    }

    /// Sends large files to the storage, unless it has them.
    fn store(&self, names: &[&str]) -> Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        let files: Vec<_> = self.push.files.iter().filter(|(name, _)| names.contains(&name.as_str())).collect();
        let oids: Vec<_> = files.iter().map(|(_, bytes)| hex(&Sha256::digest(bytes))).collect();
        let object = |((_, bytes), oid): (&&(String, Vec<u8>), &String)| json!({ "oid": oid, "size": bytes.len() });
        let body = json!({
            "operation": "upload",
            "transfers": ["basic", "multipart"],
            "hash_algo": "sha256",
            "ref": { "name": self.push.id.revision() },
            "objects": files.iter().zip(&oids).map(object).collect::<Vec<_>>(),
        });
        let path = format!("{}.git/info/lfs/objects/batch", self.push.id.name());
        let answer = self.post(&path, LFS, body.to_string().as_bytes(), "the announcement of large files")?;
        for ((name, bytes), oid) in files.iter().zip(&oids) {
            let object =
                answer["objects"].as_array().and_then(|list| list.iter().find(|object| object["oid"] == **oid));
            let object = object.ok_or_else(|| self.wrong("names no storage", "one for every large file"))?;
            if let Some(message) = object["error"]["message"].as_str() {
                return Err(transfer(self.config, &format!("uploading {name}"), &message.to_owned().into()));
            }
            let (upload, verify) = (&object["actions"]["upload"], &object["actions"]["verify"]);
            // Without an action the storage has the file.
            let Some(url) = upload["href"].as_str() else { continue };
            let failed = |refusal| transfer(self.config, &format!("uploading {name}"), &refusal);
            tracing::info!("uploading {name} to {}", self.push.id);
            match upload["header"]["chunk_size"]
                .as_str()
                .map(str::parse)
                .or(upload["header"]["chunk_size"].as_u64().map(Ok))
            {
                None => drop(self.send(Method::PUT, url, "application/octet-stream", bytes).map_err(failed)?),
                Some(size) => {
                    self.store_parts(url, &upload["header"], size.unwrap_or(0), bytes, oid).map_err(failed)?
                }
            }
            if let Some(url) = verify["href"].as_str() {
                let body = json!({ "oid": oid, "size": bytes.len() }).to_string();
                self.send(Method::POST, url, LFS, body.as_bytes()).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Sends a file in parts of `size` bytes, each to a URL in `urls` under its number, and then their list to `url`.
    fn store_parts(
        &self,
        url: &str,
        urls: &Value,
        size: u64,
        bytes: &[u8],
        oid: &str,
    ) -> std::result::Result<(), Refusal> {
        let size =
            usize::try_from(size).ok().filter(|size| *size > 0).ok_or("the storage wants empty parts".to_owned())?;
        let mut parts = Vec::new();
        for (number, part) in (1..).zip(bytes.chunks(size)) {
            // The numbers may be padded with zeros.
            let of_number = |(key, _): &(&String, &Value)| key.parse() == Ok(number);
            let found = urls.as_object().and_then(|urls| urls.iter().find(of_number)?.1.as_str());
            let to = found.ok_or_else(|| format!("the storage names no URL for part {number}"))?;
            let (_, etag) = self.send(Method::PUT, to, "application/octet-stream", part)?;
            let etag = etag.ok_or_else(|| format!("the storage confirms part {number} without an ETag"))?;
            parts.push(json!({ "partNumber": number, "etag": etag }));
        }
        let body = json!({ "oid": oid, "parts": parts }).to_string();
        self.send(Method::POST, url, LFS, body.as_bytes()).map(drop)
    }

    /// Posts to the hub; returns the JSON of its answer.
    fn post(&self, path: &str, kind: &str, body: &[u8], what: &str) -> Result<Value> {
        let sent = self.send(Method::POST, &on_hub(self.config, path), kind, body);
        let (answer, _) = sent.map_err(|refusal| transfer(self.config, what, &refusal))?;
        serde_json::from_slice(&answer).map_err(|_| self.wrong("sends no JSON", "JSON"))
    }

    /// Sends `body`; returns the answer and its `ETag`.
    fn send(
        &self,
        method: Method,
        url: &str,
        kind: &str,
        body: &[u8],
    ) -> std::result::Result<(Vec<u8>, Option<String>), Refusal> {
        let url = parse(url)?;
        permit(&url, &self.endpoint)?;
        retried(self.config, || {
            let mut request = match method {
                Method::PUT => self.agent.put(&url),
                _ => self.agent.post(&url),
            };
            request = request.header(header::CONTENT_TYPE, kind).header(header::ACCEPT, kind_of_answer(kind));
            if same_origin(&url, &self.endpoint) {
                request = request.header(header::AUTHORIZATION, format!("Bearer {}", self.token));
            }
            let response: http::Response<Body> = request.send(body).map_err(|error| failure(&error))?;
            if !response.status().is_success() {
                return Err(self.explained(response, &url));
            }
            let etag = response.headers().get(header::ETAG).and_then(|value| value.to_str().ok()).map(str::to_owned);
            let expected = Expected { size: Size::AtMost(MOST_ANSWER), sha256: None };
            Ok((copy(response.into_body(), expected, &mut std::io::sink())?, etag))
        })
    }

    /// A refusal, with the message of the hub if there is one.
    fn explained(&self, response: http::Response<Body>, url: &Uri) -> Failure {
        let failure = refusal(&response, url);
        let expected = Expected { size: Size::AtMost(MOST_ANSWER), sha256: None };
        let body = copy(response.into_body(), expected, &mut std::io::sink()).unwrap_or_default();
        let message =
            serde_json::from_slice(&body).ok().and_then(|value: Value| Some(value["error"].as_str()?.to_owned()));
        let explain = |refusal: Refusal| match message {
            Some(message) => {
                let message: String = message.replace(&self.token, "…").chars().take(300).collect();
                let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
                Refusal { reason: format!("{} ({message})", refusal.reason), ..refusal }
            }
            None => refusal,
        };
        match failure {
            Failure::Passing(refusal, wait) => Failure::Passing(explain(refusal), wait),
            Failure::Lasting(refusal) => Failure::Lasting(explain(refusal)),
        }
    }

    /// The branch as a part of a URL.
    fn branch(&self) -> String {
        self.push.id.revision().replace('/', "%2F")
    }

    fn wrong(&self, found: &str, expected: &'static str) -> Error {
        let (endpoint, model) = (self.config.shown_endpoint(), self.push.id.to_string());
        Error::Answer { endpoint, model, found: found.to_owned(), expected }
    }
}

fn kind_of_answer(kind: &str) -> &str {
    if kind == LFS { LFS } else { "*/*" }
}

fn transfer(config: &HubConfig, what: &str, refusal: &Refusal) -> Error {
    Error::Transfer { what: what.to_owned(), endpoint: config.shown_endpoint(), reason: refusal.reason.clone() }
}
