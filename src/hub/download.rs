//! Bytes of a file, going on where a connection broke.

use std::io::Read;
use std::ops::Range;
use std::time::Duration;

use super::client::AttemptError;
use super::event::{PullEvent, PullListener};
use super::{Hub, HubError};

/// Read at a time.
const PIECE_BYTES: usize = 1 << 20;

/// What is told while bytes come.
pub(super) trait Receiver {
    /// The next bytes.
    ///
    /// # Errors
    /// If they cannot be kept.
    fn take(&mut self, bytes: &[u8]) -> Result<(), HubError>;

    /// An attempt failed for this reason, and the next one waited so long.
    fn waited(&mut self, reason: &str, wait: Duration);
}

/// Attempts one after the other of which none brought anything.
struct Attempts<'a> {
    hub: &'a Hub,
    url: &'a str,
    most: u32,
    failed: u32,
}

impl<'a> Attempts<'a> {
    fn new(hub: &'a Hub, url: &'a str, most: u32) -> Self {
        let failed = 0;
        Self {
            hub,
            url,
            most,
            failed,
        }
    }

    /// One more failed, `brought` something or not: waits, as long as the hub asks for or longer each time, and tells.
    ///
    /// # Errors
    /// If it is final, or one too many.
    fn failed(
        &mut self,
        error: AttemptError,
        brought: bool,
        tell: impl FnOnce(&str, Duration),
    ) -> Result<(), HubError> {
        let (reason, asked) = match error {
            AttemptError::Final(error) => return Err(error),
            AttemptError::Passing { reason, wait } => (reason, wait),
        };
        self.failed = if brought { 1 } else { self.failed + 1 };
        if self.failed >= self.most {
            return Err(HubError::Unreachable {
                url: self.url.to_owned(),
                tries: self.failed,
                reason,
            });
        }
        let retries = self.hub.retries();
        let longer = 1 << (self.failed - 1).min(16);
        let grown = retries.first_wait.saturating_mul(longer);
        let wait = asked.unwrap_or(grown).min(retries.longest_wait);
        std::thread::sleep(wait);
        tell(&reason, wait);
        Ok(())
    }
}

/// Hands `range` of a file of `file_bytes` to `receiver`, in order and each byte once.
///
/// # Errors
/// If the hub refuses, what it says cannot be true, too many attempts bring nothing, or the receiver fails.
pub(super) fn fetch(
    hub: &Hub,
    url: &str,
    file_bytes: u64,
    range: Range<u64>,
    receiver: &mut dyn Receiver,
) -> Result<(), HubError> {
    let mut piece = vec![0; PIECE_BYTES];
    let mut attempts = Attempts::new(hub, url, hub.retries().tries);
    let mut at = range.start;
    while at < range.end {
        let before = at;
        let attempt = attempt(
            hub, url, file_bytes, &mut at, range.end, &mut piece, receiver,
        );
        if let Err(error) = attempt {
            let tell = |reason: &str, wait| receiver.waited(reason, wait);
            attempts.failed(error, at > before, tell)?;
        }
    }
    Ok(())
}

/// One request: moves `at` as far as bytes come.
fn attempt(
    hub: &Hub,
    url: &str,
    file_bytes: u64,
    at: &mut u64,
    end: u64,
    piece: &mut [u8],
    receiver: &mut dyn Receiver,
) -> Result<(), AttemptError> {
    let whole = *at == 0 && end == file_bytes;
    let asked = *at..end;
    let answer = hub.ask(url, (!whole).then_some(&asked))?;
    if let Some(found) = answer.file_bytes
        && found != file_bytes
    {
        return Err(AttemptError::Final(HubError::Wrong {
            url: url.to_owned(),
            problem: format!(
                "is {found} bytes long, and the hub lists it with {file_bytes}: it was changed in between, run the same command again"
            ),
        }));
    }
    let mut body = answer.body;
    // A hub that does not know ranges sends everything: what is there already goes by.
    let mut skip = *at - answer.first;
    while *at < end {
        let most = (skip + (end - *at)).min(piece.len() as u64) as usize;
        let read = match body.read(&mut piece[..most]) {
            Ok(0) => Err(format!(
                "the connection ended at byte {} of {file_bytes}",
                *at
            )),
            Ok(read) => Ok(read),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => Err(error.to_string()),
        };
        let read = read.map_err(|reason| AttemptError::Passing { reason, wait: None })?;
        let old = skip.min(read as u64) as usize;
        skip -= old as u64;
        let new = &piece[old..read];
        receiver.take(new).map_err(AttemptError::Final)?;
        *at += new.len() as u64;
    }
    Ok(())
}

/// Keeps what comes in memory.
struct InMemory<'a> {
    bytes: Vec<u8>,
    listener: PullListener<'a>,
}

impl Receiver for InMemory<'_> {
    fn take(&mut self, bytes: &[u8]) -> Result<(), HubError> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn waited(&mut self, reason: &str, wait: Duration) {
        (self.listener)(PullEvent::Waited { reason, wait });
    }
}

/// A part of a file, in memory.
///
/// # Errors
/// As [`fetch`].
pub(super) fn part(
    hub: &Hub,
    url: &str,
    file_bytes: u64,
    range: Range<u64>,
    listener: PullListener<'_>,
) -> Result<Vec<u8>, HubError> {
    let mut found = InMemory {
        bytes: Vec::new(),
        listener,
    };
    fetch(hub, url, file_bytes, range, &mut found)?;
    Ok(found.bytes)
}

/// Attempts of what is asked first: whoever has no network should not wait for minutes to hear of it.
const FIRST_TRIES: u32 = 4;

/// An answer whose length nobody knows before, of at most `most_bytes`.
///
/// # Errors
/// As [`fetch`], and if it is longer.
pub(super) fn text(
    hub: &Hub,
    url: &str,
    most_bytes: u64,
    listener: PullListener<'_>,
) -> Result<Vec<u8>, HubError> {
    let mut attempts = Attempts::new(hub, url, hub.retries().tries.min(FIRST_TRIES));
    loop {
        let read = hub.ask(url, None).and_then(|answer| {
            let mut found = Vec::new();
            let length = answer.file_bytes;
            let read = answer.body.take(most_bytes + 1).read_to_end(&mut found);
            let cut = length.is_some_and(|length| (found.len() as u64) < length.min(most_bytes));
            let reason = match read {
                Err(error) => error.to_string(),
                Ok(_) if cut => "the connection ended early".to_owned(),
                Ok(_) => return Ok(found),
            };
            Err(AttemptError::Passing { reason, wait: None })
        });
        match read {
            Ok(found) if found.len() as u64 > most_bytes => {
                return Err(HubError::Wrong {
                    url: url.to_owned(),
                    problem: format!("is longer than {most_bytes} bytes"),
                });
            }
            Ok(found) => return Ok(found),
            Err(error) => attempts.failed(error, false, |reason, wait| {
                listener(PullEvent::Waited { reason, wait });
            })?,
        }
    }
}
