//! `POST /v1/tasks/status`: what state a background task is really in.
//!
//! Sources lie in different ways: a registry goes on saying "running" after the session has ended, a status map forgets idle
//! sessions, a restarted host leaves runs unfinished. `TABLE` says whom to believe, one row a rule.

use std::fmt::Write as _;

use super::memory::{Ended, TaskMemory};
use super::words::{self, Reading};
use crate::protocol::{Evidence, EvidenceSource, StatusRequest, StatusResponse, StatusRule, TaskEvidence, TaskStatus};

/// Todos left open: this long idle before it is believed, in milliseconds. opencode was seen to go on by itself after two
/// seconds.
const SETTLED_MS: u64 = 10_000;
/// This many polls in a row must miss a session before it can count as lost.
const LOST_POLLS: u64 = 3;

/// One source's word, understood, with what else it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fact {
    /// Who says it.
    pub source: EvidenceSource,
    reading: Reading,
    age_ms: Option<u64>,
    has_output: bool,
    open_todos: u64,
    seen_busy: bool,
    absent_polls: u64,
    verified_missing: bool,
    host_age_ms: Option<u64>,
}

impl From<&Evidence> for Fact {
    fn from(evidence: &Evidence) -> Self {
        Self {
            source: evidence.source,
            reading: words::read(&evidence.status, evidence.source),
            age_ms: evidence.age_ms,
            has_output: false,
            open_todos: 0,
            seen_busy: false,
            absent_polls: 0,
            verified_missing: false,
            host_age_ms: None,
        }
    }
}

impl From<&TaskEvidence> for Fact {
    fn from(evidence: &TaskEvidence) -> Self {
        Self {
            source: evidence.source,
            reading: words::read(&evidence.status, evidence.source),
            age_ms: evidence.age_ms,
            has_output: evidence.has_output.unwrap_or_default(),
            open_todos: evidence.open_todos.unwrap_or_default(),
            seen_busy: evidence.seen_busy.unwrap_or_default(),
            absent_polls: evidence.absent_polls.unwrap_or_default(),
            verified_missing: evidence.verified_missing.unwrap_or_default(),
            host_age_ms: evidence.host_age_ms,
        }
    }
}

impl Fact {
    fn terminal(&self) -> Option<TaskStatus> {
        Some(self.reading.status()).filter(|status| status.is_terminal())
    }

    fn live(&self) -> Option<TaskStatus> {
        Some(self.reading.status()).filter(|status| status.is_live())
    }

    /// Whether this source knows the session at first hand and finds nothing running there.
    fn session_at_rest(&self) -> bool {
        matches!(self.source, EvidenceSource::Session | EvidenceSource::StatusApi)
            && matches!(self.reading, Reading::Idle | Reading::Absent)
    }

    /// Whether this word cannot be true if the task is in state `status`.
    fn contradicts(&self, status: TaskStatus) -> bool {
        match self.reading {
            Reading::Is(word) => word != status && (word.is_terminal() || status.is_terminal()),
            // That it is over agrees with every terminal status.
            Reading::Ended => status.is_live(),
            Reading::Idle | Reading::Absent | Reading::Nothing => false,
        }
    }
}

/// What the evidence comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// What state the task is in.
    pub status: TaskStatus,
    /// The rule that decided.
    pub rule: StatusRule,
    /// The source that decided.
    pub decided_by: Option<EvidenceSource>,
    /// The sources whose word contradicts the judgement, each once.
    pub stale: Vec<EvidenceSource>,
}

/// What a row looks at.
struct Case<'a> {
    facts: &'a [Fact],
    /// How the task ended, if it was found terminal before.
    ended: Option<Ended>,
}

/// A status, and the source that it comes from.
type Finding = (TaskStatus, Option<EvidenceSource>);

type Row = (StatusRule, fn(&Case<'_>) -> Option<Finding>);

/// The rules in the order in which they are tried; where none applies it is `no_decision`.
///
/// Every row looks at the facts as a set, so their order never matters.
const TABLE: [Row; 8] = [
    (StatusRule::FirstTerminal, first_terminal),
    (StatusRule::Lost, outlived_by_its_host),
    (StatusRule::ActiveWins, active_wins),
    (StatusRule::SessionTerminal, session_terminal),
    (StatusRule::TaskTerminal, task_terminal),
    (StatusRule::IdleWithOutput, idle_with_output),
    (StatusRule::Lost, gone_without_output),
    (StatusRule::TaskActive, task_active),
];

/// What state a task is in by these facts alone. Pure, and the same for every order of the facts.
#[must_use]
pub fn judge(facts: &[Fact]) -> Judgement {
    apply_table(&Case { facts, ended: None })
}

/// What state the task is in by the request's evidence and by what was found before. What is terminal is remembered.
#[must_use]
pub fn answer(request: &StatusRequest, memory: &TaskMemory) -> StatusResponse {
    let (task_id, session_id) = (request.task_id.as_str(), request.session_id.as_deref());
    let facts: Vec<Fact> = request.evidence.iter().map(Fact::from).collect();
    let known = memory.ended(task_id, session_id);
    let mut judgement = apply_table(&Case { facts: &facts, ended: known });
    if known.is_none() && judgement.status.is_terminal() {
        let found = Ended { status: judgement.status, decided_by: judgement.decided_by };
        let (first, fresh) = memory.end(task_id, session_id, found);
        if !fresh {
            // Somebody else found it terminal meanwhile; theirs came first.
            judgement = apply_table(&Case { facts: &facts, ended: Some(first) });
        }
    }
    StatusResponse {
        task_id: request.task_id.clone(),
        session_id: request.session_id.clone(),
        status: judgement.status,
        terminal: judgement.status.is_terminal(),
        rule: judgement.rule,
        decided_by: judgement.decided_by,
        hint: hint(&judgement, session_id),
        stale: judgement.stale,
    }
}

fn apply_table(case: &Case<'_>) -> Judgement {
    let found = TABLE.iter().find_map(|(rule, applies)| applies(case).map(|finding| (*rule, finding)));
    let (rule, (status, decided_by)) = found.unwrap_or((StatusRule::NoDecision, (TaskStatus::Unknown, None)));
    let mut stale: Vec<EvidenceSource> = Vec::new();
    if rule != StatusRule::NoDecision {
        let contradicting = case.facts.iter().filter(|fact| fact.contradicts(status)).map(|fact| fact.source);
        // A source that reported twice, once before the end and once after, is not stale for its older report.
        stale.extend(contradicting.filter(|source| rule == StatusRule::FirstTerminal || Some(*source) != decided_by));
        stale.sort_unstable();
        stale.dedup();
    }
    Judgement { status, rule, decided_by, stale }
}

/// 1. This task was already found terminal here.
fn first_terminal(case: &Case<'_>) -> Option<Finding> {
    case.ended.map(|ended| (ended.status, ended.decided_by))
}

/// 2. A run is unfinished and older than the process that hosted it, so nobody is left to finish it.
fn outlived_by_its_host(case: &Case<'_>) -> Option<Finding> {
    // The host's age may stand beside another source; where several name one, every process must be younger than the run.
    let host_age = |run: &Fact| run.host_age_ms.or_else(|| case.facts.iter().filter_map(|fact| fact.host_age_ms).max());
    let lost = |run: &Fact| run.age_ms.zip(host_age(run)).is_some_and(|(run, host)| run > host);
    from(case, EvidenceSource::Run)
        .any(|run| run.live().is_some() && lost(run))
        .then_some((TaskStatus::Failed, Some(EvidenceSource::Run)))
}

/// 3. Something other than the registry is at work, and is fresher than every terminal word (of equal age: at work).
///
/// An age that is not known proves no freshness: without ages a terminal word wins. The registry's "running" is never fresh.
fn active_wins(case: &Case<'_>) -> Option<Finding> {
    let terminal: Vec<Option<u64>> = case.facts.iter().filter(|fact| fact.terminal().is_some()).map(|fact| fact.age_ms).collect();
    let fresh = |fact: &Fact| terminal.iter().all(|age| fact.age_ms.zip(*age).is_some_and(|(active, ended)| active <= ended));
    case.facts
        .iter()
        .filter(|fact| fact.source != EvidenceSource::Task && fresh(fact))
        .filter_map(|fact| fact.live().map(|status| (status, fact)))
        // What has not begun is not at work: it says something only where nobody says that the task has ended.
        .filter(|(status, _)| *status != TaskStatus::Pending || terminal.is_empty())
        // "At work" says more than "waits for input", and that more than "not begun"; then the freshest.
        .min_by_key(|(status, fact)| (liveliness(*status), fact.age_ms.unwrap_or(u64::MAX), fact.source))
        .map(|(status, fact)| (status, Some(fact.source)))
}

/// 4. The session or the run has ended, whatever the task registry says.
///
/// Where they differ, a word that says how it ended goes before one that does not, the run's before the session's, the fresher
/// before the older. A status endpoint's terminal word counts too, last.
fn session_terminal(case: &Case<'_>) -> Option<Finding> {
    let rank = |source| match source {
        EvidenceSource::Run => Some(0),
        EvidenceSource::Session => Some(1),
        EvidenceSource::StatusApi => Some(2),
        EvidenceSource::Task | EvidenceSource::Heartbeat => None,
    };
    case.facts
        .iter()
        .filter_map(|fact| Some((fact.terminal()?, rank(fact.source)?, fact)))
        .min_by_key(|(status, rank, fact)| {
            (fact.reading == Reading::Ended, *rank, fact.age_ms.unwrap_or(u64::MAX), severity(*status))
        })
        .map(|(status, _, fact)| (status, Some(fact.source)))
}

/// 5. The task registry is terminal.
fn task_terminal(case: &Case<'_>) -> Option<Finding> {
    // oh-my-openagent lists a task whose session was deleted both as cancelled and as completed.
    from(case, EvidenceSource::Task)
        .filter_map(|fact| Some((fact.reading == Reading::Ended, severity(fact.terminal()?), fact.terminal()?)))
        .min()
        .map(|(.., status)| (status, Some(EvidenceSource::Task)))
}

/// 6. The session is at rest after it was busy, there is output, and no todo is open (or it has been at rest for long).
fn idle_with_output(case: &Case<'_>) -> Option<Finding> {
    let at_rest = source_at_rest(case, Fact::session_at_rest)?;
    let has_output = case.facts.iter().any(|fact| fact.has_output);
    let seen_busy = case.facts.iter().any(|fact| fact.seen_busy);
    let open_todos = case.facts.iter().any(|fact| fact.open_todos > 0);
    let rested_ms = case.facts.iter().filter(|fact| fact.session_at_rest()).filter_map(|fact| fact.age_ms).min();
    let settled = !open_todos || rested_ms.is_some_and(|rested| rested >= SETTLED_MS);
    (has_output && seen_busy && settled).then_some((TaskStatus::Completed, Some(at_rest)))
}

/// 7. The session was missing for several polls, left no output, and was verified not to exist.
fn gone_without_output(case: &Case<'_>) -> Option<Finding> {
    let absent = source_at_rest(case, |fact| fact.session_at_rest() && fact.reading == Reading::Absent)?;
    let missed = case.facts.iter().any(|fact| fact.absent_polls >= LOST_POLLS);
    let verified = case.facts.iter().any(|fact| fact.verified_missing);
    let has_output = case.facts.iter().any(|fact| fact.has_output);
    (missed && verified && !has_output).then_some((TaskStatus::Failed, Some(absent)))
}

/// 8. Nothing but the task registry speaks, and its word is a live one.
fn task_active(case: &Case<'_>) -> Option<Finding> {
    if case.facts.iter().any(|fact| fact.source != EvidenceSource::Task) {
        return None;
    }
    let liveliest = case.facts.iter().filter_map(Fact::live).min_by_key(|status| liveliness(*status));
    liveliest.map(|status| (status, Some(EvidenceSource::Task)))
}

fn from<'a>(case: &Case<'a>, source: EvidenceSource) -> impl Iterator<Item = &'a Fact> {
    case.facts.iter().filter(move |fact| fact.source == source)
}

fn source_at_rest(case: &Case<'_>, at_rest: impl Fn(&Fact) -> bool) -> Option<EvidenceSource> {
    case.facts.iter().filter(|fact| at_rest(fact)).map(|fact| fact.source).min()
}

/// Of several live words the one that says most, first.
const fn liveliness(status: TaskStatus) -> u8 {
    match status {
        TaskStatus::Running => 0,
        TaskStatus::InputRequired => 1,
        _ => 2,
    }
}

/// Of several terminal words the one that promises least, first.
const fn severity(status: TaskStatus) -> u8 {
    match status {
        TaskStatus::Cancelled => 0,
        TaskStatus::Failed => 1,
        _ => 2,
    }
}

/// What to do with the answer, in a sentence that an agent can act on.
fn hint(judgement: &Judgement, session_id: Option<&str>) -> Option<String> {
    let session = session_id.map_or_else(|| "the task's session".to_owned(), |id| format!("session `{id}`"));
    let status = judgement.status;
    let mut hint = match judgement.rule {
        StatusRule::FirstTerminal => format!("It was found {status} before, and that stays; read {session} for its output."),
        StatusRule::Lost if judgement.decided_by == Some(EvidenceSource::Run) => {
            format!("The process that ran it is gone; read {session} for what it got done and start it again if still needed.")
        }
        StatusRule::Lost => format!("It is gone: {session} does not exist and left no output; start it again if still needed."),
        StatusRule::SessionTerminal | StatusRule::IdleWithOutput => {
            format!("It has ended; read {session} for its output instead of waiting.")
        }
        StatusRule::TaskTerminal => format!("It has ended; its output is in the task's result or in {session}."),
        StatusRule::TaskActive => {
            format!("Only the task registry says so, and registries miss ends; look at {session} before relying on it.")
        }
        StatusRule::NoDecision => format!("Nothing here decides; keep the status you had, look at {session} and ask again."),
        StatusRule::ActiveWins if judgement.stale.is_empty() => return None,
        StatusRule::ActiveWins => format!("It is still at work in {session}."),
    };
    if !judgement.stale.is_empty() {
        let stale: Vec<&str> = judgement.stale.iter().map(|source| source.as_str()).collect();
        // Writing to a string cannot fail.
        let _ = write!(hint, " Do not believe what these say: {}.", stale.join(", "));
    }
    Some(hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use EvidenceSource::{Heartbeat, Run, Session, StatusApi, Task};
    use TaskStatus::{Cancelled, Completed, Failed, InputRequired, Pending, Running, Unknown};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn facts(evidence: &Value) -> Vec<Fact> {
        let evidence: Vec<TaskEvidence> = serde_json::from_value(evidence.clone()).expect("valid evidence");
        evidence.iter().map(Fact::from).collect()
    }

    #[expect(clippy::needless_pass_by_value, reason = "reads better with json!")]
    fn judged(evidence: Value) -> (StatusRule, TaskStatus, Option<EvidenceSource>, Vec<EvidenceSource>) {
        let judgement = judge(&facts(&evidence));
        (judgement.rule, judgement.status, judgement.decided_by, judgement.stale)
    }

    #[expect(clippy::needless_pass_by_value, reason = "reads better with json!")]
    fn ask(memory: &TaskMemory, task_id: &str, session_id: Option<&str>, evidence: Value) -> StatusResponse {
        let request = json!({"task_id": task_id, "session_id": session_id, "evidence": evidence});
        answer(&serde_json::from_value(request).expect("a valid request"), memory)
    }

    const NOTHING: (StatusRule, TaskStatus, Option<EvidenceSource>, Vec<EvidenceSource>) =
        (StatusRule::NoDecision, Unknown, None, vec![]);

    // Row 1

    #[test]
    fn first_terminal_stays() {
        let memory = TaskMemory::default();
        let first = ask(&memory, "t", None, json!([{"source": "session", "status": "aborted"}]));
        assert_eq!((first.rule, first.status, first.terminal), (StatusRule::SessionTerminal, Cancelled, true));
        for evidence in [
            json!([{"source": "session", "status": "busy", "age_ms": 0}]),
            json!([{"source": "task", "status": "running"}, {"source": "heartbeat", "status": "alive", "age_ms": 0}]),
            json!([{"source": "task", "status": "completed"}]),
            json!([]),
        ] {
            let later = ask(&memory, "t", None, evidence.clone());
            assert_eq!((later.rule, later.status, later.terminal), (StatusRule::FirstTerminal, Cancelled, true), "{evidence}");
            assert_eq!(later.decided_by, Some(Session), "who said so the first time");
        }
        let later = ask(
            &memory,
            "t",
            Some("s"),
            json!([{"source": "session", "status": "busy"}, {"source": "task", "status": "running"}]),
        );
        assert_eq!((later.rule, later.stale), (StatusRule::FirstTerminal, vec![Session, Task]));
        assert!(later.hint.is_some_and(|hint| hint.contains("session `s`")));
    }

    #[test]
    fn what_is_not_terminal_is_not_remembered() {
        let memory = TaskMemory::default();
        assert_eq!(ask(&memory, "t", None, json!([{"source": "task", "status": "running"}])).rule, StatusRule::TaskActive);
        assert_eq!(ask(&memory, "t", None, json!([])).rule, StatusRule::NoDecision);
        assert_eq!(ask(&memory, "t", None, json!([{"source": "task", "status": "done"}])).rule, StatusRule::TaskTerminal);
    }

    #[test]
    fn two_sessions_tasks_do_not_mix() {
        let memory = TaskMemory::default();
        ask(&memory, "bg_1", Some("a"), json!([{"source": "session", "status": "completed"}]));
        let other = ask(&memory, "bg_1", Some("b"), json!([{"source": "session", "status": "busy"}]));
        assert_eq!((other.rule, other.status), (StatusRule::ActiveWins, Running));
    }

    // Row 2

    #[test]
    fn a_run_older_than_its_host_is_lost() {
        let lost = |age: u64, host: u64, word: &str| {
            judged(json!([{"source": "run", "status": word, "age_ms": age, "host_age_ms": host}]))
        };
        assert_eq!(lost(60_000, 5_000, "running"), (StatusRule::Lost, Failed, Some(Run), vec![]));
        assert_eq!(lost(60_000, 5_000, "input_required").0, StatusRule::Lost);
        assert_eq!(lost(5_000, 5_000, "running").0, StatusRule::ActiveWins, "as old as its host is not older");
        assert_eq!(lost(60_000, 5_000, "completed").0, StatusRule::SessionTerminal, "a finished run is not lost");
        assert_eq!(lost(60_000, 5_000, "a word of tomorrow"), NOTHING, "it may mean finished");
        assert_eq!(
            judged(json!([{"source": "run", "status": "running", "host_age_ms": 5}])).0,
            StatusRule::ActiveWins,
            "of unknown age"
        );
        // Before every other rule, and the host's age may stand beside another source.
        assert_eq!(
            judged(json!([
                {"source": "run", "status": "running", "age_ms": 60_000}, {"source": "heartbeat", "status": "alive", "age_ms": 1},
                {"source": "session", "status": "absent", "host_age_ms": 5_000}, {"source": "task", "status": "running"}
            ])),
            (StatusRule::Lost, Failed, Some(Run), vec![Task, Heartbeat])
        );
        assert_eq!(
            judged(json!([{"source": "task", "status": "running", "age_ms": 60_000, "host_age_ms": 5_000}])).0,
            StatusRule::TaskActive,
            "a registry's age is that of its last change"
        );
    }

    // Row 3

    #[test]
    fn active_wins_when_fresher() {
        for source in ["session", "run", "status_api", "heartbeat"] {
            for word in ["busy", "running", "working", "retry", "streaming"] {
                let (rule, status, decided_by, stale) = judged(json!([
                    {"source": source, "status": word, "age_ms": 10}, {"source": "task", "status": "completed", "age_ms": 500}
                ]));
                assert_eq!((rule, status, stale), (StatusRule::ActiveWins, Running, vec![Task]), "{source} {word}");
                assert_eq!(decided_by.map(EvidenceSource::as_str), Some(source));
            }
        }
        let against = |active: Value, terminal: Value| {
            judged(json!([
                {"source": "heartbeat", "status": "alive", "age_ms": active},
                {"source": "session", "status": "ended", "age_ms": terminal}
            ]))
            .0
        };
        assert_eq!(against(json!(7), json!(7)), StatusRule::ActiveWins, "of equal age: active");
        assert_eq!(against(json!(8), json!(7)), StatusRule::SessionTerminal);
        assert_eq!(against(Value::Null, Value::Null), StatusRule::SessionTerminal, "without ages: terminal");
        assert_eq!(against(json!(0), Value::Null), StatusRule::SessionTerminal, "not known to be fresher");
        assert_eq!(against(Value::Null, json!(9)), StatusRule::SessionTerminal, "not known to be fresher");
        assert_eq!(judged(json!([{"source": "session", "status": "busy"}])).0, StatusRule::ActiveWins, "against nothing");
        // Fresher than one terminal word but not than the other.
        assert_eq!(
            judged(json!([
                {"source": "session", "status": "busy", "age_ms": 50}, {"source": "run", "status": "end_turn", "age_ms": 100},
                {"source": "task", "status": "completed", "age_ms": 10}
            ]))
            .0,
            StatusRule::SessionTerminal
        );
    }

    #[test]
    fn two_apis_of_one_host_may_be_blind_to_each_other() {
        let (rule, status, decided_by, _) = judged(json!([
            {"source": "session", "status": "absent", "age_ms": 0, "has_output": true, "seen_busy": true},
            {"source": "session", "status": "busy", "age_ms": 20}
        ]));
        assert_eq!((rule, status, decided_by), (StatusRule::ActiveWins, Running, Some(Session)));
    }

    #[test]
    fn other_live_words_of_a_session_are_kept_apart() {
        assert_eq!(
            judged(json!([{"source": "status_api", "status": "input-required"}])),
            (StatusRule::ActiveWins, InputRequired, Some(StatusApi), vec![])
        );
        assert_eq!(judged(json!([{"source": "run", "status": "queued"}])).1, Pending);
        let queued_again =
            json!([{"source": "run", "status": "queued", "age_ms": 0}, {"source": "task", "status": "done", "age_ms": 9}]);
        assert_eq!(judged(queued_again).0, StatusRule::TaskTerminal, "not begun is not at work");
        let both = json!([
            {"source": "run", "status": "awaiting_answer", "age_ms": 0}, {"source": "session", "status": "busy", "age_ms": 9}
        ]);
        assert_eq!(judged(both), (StatusRule::ActiveWins, Running, Some(Session), vec![]));
    }

    #[test]
    fn a_registrys_running_is_never_fresh() {
        for age in [json!(0), Value::Null, json!(999_999)] {
            assert_eq!(
                judged(json!([
                    {"source": "task", "status": "running", "age_ms": age},
                    {"source": "run", "status": "completed", "age_ms": 60_000}
                ])),
                (StatusRule::SessionTerminal, Completed, Some(Run), vec![Task])
            );
        }
    }

    // Row 4

    #[test]
    fn session_and_run_beat_the_registry() {
        for source in ["session", "run"] {
            for (system, word, reading) in words::all() {
                let status = reading.status();
                if !status.is_terminal() {
                    continue;
                }
                let (rule, found, decided_by, stale) =
                    judged(json!([{"source": "task", "status": "running", "age_ms": 0}, {"source": source, "status": word}]));
                assert_eq!((rule, found, stale), (StatusRule::SessionTerminal, status, vec![Task]), "{system}: {word}");
                assert_eq!(decided_by.map(EvidenceSource::as_str), Some(source));
            }
        }
        let task =
            |word: &str| judged(json!([{"source": "session", "status": "completed"}, {"source": "task", "status": word}])).3;
        assert_eq!(task("failed"), [Task], "it says otherwise");
        assert_eq!(task("pending"), [Task]);
        assert_eq!(task("succeeded"), [], "the same in other words");
        assert_eq!(task("a word of tomorrow"), []);
        assert_eq!(task("Task not found"), []);
    }

    #[test]
    fn how_it_ended_goes_before_that_it_ended() {
        let judged = |session: &str, run: &str| {
            let (_, status, decided_by, stale) = judged(json!([
                {"source": "session", "status": session, "age_ms": 1}, {"source": "run", "status": run, "age_ms": 500}
            ]));
            (status, decided_by, stale)
        };
        assert_eq!(judged("closed", "error"), (Failed, Some(Run), vec![]));
        assert_eq!(judged("aborted", "finished"), (Cancelled, Some(Session), vec![]));
        assert_eq!(judged("deleted", "end_turn"), (Completed, Some(Run), vec![Session]), "cleaned up after it was done");
        assert_eq!(
            super::judge(&facts(
                &json!([{"source": "status_api", "status": "completed"}, {"source": "task", "status": "running"}])
            ))
            .rule,
            StatusRule::SessionTerminal
        );
    }

    // Row 5

    #[test]
    fn task_terminal_in_every_vocabulary() {
        for (system, word, reading) in words::all() {
            let status = reading.status();
            let expected = match status {
                Completed | Failed | Cancelled => (StatusRule::TaskTerminal, status, Some(Task), vec![]),
                Pending | Running | InputRequired => (StatusRule::TaskActive, status, Some(Task), vec![]),
                Unknown => NOTHING,
            };
            assert_eq!(judged(json!([{"source": "task", "status": word}])), expected, "{system}: {word}");
        }
        let beside_rest = json!([{"source": "task", "status": "timed_out"}, {"source": "session", "status": "idle"}]);
        assert_eq!(judged(beside_rest).0, StatusRule::TaskTerminal);
    }

    // Row 6

    #[test]
    fn idle_with_output_needs_all_of_it() {
        let base = json!({"source": "session", "status": "idle", "has_output": true, "seen_busy": true});
        let with = |field: &str, value: Value| {
            let mut fact = base.clone();
            fact[field] = value;
            judged(json!([fact, {"source": "task", "status": "running"}]))
        };
        let completed = (StatusRule::IdleWithOutput, Completed, Some(Session), vec![Task]);
        assert_eq!(with("status", json!("idle")), completed);
        assert_eq!(with("status", json!("absent")), completed);
        assert_eq!(with("open_todos", json!(0)), completed);
        for (field, value) in [
            ("has_output", json!(false)),
            ("has_output", Value::Null),
            ("seen_busy", json!(false)),
            ("seen_busy", Value::Null),
            ("open_todos", json!(1)),
            ("source", json!("run")),
            ("source", json!("heartbeat")),
        ] {
            assert_eq!(with(field, value.clone()), NOTHING, "{field} {value}");
        }
        let mut open = base.clone();
        open["open_todos"] = json!(3);
        for (age, rule) in [(0, StatusRule::NoDecision), (9_999, StatusRule::NoDecision), (10_000, StatusRule::IdleWithOutput)] {
            open["age_ms"] = json!(age);
            assert_eq!(judged(json!([open])).0, rule, "idle for {age} ms with open todos");
        }
        // The status map of the host may be where it is absent, and the output may be known elsewhere.
        assert_eq!(
            judged(json!([
                {"source": "status_api", "status": "absent", "seen_busy": true},
                {"source": "task", "status": "running", "has_output": true}
            ])),
            (StatusRule::IdleWithOutput, Completed, Some(StatusApi), vec![Task])
        );
    }

    // Row 7

    #[test]
    fn lost_needs_three_polls_no_output_and_proof() {
        let base =
            json!({"source": "session", "status": "absent", "absent_polls": 3, "verified_missing": true, "has_output": false});
        let with = |field: &str, value: Value| {
            let mut fact = base.clone();
            fact[field] = value;
            judged(json!([fact, {"source": "task", "status": "running"}]))
        };
        let lost = (StatusRule::Lost, Failed, Some(Session), vec![Task]);
        assert_eq!(with("absent_polls", json!(3)), lost);
        assert_eq!(with("absent_polls", json!(300)), lost);
        assert_eq!(with("has_output", Value::Null), lost);
        for (field, value) in [
            ("absent_polls", json!(2)),
            ("absent_polls", Value::Null),
            ("verified_missing", json!(false)),
            ("verified_missing", Value::Null),
            ("has_output", json!(true)),
            ("status", json!("idle")),
            ("status", json!("unknown")),
            ("source", json!("run")),
        ] {
            assert_eq!(with(field, value.clone()), NOTHING, "{field} {value}");
        }
    }

    #[test]
    fn absent_alone_never_ends_a_task() {
        for word in ["absent", "idle", "404", "not_found", "missing"] {
            for source in ["session", "status_api", "run", "task", "heartbeat"] {
                for polls in [0, 1, 3, 1_000_000] {
                    let fact = json!({"source": source, "status": word, "absent_polls": polls, "age_ms": 3_600_000});
                    assert_eq!(judged(json!([fact])), NOTHING, "{source} {word}");
                    assert!(!judged(json!([fact, {"source": "task", "status": "running"}])).1.is_terminal(), "{source} {word}");
                }
            }
        }
    }

    // Rows 8 and 9

    #[test]
    fn the_registry_alone_is_believed_while_it_is_live() {
        assert_eq!(judged(json!([{"source": "task", "status": "queued", "age_ms": 999_999}])).1, Pending);
        assert_eq!(judged(json!([{"source": "task", "status": "queued"}, {"source": "task", "status": "working"}])).1, Running);
        for other in ["session", "run", "status_api", "heartbeat"] {
            for word in ["unavailable", "a word of tomorrow", "absent"] {
                let evidence = json!([{"source": "task", "status": "running"}, {"source": other, "status": word}]);
                assert_eq!(judged(evidence), NOTHING, "{other} {word}");
            }
        }
    }

    #[test]
    fn nothing_decides_nothing() {
        assert_eq!(judged(json!([])), NOTHING);
        assert_eq!(judged(json!([{"source": "task", "status": "a word of tomorrow"}])), NOTHING);
        assert_eq!(judged(json!([{"source": "status_api", "status": "error"}])), NOTHING, "the endpoint failed, not the task");
        assert_eq!(judged(json!([{"source": "heartbeat", "status": "completed"}])), NOTHING, "a sign of life ends nothing");
    }

    // Facts from the field

    #[test]
    fn the_five_tasks_of_oh_my_openagent_2387() {
        let memory = TaskMemory::default();
        for n in 1..=5 {
            let session = format!("ses_{n}");
            let answer = ask(
                &memory,
                &format!("bg_{n}"),
                Some(&session),
                json!([
                    {"source": "task", "status": "running", "age_ms": 0},
                    {"source": "session", "status": "ended", "age_ms": 90_000, "has_output": true}
                ]),
            );
            assert_eq!((answer.status, answer.terminal, answer.rule), (Completed, true, StatusRule::SessionTerminal));
            assert_eq!((answer.decided_by, answer.stale), (Some(Session), vec![Task]));
            let hint = answer.hint.expect("a hint");
            assert!(hint.contains(&format!("read session `{session}`")), "{hint}");
        }
    }

    /// Each row of what opencode 1.18.33 with oh-my-openagent 4.19.4 was seen to say.
    #[test]
    fn opencode_scenarios() {
        let absent = json!({"source": "session", "status": "absent", "age_ms": 20, "seen_busy": true});
        let absent_with_todos = json!({"source": "session", "status": "absent", "age_ms": 20, "open_todos": 2});
        let registry = |word: &str| json!({"source": "task", "status": word, "age_ms": 0});
        let run = |word: &str| json!({"source": "run", "status": word, "age_ms": 20});
        let (ended, cancelled) = ((StatusRule::SessionTerminal, Completed), (StatusRule::SessionTerminal, Cancelled));
        for (scenario, evidence, (rule, status), stale) in [
            ("child ends in under a second", json!([absent, run("stop"), registry("running")]), ended, vec![Task]),
            ("abort with text output", json!([absent, run("MessageAbortedError"), registry("running")]), cancelled, vec![Task]),
            (
                "the same, seconds later",
                json!([absent, run("MessageAbortedError"), registry("COMPLETED")]),
                cancelled,
                vec![Task],
            ),
            ("abort before output", json!([absent, run("MessageAbortedError"), registry("running")]), cancelled, vec![Task]),
            (
                "abort with open todos",
                json!([absent_with_todos, run("MessageAbortedError"), registry("running")]),
                cancelled,
                vec![Task],
            ),
            ("normal stop with open todos", json!([absent_with_todos, run("stop"), registry("running")]), ended, vec![Task]),
            (
                "child deleted",
                json!([{"source": "session", "status": "deleted"}, registry("cancelled"), registry("completed")]),
                cancelled,
                vec![Task],
            ),
            (
                "child deleted, seen as 404",
                json!([{"source": "session", "status": "404"}, registry("cancelled"), registry("completed")]),
                (StatusRule::TaskTerminal, Cancelled),
                vec![],
            ),
            (
                "host killed and restarted",
                json!([
                    absent,
                    {"source": "run", "status": "unfinished", "age_ms": 45_000, "host_age_ms": 8_000},
                    registry("Task not found")
                ]),
                (StatusRule::Lost, Failed),
                vec![],
            ),
        ] {
            let (found_rule, found, _, found_stale) = judged(evidence);
            assert_eq!((found_rule, found, found_stale), (rule, status, stale), "{scenario}");
        }
        // Without a look at the last message the session tells: too early at 4.5 s, when a continuation came at 6.7 s.
        let todos = |age: u64| {
            let rest = json!({"source": "session", "status": "absent", "age_ms": age, "has_output": true, "seen_busy": true,
                "open_todos": 2});
            json!([rest, registry("running")])
        };
        assert_eq!(judged(todos(2_200)), NOTHING);
        assert_eq!(judged(todos(510_000)).0, StatusRule::IdleWithOutput);
    }

    #[test]
    fn route_evidence_is_judged_the_same() {
        let evidence = Evidence { source: Session, id: None, status: "ended".to_owned(), age_ms: Some(3) };
        assert_eq!(Fact::from(&evidence), facts(&json!([{"source": "session", "status": "ended", "age_ms": 3}]))[0]);
    }

    #[test]
    fn hints_tell_what_to_do() {
        let memory = TaskMemory::default();
        let hint = |task: &str, evidence: Value| ask(&memory, task, Some("ses_9"), evidence).hint;
        assert_eq!(hint("a", json!([{"source": "session", "status": "busy"}])), None, "nothing to add");
        for (task, evidence) in [
            (
                "b",
                json!([{"source": "session", "status": "busy", "age_ms": 1}, {"source": "task", "status": "lost", "age_ms": 5}]),
            ),
            ("c", json!([{"source": "run", "status": "running", "age_ms": 5, "host_age_ms": 1}])),
            ("d", json!([{"source": "session", "status": "absent", "absent_polls": 3, "verified_missing": true}])),
            ("e", json!([{"source": "task", "status": "done"}])),
            ("f", json!([{"source": "task", "status": "running"}])),
            ("g", json!([])),
        ] {
            assert!(hint(task, evidence).is_some_and(|hint| hint.contains("session `ses_9`")), "{task}");
        }
        assert!(ask(&memory, "h", None, json!([])).hint.is_some_and(|hint| hint.contains("the task's session")));
    }

    // Properties

    fn any_evidence() -> impl Strategy<Value = TaskEvidence> {
        let words: Vec<String> =
            words::all().into_iter().map(|(_, word, _)| word).chain(["?".to_owned(), "unavailable".to_owned()]).collect();
        // Few distinct ages, so that equal ones meet.
        let age = || proptest::option::of(prop_oneof![Just(0_u64), Just(5), Just(9_999), Just(10_000), Just(60_000)]);
        let flag = || proptest::option::of(any::<bool>());
        (
            proptest::sample::select(EvidenceSource::ALL.to_vec()),
            proptest::sample::select(words),
            (age(), age()),
            (flag(), flag(), flag()),
            (proptest::option::of(0..3_u64), proptest::option::of(0..5_u64)),
        )
            .prop_map(
                |(
                    source,
                    status,
                    (age_ms, host_age_ms),
                    (has_output, seen_busy, verified_missing),
                    (open_todos, absent_polls),
                )| {
                    TaskEvidence {
                        source,
                        status,
                        age_ms,
                        has_output,
                        open_todos,
                        seen_busy,
                        absent_polls,
                        verified_missing,
                        host_age_ms,
                    }
                },
            )
    }

    proptest! {
        #[test]
        fn any_order_of_evidence_gives_the_same_judgement(
            (evidence, shuffled) in proptest::collection::vec(any_evidence(), 0..7)
                .prop_flat_map(|evidence| (Just(evidence.clone()), Just(evidence).prop_shuffle()))
        ) {
            let judge = |evidence: &[TaskEvidence]| super::judge(&evidence.iter().map(Fact::from).collect::<Vec<_>>());
            let judgement = judge(&evidence);
            prop_assert_eq!(&judgement, &judge(&shuffled));
            // Saying a thing twice changes nothing either.
            prop_assert_eq!(&judgement, &judge(&[evidence, shuffled].concat()));
            prop_assert_eq!(judgement.rule == StatusRule::NoDecision, judgement.status == TaskStatus::Unknown);
            prop_assert_eq!(judgement.rule == StatusRule::NoDecision, judgement.decided_by.is_none());
            prop_assert_eq!(
                matches!(judgement.rule, StatusRule::ActiveWins | StatusRule::TaskActive),
                judgement.status.is_live()
            );
        }

        #[test]
        fn nothing_un_ends_a_task(
            calls in proptest::collection::vec((proptest::collection::vec(any_evidence(), 0..4), any::<bool>()), 1..8)
        ) {
            let memory = TaskMemory::default();
            let mut ended = None;
            for (evidence, with_session) in calls {
                let session_id = with_session.then(|| "s".to_owned());
                let answer = answer(&StatusRequest { task_id: "t".to_owned(), session_id, evidence }, &memory);
                prop_assert_eq!(answer.terminal, answer.status.is_terminal());
                if let Some(ended) = ended {
                    prop_assert_eq!((answer.rule, answer.status), (StatusRule::FirstTerminal, ended));
                } else if answer.terminal {
                    ended = Some(answer.status);
                }
            }
        }

        #[test]
        fn an_end_needs_more_than_rest(evidence in proptest::collection::vec(any_evidence(), 0..6)) {
            // Without a terminal word, a proof of absence, a restarted host or output after work, no set of reports ends a task.
            let harmless: Vec<Fact> = evidence
                .into_iter()
                .map(|mut evidence| {
                    evidence.seen_busy = None;
                    evidence.verified_missing = None;
                    evidence.host_age_ms = None;
                    Fact::from(&evidence)
                })
                .filter(|fact| fact.terminal().is_none())
                .collect();
            prop_assert!(!judge(&harmless).status.is_terminal());
        }
    }

    #[test]
    fn of_two_ends_at_once_one_is_first() {
        let memory = TaskMemory::default();
        for round in 0..50 {
            let task = format!("t{round}");
            let answers: Vec<StatusResponse> = std::thread::scope(|threads| {
                let callers: Vec<_> = ["completed", "failed", "cancelled", "completed"]
                    .into_iter()
                    .map(|word| {
                        let (memory, task) = (&memory, &task);
                        threads.spawn(move || ask(memory, task, Some("s"), json!([{"source": "session", "status": word}])))
                    })
                    .collect();
                callers.into_iter().map(|caller| caller.join().expect("no panic")).collect()
            });
            assert!(answers.iter().all(|answer| answer.status == answers[0].status), "{answers:?}");
            assert_eq!(answers.iter().filter(|answer| answer.rule == StatusRule::SessionTerminal).count(), 1);
        }
    }
}
