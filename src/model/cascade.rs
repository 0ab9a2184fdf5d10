//! Two models in a row: a quick one, and another for what the first is not sure of.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::limits::BreakerState;
use super::{Answer, Failure, Model, Question};

/// Asks the first model, and the second when the first abstains.
#[derive(Debug)]
pub struct Cascade {
    first: Arc<dyn Model>,
    second: Arc<dyn Model>,
}

impl Cascade {
    /// A cascade of two models.
    #[must_use]
    pub fn new(first: Arc<dyn Model>, second: Arc<dyn Model>) -> Self {
        Self { first, second }
    }
}

impl Model for Cascade {
    /// The first model's answer if it is sure; else what the second says, its failures included: an answer that the first itself does not
    /// believe is no substitute. A first model that fails is as good as unsure.
    fn ask<'a>(&'a self, question: &'a Question<'a>, deadline: Instant) -> BoxFuture<'a, Result<Answer, Failure>> {
        Box::pin(async move {
            match self.first.ask(question, deadline).await {
                Ok(answer) if !answer.abstains => Ok(answer),
                _ => self.second.ask(question, deadline).await,
            }
        })
    }

    fn breaker_state(&self) -> Option<BreakerState> {
        self.second.breaker_state()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Action, RouteRequest};
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[derive(Debug)]
    struct Fixed(Result<Answer, Failure>, AtomicUsize);

    impl Model for Fixed {
        fn ask<'a>(&'a self, _: &'a Question<'a>, _: Instant) -> BoxFuture<'a, Result<Answer, Failure>> {
            self.1.fetch_add(1, Ordering::SeqCst);
            Box::pin(async { self.0.clone() })
        }

        fn breaker_state(&self) -> Option<BreakerState> {
            Some(if self.0.is_ok() { BreakerState::Closed } else { BreakerState::Open })
        }
    }

    fn answer(action: Action, abstains: bool) -> Answer {
        Answer { action, confidence: 0.5, abstains, suggestion: None }
    }

    async fn ask(first: Result<Answer, Failure>, second: Result<Answer, Failure>) -> (Result<Answer, Failure>, usize) {
        let request: RouteRequest =
            serde_json::from_str(r#"{"session":{"id":"s"},"message":{"text":"x"},"busy":{"state":"thinking"}}"#).expect("valid");
        let second = Arc::new(Fixed(second, AtomicUsize::new(0)));
        let cascade = Cascade::new(Arc::new(Fixed(first, AtomicUsize::new(0))), second.clone());
        assert_eq!(cascade.breaker_state(), second.breaker_state());
        let result = cascade.ask(&Question::from_request(&request, vec![]), Instant::now()).await;
        (result, second.1.load(Ordering::SeqCst))
    }

    #[tokio::test]
    async fn a_sure_first_answer_stands_and_the_second_is_not_asked() {
        let sure = Ok(answer(Action::Interrupt, false));
        assert_eq!(ask(sure.clone(), Ok(answer(Action::Queue, false))).await, (sure, 0));
    }

    #[tokio::test]
    async fn an_unsure_or_failed_first_leaves_it_to_the_second() {
        let unsure = Ok(answer(Action::Interrupt, true));
        for second in
            [Ok(answer(Action::Queue, false)), Ok(answer(Action::Queue, true)), Err(Failure::Timeout), Err(Failure::CircuitOpen)]
        {
            assert_eq!(ask(unsure.clone(), second.clone()).await, (second.clone(), 1));
            assert_eq!(ask(Err(Failure::InvalidOutput("x".to_owned())), second.clone()).await, (second, 1));
        }
    }
}
