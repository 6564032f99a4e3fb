//! A hub on 127.0.0.1 that responds like huggingface.co to requests for large files: the URL of a file redirects to its
//! storage, with its checksum, size and commit in the headers.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use sha2::{Digest, Sha256};

/// How the server responds to requests for a file.
#[derive(Clone)]
pub enum Answer {
    /// The file.
    File(Vec<u8>),
    /// The first half of the file, then the connection closes.
    Cut(Vec<u8>),
    /// An error page instead of the file, after a correct redirect.
    ErrorPage(Vec<u8>),
    /// The file with one wrong byte.
    Damaged(Vec<u8>),
}

impl Answer {
    fn file(&self) -> &[u8] {
        match self {
            Self::File(file) | Self::Cut(file) | Self::ErrorPage(file) | Self::Damaged(file) => file,
        }
    }
}

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

pub struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves files by URL path; any other path is not found.
    pub fn new(files: &[(&str, Answer)]) -> Self {
        let files: BTreeMap<String, Answer> =
            files.iter().map(|(path, answer)| ((*path).to_owned(), answer.clone())).collect();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&requests);
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let Some(request) = read_request(&mut stream) else {
                    continue;
                };
                if request.starts_with("STOP") {
                    return;
                }
                let answer = answer(&request, &files, address);
                log.lock().unwrap().push(request);
                // The client may have hung up.
                let _ = stream.write_all(&answer);
            }
        });
        Self { address, requests, thread: Some(thread) }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All requests so far: request line and headers.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        TcpStream::connect(self.address).unwrap().write_all(b"STOP\r\n\r\n").unwrap();
        self.thread.take().unwrap().join().unwrap();
    }
}

fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        request.push(byte[0]);
    }
    String::from_utf8(request).ok()
}

fn answer(request: &str, files: &BTreeMap<String, Answer>, address: SocketAddr) -> Vec<u8> {
    let mut words = request.split(' ');
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    let (stored, path) = match path.strip_prefix("/storage") {
        Some(path) => (true, path),
        None => (false, path),
    };
    let Some(found) = files.get(path) else {
        return respond("404 Not Found", &[], b"Entry not found");
    };
    let file = found.file();
    if !stored {
        let sum: String = Sha256::digest(file).iter().map(|byte| format!("{byte:02x}")).collect();
        let headers = [
            format!("Location: http://{address}/storage{path}"),
            format!("X-Linked-ETag: \"{sum}\""),
            format!("X-Linked-Size: {}", file.len()),
            format!("X-Repo-Commit: {COMMIT}"),
        ];
        return respond("302 Found", &headers, b"");
    }
    assert_eq!(method, "GET", "only the redirect is requested without a body");
    match found {
        Answer::File(file) => respond("200 OK", &[], file),
        Answer::ErrorPage(_) => respond("403 Forbidden", &[], b"<html>Forbidden</html>"),
        Answer::Cut(file) => {
            let mut response = respond("200 OK", &[], file);
            response.truncate(response.len() - file.len() / 2);
            response
        }
        Answer::Damaged(file) => {
            let mut file = file.clone();
            let middle = file.len() / 2;
            file[middle] ^= 1;
            respond("200 OK", &[], &file)
        }
    }
}

fn respond(status: &str, headers: &[String], body: &[u8]) -> Vec<u8> {
    let mut response = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n", body.len());
    for header in headers {
        response += &format!("{header}\r\n");
    }
    [response.as_bytes(), b"\r\n", body].concat()
}
