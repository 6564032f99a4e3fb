//! A hub on 127.0.0.1 that responds like huggingface.co to requests for large files: the URL of a file redirects to its
//! storage, with its checksum, size and commit in the headers.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};

use sha2::{Digest, Sha256};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

pub struct Server {
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves files by URL path; any other path is not found.
    pub fn new(files: &[(&str, Vec<u8>)]) -> Self {
        let files: BTreeMap<String, Vec<u8>> =
            files.iter().map(|(path, file)| ((*path).to_owned(), file.clone())).collect();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
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
                // The client may have hung up.
                let _ = stream.write_all(&answer);
            }
        });
        Self { address, thread: Some(thread) }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
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

fn answer(request: &str, files: &BTreeMap<String, Vec<u8>>, address: SocketAddr) -> Vec<u8> {
    let mut words = request.split(' ');
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    let (stored, path) = match path.strip_prefix("/storage") {
        Some(path) => (true, path),
        None => (false, path),
    };
    let Some(file) = files.get(path) else {
        return respond("404 Not Found", &[], b"Entry not found");
    };
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
    respond("200 OK", &[], file)
}

fn respond(status: &str, headers: &[String], body: &[u8]) -> Vec<u8> {
    let mut response = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n", body.len());
    for header in headers {
        response += &format!("{header}\r\n");
    }
    [response.as_bytes(), b"\r\n", body].concat()
}
