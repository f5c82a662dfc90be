//! The process's control group: how much memory it has, how much is free, and how often it ran into its limit.
//!
//! A limit may stand at the process's own group or at any above it, so all of them are read. Version 1 is used where
//! its memory controller is mounted, else version 2.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Sample;
use super::files::{Garbled, Root, field, number, text};
use super::kinds::FREE_ENOUGH;

/// Version 1 writes "no limit" as the largest number of pages; no machine has this much.
const NO_LIMIT_BYTES: u64 = 1 << 62;

/// Where version 2 and version 1's memory controller stand if no list of mounts says otherwise.
const UNIFIED: &str = "/sys/fs/cgroup";
const MEMORY_V1: &str = "/sys/fs/cgroup/memory";

/// One of the two file systems that show control groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl Version {
    /// The file that says what a group's processes have.
    fn usage(self) -> &'static str {
        match self {
            Self::One => "memory.usage_in_bytes",
            Self::Two => "memory.current",
        }
    }
}

/// Where it is mounted, and which group is at the top there.
struct Mount {
    top: String,
    point: String,
}

/// The groups of the process that have `file`, its own first, then those above it.
fn groups(root: &Root, version: Version, file: &str) -> Vec<PathBuf> {
    let mount = mount(root, version);
    let own = own_path(root, version).unwrap_or_else(|| "/".to_owned());
    let top = mount.top.trim_end_matches('/');
    // Seen from another namespace the group may lie outside of what is mounted; then the top is all there is to see.
    let below = own
        .strip_prefix(top)
        .filter(|rest| rest.is_empty() || rest.starts_with('/'))
        .filter(|rest| !rest.split('/').any(|part| part == ".."))
        .unwrap_or("");
    let point = root.path(&mount.point);
    let own = root.path(format!("{}/{below}", mount.point));
    let chain = own.ancestors().take_while(|path| path.starts_with(&point));
    chain
        .filter(|path| path.join(file).is_file())
        .map(Path::to_owned)
        .collect()
}

/// The groups of version 2 that have `file`, the process's own first.
pub fn unified(root: &Root, file: &str) -> Vec<PathBuf> {
    groups(root, Version::Two, file)
}

/// The process's path in the hierarchy: a line `ID:CONTROLLERS:PATH`, without controllers for version 2.
fn own_path(root: &Root, version: Version) -> Option<String> {
    let lines = text(&root.path("/proc/self/cgroup")).ok()??;
    lines.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let ours = match version {
            Version::One => controllers.split(',').any(|name| name == "memory"),
            Version::Two => controllers.is_empty(),
        };
        ours.then(|| path.to_owned())
    })
}

fn mount(root: &Root, version: Version) -> Mount {
    let found = ["/proc/self/mountinfo", "/proc/self/mounts", "/proc/mounts"]
        .into_iter()
        .find_map(|list| {
            let lines = text(&root.path(list)).ok()??;
            lines.lines().find_map(|line| parse_mount(line, version))
        });
    found.unwrap_or_else(|| Mount {
        top: "/".to_owned(),
        point: match version {
            Version::One => MEMORY_V1.to_owned(),
            Version::Two => UNIFIED.to_owned(),
        },
    })
}

/// A line of mountinfo (`… ROOT POINT … - TYPE SOURCE OPTIONS`) or of mounts (`SOURCE POINT TYPE OPTIONS …`).
fn parse_mount(line: &str, version: Version) -> Option<Mount> {
    let (top, point, kind, options) = match line.split_once(" - ") {
        Some((left, right)) => {
            let mut left = left.split(' ').skip(3);
            let mut right = right.split(' ');
            let (top, point) = (left.next()?, left.next()?);
            (top, point, right.next()?, right.nth(1)?)
        }
        None => {
            let mut parts = line.split(' ').skip(1);
            ("/", parts.next()?, parts.next()?, parts.next()?)
        }
    };
    let ours = match version {
        Version::One => kind == "cgroup" && options.split(',').any(|option| option == "memory"),
        Version::Two => kind == "cgroup2",
    };
    // Blanks in paths are written in octal.
    let plain = |path: &str| path.replace("\\040", " ");
    ours.then(|| Mount {
        top: plain(top),
        point: plain(point),
    })
}

/// Version 1's groups with their names of files where its memory controller is there, else version 2's.
fn memory_groups(root: &Root) -> (Version, Vec<PathBuf>) {
    let first = groups(root, Version::One, "memory.usage_in_bytes");
    if first.is_empty() {
        (Version::Two, unified(root, "memory.current"))
    } else {
        (Version::One, first)
    }
}

/// What is free of the tightest limit, %; no value where nothing is limited.
pub fn memory(root: &Root) -> Sample {
    let mut sample = Sample::default();
    let (version, groups) = memory_groups(root);
    for group in groups {
        let Some(limit) = limit(version, &group, &mut sample) else {
            continue;
        };
        let used = group.join(version.usage());
        let Some(used) = sample.keep(number::<u64>(&used, "a number of bytes")) else {
            continue;
        };
        let held = used.saturating_sub(cache(version, &group));
        let free = limit.saturating_sub(held) as f64 / limit.max(1) as f64 * 100.0;
        sample.least(free);
        sample.from.push(format!(
            "{} ({held} of {limit} bytes in use)",
            group.display()
        ));
    }
    sample
}

/// A group that limits the memory of this process.
pub struct GroupLimit {
    /// Its path in its hierarchy, as far as it can be seen from here.
    pub path: String,
    /// What its processes may have together.
    pub limit_bytes: u64,
    /// What they have, without page cache.
    pub held_bytes: u64,
}

/// Every limit at the process's own group and at those above it, in both versions.
pub fn limits(root: &Root, sample: &mut Sample) -> Vec<GroupLimit> {
    let mut found = Vec::new();
    for (version, file) in [
        (Version::One, "memory.limit_in_bytes"),
        (Version::Two, "memory.max"),
    ] {
        let top = root.path(mount(root, version).point);
        for group in groups(root, version, file) {
            let own = limit(version, &group, sample);
            let Some(limit_bytes) = own.into_iter().chain(inherited(version, &group)).min() else {
                continue;
            };
            let used = group.join(version.usage());
            let used = sample.keep(number::<u64>(&used, "a number of bytes"));
            let below = group.strip_prefix(&top).unwrap_or(Path::new(""));
            found.push(GroupLimit {
                path: format!("/{}", below.display()),
                limit_bytes,
                held_bytes: used.unwrap_or(0).saturating_sub(cache(version, &group)),
            });
        }
    }
    found
}

/// The least limit of a group and all above it, those that cannot be seen from here included; version 1 alone says it.
fn inherited(version: Version, group: &Path) -> Option<u64> {
    if version == Version::Two {
        return None;
    }
    let stat = text(&group.join("memory.stat")).ok()??;
    field(&stat, "hierarchical_memory_limit").filter(|bytes| *bytes < NO_LIMIT_BYTES)
}

/// The limit of one group; none if it has none.
fn limit(version: Version, group: &Path, sample: &mut Sample) -> Option<u64> {
    let files: &[&str] = match version {
        Version::One => &["memory.limit_in_bytes"],
        Version::Two => &["memory.max", "memory.high"],
    };
    let limits = files.iter().filter_map(|file| {
        let path = group.join(file);
        let read = text(&path).and_then(|found| match found.as_deref().map(str::trim) {
            None | Some("max") => Ok(None),
            Some(bytes) => bytes
                .parse::<u64>()
                .map(Some)
                .map_err(|_| Garbled::text(&path, bytes, "a number of bytes, or max")),
        });
        sample.keep(read)
    });
    limits.filter(|bytes| *bytes < NO_LIMIT_BYTES).min()
}

/// Page cache, which the system takes back before the limit hurts. Unknown is none: rather too careful.
fn cache(version: Version, group: &Path) -> u64 {
    let Ok(Some(stat)) = text(&group.join("memory.stat")) else {
        return 0;
    };
    let names = match version {
        Version::One => ["total_inactive_file", "total_active_file"],
        Version::Two => ["inactive_file", "active_file"],
    };
    names.iter().filter_map(|name| field(&stat, name)).sum()
}

/// Counters at the reading before, by file.
#[derive(Debug, Default)]
pub struct Counters(BTreeMap<(PathBuf, &'static str), u64>);

impl Counters {
    /// By how much a counter rose since the reading before; 0 at the first, and where it began anew.
    fn rise(&mut self, file: &Path, name: &'static str, now: u64) -> u64 {
        let before = self.0.insert((file.to_owned(), name), now);
        before.map_or(0, |before| now.saturating_sub(before))
    }
}

/// Times that a limit was hit, and that memory could not be had, since the reading before; `free` is the share of the
/// limit that is free, %. Groups count what happens below them, so the most of one group is taken, not the sum.
pub fn events(root: &Root, counters: &mut Counters, free: Option<f64>) -> (Sample, Sample) {
    let (mut hits, mut oom) = (Sample::default(), Sample::default());
    let (version, groups) = memory_groups(root);
    for group in groups {
        match version {
            Version::One => {
                let path = group.join("memory.failcnt");
                if let Some(count) = hits.keep(number(&path, "a number")) {
                    most(&mut hits, &path, counters.rise(&path, "failcnt", count));
                }
                let path = group.join("memory.oom_control");
                let names = ["under_oom", "oom_kill"];
                if let Some([under, kills]) = oom.keep(fields(&path, names)) {
                    let rise = counters.rise(&path, "oom_kill", kills).max(under.min(1));
                    most(&mut oom, &path, rise);
                }
            }
            Version::Two => {
                let path = group.join("memory.events");
                let names = ["high", "max", "oom", "oom_kill"];
                if let Some([high, max, failed, kills]) = hits.keep(fields(&path, names)) {
                    let rise =
                        counters.rise(&path, "high", high) + counters.rise(&path, "max", max);
                    most(&mut hits, &path, rise);
                    let rise = counters.rise(&path, "oom", failed)
                        + counters.rise(&path, "oom_kill", kills);
                    most(&mut oom, &path, rise);
                }
            }
        }
    }
    if free.is_none_or(|free| free >= FREE_ENOUGH) {
        // The page cache fills whatever there is, and runs into the limit as a matter of course.
        hits.value = hits.value.map(|_| 0.0);
    }
    (hits, oom)
}

fn most(sample: &mut Sample, path: &Path, rise: u64) {
    sample.value = Some(sample.value.unwrap_or(0.0).max(rise as f64));
    sample.from.push(format!("{} (+{rise})", path.display()));
}

/// These counters of a file. A kernel that does not know one of them yet has counted none, but one must be there.
fn fields<const N: usize>(path: &Path, names: [&str; N]) -> Result<Option<[u64; N]>, Garbled> {
    let Some(text) = text(path)? else {
        return Ok(None);
    };
    let found = names.map(|name| field(&text, name));
    if found.iter().all(Option::is_none) {
        let expected = format!("counters such as `{} 0`", names[0]);
        return Err(Garbled::text(path, &text, &expected));
    }
    Ok(Some(found.map(Option::unwrap_or_default)))
}
