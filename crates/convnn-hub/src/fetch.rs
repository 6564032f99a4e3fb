//! Requests to the hub and its storage.
//!
//! Plain HTTP goes to this machine only. Redirects are followed by hand, so that each is held to the same rule, and the
//! token goes to the hub alone. Every wait has a limit, and so has the body.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use sha2::{Digest, Sha256};
use ureq::http::{StatusCode, Uri, header};
use ureq::{Agent, Body, Proxy, http};

use crate::{HubConfig, hex};

/// The most redirects in a row.
const MOST_REDIRECTS: usize = 5;

/// Attempts at a download that fails in a way that may pass.
const ATTEMPTS: u32 = 4;

/// The slowest transfer that is accepted on average, in bytes per second.
const SLOWEST: u64 = 16 * 1024;

/// What the body of a response must be.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// Its number of bytes.
    pub size: Size,
    /// Its SHA-256 in hexadecimal digits, if it is known.
    pub sha256: Option<&'a str>,
}

/// A number of bytes.
#[derive(Clone, Copy, Debug)]
pub enum Size {
    /// So many.
    Exactly(u64),
    /// So many at most.
    AtMost(u64),
}

/// Why a request failed for good.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The status of the response, if there was one other than success.
    pub status: Option<u16>,
    /// The reason, as a part of a sentence.
    pub reason: String,
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self { status: None, reason }
    }
}

/// Why an attempt failed.
pub(crate) enum Failure {
    /// It may succeed the next time, perhaps only after a while.
    Passing(Refusal, Option<Duration>),
    /// It will fail again.
    Lasting(Refusal),
}

use Failure::{Lasting, Passing};

fn passing(reason: String) -> Failure {
    Passing(reason.into(), None)
}

fn lasting(reason: String) -> Failure {
    Lasting(reason.into())
}

/// Downloads a file from `path` on the hub into `target`, which is emptied before every attempt; returns its bytes.
///
/// # Errors
/// If the file cannot be downloaded, or its size or digest is not the expected one.
pub fn fetch(
    config: &HubConfig,
    path: &str,
    expected: Expected<'_>,
    target: &mut impl Target,
) -> Result<Vec<u8>, Refusal> {
    let (Size::Exactly(most) | Size::AtMost(most)) = expected.size;
    let (endpoint, agent) = (parse(&config.endpoint)?, agent(config, most)?);
    let start = parse(&on_hub(config, path))?;
    let token = config.token();
    retried(config, || {
        target.clear().map_err(|error| lasting(error.to_string()))?;
        open(&agent, token.as_deref(), &endpoint, start.clone()).and_then(|body| copy(body, expected, target))
    })
}

/// The URL of `path` on the hub.
pub(crate) fn on_hub(config: &HubConfig, path: &str) -> String {
    format!("{}/{path}", config.endpoint.trim_end_matches('/'))
}

/// Tries again what fails in a way that may pass.
pub(crate) fn retried<T>(config: &HubConfig, mut attempt: impl FnMut() -> Result<T, Failure>) -> Result<T, Refusal> {
    let mut number = 1;
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(Passing(refusal, wait)) if number < ATTEMPTS => {
                let usual = config.timeout / 60 * (1 << number);
                tracing::warn!("{}; trying again", refusal.reason);
                std::thread::sleep(wait.unwrap_or(usual).min(config.timeout));
                number += 1;
            }
            Err(Passing(refusal, _) | Lasting(refusal)) => return Err(refusal),
        }
    }
}

/// Where a download goes.
pub trait Target: Write {
    /// Forgets what was written.
    ///
    /// # Errors
    /// If that is not possible.
    fn clear(&mut self) -> std::io::Result<()>;
}

/// For answers that are not stored.
impl Target for std::io::Sink {
    fn clear(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

pub(crate) fn agent(config: &HubConfig, size: u64) -> Result<Agent, String> {
    let timeout = Some(config.timeout);
    let proxy = config.proxy.as_deref().map(Proxy::new).transpose();
    let builder = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(proxy.map_err(|_| "the proxy is not a valid URL".to_owned())?)
        .user_agent("convnn")
        .timeout_resolve(timeout)
        .timeout_connect(timeout)
        .timeout_send_request(timeout)
        .timeout_send_body(Some(config.timeout + Duration::from_secs(size / SLOWEST)))
        .timeout_recv_response(timeout)
        .timeout_per_read(timeout)
        .timeout_recv_body(Some(config.timeout + Duration::from_secs(size / SLOWEST)));
    Ok(builder.build().new_agent())
}

/// Follows redirects to a response with a body.
fn open(agent: &Agent, token: Option<&str>, endpoint: &Uri, mut url: Uri) -> Result<Body, Failure> {
    for _ in 0..=MOST_REDIRECTS {
        permit(&url, endpoint).map_err(lasting)?;
        let mut request = agent.get(&url);
        if let Some(token) = token.filter(|_| same_origin(&url, endpoint)) {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let response = request.call().map_err(|error| failure(&error))?;
        let status = response.status();
        match status {
            StatusCode::OK => return Ok(response.into_body()),
            _ if status.is_redirection() => url = target(&response, &url).map_err(lasting)?,
            _ => return Err(refusal(&response, &url)),
        }
    }
    Err(lasting(format!("more than {MOST_REDIRECTS} redirects")))
}

/// An error of the transport. A broken certificate or URL will not get better.
pub(crate) fn failure(error: &ureq::Error) -> Failure {
    match error {
        ureq::Error::Timeout(_) => passing("no answer in time".to_owned()),
        ureq::Error::Io(error) => passing(error.to_string()),
        ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => passing(error.to_string()),
        error => lasting(error.to_string()),
    }
}

/// A status other than success.
pub(crate) fn refusal(response: &http::Response<Body>, url: &Uri) -> Failure {
    let status = response.status();
    let reason = format!("{} responds {status}", shown(url));
    let refusal = Refusal { status: Some(status.as_u16()), reason };
    if status != StatusCode::TOO_MANY_REQUESTS && !status.is_server_error() {
        return Lasting(refusal);
    }
    let seconds = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    Passing(refusal, seconds.map(Duration::from_secs))
}

/// The URL of a redirect.
fn target(response: &http::Response<Body>, from: &Uri) -> Result<Uri, String> {
    let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
    let location = location.ok_or_else(|| format!("a redirect from {} without a target", shown(from)))?;
    match location.strip_prefix('/') {
        Some(rest) if !rest.starts_with('/') => {
            let (scheme, authority) = (from.scheme_str().unwrap_or_default(), from.authority());
            parse(&format!("{scheme}://{}/{rest}", authority.map_or("", |authority| authority.as_str())))
        }
        _ => parse(location),
    }
}

/// Reads the body into `target`: the bytes that are expected, or fails.
pub(crate) fn copy(mut body: Body, expected: Expected<'_>, target: &mut impl Write) -> Result<Vec<u8>, Failure> {
    let (most, exact) = match expected.size {
        Size::Exactly(size) => (size, true),
        Size::AtMost(most) => (most, false),
    };
    let wrong = |found: u64| match exact {
        true => format!("{found} bytes found, {most} expected"),
        false => format!("{found} bytes found, at most {most} expected"),
    };
    let fits = |size: u64| if exact { size == most } else { size <= most };
    if let Some(announced) = body.content_length().filter(|length| !fits(*length)) {
        return Err(lasting(wrong(announced)));
    }
    // One byte more shows that there are too many.
    let mut reader = body.as_reader().take(most + 1);
    let mut bytes = Vec::with_capacity(if exact { most.min(1 << 30) as usize } else { 0 });
    let mut chunk = vec![0; 1 << 16];
    loop {
        let read = reader.read(&mut chunk).map_err(|error| {
            let of = if exact { format!(" of {most}") } else { String::new() };
            passing(format!("{error} after {}{of} bytes", bytes.len()))
        })?;
        if read == 0 {
            break;
        }
        bytes.extend_from_slice(&chunk[..read]);
        target.write_all(&chunk[..read]).map_err(|error| lasting(error.to_string()))?;
    }
    match bytes.len() as u64 {
        found if found > most => return Err(lasting(format!("more than the expected {most} bytes"))),
        found if !fits(found) => return Err(passing(wrong(found))),
        _ => {}
    }
    let found = hex(&Sha256::digest(&bytes));
    match expected.sha256 {
        Some(expected) if found != expected => Err(lasting(format!("SHA-256 {found} found, {expected} expected"))),
        _ => Ok(bytes),
    }
}

pub(crate) fn parse(url: &str) -> Result<Uri, String> {
    // The URL itself may hold credentials.
    let uri: Uri = url.parse().map_err(|_| "not a valid URL".to_owned())?;
    match uri.host() {
        Some(_) => Ok(uri),
        None => Err("a URL without a host".to_owned()),
    }
}

/// Whether a URL may be requested: over TLS, or on this machine if the hub is there as well.
pub(crate) fn permit(url: &Uri, endpoint: &Uri) -> Result<(), String> {
    match url.scheme_str() {
        Some("https") => Ok(()),
        Some("http") if is_local(url) && is_local(endpoint) => Ok(()),
        _ => Err(format!("{} is not encrypted; only https is used, except on this machine", shown(url))),
    }
}

fn is_local(url: &Uri) -> bool {
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost"
        || host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
        || host.parse::<Ipv6Addr>().is_ok_and(|address| address.is_loopback())
}

pub(crate) fn same_origin(a: &Uri, b: &Uri) -> bool {
    a.scheme() == b.scheme() && a.host() == b.host() && a.port_u16() == b.port_u16()
}

/// Scheme, host and port: a URL may hold credentials in its user, and in its query.
fn shown(url: &Uri) -> String {
    let port = url.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}", url.scheme_str().unwrap_or_default(), url.host().unwrap_or_default())
}
