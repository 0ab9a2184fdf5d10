//! Phrases, command tables and ack texts: data files that a person can edit without reading Rust, embedded at build time.

mod hashed_texts;

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;

use crate::config::{CommandEntry, CommandLane, ConfigError};
use crate::guards::text::{self, Text};
use crate::protocol::{Action, Lane};
use hashed_texts::HashedTexts;

const STOP: &str = include_str!("stop.toml");
const CHATTER: &str = include_str!("chatter.toml");
const APPROVAL: &str = include_str!("approval.toml");
const DETACH: &str = include_str!("detach.toml");
const COMMANDS: &str = include_str!("commands.toml");
const ACKS: &str = include_str!("acks.toml");

/// More words than this are not tried as a chain of phrases: chatter is short.
const MAX_CHAIN_WORDS: usize = 8;

/// What a whole message can mean by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// End the run.
    Stop = 1,
    /// Backchannel.
    Chatter = 2,
    /// Yes to an approval.
    Approve = 4,
    /// No to an approval.
    Refuse = 8,
    /// Move the running tool to the background.
    Detach = 16,
}

type PhraseFile = BTreeMap<String, Vec<String>>;

#[derive(Deserialize)]
struct Phrases {
    phrases: PhraseFile,
    #[serde(default)]
    emoji: EmojiLists,
}

#[derive(Deserialize)]
struct Approvals {
    approve: PhraseFile,
    refuse: PhraseFile,
    emoji: EmojiLists,
}

#[derive(Deserialize, Default)]
struct EmojiLists {
    #[serde(default)]
    chatter: Vec<String>,
    #[serde(default)]
    approve: Vec<String>,
    #[serde(default)]
    refuse: Vec<String>,
}

#[derive(Deserialize)]
struct Detach {
    alone: PhraseFile,
    prefix: PhraseFile,
}

/// All word lists, in the normal form in which messages are compared with them.
#[derive(Debug)]
pub struct Lexicon {
    /// Kinds by exact phrase.
    exact: HashedTexts<u8>,
    /// Kinds by the phrase with letter runs reduced, for "kiiill it": only where that is another text than the phrase.
    squeezed: HashedTexts<u8>,
    emoji: HashMap<char, u8>,
    /// By first character: there are hundreds, and most messages begin like none of them.
    detach_prefixes: HashMap<char, Vec<String>>,
    commands: HashMap<String, CommandTable>,
    acks: BTreeMap<String, BTreeMap<Action, String>>,
}

/// The commands of one gateway by lower-case name.
pub type CommandTable = HashMap<String, Lane>;

impl Lexicon {
    /// The lists that were compiled in.
    ///
    /// # Errors
    /// Only if one of the files is broken, which a test rules out.
    pub fn embedded() -> Result<Self, ConfigError> {
        // In a thread of its own: what the parser leaves behind, more than the lexicon itself, goes with the thread.
        std::thread::scope(|scope| scope.spawn(Self::parsed).join())
            .unwrap_or_else(|_| Err(ConfigError::of_key("", "the lexicon could not be read")))
    }

    fn parsed() -> Result<Self, ConfigError> {
        let commands: BTreeMap<String, BTreeMap<String, CommandLane>> = parse("commands.toml", COMMANDS)?;
        let acks = parse("acks.toml", ACKS)?;

        let mut lexicon = Self {
            exact: HashedTexts::default(),
            squeezed: HashedTexts::default(),
            emoji: HashMap::new(),
            detach_prefixes: HashMap::new(),
            commands: commands
                .into_iter()
                .map(|(gateway, table)| (gateway, table.into_iter().map(|(name, lane)| (name, lane.into())).collect()))
                .collect(),
            acks,
        };
        // One file after the other: what a parsed file takes is free again for the next.
        lexicon.add(Kind::Stop, &parse::<Phrases>("stop.toml", STOP)?.phrases);
        let chatter: Phrases = parse("chatter.toml", CHATTER)?;
        lexicon.add(Kind::Chatter, &chatter.phrases);
        lexicon.add_emoji(Kind::Chatter, &chatter.emoji.chatter);
        drop(chatter);
        let approval: Approvals = parse("approval.toml", APPROVAL)?;
        lexicon.add(Kind::Approve, &approval.approve);
        lexicon.add(Kind::Refuse, &approval.refuse);
        lexicon.add_emoji(Kind::Approve, &approval.emoji.approve);
        lexicon.add_emoji(Kind::Refuse, &approval.emoji.refuse);
        drop(approval);
        let detach: Detach = parse("detach.toml", DETACH)?;
        lexicon.add(Kind::Detach, &detach.alone);
        for prefix in detach.prefix.values().flatten() {
            let prefix = Text::new(prefix).phrase;
            if let Some(first) = prefix.chars().next() {
                lexicon.detach_prefixes.entry(first).or_default().push(prefix);
            }
        }
        Ok(lexicon)
    }

    fn add(&mut self, kind: Kind, phrases: &PhraseFile) {
        for phrase in phrases.values().flatten() {
            let phrase = Text::new(phrase).phrase;
            if phrase.is_empty() {
                continue;
            }
            // Most phrases have no double letter; kept twice, the lists would take twice the memory.
            let squeezed = text::squeeze(&phrase);
            if squeezed != phrase {
                *self.squeezed.entry(&squeezed) |= kind as u8;
            }
            *self.exact.entry(&phrase) |= kind as u8;
        }
    }

    fn add_emoji(&mut self, kind: Kind, emoji: &[String]) {
        for c in emoji.iter().flat_map(|emoji| text::emoji_of(emoji)) {
            *self.emoji.entry(c).or_default() |= kind as u8;
        }
    }

    /// Whether the whole message is a phrase of this kind: as it stands, with letter runs reduced ("stoooop"), repeated ("stop stop"), or
    /// sentence by sentence ("Stop! Please stop!").
    #[must_use]
    pub fn is(&self, kind: Kind, message: &Text<'_>) -> bool {
        if message.phrase.is_empty() {
            return false;
        }
        self.is_phrase(kind as u8, &message.phrase) || self.every_sentence(kind as u8, message)
    }

    /// Whether the whole message is chatter: a phrase, several in a row ("ok cool thanks"), emoji, or both.
    #[must_use]
    pub fn is_chatter(&self, message: &Text<'_>) -> bool {
        let kind = Kind::Chatter as u8;
        if text::emoji_only(&message.visible) {
            return text::emoji_of(&message.visible).all(|c| self.emoji.get(&c).is_some_and(|kinds| kinds & kind != 0));
        }
        // An emoji that is not chatter (a hand raised, a red cross) makes the words beside it mean something else.
        let only_chatter_emoji =
            text::emoji_of(&message.visible).all(|c| self.emoji.get(&c).is_some_and(|kinds| kinds & kind != 0));
        only_chatter_emoji && self.is_chain(kind, message)
    }

    /// Whether the whole message says yes or no to something.
    #[must_use]
    pub fn is_approval_or_refusal(&self, message: &Text<'_>) -> bool {
        let kinds = Kind::Approve as u8 | Kind::Refuse as u8;
        if text::emoji_only(&message.visible) {
            return text::emoji_of(&message.visible).all(|c| self.emoji.get(&c).is_some_and(|found| found & kinds != 0));
        }
        self.is_chain(kinds, message)
    }

    /// Whether the message wishes the running tool into the background: the wish alone, or as the opening of what comes next.
    #[must_use]
    pub fn is_detach_wish(&self, message: &Text<'_>) -> bool {
        self.is(Kind::Detach, message)
            || self.detach_prefixes_of(&message.phrase).any(|prefix| {
                message.phrase.strip_prefix(prefix.as_str()).is_some_and(|rest| {
                    // Scripts without spaces go on directly; elsewhere the prefix must end at a word's end.
                    rest.starts_with(' ') || (!rest.is_empty() && prefix.ends_with(|c: char| c as u32 >= 0x2e80))
                })
            })
    }

    fn detach_prefixes_of(&self, phrase: &str) -> impl Iterator<Item = &String> {
        phrase.chars().next().and_then(|first| self.detach_prefixes.get(&first)).into_iter().flatten()
    }

    /// The command table of a gateway with the operator's entries laid over it.
    #[must_use]
    pub fn command_table(&self, gateway: &str, own: Option<&BTreeMap<String, CommandEntry>>) -> CommandTable {
        let mut table = self.commands.get(gateway).cloned().unwrap_or_default();
        for (name, entry) in own.into_iter().flatten() {
            let name = name.to_lowercase();
            match entry {
                CommandEntry::Lane(lane) => {
                    table.insert(name, (*lane).into());
                }
                // `true` says that the command is there; a lane must have been known.
                CommandEntry::Present(true) => {
                    table.entry(name).or_insert(Lane::Inline);
                }
                CommandEntry::Present(false) => {
                    table.remove(&name);
                }
            }
        }
        table
    }

    /// The gateways that have a table of their own.
    pub fn gateways(&self) -> impl Iterator<Item = &str> {
        self.commands.keys().map(String::as_str)
    }

    /// The text that acknowledges `action` in a locale; `pt-BR` falls back to `pt`, and an unknown one to `en`.
    #[must_use]
    pub fn ack(&self, locale: &str, action: Action) -> Option<&str> {
        let language = locale.split(['-', '_']).next().unwrap_or(locale);
        [locale, language, "en"].into_iter().find_map(|locale| self.acks.get(locale)?.get(&action)).map(String::as_str)
    }

    fn is_phrase(&self, kinds: u8, phrase: &str) -> bool {
        let listed = |phrase: &str| self.exact.get(phrase).is_some_and(|found| found & kinds != 0);
        let run = |phrase: &str| {
            text::has_letter_run(phrase) && {
                let squeezed = text::squeeze(phrase);
                listed(&squeezed) || self.squeezed.get(&squeezed).is_some_and(|found| found & kinds != 0)
            }
        };
        if listed(phrase) || run(phrase) {
            return true;
        }
        // "hahaha" is listed as "haha", "stop stop stop" as "stop".
        text::repeated_unit(phrase).is_some_and(|(unit, times)| {
            listed(unit) || run(unit) || (times > 2 && (listed(&unit.repeat(2)) || listed(&format!("{unit} {unit}"))))
        })
    }

    fn every_sentence(&self, kinds: u8, message: &Text<'_>) -> bool {
        let ends_sentence = |c: char| {
            !c.is_ascii_alphanumeric()
                && matches!(c, '.' | '!' | '?' | '…' | '。' | '！' | '？' | '؟' | '।' | '،' | ',' | ';' | '~' | '、')
        };
        let mut sentences = message.folded.split(ends_sentence).map(text::phrase).filter(|phrase| !phrase.is_empty()).peekable();
        // A sentence that is all of the message has been looked up already.
        sentences.peek().is_some() && sentences.all(|phrase| phrase != message.phrase && self.is_phrase(kinds, &phrase))
    }

    /// Whether the words can be cut into phrases of these kinds without remainder.
    fn is_chain(&self, kinds: u8, message: &Text<'_>) -> bool {
        if message.phrase.is_empty() {
            return false;
        }
        if self.is_phrase(kinds, &message.phrase) || self.every_sentence(kinds, message) {
            return true;
        }
        let words: Vec<&str> = message.phrase.split(' ').collect();
        if words.len() > MAX_CHAIN_WORDS {
            return false;
        }
        let mut reachable = vec![false; words.len() + 1];
        reachable[0] = true;
        for end in 1..=words.len() {
            reachable[end] = (0..end).any(|start| reachable[start] && self.is_phrase(kinds, &words[start..end].join(" ")));
        }
        reachable[words.len()]
    }
}

fn parse<T: serde::de::DeserializeOwned>(name: &str, text: &str) -> Result<T, ConfigError> {
    toml::from_str(text).map_err(|error| ConfigError {
        key: String::new(),
        origin: name.to_owned(),
        message: format!("the embedded lexicon is broken: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_phrase_is_nothing_else() {
        let lexicon = Lexicon::embedded().expect("the lists parse");
        let stop: Phrases = parse("stop.toml", STOP).expect("stop.toml parses");
        for (language, phrases) in &stop.phrases {
            for phrase in phrases {
                let kinds = lexicon.exact.get(&Text::new(phrase).phrase).expect("listed");
                assert_eq!(*kinds, Kind::Stop as u8, "{language}: {phrase:?} stands in another list too");
            }
        }
    }

    #[test]
    fn letter_runs_are_found_with_and_without_double_letters_in_the_list() {
        let lexicon = Lexicon::embedded().expect("the lists parse");
        for text in ["stoooop", "kiiill it", "kill iiit", "stoppp"] {
            assert!(lexicon.is(Kind::Stop, &Text::new(text)), "{text}");
        }
        assert!(!lexicon.is(Kind::Stop, &Text::new("stroooop")));
    }
}
