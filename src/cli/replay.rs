//! `sage replay`.

mod again;
mod routes;

use clap::Args;

use super::{CliError, CommandOutcome, Printer};
use again::AgainArgs;
use routes::RoutesArgs;

const EXAMPLES: &str = "Examples:
  sage replay run.trace --verify                        the inputs again, through the model: every line must come again
  sage replay run.trace --verify --threads 1 --kernels portable --no-read-ahead --actor-threads 2
  sage replay run.trace --policy-only                   the mind alone is asked again (recorded with --record-logits)
  sage replay run.trace --fork 40 --drop 3              what observation 3 changed
  sage replay run.trace --fork 40 --set mind.budgets.focus.f=0.5
  sage replay --routes FILE.csv.gz --capacity 5%,10%,25%
  sage replay --routes FILE.jsonl run.trace --capacity 256slots --policy lru,horizon:16,belady --json

Exit code 1 says that something came out otherwise; the first difference is named with both sides.

Policies: lru, lfu, trust (without a ledger: age alone), horizon (half-life 12 tokens; horizon:8 for another), learned,
best (the best online policy: learned), and belady, which knows the future: no policy can do better.
Conventions: a prompt (of a recorded run: each chunk) enters as one batch of distinct experts a layer; the cache starts empty; all experts of a token's
layer are looked up before its misses make room; the counts of lfu survive eviction. Hits are counted over the
decoded tokens, with --with-prompt over everything. Intervals: 95 %, bootstrap over blocks of 16 tokens.";

/// Arguments of `sage replay`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct ReplayArgs {
    #[command(flatten)]
    again: AgainArgs,
    #[command(flatten)]
    routes: RoutesArgs,
    /// Report as one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// Runs the command.
pub fn run(args: &ReplayArgs, printer: &Printer) -> Result<CommandOutcome, CliError> {
    match (&args.again.trace, args.routes.routes.is_empty()) {
        (Some(trace), true) => again::run(trace, &args.again, printer),
        (None, false) => routes::run(&args.routes, printer),
        (Some(_), false) => Err(CliError::request(
            "a recorded run is repeated, or routing is replayed with --routes: give one of them",
        )),
        (None, true) => Err(CliError::request(
            "what is to be replayed? Give a recorded run with --verify, --policy-only or --fork TICK, or --routes FILE",
        )),
    }
}
