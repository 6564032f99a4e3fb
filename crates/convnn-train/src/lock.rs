//! The lock of a run folder: one process at a time.
//!
//! `.lock` holds the id of the process and its host. It is locked with `flock`, which ends with the process, and removed
//! at the end. Some cluster file systems have no `flock`, or one that other hosts do not see; there the contents decide:
//! a process of this host that has ended gives way, and whether one of another host still runs only the user can tell.

use crate::{Error, Result};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

/// The name of the lock file.
pub const LOCK: &str = ".lock";

/// The lock of a folder, held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    file: File,
}

/// The process that a lock file names.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Holder {
    process: u32,
    /// Unknown for the locks of earlier versions.
    host: Option<String>,
}

/// What was found at the path of the lock.
enum Attempt {
    Held(File),
    /// Somebody removed or replaced the file in the meantime.
    Again,
}

impl Lock {
    /// Locks `folder`.
    ///
    /// # Errors
    /// If a process holds it or may hold it, or if `.lock` is a link or something else that is not a lock.
    pub fn take(folder: &Path) -> Result<Self> {
        let path = folder.join(LOCK);
        // Each round, another process has finished in between.
        for _ in 0..100 {
            if let Attempt::Held(file) = attempt(folder, &path)? {
                let lock = Self { path, file };
                lock.sign().map_err(Error::io("lock", &lock.path))?;
                return Ok(lock);
            }
        }
        Err(Error::InUse { folder: folder.to_owned(), holder: "other processes".to_owned() })
    }

    fn sign(&self) -> io::Result<()> {
        self.file.set_len(0)?;
        (&self.file).write_all(format!("{} {}\n", std::process::id(), host()).as_bytes())
    }
}

/// Whether a process trains in `folder`, as far as this host can tell: a process of another host may.
pub fn is_held(folder: &Path) -> bool {
    let path = folder.join(LOCK);
    let Some(holder) = fs::read_to_string(&path).ok().and_then(|text| Holder::parse(&text)) else { return false };
    if holder.is_elsewhere() {
        return true;
    }
    // A lock is tried only if its process lives: trying it would keep a trainer out for a moment. Without `flock`, that it
    // lives is all that can be known.
    holder.is_listed() && File::open(&path).is_ok_and(|file| file.try_lock_shared().is_err())
}

impl Drop for Lock {
    fn drop(&mut self) {
        // A process that waits for it will find that its file is gone, and try again.
        if is_at(&self.file, &self.path) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn attempt(folder: &Path, path: &Path) -> Result<Attempt> {
    let failed = |error: io::Error| Error::io("lock", path)(error);
    let (mut file, is_new) = match open(path) {
        Ok(opened) => opened,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Attempt::Again),
        Err(error) if is_link(path) => return Err(foreign(folder, path, &format!("is a link ({error})"))),
        Err(error) => return Err(failed(error)),
    };
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(foreign(folder, path, "is not a regular file"));
    }
    let locked = file.try_lock();
    let mut text = String::new();
    let read = Read::by_ref(&mut file).take(1024).read_to_string(&mut text);
    let holder = match read {
        Ok(_) if text.trim().is_empty() => None,
        Ok(_) => Some(Holder::parse(&text).ok_or_else(|| foreign(folder, path, "is not a lock of convnn"))?),
        Err(error) if error.kind() == ErrorKind::InvalidData => {
            return Err(foreign(folder, path, "is not a lock of convnn"));
        }
        Err(error) => return Err(failed(error)),
    };
    match (locked, holder) {
        (Ok(()), _) if !is_at(&file, path) => Ok(Attempt::Again),
        (Ok(()), Some(holder)) if holder.is_elsewhere() => Err(holder.unknown(folder, path)),
        (Ok(()), _) => held(file).map_err(failed),
        (Err(TryLockError::WouldBlock), holder) => Err(Error::InUse {
            folder: folder.to_owned(),
            holder: holder.map_or("another process".to_owned(), |holder| holder.to_string()),
        }),
        // Without `flock`, whoever creates the file has it.
        (Err(TryLockError::Error(error)), holder) if has_no_locks(&error) => match holder {
            None if is_new => held(file).map_err(failed),
            None => Err(foreign(folder, path, "was left behind by a process that was starting")),
            Some(holder) if holder.is_elsewhere() || holder.host.is_none() => Err(holder.unknown(folder, path)),
            Some(holder) if holder.runs() => {
                Err(Error::InUse { folder: folder.to_owned(), holder: holder.to_string() })
            }
            Some(_) => {
                fs::remove_file(path).map_err(failed)?;
                Ok(Attempt::Again)
            }
        },
        (Err(TryLockError::Error(error)), _) => Err(failed(error)),
    }
}

fn held(mut file: File) -> io::Result<Attempt> {
    io::Seek::rewind(&mut file)?;
    Ok(Attempt::Held(file))
}

/// Opens the lock file, or creates it; returns whether it is new.
fn open(path: &Path) -> io::Result<(File, bool)> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NOFOLLOW | libc::O_NONBLOCK);
    match options.clone().create_new(true).open(path) {
        Ok(file) => Ok((file, true)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok((options.open(path)?, false)),
        Err(error) => Err(error),
    }
}

fn is_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink())
}

/// Whether the error says that the file system has no locks.
fn has_no_locks(error: &io::Error) -> bool {
    #[cfg(unix)]
    let listed = [libc::ENOSYS, libc::ENOTSUP, libc::EOPNOTSUPP, libc::ENOLCK];
    #[cfg(not(unix))]
    let listed = [];
    error.kind() == ErrorKind::Unsupported || error.raw_os_error().is_some_and(|code| listed.contains(&code))
}

/// Whether `path` is the name of `file`.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    let (own, named) = (file.metadata().map(identity), fs::symlink_metadata(path).map(identity));
    own.is_ok_and(|own| named.is_ok_and(|named| named == own))
}

/// Whether `path` is the name of `file`; elsewhere an open file keeps its name.
#[cfg(not(unix))]
fn is_at(_: &File, _: &Path) -> bool {
    true
}

fn foreign(folder: &Path, path: &Path, found: &str) -> Error {
    Error::Locked { folder: folder.to_owned(), lock: path.to_owned(), found: found.to_owned() }
}

impl Holder {
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let process = words.next()?.parse().ok()?;
        let host = words.next().map(str::to_owned);
        words.next().is_none().then_some(Self { process, host })
    }

    fn is_elsewhere(&self) -> bool {
        self.host.as_ref().is_some_and(|name| *name != host())
    }

    fn is_listed(&self) -> bool {
        !Path::new("/proc/self").exists() || Path::new("/proc").join(self.process.to_string()).exists()
    }

    /// Whether the process runs on this host; if this system does not tell, it may.
    fn runs(&self) -> bool {
        self.is_listed() && self.process != std::process::id()
    }

    fn unknown(&self, folder: &Path, path: &Path) -> Error {
        foreign(folder, path, &format!("names {self}"))
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "process {}", self.process)?;
        self.host.as_ref().map_or(Ok(()), |host| write!(formatter, " on host {host:?}"))
    }
}

/// The name of this host, without white space.
fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = name.or_else(|| std::env::var("HOSTNAME").ok()).or_else(|| std::env::var("COMPUTERNAME").ok());
    name.map(|name| name.split_whitespace().collect::<String>())
        .filter(|name| !name.is_empty())
        .unwrap_or("unknown".into())
}
