//! `busy-router replay`: how good the decisions are.

use std::collections::HashSet;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use comfy_table::Table;
use indicatif::{ProgressBar, ProgressStyle};

use super::Failure;
use crate::config::{ConfigError, Provider, Sources};
use crate::protocol::{DecidedBy, Mode, Rule};
use crate::replay::checkpoint::Checkpoint;
use crate::replay::compare::Comparison;
use crate::replay::fixture::{Case, Entry, Fixture, FixtureError, load_cases};
use crate::replay::pace::Pace;
use crate::replay::record::Record;
use crate::replay::report::terminal::{Style, render, summary_only};
use crate::replay::report::{Form, Report, ReportError, SCHEMA, Spend};
use crate::replay::run::{self, Finished, Options, RunError, Target};
use crate::replay::score::{Score, baselines};

/// Environment variable with the token for `--url`; the same that a service takes its own from.
const TOKEN: &str = "BUSY_ROUTER_TOKEN";
/// What one answer takes, in tokens: one short JSON object.
const ANSWER_TOKENS: u64 = 16;

/// Replay labelled cases through the router, in this process or against a running service, and score the decisions.
///
/// Exit code 0 when all is well; 1 below a threshold, or, without thresholds, on any miss among cases that prescribe one decision each; 2
/// when something keeps the replay from running.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// JSONL files of cases, or folders of them.
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Ask a running service, such as `http://127.0.0.1:8710`, with the token in `BUSY_ROUTER_TOKEN` if there is one.
    #[arg(long, conflicts_with_all = ["config", "provider", "base_url", "model"])]
    pub url: Option<String>,
    /// Write a report; the name's ending says which: .html, .json or .md. May be given several times.
    #[arg(long, value_name = "FILE")]
    pub report: Vec<PathBuf>,
    /// Compare with an earlier run's JSON report and list every case that changed.
    #[arg(long, value_name = "FILE.json")]
    pub baseline: Option<PathBuf>,

    /// Least share of right actions, 0 to 1.
    #[arg(long, value_name = "SHARE", value_parser = share, help_heading = "Thresholds")]
    pub min_accuracy: Option<f64>,
    /// Greatest share of lost messages, 0 to 1.
    #[arg(long, value_name = "SHARE", value_parser = share, help_heading = "Thresholds")]
    pub max_lost: Option<f64>,
    /// Greatest share of unwanted interrupts, 0 to 1.
    #[arg(long, value_name = "SHARE", value_parser = share, help_heading = "Thresholds")]
    pub max_unwanted: Option<f64>,
    /// Greatest share of the stops that may be missed, 0 to 1.
    #[arg(long, value_name = "SHARE", value_parser = share, help_heading = "Thresholds")]
    pub max_missed_stop: Option<f64>,
    /// Greatest cost of 100 decisions.
    #[arg(long, value_name = "COST", value_parser = amount, help_heading = "Thresholds")]
    pub max_cost: Option<f64>,

    /// Settings for the replay; its mode does not count, replays run in mode `on`.
    #[arg(long, value_name = "FILE", help_heading = "Model")]
    pub config: Option<PathBuf>,
    /// Who answers what the guards leave open; `openai` when --model or --base-url is given.
    #[arg(long, help_heading = "Model")]
    pub provider: Option<Provider>,
    /// Address of an OpenAI-compatible endpoint, such as `http://127.0.0.1:11434/v1`.
    #[arg(long, value_name = "URL", help_heading = "Model")]
    pub base_url: Option<String>,
    /// The model's name at the endpoint.
    #[arg(long, value_name = "NAME", help_heading = "Model")]
    pub model: Option<String>,
    /// At most so many model calls a minute (with --url: requests).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Model")]
    pub rate: Option<u32>,
    /// Price of a million tokens sent, for the cost estimate.
    #[arg(long, value_name = "PRICE", value_parser = amount, help_heading = "Model")]
    pub price_in: Option<f64>,
    /// Price of a million tokens received, for the cost estimate.
    #[arg(long, value_name = "PRICE", value_parser = amount, help_heading = "Model")]
    pub price_out: Option<f64>,

    /// Keep results while they come in, and go on from there when the run is started again.
    #[arg(long, value_name = "FILE.jsonl")]
    pub checkpoint: Option<PathBuf>,
    /// Cases under way at one time.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = concurrency)]
    pub concurrency: usize,
    /// Only so many cases, spread evenly over all.
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Only cases with this tag, such as intent:stop; given several times: with any of them.
    #[arg(long, value_name = "TAG")]
    pub tag: Vec<String>,
    /// Misses that are printed.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub misses: usize,
    /// Print the summary only: no misses, no changes, no progress bar.
    #[arg(long, short)]
    pub quiet: bool,
}

macro_rules! bad_input {
    ($($error:ty),+) => {
        $(impl From<$error> for Failure {
            /// What keeps a replay from running says itself how to mend it.
            fn from(error: $error) -> Self {
                Self::bad_input(error)
            }
        })+
    };
}

bad_input!(FixtureError, RunError, ReportError);

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("must be a share between 0 and 1, such as 0.92 for 92 %".to_owned()),
    }
}

fn amount(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(amount) if amount >= 0.0 && amount.is_finite() => Ok(amount),
        _ => Err("must be a number that is not negative".to_owned()),
    }
}

fn concurrency(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(count @ 1..=1_000) => Ok(count),
        _ => Err("must be between 1 and 1000".to_owned()),
    }
}

/// Runs the command on this process's terminal and environment.
///
/// # Errors
/// Whatever keeps the replay from running, with what to do about it.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    // One thread: with the built-in model the latencies are then those of the decisions alone.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (stdout, stderr) = (io::stdout(), io::stderr());
    let colour = stdout.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let style = Style { colour, width: Table::new().width(), misses: args.misses };
    let is_terminal = stderr.is_terminal();
    let outcome = runtime.block_on(replay(args, style, is_terminal, &mut stdout.lock(), &mut stderr.lock()));
    Ok(if outcome? { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Runs the command: whether everything is as good as it must be.
///
/// # Errors
/// See [`run()`].
pub async fn replay(
    args: &Args,
    style: Style,
    shows_progress: bool,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<bool, Failure> {
    // What can be wrong is found before the first, perhaps paid, question.
    let forms = args.report.iter().map(|path| writable(path)).collect::<Result<Vec<_>, _>>()?;
    let earlier = args.baseline.as_deref().map(Report::read).transpose()?;
    let entries = run::select(load_cases(&args.paths)?, &args.tag, args.limit);
    if entries.is_empty() {
        return Err(Failure::bad_input(format!("no case has a tag {}", args.tag.join(" or "))));
    }
    let target = target(args, err)?;
    let options = Options {
        concurrency: args.concurrency,
        pace: args.rate.map(Pace::new),
        checkpoint: args
            .checkpoint
            .as_deref()
            .map(|path| Checkpoint::open(path, &target.identity()))
            .transpose()
            .map_err(RunError::from)?,
    };

    let bar = progress_bar(entries.len(), shows_progress && !args.quiet);
    let finished = run::run(&entries, &target, options, || bar.inc(1)).await;
    bar.finish_and_clear();
    let report = report(args, &entries, &target, finished?, earlier.as_ref())?;

    for (path, form) in args.report.iter().zip(forms) {
        let text = report.render(form)?;
        std::fs::write(path, text).map_err(|source| ReportError::Io { path: path.clone(), source })?;
    }
    let shown = if args.quiet { summary_only(&report, style) } else { render(&report, style) };
    let failures = failures(args, &report, &entries);
    // A reader that goes away, such as `head`, takes nothing from the verdict.
    ignore_broken_pipe(out.write_all(shown.as_bytes()))?;
    for failure in &failures {
        ignore_broken_pipe(writeln!(err, "{failure}"))?;
    }
    Ok(failures.is_empty())
}

/// The form of a report, if it can be written where it shall be.
fn writable(path: &Path) -> Result<Form, ReportError> {
    let form = Form::of(path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    match folder.map(Path::metadata) {
        Some(Err(source)) => Err(ReportError::Io { path: path.to_owned(), source }),
        _ => Ok(form),
    }
}

fn ignore_broken_pipe(result: io::Result<()>) -> io::Result<()> {
    result.or_else(|error| if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) })
}

/// What the arguments ask for. Warnings about the settings go to `err`.
fn target(args: &Args, err: &mut dyn Write) -> Result<Target, Failure> {
    if let Some(url) = &args.url {
        let token = std::env::var(TOKEN).ok().filter(|token| !token.is_empty());
        return Ok(Target::live(url, token)?);
    }
    let mut sources = Sources::from_process(args.config.clone(), None, Some(Mode::On));
    let flags = model_flags(args);
    for (_, variable, value) in &flags {
        // Flags override the environment, so they may as well take its place.
        sources.env.retain(|(name, _)| name != variable);
        sources.env.push(((*variable).to_owned(), value.clone()));
    }
    let loaded = sources.load().map_err(|error| by_flag(error, &flags))?;
    for warning in &loaded.warnings {
        writeln!(err, "warning: {warning}")?;
    }
    Ok(Target::in_process(loaded.settings)?)
}

/// The settings that flags stand for: flag, variable, value.
fn model_flags(args: &Args) -> Vec<(&'static str, &'static str, String)> {
    let provider = args.provider.or_else(|| (args.model.is_some() || args.base_url.is_some()).then_some(Provider::Openai));
    let provider = provider.map(|provider| match provider {
        Provider::Builtin => "builtin".to_owned(),
        Provider::Openai => "openai".to_owned(),
        Provider::Cascade => "cascade".to_owned(),
    });
    [
        ("--provider", "BUSY_ROUTER_MODEL__PROVIDER", provider),
        ("--base-url", "BUSY_ROUTER_MODEL__BASE_URL", args.base_url.clone()),
        ("--model", "BUSY_ROUTER_MODEL__MODEL", args.model.clone()),
    ]
    .into_iter()
    .filter_map(|(flag, variable, value)| Some((flag, variable, value?)))
    .collect()
}

/// An error about a flag must not speak of a variable that nobody set.
fn by_flag(mut error: ConfigError, flags: &[(&'static str, &'static str, String)]) -> ConfigError {
    if let Some((flag, ..)) = flags.iter().find(|(_, variable, _)| *variable == error.origin) {
        (*flag).clone_into(&mut error.origin);
    }
    error
}

fn progress_bar(cases: usize, is_shown: bool) -> ProgressBar {
    if !is_shown {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(cases as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:32} {human_pos}/{human_len} cases, {elapsed} passed, {eta} left") {
        bar.set_style(style);
    }
    bar
}

fn report(
    args: &Args,
    entries: &[Entry],
    target: &Target,
    finished: Finished,
    earlier: Option<&Report>,
) -> Result<Report, Failure> {
    let notes = notes(&finished);
    let decided: Vec<(&Entry, &Record)> =
        finished.records.iter().filter_map(|(index, record)| Some((entries.get(*index)?, record))).collect();
    if decided.is_empty() {
        return Err(Failure::bad_input(
            "all cases have scripted model answers, which a running service cannot be given; replay them without --url"
                .to_owned(),
        ));
    }
    let fixtures: Vec<&Fixture> = decided.iter().filter_map(|(entry, _)| entry.case.message()).collect();
    let spend = spend(args, target, &decided);
    let baselines = baselines(&fixtures);
    let cases: Vec<Record> = finished.records.into_iter().map(|(_, record)| record).collect();
    Ok(Report {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        target: target.describe(),
        sources: args.paths.iter().map(|path| path.display().to_string()).collect(),
        notes,
        spend,
        score: Score::of(&cases),
        baselines,
        comparison: earlier.map(|earlier| Comparison::of(&earlier.target, &earlier.cases, &cases)),
        cases,
    })
}

/// What a reader must know to read the figures rightly.
fn notes(finished: &Finished) -> Vec<String> {
    let outcomes = || finished.records.iter().filter_map(|(_, record)| record.message.as_ref()).map(|judged| &judged.outcome);
    let mut notes = Vec::new();
    let fallbacks: Vec<Rule> =
        outcomes().filter(|outcome| outcome.decided_by == DecidedBy::Fallback).map(|outcome| outcome.rule).collect();
    if !fallbacks.is_empty() {
        let causes = Rule::ALL.iter().filter_map(|cause| {
            let count = fallbacks.iter().filter(|rule| *rule == cause).count();
            (count > 0).then(|| format!("{cause} {count}"))
        });
        let causes = causes.collect::<Vec<_>>().join(", ");
        notes.push(format!(
            "{} of {} decisions fell back because the model could not be used: {causes}",
            fallbacks.len(),
            outcomes().count()
        ));
    }
    let off = outcomes().filter(|outcome| outcome.decided_by == DecidedBy::Disabled).count();
    if off > 0 {
        notes.push(format!("{off} decisions come from a router in mode off; start it with --mode on or --mode shadow"));
    }
    if finished.skipped > 0 {
        notes.push(format!(
            "{} cases with scripted model answers were left out: a running service cannot be given them",
            finished.skipped
        ));
    }
    if finished.resumed > 0 {
        notes.push(format!("{} results come from the checkpoint", finished.resumed));
    }
    notes
}

/// What the calls cost, by estimate; nothing where none were made.
fn spend(args: &Args, target: &Target, decided: &[(&Entry, &Record)]) -> Option<Spend> {
    let has_price = args.price_in.is_some() || args.price_out.is_some();
    if matches!(target, Target::Live(_)) && !has_price {
        return None;
    }
    let (mut calls, mut tokens_in) = (0, 0);
    for (entry, record) in decided {
        let (Case::Message(fixture), Some(judged)) = (&entry.case, &record.message) else { continue };
        if target.asked_endpoint(fixture, &judged.outcome) {
            calls += 1;
            tokens_in += target.prompt_tokens(fixture);
        }
    }
    let tokens_out = calls * ANSWER_TOKENS;
    let price = |tokens: u64, per_million: Option<f64>| tokens as f64 / 1e6 * per_million.unwrap_or(0.0);
    let cost = has_price.then(|| price(tokens_in, args.price_in) + price(tokens_out, args.price_out));
    (calls > 0).then_some(Spend { calls, tokens_in, tokens_out, cost })
}

/// What is not as good as it must be, a sentence each.
fn failures(args: &Args, report: &Report, entries: &[Entry]) -> Vec<String> {
    let figures = &report.score.figures;
    let mut failures = Vec::new();
    let mut limits = 0;
    let shares = [
        ("--min-accuracy", args.min_accuracy, figures.accuracy, "accuracy"),
        ("--max-lost", args.max_lost, figures.lost, "lost messages"),
        ("--max-unwanted", args.max_unwanted, figures.unwanted_interrupt, "unwanted interrupts"),
        ("--max-missed-stop", args.max_missed_stop, figures.missed_stop, "missed stops"),
    ];
    for (flag, limit, share, name) in shares {
        let Some(limit) = limit else { continue };
        limits += 1;
        let is_floor = flag.starts_with("--min");
        if !share.is_known() {
            // A threshold that is met because nothing was measured would hide that.
            failures.push(format!("{flag}: no case tells anything about {name}"));
        } else if (is_floor && share.value < limit) || (!is_floor && share.value > limit) {
            let side = if is_floor { "below" } else { "above" };
            failures.push(format!("{name}: {:.2} % is {side} {flag} {:.2} %", share.value * 100.0, limit * 100.0));
        }
    }
    if let Some(limit) = args.max_cost {
        limits += 1;
        let cost = figures.cost_per_100.value;
        if !figures.accuracy.is_known() {
            failures.push("--max-cost: no case tells anything about the cost".to_owned());
        } else if cost > limit {
            failures.push(format!("cost per 100: {cost:.2} is above --max-cost {limit:.2}"));
        }
    }
    let exact: HashSet<&str> = entries.iter().filter(|entry| entry.case.is_exact()).map(|entry| entry.key.as_str()).collect();
    let exact: Vec<&Record> = report.cases.iter().filter(|record| exact.contains(record.id.as_str())).collect();
    let missed = exact.iter().filter(|record| !record.ok).count();
    if limits == 0 && missed > 0 {
        failures.push(format!("{missed} of {} cases are not as prescribed", exact.len()));
    }
    failures
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn args(words: &[&str]) -> Args {
        Cli::try_parse_from(["replay"].iter().chain(words)).expect("valid arguments").args
    }

    fn refused(words: &[&str]) -> String {
        Cli::try_parse_from(["replay"].iter().chain(words)).err().expect("must be refused").to_string()
    }

    const STOP: &str = r#"{"id":"stop","tags":["intent:stop"],"request":{"session":{"id":"s"},"message":{"text":"stop"},"busy":{"state":"thinking"}},"expect":EXPECT}"#;

    /// Runs the command on one case with an expectation: the verdict, standard output, standard error.
    async fn replayed(expect: &str, words: &[&str]) -> (bool, String, String) {
        replayed_cases(&STOP.replace("EXPECT", expect), words).await
    }

    async fn replayed_cases(cases: &str, words: &[&str]) -> (bool, String, String) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("cases.jsonl");
        std::fs::write(&path, cases).expect("written");
        let words: Vec<&str> = words.iter().copied().chain([path.to_str().expect("a path")]).collect();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let style = Style { misses: 5, ..Style::default() };
        let verdict = replay(&args(&words), style, false, &mut out, &mut err).await.expect("runs");
        (verdict, String::from_utf8(out).expect("text"), String::from_utf8(err).expect("text"))
    }

    #[tokio::test]
    async fn thresholds_decide_the_verdict() {
        let (right, wrong) =
            (r#"{"any_of":["interrupt"],"none_of":["ignore"]}"#, r#"{"any_of":["queue"],"none_of":["interrupt"]}"#);
        assert!(
            replayed(right, &["--min-accuracy", "1", "--max-lost", "0", "--max-missed-stop", "0", "--max-cost", "0"]).await.0
        );
        let (verdict, out, err) = replayed(wrong, &["--min-accuracy", "0.5"]).await;
        assert!(!verdict && err == "accuracy: 0.00 % is below --min-accuracy 50.00 %\n", "{err}");
        assert!(out.contains("destroyed work stop: stop"), "{out}");
        let (verdict, _, err) = replayed(wrong, &["--max-unwanted", "0.5", "--max-cost", "299"]).await;
        assert!(
            !verdict
                && err.contains("100.00 % is above --max-unwanted 50.00 %")
                && err.contains("300.00 is above --max-cost 299.00"),
            "{err}"
        );
        // A set to choose from is a benchmark, and a benchmark without thresholds cannot fail.
        assert!(replayed(wrong, &[]).await.0);
    }

    #[tokio::test]
    async fn prescribed_decisions_must_all_be_met() {
        assert!(replayed(r#"{"action":"interrupt","rule":"stop_phrase","decided_by":"guard"}"#, &[]).await.0);
        let (verdict, out, err) = replayed(r#"{"action":"interrupt","rule":"model"}"#, &["--quiet"]).await;
        assert!(!verdict && err == "1 of 1 cases are not as prescribed\n", "{err}");
        assert!(!out.contains("other rule"), "quiet: {out}");
        let (verdict, out, _) = replayed(r#"{"rule":"model"}"#, &[]).await;
        assert!(!verdict && out.contains("other rule stop: stop\n    expected rule model, got interrupt (stop_phrase)"), "{out}");
        // The action is right all the same, and a threshold takes the place of the rule.
        assert!(replayed(r#"{"action":"interrupt","rule":"model"}"#, &["--min-accuracy", "1"]).await.0);
        // Beside cases that leave a choice, those that prescribe one decision still count.
        let task = r#"{"id":"task","task_status":{"task_id":"t","evidence":[]},"expect":{"status":"running"}}"#;
        let both = format!("{}\n{task}", STOP.replace("EXPECT", r#"{"any_of":["queue"]}"#));
        let (verdict, out, err) = replayed_cases(&both, &[]).await;
        assert!(!verdict && err == "1 of 1 cases are not as prescribed\n", "{err}");
        assert!(
            out.contains("other answer task: status of t: no evidence\n    expected status running, got status unknown"),
            "{out}"
        );
        // What cannot be measured is not good enough.
        let (verdict, _, err) = replayed(r#"{"rule":"stop_phrase"}"#, &["--min-accuracy", "0"]).await;
        assert!(!verdict && err.contains("no case tells anything about accuracy"), "{err}");
    }

    #[tokio::test]
    async fn bad_input_is_found_before_the_first_question() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("cases.jsonl");
        std::fs::write(&path, STOP.replace("EXPECT", r#"{"action":"queue"}"#)).expect("written");
        let path = path.to_str().expect("a path");
        let message = async |words: &[&str]| {
            let words: Vec<&str> = words.iter().copied().chain([path]).collect();
            let failure =
                replay(&args(&words), Style::default(), false, &mut Vec::new(), &mut Vec::new()).await.expect_err("fails");
            format!("{failure:?}")
        };
        assert!(message(&["--report", "report.txt"]).await.contains("a report is .html, .json or .md"));
        assert!(message(&["--report", "/no/such/folder/r.html"]).await.contains("/no/such/folder/r.html"));
        assert!(message(&["--baseline", path]).await.contains("is no report"));
        assert!(message(&["--tag", "none"]).await.contains("no case has a tag none"));
        let said = message(&["--model", "m"]).await;
        assert!(said.contains("--provider: model.provider: this provider needs"), "{said}");
        assert!(!said.contains("BUSY_ROUTER_"), "{said}");
        assert!(message(&["--url", "nonsense"]).await.contains("is no URL"));
    }

    #[test]
    fn flags_are_checked() {
        assert!(refused(&["x", "--min-accuracy", "92"]).contains("0.92 for 92 %"));
        assert!(refused(&["x", "--max-cost", "NaN"]).contains("not negative"));
        assert!(refused(&["x", "--url", "u", "--model", "m"]).contains("cannot be used with"));
        assert!(refused(&[]).contains("PATH"));
        let flags = model_flags(&args(&["x", "--model", "m"]));
        assert_eq!(flags[0], ("--provider", "BUSY_ROUTER_MODEL__PROVIDER", "openai".to_owned()));
        assert!(model_flags(&args(&["x"])).is_empty());
    }
}
