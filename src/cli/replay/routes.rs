//! `sage replay --routes`: recorded routing under other cache policies.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Instant;

use clap::Args;
use rayon::prelude::*;
use sage_actors::EvictionPolicy;
use sage_actors::cache::whatif::{Chooser, Routes, WhatIfCounts, replay};
use sage_actors::config::UnknownName;
use serde::Serialize;

use crate::cli::opening::start_threads;
use crate::cli::{CliError, CommandOutcome, Printer, Size, Table, human_bytes};
use crate::eval::bootstrap::{Interval, intervals};
use crate::routes::{Declared, Recording, read};

/// Tokens of a block that intervals are drawn over: tokens close to one another are not independent.
const BLOCK_TOKENS: usize = 16;

/// Arguments of `sage replay --routes`.
#[derive(Args)]
pub struct RoutesArgs {
    /// Recorded routing: CSV, JSON lines, or a recorded run; plain or gzip
    #[arg(long, num_args = 1..)]
    pub(super) routes: Vec<PathBuf>,
    /// Room for experts: sizes, percent of all experts, or slots of mean size
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "5%,10%,25%",
        requires = "routes"
    )]
    capacity: Vec<Size>,
    /// Who makes room
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "lru,lfu,horizon,learned,belady",
        requires = "routes"
    )]
    policy: Vec<NamedPolicy>,
    /// Count the prompts' batches too
    #[arg(long, requires = "routes")]
    with_prompt: bool,
    /// Experts a layer, where the file does not say it [default: the next power of two]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..), requires = "routes")]
    experts: Option<u16>,
    /// Size of every expert, where the file does not say it
    #[arg(long, requires = "routes")]
    expert_bytes: Option<Size>,
}

/// A policy by its name.
#[derive(Clone, Debug, PartialEq)]
struct NamedPolicy {
    name: String,
    chooser: Chooser,
}

impl FromStr for NamedPolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let online = Chooser::Online;
        let chooser = match text.split_once(':') {
            Some(("horizon", half_life)) => {
                let tokens: Option<f64> = half_life.parse().ok();
                let tokens = tokens.filter(|tokens| (0.1..=1e6).contains(tokens));
                online(EvictionPolicy::Horizon {
                    half_life_tokens: tokens.ok_or_else(|| {
                        format!("`{half_life}` is no half-life; expected 0.1 to 1000000 tokens")
                    })?,
                })
            }
            Some(_) => return Err(format!("`{text}`: only horizon takes a number")),
            None => match text {
                "best" => online(EvictionPolicy::Learned),
                "belady" => Chooser::Belady,
                _ => online(text.parse().map_err(|error: UnknownName| {
                    format!(
                        "no policy `{text}`; expected {}, best or belady",
                        error.known.join(", ")
                    )
                })?),
            },
        };
        Ok(Self {
            name: text.to_owned(),
            chooser,
        })
    }
}

#[derive(Serialize)]
struct RoutesReport {
    rows: Vec<RoutesRow>,
}

#[derive(Serialize)]
struct RoutesRow {
    trace: String,
    policy: String,
    capacity_bytes: u64,
    /// Of all experts' bytes.
    capacity_share: f64,
    hits: u64,
    routed: u64,
    hit_rate: f64,
    hit_rate_interval: Option<[f64; 2]>,
    bytes_per_token: f64,
    belady_ratio: f64,
    /// Points of hit rate more than `horizon`, where that is among the policies.
    against_horizon: Option<Against>,
}

#[derive(Serialize)]
struct Against {
    points: f64,
    interval: Option<[f64; 2]>,
    tie: bool,
}

/// Runs the command.
pub fn run(args: &RoutesArgs, printer: &Printer) -> Result<CommandOutcome, CliError> {
    start_threads(None)?;
    let expert_bytes = match args.expert_bytes {
        None => None,
        Some(Size::Bytes(bytes)) if bytes > 0 => Some(bytes),
        Some(_) => {
            return Err(CliError::request(
                "--expert-bytes takes a size such as 9MiB",
            ));
        }
    };
    let declared = Declared {
        experts: args.experts,
        expert_bytes,
        ..Declared::default()
    };
    let mut rows = Vec::new();
    for path in &args.routes {
        let recording = read(path, declared)?;
        check(path, &recording, args)?;
        note(path, &recording, printer);
        for capacity in &args.capacity {
            let bytes = capacity_bytes(*capacity, &recording.routes);
            rows.extend(compare(path, &recording.routes, bytes, args, printer));
        }
    }
    if printer.is_json() {
        printer.json(&RoutesReport { rows })?;
    } else {
        printer.table(&table(&rows))?;
    }
    Ok(CommandOutcome::Done)
}

/// Capacities in bytes mean nothing where experts have no size.
fn check(path: &Path, recording: &Recording, args: &RoutesArgs) -> Result<(), CliError> {
    let in_bytes = |size: &&Size| matches!(size, Size::Bytes(_));
    match args.capacity.iter().find(in_bytes) {
        Some(_) if recording.sizes_unknown => Err(CliError::request(format!(
            "{} does not say how large experts are: give --capacity in slots or percent, or --expert-bytes",
            path.display()
        ))),
        _ => Ok(()),
    }
}

fn note(path: &Path, recording: &Recording, printer: &Printer) {
    let routes = &recording.routes;
    let guessed = if recording.experts_guessed {
        " (a guess: --experts says otherwise)"
    } else {
        ""
    };
    let sizes = if recording.sizes_unknown {
        "of unknown size".to_owned()
    } else {
        human_bytes(routes.all_bytes())
    };
    printer.note(format_args!(
        "{}: {} layers of {} experts{guessed}, {sizes}; {} decoded tokens, up to {} experts each",
        path.display(),
        routes.layers(),
        routes.experts,
        routes.decoded(),
        routes.k(),
    ));
}

fn capacity_bytes(capacity: Size, routes: &Routes) -> u64 {
    let all = routes.all_bytes();
    match capacity {
        Size::Bytes(bytes) => bytes,
        Size::Percent(percent) => (all as f64 * percent / 100.0) as u64,
        Size::Slots(slots) => {
            let experts = routes.layers() as u64 * u64::from(routes.experts);
            let bytes = u128::from(all) * u128::from(slots) / u128::from(experts.max(1));
            u64::try_from(bytes).unwrap_or(u64::MAX)
        }
    }
}

/// Every policy in one capacity.
fn compare(
    path: &Path,
    routes: &Routes,
    capacity_bytes: u64,
    args: &RoutesArgs,
    printer: &Printer,
) -> Vec<RoutesRow> {
    let belady = total(&replay(
        routes,
        Chooser::Belady,
        capacity_bytes,
        args.with_prompt,
    ));
    let bar = printer.steps("replaying", args.policy.len() as u64);
    let started = Instant::now();
    let runs: Vec<(&NamedPolicy, Vec<WhatIfCounts>)> = args
        .policy
        .par_iter()
        .map(|policy| {
            let counts = replay(routes, policy.chooser, capacity_bytes, args.with_prompt);
            bar.inc(1);
            (policy, counts)
        })
        .collect();
    bar.finish_and_clear();
    let slots: u64 = runs.iter().map(|(_, counts)| total(counts).routed).sum();
    let seconds = started.elapsed().as_secs_f64();
    printer.note(format_args!(
        "{} in {}: {:.1} million routed slots a second",
        path.display(),
        human_bytes(capacity_bytes),
        slots as f64 / seconds.max(1e-9) / 1e6
    ));
    let horizon = runs
        .iter()
        .find(|(policy, _)| policy.name == "horizon")
        .map(|(_, counts)| counts.as_slice());
    let row = |(policy, counts): &(&NamedPolicy, Vec<WhatIfCounts>)| {
        let all = total(counts);
        RoutesRow {
            trace: path.display().to_string(),
            policy: policy.name.clone(),
            capacity_bytes,
            capacity_share: capacity_bytes as f64 / routes.all_bytes().max(1) as f64,
            hits: all.hits,
            routed: all.routed,
            hit_rate: rate(&all),
            hit_rate_interval: interval(counts, None),
            bytes_per_token: all.miss_bytes as f64 / counts.len().max(1) as f64,
            belady_ratio: if belady.hits == 0 {
                1.0
            } else {
                all.hits as f64 / belady.hits as f64
            },
            against_horizon: horizon
                .filter(|_| policy.name != "horizon")
                .map(|horizon| against(counts, horizon)),
        }
    };
    runs.iter().map(row).collect()
}

fn total(counts: &[WhatIfCounts]) -> WhatIfCounts {
    counts
        .iter()
        .fold(WhatIfCounts::default(), |sum, step| WhatIfCounts {
            routed: sum.routed + step.routed,
            hits: sum.hits + step.hits,
            miss_bytes: sum.miss_bytes + step.miss_bytes,
        })
}

fn rate(counts: &WhatIfCounts) -> f64 {
    counts.hits as f64 / counts.routed.max(1) as f64
}

/// Of the hit rate; of the difference where there is something to compare with.
fn interval(counts: &[WhatIfCounts], other: Option<&[WhatIfCounts]>) -> Option<[f64; 2]> {
    let blocks =
        |counts: &[WhatIfCounts]| counts.chunks(BLOCK_TOKENS).map(total).collect::<Vec<_>>();
    let (mine, theirs) = (blocks(counts), other.map(blocks));
    let weighed = |blocks: &[WhatIfCounts], drawn: &[f64]| {
        let sum = |of: fn(&WhatIfCounts) -> u64| {
            let each = blocks.iter().zip(drawn);
            each.map(|(block, n)| of(block) as f64 * n).sum::<f64>()
        };
        sum(|block| block.hits) / sum(|block| block.routed).max(1.0)
    };
    let [Interval { low, high }] = intervals(mine.len(), |drawn| {
        let other = theirs.as_ref().map_or(0.0, |blocks| weighed(blocks, drawn));
        [weighed(&mine, drawn) - other]
    })?;
    Some([low, high])
}

fn against(counts: &[WhatIfCounts], horizon: &[WhatIfCounts]) -> Against {
    let interval = interval(counts, Some(horizon)).map(|ends| ends.map(|end| 100.0 * end));
    Against {
        points: 100.0 * (rate(&total(counts)) - rate(&total(horizon))),
        tie: interval.is_none_or(|[low, high]| low <= 0.0 && high >= 0.0),
        interval,
    }
}

fn table(rows: &[RoutesRow]) -> Table {
    let mut table = Table::new([
        "trace",
        "capacity",
        "policy",
        "hits",
        "read/token",
        "of belady",
        "against horizon",
    ]);
    for row in rows {
        let hits = row.hit_rate_interval.map_or(String::new(), |[low, high]| {
            format!(" [{:.1}, {:.1}]", 100.0 * low, 100.0 * high)
        });
        let against = row
            .against_horizon
            .as_ref()
            .map_or("-".to_owned(), |against| {
                let tie = if against.tie { " (tie)" } else { "" };
                format!("{:+.1}{tie}", against.points)
            });
        let name = Path::new(&row.trace).file_name();
        let capacity = human_bytes(row.capacity_bytes);
        table.row([
            name.map_or(row.trace.clone(), |name| {
                name.to_string_lossy().into_owned()
            }),
            format!("{capacity} ({:.1} %)", 100.0 * row.capacity_share),
            row.policy.clone(),
            format!("{:.1} %{hits}", 100.0 * row.hit_rate),
            human_bytes(row.bytes_per_token as u64),
            format!("{:.1} %", 100.0 * row.belady_ratio),
            against,
        ]);
    }
    table
}
