//! Fetching a file of known size over HTTP.
//!
//! Plain HTTP goes to this machine only. Redirects are followed by hand, so that each is held to the same rule, and the
//! token goes to the hub alone. Every wait has a limit, and so has the body.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use sha2::{Digest, Sha256};
use ureq::http::{StatusCode, Uri, header};
use ureq::{Agent, Body, Proxy, http};

use super::HubConfig;
use super::files::Pinned;
use crate::source::hex;

/// The most redirects in a row.
const MOST_REDIRECTS: usize = 5;

/// Attempts at a download that fails in a way that may pass.
const ATTEMPTS: u32 = 4;

/// The slowest transfer that is accepted on average, in bytes per second.
const SLOWEST: u64 = 16 * 1024;

/// Why a download failed.
pub(super) enum Failure {
    /// It may succeed the next time, perhaps only after a while.
    Passing(String, Option<Duration>),
    /// It will fail again.
    Lasting(String),
}

use Failure::{Lasting, Passing};

/// Downloads a file from `path` on the hub into `target`, which is emptied before every attempt; returns its bytes.
pub(super) fn fetch(
    config: &HubConfig,
    path: &str,
    pinned: &Pinned,
    target: &mut impl Target,
) -> Result<Vec<u8>, String> {
    let (endpoint, agent) = (parse(&config.endpoint)?, agent(config, pinned.size)?);
    let start = parse(&format!("{}/{path}", config.endpoint.trim_end_matches('/')))?;
    let mut attempt = 1;
    loop {
        target.clear().map_err(|error| error.to_string())?;
        let fetched = open(&agent, config, &endpoint, start.clone()).and_then(|body| copy(body, pinned, target));
        match fetched {
            Ok(bytes) => return Ok(bytes),
            Err(Passing(reason, wait)) if attempt < ATTEMPTS => {
                let usual = config.timeout / 60 * (1 << attempt);
                tracing::warn!("{reason}; trying again");
                std::thread::sleep(wait.unwrap_or(usual).min(config.timeout));
                attempt += 1;
            }
            Err(Passing(reason, _) | Lasting(reason)) => return Err(reason),
        }
    }
}

/// Where a download goes.
pub(super) trait Target: Write {
    /// Forgets what was written.
    fn clear(&mut self) -> std::io::Result<()>;
}

fn agent(config: &HubConfig, size: u64) -> Result<Agent, String> {
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
        .timeout_recv_response(timeout)
        .timeout_per_read(timeout)
        .timeout_recv_body(Some(config.timeout + Duration::from_secs(size / SLOWEST)));
    Ok(builder.build().new_agent())
}

/// Follows redirects to a response with a body.
fn open(agent: &Agent, config: &HubConfig, endpoint: &Uri, mut url: Uri) -> Result<Body, Failure> {
    for _ in 0..=MOST_REDIRECTS {
        permit(&url, endpoint).map_err(Lasting)?;
        let mut request = agent.get(&url);
        if let Some(token) = config.token.as_ref().filter(|_| same_origin(&url, endpoint)) {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let response = request.call().map_err(|error| failure(&error))?;
        let status = response.status();
        match status {
            StatusCode::OK => return Ok(response.into_body()),
            _ if status.is_redirection() => url = target(&response, &url).map_err(Lasting)?,
            _ => return Err(refusal(&response, &url)),
        }
    }
    Err(Lasting(format!("more than {MOST_REDIRECTS} redirects")))
}

/// An error of the transport. A broken certificate or URL will not get better.
fn failure(error: &ureq::Error) -> Failure {
    match error {
        ureq::Error::Timeout(_) => Passing("no answer in time".to_owned(), None),
        ureq::Error::Io(error) => Passing(error.to_string(), None),
        ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => Passing(error.to_string(), None),
        error => Lasting(error.to_string()),
    }
}

/// A status other than success.
fn refusal(response: &http::Response<Body>, url: &Uri) -> Failure {
    let status = response.status();
    let reason = format!("{} responds {status}", shown(url));
    if status != StatusCode::TOO_MANY_REQUESTS && !status.is_server_error() {
        return Lasting(reason);
    }
    let seconds = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    Passing(reason, seconds.map(Duration::from_secs))
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

/// Reads the body into `target`: exactly the bytes that are expected, or fails.
fn copy(mut body: Body, pinned: &Pinned, target: &mut impl Write) -> Result<Vec<u8>, Failure> {
    let (size, wrong) = (pinned.size, |found: u64| format!("{found} bytes found, {} expected", pinned.size));
    if let Some(announced) = body.content_length().filter(|length| *length != size) {
        return Err(Lasting(wrong(announced)));
    }
    // One byte more shows that there are too many.
    let mut reader = body.as_reader().take(size + 1);
    let mut bytes = Vec::with_capacity(size as usize);
    let mut chunk = vec![0; 1 << 16];
    loop {
        let read = reader.read(&mut chunk).map_err(|error| {
            let reason = error.to_string();
            Passing(format!("{reason} after {} of {size} bytes", bytes.len()), None)
        })?;
        if read == 0 {
            break;
        }
        bytes.extend_from_slice(&chunk[..read]);
        target.write_all(&chunk[..read]).map_err(|error| Lasting(error.to_string()))?;
    }
    match bytes.len() as u64 {
        found if found > size => return Err(Lasting(format!("more than {size} bytes, as many as expected"))),
        found if found < size => return Err(Passing(wrong(found), None)),
        _ => {}
    }
    let found = hex(&Sha256::digest(&bytes));
    match found == pinned.sha256 {
        true => Ok(bytes),
        false => Err(Lasting(format!("SHA-256 {found} found, {} expected", pinned.sha256))),
    }
}

fn parse(url: &str) -> Result<Uri, String> {
    // The URL itself may hold credentials.
    let uri: Uri = url.parse().map_err(|_| "not a valid URL".to_owned())?;
    match uri.host() {
        Some(_) => Ok(uri),
        None => Err("a URL without a host".to_owned()),
    }
}

/// Whether a URL may be requested: over TLS, or on this machine if the hub is there as well.
fn permit(url: &Uri, endpoint: &Uri) -> Result<(), String> {
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

fn same_origin(a: &Uri, b: &Uri) -> bool {
    a.scheme() == b.scheme() && a.host() == b.host() && a.port_u16() == b.port_u16()
}

/// Scheme, host and port: a URL may hold credentials in its user, and in its query.
pub(super) fn shown(url: &Uri) -> String {
    let port = url.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}", url.scheme_str().unwrap_or_default(), url.host().unwrap_or_default())
}
