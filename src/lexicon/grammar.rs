//! Orders to stop in free wording: every word of the message is an order to stop or adds nothing, see `stop_grammar.toml`.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;

use super::by_text::ByText;
use crate::guards::text::{Text, fold, has_question_mark};

/// A single word is looked up in the phrases: alone, many a word is something else. Longer messages say more than stop.
const WORDS: std::ops::RangeInclusive<usize> = 2..=9;

/// Signs of something quoted, a path or code: what is spoken of is no order.
const QUOTING: [char; 12] = ['/', '\\', '`', '"', '“', '„', '«', '<', '>', '=', '_', '$'];

/// The words of one language.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Words {
    stop: Vec<String>,
    rest: Vec<String>,
}

/// For every word the languages in which it is an order to stop, and those in which it is known at all, a bit each.
#[derive(Debug, Default)]
pub struct Grammar {
    /// Where in `languages` a word's are: most words share theirs with many others.
    words: ByText<u16>,
    languages: Vec<Languages>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Languages {
    stop: u128,
    known: u128,
}

impl Grammar {
    /// The grammar of up to 128 languages; further ones are left out, which a test rules out.
    pub fn new(languages: &BTreeMap<String, Words>) -> Self {
        let mut found: BTreeMap<String, Languages> = BTreeMap::new();
        for (index, language) in languages.values().take(128).enumerate() {
            for (words, is_stop) in [(&language.stop, true), (&language.rest, false)] {
                for word in words {
                    let languages = found.entry(fold(word)).or_default();
                    languages.known |= 1 << index;
                    languages.stop |= u128::from(is_stop) << index;
                }
            }
        }
        let mut grammar = Self::default();
        let mut places: HashMap<Languages, u16> = HashMap::new();
        for (word, languages) in &found {
            let next = u16::try_from(grammar.languages.len()).unwrap_or(u16::MAX);
            *grammar.words.entry(word) = *places.entry(*languages).or_insert_with(|| {
                grammar.languages.push(*languages);
                next
            });
        }
        grammar.words.shrink_to_fit();
        grammar
    }

    /// Whether the whole message orders to stop.
    pub fn is_stop(&self, message: &Text<'_>) -> bool {
        let (mut count, mut stop, mut known) = (0, 0, u128::MAX);
        for word in message.phrase.split(' ') {
            count += 1;
            let Some(found) = self.word(word).filter(|_| count <= *WORDS.end()) else { return false };
            stop |= found.stop;
            known &= found.known;
        }
        stop & known != 0 && WORDS.contains(&count) && !has_question_mark(&message.folded) && !message.folded.contains(QUOTING)
    }

    fn word(&self, word: &str) -> Option<Languages> {
        let known = |word| self.words.get(word).and_then(|place| self.languages.get(usize::from(*place))).copied();
        if let Some(found) = known(word) {
            return Some(found);
        }
        let mut parts = word.split('\'').filter(|part| !part.is_empty()).map(known);
        let first = parts.next()??;
        parts
            .try_fold(first, |all, part| part.map(|part| Languages { stop: all.stop | part.stop, known: all.known & part.known }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Lexicon;
    use super::*;
    use std::sync::LazyLock;

    static LEXICON: LazyLock<Lexicon> = LazyLock::new(|| Lexicon::embedded().expect("the lists parse"));

    fn stops(text: &str) -> bool {
        LEXICON.grammar.is_stop(&Text::new(text))
    }

    #[test]
    fn orders_in_free_wording_are_stops() {
        for text in [
            "Bitte breche die aktuelle Aufgabe ab",
            "cessar todas as ações!",
            "cancela esta instrução",
            "Atura l'acció actual",
            "arrête ça tout de suite s'il te plaît",
            "lütfen şu anki işlemi iptal et",
            "ok please just stop it now",
        ] {
            assert!(stops(text), "{text}");
        }
    }

    #[test]
    fn what_says_more_or_the_contrary_is_none() {
        for text in [
            "stop",
            "please stop by the shop later",
            "don't stop it now",
            "stop the music now",
            "cancel my order please",
            "cancel all activities",
            "kill all processes",
            "can you stop it?",
            "please /stop it",
            "the \"stop\" thing",
            "stop it when you are done",
            "il s'arrête",
            "stop it now and please stop it now and stop it now",
            "nicht abbrechen bitte",
            "bitte die aufgabe",
            "",
        ] {
            assert!(!stops(text), "{text}");
        }
    }

    #[test]
    fn languages_fit_and_words_are_single_and_folded_alike() {
        let languages: BTreeMap<String, Words> = toml::from_str(super::super::STOP_GRAMMAR).expect("parses");
        assert!(languages.len() <= 128);
        let all =
            languages.iter().flat_map(|(language, words)| words.stop.iter().chain(&words.rest).map(move |word| (language, word)));
        let unmatched: Vec<_> = all.filter(|(_, word)| Text::new(word).phrase != fold(word) || word.contains(' ')).collect();
        assert!(unmatched.is_empty(), "no word of a message looks like these: {unmatched:?}");
        // What a message may be besides must not be an order to stop.
        for (file, text) in [
            ("chatter.toml", super::super::CHATTER),
            ("approval.toml", super::super::APPROVAL),
            ("detach.toml", super::super::DETACH),
        ] {
            let lists: toml::Table = toml::from_str(text).expect("parses");
            let phrases = lists.values().flat_map(|list| list.as_table().expect("languages").values());
            for phrase in phrases.flat_map(|phrases| phrases.as_array().expect("phrases")) {
                let phrase = phrase.as_str().expect("a text");
                assert!(!stops(phrase), "{phrase:?} stands in {file}");
            }
        }
    }
}
