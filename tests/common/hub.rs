//! A hub on this machine that serves a folder, and does wrong what it is told to.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What is done wrong to an answer.
#[derive(Clone, Debug)]
pub enum Wrong {
    /// The connection ends after so many bytes of the body.
    BreakAfter(usize),
    /// This status instead, with seconds to wait.
    Status(u16, Option<u32>),
    /// The whole file, whatever range was asked for.
    NoRanges,
    /// Another length of the file than the listing's.
    OtherLength,
    /// One byte is another.
    Damaged,
    /// One byte of what stands first in a file is another.
    DamagedHeader,
    /// A redirect to this address, with the path behind it.
    Redirect(String),
    /// A range that begins elsewhere.
    OtherRange,
}

/// A request that came in.
#[derive(Clone, Debug)]
pub struct Seen {
    pub path: String,
    pub range: Option<Range<u64>>,
    pub token: Option<String>,
}

#[derive(Default)]
struct State {
    files: BTreeMap<String, Vec<u8>>,
    /// Part of a path, what is done wrong to it, and how often still.
    wrongs: Vec<(String, Wrong, usize)>,
    seen: Vec<Seen>,
    listing: Option<String>,
}

/// The server; its threads end with the process.
#[derive(Clone)]
pub struct Server {
    pub address: String,
    state: Arc<Mutex<State>>,
}

impl Server {
    /// Serves every file of `folder` as any model that is asked for.
    pub fn of(folder: &Path) -> Self {
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(folder).unwrap().flatten() {
            if entry.path().is_file() {
                let name = entry.file_name().into_string().unwrap();
                files.insert(name, fs::read(entry.path()).unwrap());
            }
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            address: format!("http://{}", listener.local_addr().unwrap()),
            state: Arc::new(Mutex::new(State {
                files,
                ..State::default()
            })),
        };
        let serving = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serving = serving.clone();
                // Whoever breaks off is not waited for.
                std::thread::spawn(move || drop(serving.serve(stream)));
            }
        });
        server
    }

    /// From now on, so often, this is wrong with answers whose path has this in it.
    pub fn wrong(&self, path: &str, wrong: Wrong, times: usize) -> &Self {
        let mut state = self.state.lock().unwrap();
        state.wrongs.push((path.to_owned(), wrong, times));
        self
    }

    /// Everything is right again.
    pub fn right(&self) {
        self.state.lock().unwrap().wrongs.clear();
    }

    /// The listing is this text.
    pub fn listing(&self, text: &str) {
        self.state.lock().unwrap().listing = Some(text.to_owned());
    }

    /// Requests so far whose path has this in it.
    pub fn seen(&self, path: &str) -> Vec<Seen> {
        let state = self.state.lock().unwrap();
        state
            .seen
            .iter()
            .filter(|seen| seen.path.contains(path))
            .cloned()
            .collect()
    }

    /// A file of the model.
    pub fn file(&self, name: &str) -> Vec<u8> {
        self.state.lock().unwrap().files[name].clone()
    }

    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let first = lines.next().transpose()?.unwrap_or_default();
        let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut seen = Seen {
            path,
            range: None,
            token: None,
        };
        for line in lines {
            let line = line?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').unwrap_or((&line, ""));
            match name.to_ascii_lowercase().as_str() {
                "authorization" => seen.token = Some(value.trim().to_owned()),
                "range" => {
                    let (start, end) = value
                        .trim()
                        .strip_prefix("bytes=")
                        .unwrap()
                        .split_once('-')
                        .unwrap();
                    seen.range = Some(start.parse().unwrap()..end.parse::<u64>().unwrap() + 1);
                }
                _ => {}
            }
        }
        let (wrong, answer) = {
            let mut state = self.state.lock().unwrap();
            state.seen.push(seen.clone());
            let due = state
                .wrongs
                .iter_mut()
                .find(|(path, _, times)| *times > 0 && seen.path.contains(path.as_str()));
            let wrong = due.map(|(_, wrong, times)| {
                *times -= 1;
                wrong.clone()
            });
            (wrong, state.answer(&seen.path))
        };
        let Some(mut body) = answer else {
            return stream.write_all(
                b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            );
        };
        let mut head = String::new();
        let total = body.len() as u64;
        let said = if matches!(wrong, Some(Wrong::OtherLength)) {
            total + 5
        } else {
            total
        };
        match &wrong {
            Some(Wrong::Status(status, wait)) => {
                let wait = wait
                    .map(|seconds| format!("Retry-After: {seconds}\r\n"))
                    .unwrap_or_default();
                let answer = format!(
                    "HTTP/1.1 {status} No\r\n{wait}Content-Length: 0\r\nConnection: close\r\n\r\n"
                );
                return stream.write_all(answer.as_bytes());
            }
            Some(Wrong::Redirect(to)) => {
                let answer = format!(
                    "HTTP/1.1 302 Found\r\nLocation: {to}{}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                    seen.path
                );
                return stream.write_all(answer.as_bytes());
            }
            _ => {}
        }
        if let Some(range) = seen
            .range
            .filter(|_| !matches!(wrong, Some(Wrong::NoRanges)))
        {
            let start = if matches!(wrong, Some(Wrong::OtherRange)) {
                range.start + 1
            } else {
                range.start
            };
            let end = range.end.min(total);
            body = body[start as usize..end as usize].to_vec();
            write!(
                head,
                "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {start}-{}/{said}\r\n",
                end - 1
            )
            .unwrap();
            write!(head, "Content-Length: {}\r\n", body.len()).unwrap();
        } else {
            write!(head, "HTTP/1.1 200 OK\r\nContent-Length: {said}\r\n").unwrap();
        }
        head.push_str("Connection: close\r\n\r\n");
        stream.write_all(head.as_bytes())?;
        match wrong {
            Some(Wrong::BreakAfter(bytes)) => stream.write_all(&body[..bytes.min(body.len())]),
            Some(Wrong::DamagedHeader) => {
                body[20] ^= 1;
                stream.write_all(&body)
            }
            Some(Wrong::Damaged) => {
                let middle = body.len() / 2;
                body[middle] ^= 1;
                stream.write_all(&body)
            }
            _ => stream.write_all(&body),
        }
    }
}

impl State {
    fn answer(&self, path: &str) -> Option<Vec<u8>> {
        if path.starts_with("/api/models/") && path.contains("/revision/") {
            return Some(
                self.listing
                    .clone()
                    .unwrap_or_else(|| listing(&self.files))
                    .into_bytes(),
            );
        }
        let (_, name) = path.split_once(&format!("/resolve/{COMMIT}/"))?;
        self.files.get(name).cloned()
    }
}

/// What a hub says of these files: sums of those that it keeps apart, as large ones.
pub fn listing(files: &BTreeMap<String, Vec<u8>>) -> String {
    let file = |(name, bytes): (&String, &Vec<u8>)| {
        let sum: String = Sha256::digest(bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let size = bytes.len();
        match name.ends_with(".safetensors") {
            true => format!(
                r#"{{"rfilename":"{name}","size":{size},"lfs":{{"sha256":"{sum}","size":{size}}}}}"#
            ),
            false => format!(r#"{{"rfilename":"{name}","size":{size}}}"#),
        }
    };
    let files: Vec<String> = files.iter().map(file).collect();
    format!(
        r#"{{"id":"someone/model","sha":"{COMMIT}","siblings":[{}]}}"#,
        files.join(",")
    )
}
