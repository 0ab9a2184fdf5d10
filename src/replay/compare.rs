//! A run beside an earlier one: every case that changed, and what that did to the figures.
//!
//! Both runs are judged by the labels of the later one, on the cases that both have. Otherwise a corrected label would look like a
//! better router.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::record::{Judged, Record};
use super::score::{Figures, Scored};
use crate::protocol::Action;

/// What changed between two runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// What decided in the earlier run.
    pub earlier: String,
    /// Cases that both runs have.
    pub common: u64,
    /// Cases whose expectation changed in between.
    pub relabelled: u64,
    /// The earlier run's figures, by today's labels on the common cases.
    pub before: Figures,
    /// This run's figures on the common cases.
    pub after: Figures,
    /// Cases that were missed and are right now.
    pub fixed: Vec<Change>,
    /// Cases that were right and are missed now.
    pub broken: Vec<Change>,
    /// Cases that are decided otherwise, and as right or wrong as before.
    pub changed: Vec<Change>,
    /// Cases that only this run has.
    pub added: Vec<String>,
    /// Cases that only the earlier run has.
    pub removed: Vec<String>,
}

/// A case that is decided otherwise than before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The case.
    pub id: String,
    /// The beginning of the message's text.
    pub text: String,
    /// What is expected.
    pub expected: String,
    /// What came before.
    pub before: String,
    /// What comes now.
    pub after: String,
}

impl Comparison {
    /// Compares two runs' records. `earlier` says what decided in the earlier one.
    #[must_use]
    pub fn of(earlier: &str, before: &[Record], after: &[Record]) -> Self {
        let old: HashMap<&str, &Record> = before.iter().map(|record| (record.id.as_str(), record)).collect();
        let new: HashMap<&str, &Record> = after.iter().map(|record| (record.id.as_str(), record)).collect();
        let common: Vec<(&Record, &Record)> = after.iter().filter_map(|now| Some((*old.get(now.id.as_str())?, now))).collect();
        let mut comparison = Self {
            earlier: earlier.to_owned(),
            common: common.len() as u64,
            relabelled: common.iter().filter(|(then, now)| then.expected != now.expected).count() as u64,
            before: Figures::of(&common.iter().filter_map(|(then, now)| scored(now, then)).collect::<Vec<_>>()),
            after: Figures::of(&common.iter().filter_map(|(_, now)| scored(now, now)).collect::<Vec<_>>()),
            fixed: Vec::new(),
            broken: Vec::new(),
            changed: Vec::new(),
            added: after.iter().filter(|now| !old.contains_key(now.id.as_str())).map(|now| now.id.clone()).collect(),
            removed: before.iter().filter(|then| !new.contains_key(then.id.as_str())).map(|then| then.id.clone()).collect(),
        };
        for (then, now) in common {
            if then.got == now.got && decider(then) == decider(now) {
                continue;
            }
            let list = match (was_ok(then, now), now.ok) {
                (false, true) => &mut comparison.fixed,
                (true, false) => &mut comparison.broken,
                _ => &mut comparison.changed,
            };
            list.push(Change {
                id: now.id.clone(),
                text: now.text.clone(),
                expected: now.expected.clone(),
                before: then.got.clone(),
                after: now.got.clone(),
            });
        }
        comparison
    }

    /// Whether anything is decided otherwise.
    #[must_use]
    pub const fn is_unchanged(&self) -> bool {
        self.fixed.is_empty() && self.broken.is_empty() && self.changed.is_empty()
    }
}

/// The action of `decided` by the labels of `labels`.
fn scored<'a>(labels: &'a Record, decided: &Record) -> Option<Scored<'a>> {
    let expect = &labels.message.as_ref().filter(|judged| judged.expect.judges_action())?.expect;
    let action: Action = decided.message.as_ref()?.outcome.action;
    Some(Scored { expect, intent: labels.intent(), action })
}

/// Whether an earlier decision is what is expected today.
fn was_ok(then: &Record, now: &Record) -> bool {
    match (&then.message, &now.message) {
        (Some(Judged { outcome, .. }), Some(Judged { expect, .. })) => {
            expect.is_met_by(outcome.action, outcome.rule, outcome.decided_by)
        }
        _ => then.ok,
    }
}

fn decider(record: &Record) -> Option<crate::protocol::DecidedBy> {
    record.message.as_ref().map(|judged| judged.outcome.decided_by)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{DecidedBy, Rule};
    use crate::replay::fixture::{Expect, Fixture};
    use crate::replay::record::Outcome;

    fn record(id: &str, right: Action, action: Action) -> Record {
        let fixture: Fixture = serde_json::from_value(serde_json::json!({
            "id": id, "expect": Expect { any_of: Some(vec![right]), ..Expect::default() },
            "request": {"session": {"id": "s"}, "message": {"text": "x"}, "busy": {"state": "thinking"}}
        }))
        .expect("a valid fixture");
        let outcome = Outcome {
            action,
            rule: Rule::Model,
            decided_by: DecidedBy::Model,
            confidence: None,
            model_action: None,
            total_us: 1,
            model_us: None,
        };
        Record::of_message(id, &fixture, outcome)
    }

    #[test]
    fn every_change_is_listed_in_its_kind() {
        use Action::{Ignore, Interrupt, Queue};
        let before = [
            record("same", Queue, Queue),
            record("fixed", Queue, Ignore),
            record("broken", Queue, Queue),
            record("otherwise", Queue, Ignore),
            record("gone", Queue, Queue),
            record("relabelled", Queue, Interrupt),
        ];
        let after = [
            record("same", Queue, Queue),
            record("fixed", Queue, Queue),
            record("broken", Queue, Interrupt),
            record("otherwise", Queue, Interrupt),
            record("new", Queue, Queue),
            // The same decision, right only since the label changed: nobody fixed the router.
            record("relabelled", Interrupt, Interrupt),
        ];
        let comparison = Comparison::of("before", &before, &after);
        let ids = |changes: &[Change]| changes.iter().map(|change| change.id.clone()).collect::<Vec<_>>();
        assert_eq!(ids(&comparison.fixed), ["fixed"]);
        assert_eq!(ids(&comparison.broken), ["broken"]);
        assert_eq!(ids(&comparison.changed), ["otherwise"]);
        assert_eq!(
            (comparison.added.as_slice(), comparison.removed.as_slice()),
            (["new".to_owned()].as_slice(), ["gone".to_owned()].as_slice())
        );
        assert_eq!((comparison.common, comparison.relabelled), (5, 1));
        assert_eq!((comparison.before.accuracy.count, comparison.after.accuracy.count), (3, 3));
        assert_eq!(comparison.broken[0].before, "queue (model)");
        assert!(!comparison.is_unchanged());
        assert!(Comparison::of("itself", &after, &after).is_unchanged());
    }
}
