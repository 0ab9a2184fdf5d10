//! `not_busy` and `stale_busy`: is there a run at all?

use super::{Turn, Verdict};
use crate::protocol::{Action, BusyState, EvidenceSource, Rule};
use crate::tasks::status;

/// No run is under way: the gateway does what it always does.
#[must_use]
pub fn not_busy(turn: &Turn<'_>) -> Option<Verdict> {
    (turn.request.busy.state == BusyState::Idle).then(|| Verdict::guard(Rule::NotBusy, Action::PassThrough))
}

/// The gateway thinks that the run goes on, but its own evidence says that it has ended.
#[must_use]
pub fn stale_busy(turn: &Turn<'_>) -> Option<Verdict> {
    let session = &turn.request.session;
    let evidence = turn.request.busy.evidence.iter().filter(|evidence| {
        // A report about another run says nothing about this one.
        !(evidence.source == EvidenceSource::Run
            && evidence.id.is_some()
            && session.turn_id.is_some()
            && evidence.id != session.turn_id)
    });
    let facts: Vec<status::Fact> = evidence.map(status::Fact::from).collect();
    (!facts.is_empty() && status::judge(&facts).status.is_terminal())
        .then(|| Verdict::guard(Rule::StaleBusy, Action::PassThrough))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{request, with_turn};
    use super::*;
    use crate::protocol::Evidence;

    fn evidence(source: EvidenceSource, id: Option<&str>, status: &str) -> Evidence {
        Evidence { source, id: id.map(str::to_owned), status: status.to_owned(), age_ms: Some(5) }
    }

    #[test]
    fn only_idle_is_not_busy() {
        for state in BusyState::ALL {
            let request = request("x", |request| request.busy.state = *state);
            assert_eq!(with_turn(&request, not_busy).is_some(), *state == BusyState::Idle);
        }
    }

    #[test]
    fn an_ended_run_is_stale() {
        let stale = |evidence: Vec<Evidence>| {
            let request = request("x", |request| {
                request.session.turn_id = Some("t2".to_owned());
                request.busy.evidence = evidence;
            });
            with_turn(&request, stale_busy).is_some()
        };
        assert!(stale(vec![evidence(EvidenceSource::Session, None, "ended")]));
        assert!(stale(vec![evidence(EvidenceSource::Run, Some("t2"), "completed")]));
        assert!(!stale(vec![evidence(EvidenceSource::Run, Some("t1"), "completed")]), "another run");
        assert!(!stale(vec![evidence(EvidenceSource::Session, None, "busy")]));
        assert!(!stale(vec![evidence(EvidenceSource::Session, None, "idle")]), "idle alone ends nothing");
        assert!(!stale(vec![evidence(EvidenceSource::Session, None, "no such word")]));
        assert!(!stale(vec![]));
    }
}
