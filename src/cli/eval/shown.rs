//! What `sage eval` shows: a table of texts and one of tasks.

use crate::cli::{CliError, Printer, Table, human_bytes};
use crate::eval::{ArmDifference, ArmReport, Estimate, EvalReport, TasksReport, TextReport};

/// The report as tables, or as one object of JSON.
pub fn show(report: &EvalReport, printer: &Printer) -> Result<(), CliError> {
    if printer.is_json() {
        return printer.json(report);
    }
    let texts: Vec<_> = report
        .arms
        .iter()
        .filter_map(|arm| Some((arm, arm.text.as_ref()?)))
        .collect();
    let tasks: Vec<_> = report
        .arms
        .iter()
        .filter_map(|arm| Some((arm, arm.tasks.as_ref()?)))
        .collect();
    if let Some((_, text)) = texts.first() {
        printer.line(format_args!(
            "text: {} documents, {} tokens scored",
            text.documents, text.tokens
        ))?;
        printer.table(&text_table(&texts))?;
        warn_of_few(printer, "document", text.documents);
    }
    if let Some((_, first)) = tasks.first() {
        if !texts.is_empty() {
            printer.line("")?;
        }
        printer.line(format_args!(
            "tasks: {} items, {} tokens of prompts and answers under {}",
            first.items, first.tokens, report.arms[0].name
        ))?;
        printer.table(&tasks_table(&tasks))?;
        warn_of_few(printer, "item", first.items);
    }
    Ok(())
}

/// Resamples of so few show too little of the spread.
const FEW: usize = 8;

fn warn_of_few(printer: &Printer, what: &str, count: usize) {
    match count {
        1 => printer.warn(format_args!(
            "one {what} says nothing of the spread: no intervals, and no tie can be told"
        )),
        2..FEW => printer.warn(format_args!(
            "intervals from {count} {what}s are too narrow: read {FEW} or more"
        )),
        _ => {}
    }
}

fn text_table(arms: &[(&ArmReport, &TextReport)]) -> Table {
    let mut titles = vec!["arm", "k", "perplexity", "against exact"];
    let varied = arms.iter().any(|(_, text)| text.change.is_some());
    if varied {
        titles.extend(["loss, varied", "missed, varied"]);
    }
    titles.extend([
        "KL, nats",
        "agreement, %",
        "hits",
        "missed/token",
        "denied",
        "tokens/s",
        "read",
        "peak",
    ]);
    let mut table = Table::with_titles(titles.into_iter().map(str::to_owned).collect());
    for (arm, text) in arms {
        let mut cells = vec![
            arm.name.clone(),
            arm.k.to_string(),
            shown(&text.perplexity, 1.0, 2),
            loss_against_exact(&text.nll),
        ];
        if varied {
            let loss = text
                .change
                .map(|change| told(&change.nll, in_percent_of_perplexity, " %"));
            let bytes = text.change.and_then(|change| change.bytes);
            cells.extend([
                loss.unwrap_or_else(|| "-".to_owned()),
                bytes.map_or("-".to_owned(), |bytes| told(&bytes, in_percent, " %")),
            ]);
        }
        cells.extend([
            shown(&text.kl, 1.0, 4),
            shown(&text.agreement, 100.0, 1),
            format!("{:.1} %", text.hit_rate * 100.0),
            human_bytes(text.bytes_per_token as u64),
            format!("{:.3}", text.denied_mass_per_token),
            format!("{:.0}", text.measured.tokens_per_second),
            human_bytes(text.measured.read_bytes.total),
            human_bytes(text.measured.peak_rss_bytes),
        ]);
        table.push(cells);
    }
    table
}

/// Exact match of every arm, then of every task, in percent.
fn tasks_table(arms: &[(&ArmReport, &TasksReport)]) -> Table {
    let mut titles: Vec<String> = ["arm", "k", "exact match, %", "against exact"]
        .map(str::to_owned)
        .into();
    let varied = arms.iter().any(|(_, tasks)| tasks.change.is_some());
    if varied {
        titles.extend(["match, varied", "missed, varied"].map(str::to_owned));
    }
    let names = arms.iter().flat_map(|(_, tasks)| &tasks.tasks);
    let first = arms.first().map_or(0, |(_, tasks)| tasks.tasks.len());
    titles.extend(names.take(first).map(|task| task.task.clone()));
    titles.extend(["hits", "missed/token", "tokens/s", "read", "peak"].map(str::to_owned));
    let mut table = Table::with_titles(titles);
    for (arm, tasks) in arms {
        let mut cells = vec![
            arm.name.clone(),
            arm.k.to_string(),
            shown(&tasks.exact_match, 100.0, 1),
            points_against_exact(&tasks.exact_match),
        ];
        if varied {
            let matched = tasks
                .change
                .map(|change| told(&change.exact_match, in_percent, ""));
            let bytes = tasks.change.and_then(|change| change.bytes);
            cells.extend([
                matched.unwrap_or_else(|| "-".to_owned()),
                bytes.map_or("-".to_owned(), |bytes| told(&bytes, in_percent, " %")),
            ]);
        }
        cells.extend(tasks.tasks.iter().map(|task| {
            let differs = task
                .exact_match
                .difference
                .is_some_and(|d| d.tie == Some(false));
            // Only where a task is another than under the exact arm is it marked.
            let mark = if differs { "*" } else { "" };
            format!("{:.0}{mark}", task.exact_match.value * 100.0)
        }));
        cells.extend([
            format!("{:.1} %", tasks.hit_rate * 100.0),
            human_bytes(tasks.bytes_per_token as u64),
            format!("{:.0}", tasks.measured.tokens_per_second),
            human_bytes(tasks.measured.read_bytes.total),
            human_bytes(tasks.measured.peak_rss_bytes),
        ]);
        table.push(cells);
    }
    table
}

/// `12.3 [11.0, 13.9]`.
fn shown(estimate: &Estimate, factor: f64, digits: usize) -> String {
    let value = estimate.value * factor;
    match (estimate.low, estimate.high) {
        (Some(low), Some(high)) => format!(
            "{value:.digits$} [{:.digits$}, {:.digits$}]",
            low * factor,
            high * factor
        ),
        _ => format!("{value:.digits$}"),
    }
}

/// By how much the perplexity is greater, in percent: the exponential of the difference in loss.
fn loss_against_exact(nll: &Estimate) -> String {
    against_exact(nll, in_percent_of_perplexity, " %")
}

fn points_against_exact(matched: &Estimate) -> String {
    against_exact(matched, in_percent, "")
}

fn in_percent_of_perplexity(nats: f64) -> f64 {
    (libm::exp(nats) - 1.0) * 100.0
}

fn in_percent(share: f64) -> f64 {
    share * 100.0
}

/// A dash for the exact arm itself, else the difference to it.
fn against_exact(estimate: &Estimate, scaled: fn(f64) -> f64, unit: &str) -> String {
    let told = |difference| told(&difference, scaled, unit);
    estimate.difference.map_or("-".to_owned(), told)
}

/// `tie`, or the difference with its interval.
fn told(difference: &ArmDifference, scaled: fn(f64) -> f64, unit: &str) -> String {
    if difference.tie == Some(true) {
        return "tie".to_owned();
    }
    let value = scaled(difference.value);
    match (difference.low, difference.high) {
        (Some(low), Some(high)) => {
            format!(
                "{value:+.1}{unit} [{:+.1}, {:+.1}]",
                scaled(low),
                scaled(high)
            )
        }
        _ => format!("{value:+.1}{unit}"),
    }
}
