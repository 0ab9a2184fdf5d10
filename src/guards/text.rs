//! The shapes of a message's text that guards compare: what is visible, what is the same for a reader, what is the bare phrase.

use std::borrow::Cow;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// A message's text in the shapes that guards need, computed once.
#[derive(Clone, Debug)]
pub struct Text<'a> {
    /// Without invisible characters, trimmed.
    pub visible: Cow<'a, str>,
    /// NFKC, case folded, white space collapsed: equal for texts that read the same.
    pub folded: String,
    /// The folded text without punctuation and emoji around and between the words: what a phrase list is compared with.
    pub phrase: String,
}

impl<'a> Text<'a> {
    /// Computes all shapes of `raw`.
    #[must_use]
    pub fn new(raw: &'a str) -> Self {
        let visible = visible(raw);
        let folded = fold(&visible);
        let phrase = phrase(&folded);
        Self { visible, folded, phrase }
    }

    /// Whether there is nothing to read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.visible.is_empty()
    }

    /// What two messages must share to be duplicates. Unlike a phrase it keeps emoji and question marks, because they carry
    /// meaning: "deploy it" and "deploy it?" are not the same message.
    #[must_use]
    pub fn identity(&self) -> &str {
        let bare = self.folded.trim_matches(|c: char| matches!(c, '.' | ',' | '!' | ';' | ':' | ' ' | '…' | '。' | '、' | '·'));
        if bare.is_empty() { &self.folded } else { bare }
    }
}

/// Characters that take no room and mean nothing to a reader: zero-width, bidirectional controls, soft hyphen, variation selectors,
/// tags, other controls. Line breaks and tabs are white space, not invisible.
#[must_use]
pub fn is_invisible(c: char) -> bool {
    if c.is_ascii() {
        return !is_plain(c as u8);
    }
    matches!(
        c,
        '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180e}' | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{e0000}'..='\u{e0fff}'
    ) || (c.is_control() && !c.is_whitespace())
}

/// Whether an ASCII character is text or white space.
fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~' | b'\t'..=b'\r')
}

fn visible(raw: &str) -> Cow<'_, str> {
    if !raw.bytes().all(is_plain) && raw.chars().any(is_invisible) {
        let kept: String = raw.chars().filter(|c| !is_invisible(*c)).collect();
        Cow::Owned(kept.trim().to_owned())
    } else {
        Cow::Borrowed(raw.trim())
    }
}

/// NFKC, full case folding as far as chat needs it, apostrophes unified, white space collapsed.
///
/// Folding twice gives the same as folding once; a property test holds that.
#[must_use]
pub fn fold(text: &str) -> String {
    if text.is_ascii() {
        // NFKC changes nothing in ASCII; skipping it saves the greater part of the cost (2 µs on a short message).
        return fold_ascii(text);
    }
    let mut folded = String::with_capacity(text.len());
    // Lower-casing can undo a composition (İ becomes i and a dot), and composing can bring up a capital: NFKC again after it.
    for c in text.nfkc().filter(|c| !is_invisible(*c)).flat_map(char::to_lowercase).nfkc().flat_map(char::to_lowercase) {
        match c {
            'ß' => folded.push_str("ss"),
            'ς' => folded.push('σ'),
            // Turkish writes two letters where case folding knows one.
            'ı' => folded.push('i'),
            '\u{307}' if folded.ends_with('i') => {}
            '’' | '‘' | 'ʼ' | '´' | '`' | '′' => folded.push('\''),
            // Tatweel only stretches a word, and the short vowels are optional.
            '\u{640}' | '\u{64b}'..='\u{652}' => {}
            c if is_invisible(c) => {}
            c if !c.is_whitespace() => folded.push(c),
            _ if folded.is_empty() || folded.ends_with(' ') => {}
            _ => folded.push(' '),
        }
    }
    if folded.ends_with(' ') {
        folded.pop();
    }
    folded
}

fn fold_ascii(text: &str) -> String {
    let mut folded = text.trim().to_ascii_lowercase();
    if folded.contains('`') {
        folded = folded.replace('`', "'");
    }
    // Most text comes with single blanks.
    if folded.contains("  ") || folded.bytes().any(|byte| matches!(byte, b'\t'..=b'\r')) {
        folded = folded.split_whitespace().collect::<Vec<_>>().join(" ");
    }
    folded
}

/// Whether `c` can stand in a phrase: letters, digits, and the marks that belong to letters.
fn is_word_char(c: char) -> bool {
    c.is_alphanumeric() || is_combining_mark(c)
}

/// The folded text without anything but words: punctuation and emoji around them go, commas, full stops and emoji between them
/// count as white space. Signs inside a word ("don't", "node.js", "80%") stay.
#[must_use]
pub fn phrase(folded: &str) -> String {
    let ends_word = |c: char| {
        !c.is_ascii_alphanumeric() && matches!(c, ' ' | ',' | '、' | '，' | '،' | '!' | '?' | '…' | '。' | '¡' | '¿' | '؟' | ';')
    };
    let mut words = String::with_capacity(folded.len());
    for word in folded.split(ends_word) {
        let word = word.trim_matches(|c| !is_word_char(c));
        if !word.is_empty() {
            if !words.is_empty() {
                words.push(' ');
            }
            words.push_str(word);
        }
    }
    words
}

/// The phrase with every run of the same letter reduced to one: "stooop" and "stop" both become "stop", "kiiill it" and "kill it"
/// both "kil it". Digits are left alone.
#[must_use]
pub fn squeeze(phrase: &str) -> String {
    let mut squeezed = String::with_capacity(phrase.len());
    for c in phrase.chars() {
        if !(c.is_alphabetic() && squeezed.ends_with(c)) {
            squeezed.push(c);
        }
    }
    squeezed
}

/// Whether some letter stands three or more times in a row, as in "stoooop".
#[must_use]
pub fn has_letter_run(phrase: &str) -> bool {
    let mut run = 0;
    let mut last = '\0';
    for c in phrase.chars() {
        run = if c == last && c.is_alphabetic() { run + 1 } else { 1 };
        last = c;
        if run >= 3 {
            return true;
        }
    }
    false
}

/// The unit that the phrase is a repetition of, and how often: "stop stop stop" is ("stop", 3), "hahaha" is ("ha", 3). Whole words are
/// tried first. Nothing when it is no repetition.
#[must_use]
pub fn repeated_unit(phrase: &str) -> Option<(&str, usize)> {
    let bytes = phrase.as_bytes();
    let repeats = |size: usize, total: usize| total.is_multiple_of(size) && bytes[size..] == bytes[..bytes.len() - size];
    // With a space at its end too, a phrase of repeated words repeats their bytes.
    let total = bytes.len() + 1;
    if let Some(size) = (2..=total / 2).find(|size| bytes[size - 1] == b' ' && repeats(*size, total)) {
        return Some((&phrase[..size - 1], total / size));
    }
    let total = bytes.len();
    if phrase.contains(' ') || phrase.chars().count() > 64 {
        return None;
    }
    (1..=total / 2)
        .find(|size| phrase.is_char_boundary(*size) && repeats(*size, total))
        .map(|size| (&phrase[..size], total / size))
}

/// Whether the text has a question mark of any script.
#[must_use]
pub fn has_question_mark(text: &str) -> bool {
    // Most text is ASCII. Searching its bytes is many times faster, and this is asked several times a message.
    if text.is_ascii() { text.contains('?') } else { text.chars().any(is_question_mark) }
}

/// Whether `c` is a question mark of any script.
#[must_use]
pub fn is_question_mark(c: char) -> bool {
    matches!(c, '?' | '？' | '؟' | '\u{37e}' | '՞' | '፧' | '⁇' | '⁈' | '⁉' | '‽' | '❓' | '❔' | '꘏' | '᥅' | '﹖' | '︖' | '¿')
}

/// Whether a text asks something at its end. Question marks of any script count; so do the sentence endings by which Japanese and
/// Chinese ask without one.
#[must_use]
pub fn ends_in_question(text: &str) -> bool {
    let end = text.trim_end_matches(|c: char| {
        !is_question_mark(c) && (c.is_whitespace() || is_invisible(c) || !(is_word_char(c) || c == '?'))
    });
    end.chars().next_back().is_some_and(is_question_mark)
        || ["ますか", "ですか", "でしょうか", "吗", "嗎", "呢"].iter().any(|ending| end.ends_with(ending))
}

/// Whether the text is made of emoji alone (at least one), and which.
#[must_use]
pub fn emoji_only(visible: &str) -> bool {
    let mut any = false;
    for c in visible.chars() {
        if is_emoji(c) {
            any = true;
        } else if !(c.is_whitespace() || is_invisible(c) || is_emoji_part(c)) {
            return false;
        }
    }
    any
}

/// Skin tones and the keycap mark: they change an emoji and are none.
fn is_emoji_part(c: char) -> bool {
    matches!(c, '\u{1f3fb}'..='\u{1f3ff}' | '\u{20e3}')
}

fn is_emoji(c: char) -> bool {
    matches!(c, '\u{203c}' | '\u{2049}' | '\u{2190}'..='\u{21ff}' | '\u{2300}'..='\u{27bf}' | '\u{2900}'..='\u{297f}' | '\u{2b00}'..='\u{2bff}' | '\u{1f000}'..='\u{1faff}')
        && !is_emoji_part(c)
}

/// The emoji of a text without skin tones and invisible joiners, each once.
pub fn emoji_of(visible: &str) -> impl Iterator<Item = char> {
    visible.chars().filter(|c| is_emoji(*c))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn phrase_of(raw: &str) -> String {
        Text::new(raw).phrase
    }

    #[test]
    fn a_phrase_is_what_is_left_of_shouting_and_decoration() {
        for raw in [
            "STOP!!!",
            "ｓｔｏｐ",
            "🛑 stop 🛑",
            "st\u{200b}op",
            "\u{202e}stop\u{202c}",
            "  stop. ",
            "“Stop”…",
            "stop\u{ad}",
            "*stop*",
        ] {
            assert_eq!(phrase_of(raw), "stop", "{raw:?}");
        }
        assert_eq!(phrase_of("No, STOP!"), "no stop");
        assert_eq!(phrase_of("Don’t stop"), "don't stop");
        assert_eq!(phrase_of("DURDUR"), phrase_of("durdur"));
        assert_eq!(phrase_of("İPTAL"), "iptal");
        assert_eq!(phrase_of("¡Detente!"), "detente");
        assert_eq!(phrase_of("रुको।"), "रुको");
        assert_eq!(phrase_of("توقّف!"), "توقف");
        assert_eq!(phrase_of("heiß"), "heiss");
    }

    #[test]
    fn look_alike_letters_are_not_equated() {
        // Cyrillic dze, te, o, er: it reads like "stop" but is none of ours.
        assert_ne!(phrase_of("ѕтор"), "stop");
    }

    #[test]
    fn runs_and_repetitions() {
        assert!(has_letter_run("stoooop") && !has_letter_run("stoop") && !has_letter_run("1000000"));
        assert_eq!(squeeze("stoooop"), "stop");
        assert_eq!(squeeze("kiiill it"), squeeze("kill it"));
        assert_eq!(squeeze("1000"), "1000");
        assert_eq!(repeated_unit("stop stop stop"), Some(("stop", 3)));
        assert_eq!(repeated_unit("hahaha"), Some(("ha", 3)));
        assert_eq!(repeated_unit("stop it stop it"), Some(("stop it", 2)));
        assert_eq!(repeated_unit("stop it stop"), None);
        assert_eq!(repeated_unit("はははは"), Some(("は", 4)));
        for none in ["", "a", " ", "stop stopstop", "stop", "stopit stop it"] {
            assert_eq!(repeated_unit(none), None, "{none}");
        }
    }

    #[test]
    fn identity_keeps_what_changes_the_meaning() {
        let identity = |raw: &str| Text::new(raw).identity().to_owned();
        assert_eq!(identity("Fix the login!!"), identity("  fix the\nlogin"));
        assert_ne!(identity("deploy it"), identity("deploy it?"));
        assert_ne!(identity("👍"), identity("👎"));
        assert_ne!(identity("add 100"), identity("add 1000"));
        assert_ne!(identity("..."), identity("!!!"));
    }

    #[test]
    fn questions_in_many_scripts() {
        for text in [
            "Shall I go on?",
            "Soll ich? 🙂",
            "继续吗？",
            "続けますか。",
            "أتابع؟",
            "Really?!",
            "(ok?)",
            "\"sure?\"",
            "Να συνεχίσω\u{37e}",
        ] {
            assert!(ends_in_question(text), "{text}");
        }
        for text in ["Done.", "You asked why? I fixed it.", "", "完成了。"] {
            assert!(!ends_in_question(text), "{text}");
        }
    }

    #[test]
    fn emoji_are_told_from_text() {
        assert!(emoji_only("👍🏽 ❤️") && emoji_only("😂😂"));
        assert!(!emoji_only("ok 👍") && !emoji_only("") && !emoji_only("5"));
        assert_eq!(emoji_of("👍🏽❤️").collect::<String>(), "👍❤");
    }

    proptest! {
        #[test]
        fn normalising_twice_changes_nothing(raw in "\\PC{0,80}") {
            let text = Text::new(&raw);
            prop_assert_eq!(&fold(&text.folded), &text.folded);
            prop_assert_eq!(&Text::new(&text.phrase).phrase, &text.phrase);
            prop_assert_eq!(squeeze(&squeeze(&text.phrase)), squeeze(&text.phrase));
        }

        #[test]
        fn invisible_characters_change_nothing(raw in "[a-zA-Zäöü ,.!?]{0,30}", at in 0usize..30, c in prop::sample::select(vec!['\u{200b}', '\u{2066}', '\u{feff}', '\u{ad}'])) {
            let mut altered: Vec<char> = raw.chars().collect();
            altered.insert(at.min(altered.len()), c);
            let altered: String = altered.into_iter().collect();
            prop_assert_eq!(Text::new(&altered).folded, Text::new(&raw).folded);
            prop_assert_eq!(Text::new(&altered).phrase, Text::new(&raw).phrase);
        }
    }
}
