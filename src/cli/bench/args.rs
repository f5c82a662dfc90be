//! What is to be measured.

use std::path::PathBuf;

use clap::Args;

use super::arms::{Arm, ArmChange, Io, Mind};
use super::speech;
use crate::cli::CliError;
use crate::cli::opening::RunningArgs;
use crate::media::sound::MAX_SECONDS;
use crate::store::{ModelKind, recognise};

const EXAMPLES: &str = "Examples:
  sage bench MODEL
  sage bench MODEL --prompt-tokens 128,2048 --answer-tokens 64 --rounds 5
  sage bench MODEL --limit 6GiB --mind off --json
  sage bench MODEL --speech --speech-seconds 8
  sage bench MODEL --hearing 30 --seeing 1024 --rounds 5
  sage bench MODEL --routes TRACE.csv.gz --prompt-tokens 28 --answer-tokens 128 --limit 6GiB
  sage bench MODEL --limit 6GiB --against mind=off --rounds 5
  sage bench STORE --limit 6GiB --mind off --against io=mmap

Prompts are token ids at random, the same in every run. The first prompt finds no expert in memory (cold); then each length is
read once more and answered in every round, in an order that turns round by round, and medians are reported (warm).

--speech: in every round one answer to the first length is spoken as well. The real-time factor and the time to the first sound
count from the answer's last word on; the vocoder makes 24 s at a time, so that a shorter answer is heard when it is whole.
Parts have shares of the time from the prompt's first token to the last sample.

--hearing, --seeing: behind that a made-up sound or picture goes through its tower alone: once with its weights still to be read
(cold), then in every round with the weights in memory, as far as a --limit in bytes has room for them (`kept`).

--against: an arm that differs from the options of the command in one thing. Every arm has a session of its own in every round, one
after another in an order that turns, with the same prompts; reported are medians of the ratios within a round.

--routes: for synthetic weights, whose routers choose at random. Every token's experts are those of the recording's token at the same
place of the context, so that reads, evictions and waits are those of a real model. Of the next layer's experts 85 % are foreseen.
Answers mean nothing, and nobody can use a model so: it is what the report says first.

--io mmap: the kernels read experts where the page cache has them, through a mapping of the store; nothing is copied or checked,
and of disk_duty nothing is known. The mind decides as it does otherwise, so answers are the same. What --limit leaves to experts
is then the page cache's, which only a control group bounds (docs/measurements.md). Before every session the experts of the store
are dropped from the page cache.

--json: cold{} and lengths[] with prompt_tokens, prefill_tokens_per_second, decode_tokens_per_second, time_to_first_token_ms,
decode_bytes_per_token, stall_ms_per_token, decode_hit_rate, disk_duty (share of the request's time during which an expert was
being read), disk_bytes_per_second (while one was); speech{} with frames[], sound_seconds, real_time_factor,
time_to_first_sound_ms, hit_rate, bytes_per_frame, shares{}; hearing{} and seeing{} with tokens, ms, cold_ms, features_ms,
seconds_per_second or patches_per_second; each a median, with [least, most] under `spread`. Besides
read_bytes, kernel_read_bytes, page_faults{minor, major}, peak_rss_bytes, answers_blake3 (of every token that was said) and
mode. All of it is the first arm's; arms[] has the same for each, with its name as `arm` and, from the second on, ratios{}. turns[]
says in which order each round ran them. rows[] has each arm and length in one table (memory_bytes_per_second: of the weights that
decoding reads, with the mind off), machine{} what threads read of memory and of experts on disk at most.";

/// Patches of the largest picture that the released model sees.
const MOST_PATCHES: i64 = 50_176;

/// Arguments of `sage bench`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct BenchArgs {
    /// Checkpoint or store
    #[arg(value_parser = crate::cli::models::model_argument())]
    pub(super) model: PathBuf,
    /// Lengths of prompts
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [128, 512])]
    pub(super) prompt_tokens: Vec<usize>,
    /// Tokens of every answer
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub(super) answer_tokens: usize,
    /// How often each length is measured
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(super) rounds: usize,
    /// Whether the mind takes part: on, or off for the trained experts of every token [default: on; off with --routes]
    #[arg(long, value_enum)]
    pub(super) mind: Option<Mind>,
    /// How experts come from disk: direct, into memory of the process; or mmap, for comparison
    #[arg(long, value_enum, default_value_t = Io::Direct)]
    pub(super) io: Io,
    /// Force the routing that was recorded in this file (a route trace, or lines with the experts of every token), in the place of
    /// what the model's routers say; the mind is off then
    #[arg(long, value_name = "FILE")]
    pub(super) routes: Option<PathBuf>,
    /// Force routing with so many experts a token, drawn with the locality of the recording
    #[arg(long, value_name = "K", requires = "routes")]
    pub(super) routes_experts: Option<usize>,
    /// An arm to measure in turns with what the other options say: mind=on, mind=off, io=direct or io=mmap; several may be given
    #[arg(long, value_name = "KEY=VALUE", value_delimiter = ',')]
    pub(super) against: Vec<ArmChange>,
    /// Measure spoken answers too
    #[arg(long)]
    pub(super) speech: bool,
    /// Seconds of sound of a spoken answer, at most [default: 4]
    #[arg(long, value_name = "SECONDS", requires = "speech")]
    speech_seconds: Option<f64>,
    /// Measure the audio tower on so many seconds of sound, 30 if no number is given
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "30",
          value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_SECONDS)))]
    pub(super) hearing: Option<u32>,
    /// Measure the vision tower on a picture of so many patches, 1024 if no number is given
    #[arg(long, value_name = "PATCHES", num_args = 0..=1, default_missing_value = "1024",
          value_parser = clap::value_parser!(u32).range(1..=MOST_PATCHES))]
    pub(super) seeing: Option<u32>,
    #[command(flatten)]
    pub(super) running: RunningArgs,
    /// Report as one JSON object
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

impl BenchArgs {
    /// The arm that the options say.
    pub(super) fn first_arm(&self) -> Arm {
        Arm {
            mind: match self.routes {
                Some(_) => Mind::Off,
                None => self.mind.unwrap_or(Mind::On),
            },
            io: self.io,
        }
    }

    /// The option that has the mind off, in an arm without one.
    pub(super) fn why_off(&self) -> &'static str {
        match (&self.routes, self.mind) {
            (Some(_), _) => "--routes",
            (None, Some(Mind::Off)) => "--mind off",
            (None, _) => "--against mind=off",
        }
    }

    /// Tokens of the longest prompt.
    pub(super) fn longest_prompt(&self) -> usize {
        let longest = self.prompt_tokens.iter().copied().max().unwrap_or(0);
        let spoken = self.prompt_tokens.first().filter(|_| self.speech);
        longest.max(spoken.map_or(0, |tokens| tokens.saturating_add(speech::TURN_TOKENS)))
    }

    /// Codes of a spoken answer.
    pub(super) fn codes(&self) -> Result<usize, CliError> {
        speech::codes(self.speech_seconds.unwrap_or(speech::SPEECH_SECONDS))
    }

    pub(super) fn check(&self) -> Result<(), CliError> {
        let wrong = |what: &str| Err(CliError::request(format!("{what}, expected at least 1")));
        match () {
            () if self.prompt_tokens.contains(&0) => wrong("--prompt-tokens has a length of 0"),
            () if self.answer_tokens < 2 => Err(CliError::request(
                "--answer-tokens is too small to measure a rate, expected at least 2",
            )),
            () if self.rounds == 0 => wrong("--rounds is 0"),
            () if self.routes.is_some() && self.mind == Some(Mind::On) => Err(CliError::request(
                "--routes forces what the mind would choose: leave --mind on out, or --routes",
            )),
            () if self.routes.is_some() && self.against.contains(&ArmChange::Mind(Mind::On)) => {
                Err(CliError::request(
                    "--routes forces what the mind would choose: leave --against mind=on out",
                ))
            }
            () => Ok(()),
        }
    }

    /// Refuses to map what has no whole records.
    pub(super) fn check_mapped(&self) -> Result<(), CliError> {
        match recognise(&self.model)? {
            ModelKind::Store => Ok(()),
            ModelKind::Checkpoint => Err(CliError::request(format!(
                "io=mmap: {} is a checkpoint, whose experts lie in pieces; make a store of it with `sage extract`",
                self.model.display()
            ))),
        }
    }
}
