//! Settings together with everything that is derived from them, prepared once and swapped as a whole: a request that holds one of
//! these sees one configuration from its first rule to its last.

use std::collections::HashMap;
use std::sync::Arc;

use crate::clock::Clock;
use crate::config::{ConfigError, Override, Policy, Provider, Settings};
use crate::lexicon::{CommandTable, Lexicon};
use crate::model::{Model, builtin::Builtin, cascade::Cascade, openai::OpenAi, prompt::Prompts};
use crate::protocol::RouteRequest;

/// The settings in the form in which decisions need them.
#[derive(Debug)]
pub struct Prepared {
    /// The settings as loaded.
    pub settings: Settings,
    /// The word lists.
    pub lexicon: Arc<Lexicon>,
    /// What the guards leave open is put to this one.
    pub model: Arc<dyn Model>,
    /// What an LLM is told; nothing where none is asked. Kept to see whether a reload changes it.
    prompts: Option<Prompts>,
    base: Policy,
    overrides: Vec<(Override, Policy)>,
    commands: HashMap<String, CommandTable>,
}

impl Prepared {
    /// Prepares settings for use. On a reload `previous` hands on the model if nothing about it has changed, neither a setting nor a prompt, so
    /// that its breaker and budgets go on counting.
    ///
    /// # Errors
    /// A setting that only shows to be wrong when it is used, such as a prompt that cannot be read.
    pub fn new(settings: Settings, clock: &Clock, previous: Option<&Self>) -> Result<Self, ConfigError> {
        let own = &settings.model;
        let prompts = match own.provider {
            Provider::Builtin => None,
            Provider::Openai | Provider::Cascade => Some(Prompts::load(own.prompt_dir.as_deref(), own.structured_output)?),
        };
        let model: Arc<dyn Model> = match previous {
            Some(previous) if previous.settings.model == settings.model && previous.prompts == prompts => previous.model.clone(),
            _ => match settings.model.provider {
                Provider::Builtin => Arc::new(Builtin::embedded()?),
                Provider::Openai => Arc::new(OpenAi::new(&settings.model, clock.clone())?),
                Provider::Cascade => {
                    Arc::new(Cascade::new(Arc::new(Builtin::embedded()?), Arc::new(OpenAi::new(&settings.model, clock.clone())?)))
                }
            },
        };
        Ok(Self { prompts, ..Self::with_model(settings, model, previous)? })
    }

    /// The same with a model of the caller's, such as the answers that a fixture prescribes.
    ///
    /// # Errors
    /// See [`Prepared::new`].
    pub fn with_model(settings: Settings, model: Arc<dyn Model>, previous: Option<&Self>) -> Result<Self, ConfigError> {
        let lexicon = match previous {
            Some(previous) => previous.lexicon.clone(),
            None => Arc::new(Lexicon::embedded()?),
        };
        let own = settings.commands.keys().map(String::as_str);
        let commands = lexicon
            .gateways()
            .chain(own)
            .map(|gateway| (gateway.to_owned(), lexicon.command_table(gateway, settings.commands.get(gateway))))
            .collect();
        Ok(Self {
            prompts: None,
            base: settings.base_policy(),
            overrides: settings.overrides.iter().map(|over| (over.clone(), settings.policy_with(over))).collect(),
            commands,
            lexicon,
            model,
            settings,
        })
    }

    /// The settings for one message: the first override whose selectors all match, else the base.
    #[must_use]
    pub fn policy(&self, request: &RouteRequest) -> &Policy {
        let session = &request.session;
        let matches = |over: &Override| {
            over.gateway.as_ref().is_none_or(|gateway| *gateway == session.gateway)
                && over.platform.as_ref().is_none_or(|platform| session.platform.as_ref() == Some(platform))
                && over.chat.is_none_or(|chat| chat == session.chat)
                && over.session.as_ref().is_none_or(|id| *id == session.id)
        };
        self.overrides.iter().find(|(over, _)| matches(over)).map_or(&self.base, |(_, policy)| policy)
    }

    /// The commands of a gateway; nothing when none are known.
    #[must_use]
    pub fn commands(&self, gateway: &str) -> Option<&CommandTable> {
        self.commands.get(gateway)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;
    use crate::guards::testing::request;
    use crate::protocol::ChatKind::{Direct, Group};
    use crate::protocol::Mode;

    #[test]
    fn the_first_override_that_matches_wins() {
        let text = "mode = \"on\"\n[[override]]\nplatform = \"telegram\"\nchat = \"group\"\nmode = \"off\"\n[[override]]\nplatform = \"telegram\"\nmode = \"shadow\"\n[[override]]\nsession = \"s\"\nmode = \"off\"\n";
        let settings = Sources::default().load_text(text).expect("loads").settings;
        let prepared = Prepared::new(settings, &Clock::manual(), None).expect("prepares");
        let mode = |platform: Option<&str>, chat, id: &str| {
            let request = request("x", |request| {
                request.session.platform = platform.map(str::to_owned);
                request.session.chat = chat;
                id.clone_into(&mut request.session.id);
            });
            prepared.policy(&request).mode
        };
        assert_eq!(mode(Some("telegram"), Group, "s"), Mode::Off);
        assert_eq!(mode(Some("telegram"), Direct, "s"), Mode::Shadow);
        assert_eq!(mode(None, Direct, "s"), Mode::Off);
        assert_eq!(mode(Some("slack"), Group, "t"), Mode::On);
    }

    #[test]
    fn a_reload_keeps_the_model_unless_its_settings_change() {
        let load = |text: &str| Sources::default().load_text(text).expect("loads").settings;
        let first = Prepared::new(load(""), &Clock::manual(), None).expect("prepares");
        let same = Prepared::new(load("mode = \"on\""), &Clock::manual(), Some(&first)).expect("prepares");
        let other = Prepared::new(load("[model]\ntimeout_ms = 9"), &Clock::manual(), Some(&first)).expect("prepares");
        assert!(Arc::ptr_eq(&first.model, &same.model));
        assert!(!Arc::ptr_eq(&first.model, &other.model));
    }
}
