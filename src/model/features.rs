//! What the built-in model sees of a question: hashed marks of the text's letters, words and shape, of the context, and of how the two
//! relate. Training and inference share this code, so a weight always means the same mark.

use super::Question;
use crate::guards::text::{ends_in_question, fold, is_invisible, is_question_mark};
use crate::protocol::{BusyState, Role};

/// Marks are hashed into so many buckets (as a power of two): 896 KiB of weights. Half as many cost one to two points of accuracy, eight
/// times as many gain half a point.
pub const BUCKET_BITS: u32 = 17;
/// Buckets of the table.
pub const BUCKETS: usize = 1 << BUCKET_BITS;
/// Characters of a message that are looked at: what decides stands at its beginning, the rest of a paste is more of the same.
const MAX_CHARS: usize = 480;
/// Characters at the end of a longer message that are looked at as well: requests like to stand last.
const TAIL_CHARS: usize = 160;

/// Words of a message whose relation to the work is looked at.
const MAX_RELATED_WORDS: usize = 60;

/// Kinds of marks; each hashes into the same table under a salt of its own.
#[derive(Clone, Copy)]
#[repr(u32)]
enum Salt {
    Word = 0x85eb_ca77,
    Pair = 0xc2b2_ae3d,
    Opening = 0x27d4_eb2f,
    Ending = 0x1656_67b1,
    Shape = 0x7f4a_7c15,
    Context = 0x94d0_49bb,
    Relation = 0xbf58_476d,
}

/// Groups of marks that are weighed on their own: else the few hundred letter runs of a message would drown its dozen words.
pub const GROUPS: usize = 5;

/// The marks of a question: buckets in groups, each bucket once a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    buckets: Vec<u32>,
    ends: [usize; GROUPS],
    length_class: usize,
}

/// Classes of message length that are calibrated apart: up to 3 words, up to 12, longer.
pub const LENGTHS: usize = 3;

impl Marks {
    /// The message's class of length, below [`LENGTHS`].
    #[must_use]
    pub fn length_class(&self) -> usize {
        self.length_class
    }

    /// The buckets group by group.
    pub fn groups(&self) -> impl Iterator<Item = &[u32]> {
        let mut start = 0;
        self.ends.iter().map(move |end| {
            let group = &self.buckets[start..*end];
            start = *end;
            group
        })
    }
}

/// The marks of a question, each group in ascending order: what training learns from is the same whatever order they are found in.
#[must_use]
pub fn marks(question: &Question<'_>) -> Marks {
    let mut marks = unordered_marks(question);
    let mut start = 0;
    for end in marks.ends {
        marks.buckets[start..end].sort_unstable();
        start = end;
    }
    marks
}

/// The marks of a question in the order in which they are found: sorting them would take most of the time of an answer.
#[must_use]
pub(super) fn unordered_marks(question: &Question<'_>) -> Marks {
    let mut found = Collector { seen: [0; BUCKETS / 64], marks: Marks { buckets: Vec::with_capacity(1024), ..Marks::default() } };
    let text = without_look_alikes(fold(&shortened(question.text)));
    let words: Vec<Word> = words(&text).map(Word::of).collect();
    found.characters(&text);
    found.close(0);
    found.words(&words);
    found.close(1);
    let shape = Shape::of(question.text, words.len());
    found.marks.length_class = usize::from(shape.length > 3) + usize::from(shape.length > 6);
    found.shape(&shape, &words);
    found.close(2);
    let context = Context::of(question);
    found.context(&context, &shape, &words);
    found.close(3);
    found.relation(question, &words);
    found.close(4);
    found.marks
}

/// The beginning and the end of a text.
fn shortened(text: &str) -> std::borrow::Cow<'_, str> {
    let Some((head_end, _)) = text.char_indices().nth(MAX_CHARS) else { return text.into() };
    let tail_start = text.char_indices().rev().nth(TAIL_CHARS - 1).map_or(0, |(start, _)| start);
    if tail_start <= head_end {
        return text.into();
    }
    format!("{} {}", &text[..head_end], &text[tail_start..]).into()
}

/// The folded text with Latin letters in place of Cyrillic ones that only look like them. Where another Cyrillic letter stands, or no word
/// mixes the two alphabets, somebody writes Cyrillic, and nothing changes.
fn without_look_alikes(folded: String) -> String {
    let is_cyrillic = |c: char| matches!(c, '\u{400}'..='\u{52f}');
    if folded.is_ascii() || folded.chars().any(|c| is_cyrillic(c) && latin_twin(c).is_none()) {
        return folded;
    }
    let mixes = |word: &str| word.chars().any(is_cyrillic) && word.chars().any(|c| c.is_ascii_alphabetic());
    if !words(&folded).any(mixes) {
        return folded;
    }
    folded.chars().map(|c| latin_twin(c).unwrap_or(c)).collect()
}

/// The Latin letter that a Cyrillic one is taken for, in its small or its capital form: small н is what became of a capital Н, which
/// looks like H. From the look-alikes that Unicode lists (UTS 39, confusables).
const fn latin_twin(c: char) -> Option<char> {
    Some(match c {
        'а' => 'a',
        'в' => 'b',
        'с' => 'c',
        'ԁ' => 'd',
        'е' => 'e',
        'һ' | 'н' => 'h',
        'і' | 'ӏ' => 'i',
        'ј' => 'j',
        'к' => 'k',
        'м' => 'm',
        'о' => 'o',
        'р' => 'p',
        'ԛ' => 'q',
        'ѕ' => 's',
        'т' => 't',
        'ѵ' => 'v',
        'ԝ' => 'w',
        'х' => 'x',
        'у' => 'y',
        _ => return None,
    })
}

/// Words in the sense of letters and digits that stand together; an apostrophe inside stays ("don't").
fn words(folded: &str) -> impl Iterator<Item = &str> {
    folded
        .split(|c: char| !(c.is_alphanumeric() || c == '\'' || unicode_normalization::char::is_combining_mark(c)))
        .map(|word| word.trim_matches('\''))
        .filter(|word| !word.is_empty())
}

/// A word, as far as marks need it.
#[derive(Clone, Copy)]
struct Word {
    hash: u32,
    /// Whether it is long enough to say what the work is about, in letters.
    is_long: bool,
}

impl Word {
    fn of(word: &str) -> Self {
        Self { hash: hash(word), is_long: word.chars().nth(2).is_some() }
    }
}

/// Marks in the making.
struct Collector {
    /// A bit for every bucket that the group has already.
    seen: [u64; BUCKETS / 64],
    marks: Marks,
}

impl Collector {
    fn close(&mut self, group: usize) {
        let start = if group == 0 { 0 } else { self.marks.ends[group - 1] };
        for bucket in &self.marks.buckets[start..] {
            self.seen[*bucket as usize / 64] = 0;
        }
        self.marks.ends[group] = self.marks.buckets.len();
    }

    fn add(&mut self, salt: Salt, hash: u32) {
        let mut x = hash ^ salt as u32;
        x ^= x >> 16;
        x = x.wrapping_mul(0x7feb_352d);
        x ^= x >> 15;
        x = x.wrapping_mul(0x846c_a68b);
        x ^= x >> 16;
        self.put(x >> (32 - BUCKET_BITS));
    }

    fn put(&mut self, bucket: u32) {
        let (word, bit) = (&mut self.seen[bucket as usize / 64], 1 << (bucket % 64));
        if *word & bit == 0 {
            *word |= bit;
            self.marks.buckets.push(bucket);
        }
    }

    /// Runs of two to four characters, word borders included.
    ///
    /// They are most of all marks, so their hash is a cheap one: a sum of products by place, of which the upper bits of one more product
    /// are taken.
    fn characters(&mut self, text: &str) {
        const PLACES: [u32; 4] = [0x9e37_79b1, 0x85eb_ca77, 0xc2b2_ae3d, 0x27d4_eb2f];
        const SPREAD: u32 = 0x2c1b_3c6d;
        let mut padded: Vec<u32> = Vec::with_capacity(text.len() + 4);
        padded.extend(std::iter::once(' ').chain(text.chars()).chain(std::iter::once(' ')).map(u32::from));
        let count = padded.len();
        padded.extend([0; 2]);
        for (start, run) in padded.windows(4).enumerate() {
            let two = run[0].wrapping_mul(PLACES[0]).wrapping_add(run[1].wrapping_mul(PLACES[1]));
            let three = two.wrapping_add(run[2].wrapping_mul(PLACES[2]));
            let four = three.wrapping_add(run[3].wrapping_mul(PLACES[3]));
            for (hash, length) in [(two, 2), (three, 3), (four, 4)] {
                if start + length <= count {
                    self.put((hash ^ hash >> 15).wrapping_mul(SPREAD) >> (32 - BUCKET_BITS));
                }
            }
        }
    }

    fn words(&mut self, words: &[Word]) {
        for word in words {
            self.add(Salt::Word, word.hash);
        }
        for pair in words.windows(2) {
            self.add(Salt::Pair, pair_mix(pair[0].hash, pair[1].hash));
        }
        let mut opening = FNV_OFFSET;
        for word in words.iter().take(3) {
            opening = (opening ^ word.hash).wrapping_mul(FNV_PRIME);
            self.add(Salt::Opening, opening);
        }
        if let Some(last) = words.last() {
            self.add(Salt::Ending, last.hash);
        }
    }

    fn shape(&mut self, shape: &Shape, words: &[Word]) {
        for (index, value) in shape.parts().into_iter().enumerate() {
            self.add(Salt::Shape, small(index as u32, value));
        }
        let opening = words.first().map_or(0, |word| word.hash);
        self.add(Salt::Shape, opening ^ small(100, shape.length));
        self.add(Salt::Shape, small(101, shape.length * 2 + shape.asks));
        self.add(Salt::Shape, small(102, shape.length * 8 + shape.sentences.min(7)));
    }

    fn context(&mut self, context: &Context, shape: &Shape, words: &[Word]) {
        for (index, value) in context.parts().into_iter().enumerate() {
            self.add(Salt::Context, small(index as u32, value));
            // What is asked or awaited changes what short answers mean.
            self.add(Salt::Context, small(50 + index as u32, value * 16 + shape.length));
        }
        if context.asked > 0 || context.awaits > 0 {
            for word in words.iter().take(4) {
                self.add(Salt::Context, word.hash ^ small(90, context.asked * 4 + context.awaits));
            }
        }
        for word in words.iter().take(6) {
            self.add(Salt::Context, word.hash ^ small(91, context.tool));
        }
    }

    /// How the message speaks of the work: which words stand around those that it shares with it ("not ◆", "◆ instead").
    ///
    /// The words come from what was asked for and what runs now, not from what the agent said: agents repeat everything. How many words
    /// are shared says nothing: in real sessions contexts are long, and something is always shared.
    fn relation(&mut self, question: &Question<'_>, message: &[Word]) {
        const SHARED: &str = "◆";
        let sources = [question.tool_preview, question.tool_name, last_user(question), question.reply_to];
        let mut known: Vec<u32> = Vec::with_capacity(64);
        for source in sources.into_iter().flatten() {
            known.extend(words(&fold(source)).map(Word::of).filter(|word| word.is_long).map(|word| word.hash));
        }
        known.sort_unstable();
        let shared = hash(SHARED);
        let mut before = hash("^");
        let mut twice_before = before;
        for word in message.iter().take(MAX_RELATED_WORDS) {
            let own = word.hash;
            let is_shared = word.is_long && known.binary_search(&own).is_ok();
            if is_shared {
                self.add(Salt::Relation, before ^ 1);
                self.add(Salt::Relation, pair_mix(twice_before, before) ^ 2);
            }
            if before == shared {
                self.add(Salt::Relation, own ^ 3);
            }
            twice_before = before;
            before = if is_shared { shared } else { own };
        }
    }
}

/// What a text looks like from afar.
struct Shape {
    length: u32,
    sentences: u32,
    lines: u32,
    asks: u32,
    ends_asking: u32,
    shouts: u32,
    exclaims: u32,
    digits: u32,
    code: u32,
    link: u32,
    quote: u32,
    ellipsis: u32,
}

impl Shape {
    fn of(text: &str, words: usize) -> Self {
        let text = text.trim();
        let (mut chars, mut letters, mut capitals, mut sentences, mut exclaims) = (0, 0, 0, 0, 0);
        let (mut asks, mut digits, mut code, mut link, mut quote, mut ellipsis) = (false, false, false, false, false, false);
        // One pass over the characters and the two before each, because a search for each sign would cost several times as much.
        let (mut before_last, mut last) = ('\0', '\0');
        for c in text.chars() {
            chars += usize::from(!is_invisible(c));
            letters += usize::from(c.is_alphabetic());
            capitals += usize::from(c.is_uppercase());
            digits |= c.is_numeric();
            if c != ' ' && !c.is_ascii_alphanumeric() {
                sentences += u32::from(matches!(c, '.' | '!' | '?' | '。' | '？' | '！' | '।' | '؟' | '\n' | ';'));
                exclaims += u32::from(matches!(c, '!' | '！'));
                asks |= is_question_mark(c);
                code |= matches!(c, '`' | '{' | '_') || matches!((last, c), ('(', ')') | (':', ':'));
                link |= (before_last, last, c) == (':', '/', '/');
                quote |= matches!(c, '"' | '“' | '«' | '「' | '„');
                ellipsis |= c == '…' || (before_last, last, c) == ('.', '.', '.');
            }
            (before_last, last) = (last, c);
        }
        Self {
            // Words where there are spaces, else characters: 0, 1, 2, 3, 4-5, 6-8, 9-12, …
            length: log_bucket(words.max(chars / 6)),
            sentences: sentences.min(9),
            lines: (text.lines().count() as u32).min(6),
            asks: u32::from(asks),
            ends_asking: u32::from(ends_in_question(text)),
            shouts: u32::from(letters >= 4 && capitals * 2 > letters),
            exclaims: exclaims.min(3),
            digits: u32::from(digits),
            code: u32::from(code),
            link: u32::from(link),
            quote: u32::from(quote),
            ellipsis: u32::from(ellipsis),
        }
    }

    fn parts(&self) -> [u32; 12] {
        [
            self.length,
            self.sentences,
            self.lines,
            self.asks,
            self.ends_asking,
            self.shouts,
            self.exclaims,
            self.digits,
            self.code,
            self.link,
            self.quote,
            self.ellipsis,
        ]
    }
}

/// What the agent is doing, in a few numbers.
struct Context {
    asked: u32,
    awaits: u32,
    tool: u32,
    shared: u32,
    addressed: u32,
    replies: u32,
}

impl Context {
    fn of(question: &Question<'_>) -> Self {
        Self {
            asked: u32::from(question.last_assistant_text().is_some_and(ends_in_question)),
            awaits: match question.state {
                BusyState::AwaitingAnswer => 2,
                BusyState::AwaitingApproval => 3,
                _ => u32::from(question.pending_question.is_some()),
            },
            tool: question.tool_name.map_or(0, tool_kind),
            shared: u32::from(question.chat.is_shared()),
            addressed: match question.addressed {
                None => 0,
                Some(false) => 1,
                Some(true) => 2,
            },
            replies: u32::from(question.reply_to.is_some()),
        }
    }

    fn parts(&self) -> [u32; 6] {
        [self.asked, self.awaits, self.tool, self.shared, self.addressed, self.replies]
    }
}

/// Tools by what an interrupt would mean for them, told from the words that gateways use in tool names.
fn tool_kind(name: &str) -> u32 {
    let name = name.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| name.contains(word));
    if has(&["send", "mail", "post", "message", "publish", "tweet", "notify", "call"]) {
        2
    } else if has(&["write", "edit", "patch", "create", "draft", "update", "delete", "apply", "doc", "slide", "sheet"]) {
        3
    } else if has(&["exec", "bash", "shell", "terminal", "run", "command", "python", "deploy", "build", "test", "code"]) {
        4
    } else if has(&["read", "search", "fetch", "browse", "web", "grep", "list", "find", "query", "calendar", "weather"]) {
        5
    } else {
        1
    }
}

fn last_user<'a>(question: &Question<'a>) -> Option<&'a str> {
    question.history.iter().rev().find(|(role, _)| *role == Role::User).map(|(_, text)| *text)
}

/// 0, 1, 2, 3, then doubling in half steps.
fn log_bucket(n: usize) -> u32 {
    match n {
        0..=3 => n as u32,
        4..=5 => 4,
        6..=8 => 5,
        9..=12 => 6,
        13..=18 => 7,
        19..=28 => 8,
        29..=45 => 9,
        46..=80 => 10,
        _ => 11,
    }
}

const FNV_OFFSET: u32 = 0x811c_9dc5;
const FNV_PRIME: u32 = 0x0100_0193;

/// FNV-1a: small, stable across builds and machines, and mixed once more before it becomes a bucket.
fn hash(word: &str) -> u32 {
    word.bytes().fold(FNV_OFFSET, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(FNV_PRIME))
}

fn pair_mix(first: u32, second: u32) -> u32 {
    first.rotate_left(13).wrapping_mul(FNV_PRIME) ^ second
}

fn small(kind: u32, value: u32) -> u32 {
    (kind << 16 | value).wrapping_mul(0x9e37_79b9)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn look_alikes_are_read_as_the_letters_they_stand_for() {
        let read = |text: &str| without_look_alikes(fold(text));
        assert_eq!(read("рlеаsе сanсеl tһе Вuild"), "please cancel the build");
        // Whoever writes Cyrillic is not misread, nor is a borrowed word among it.
        for text in ["останови сборку", "нет, use main", "закрой PR и открой new", "stop, ελληνικά"]
        {
            assert_eq!(read(text), fold(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_group_holds_each_bucket_once_and_knows_nothing_of_the_others(hashes in prop::collection::vec(0..300_u32, 0..600)) {
            let mut collector = Collector { seen: [0; BUCKETS / 64], marks: Marks::default() };
            for group in 0..GROUPS {
                for hash in &hashes {
                    collector.add(Salt::Word, *hash);
                }
                collector.close(group);
            }
            let mut distinct = hashes;
            distinct.sort_unstable();
            distinct.dedup();
            for group in collector.marks.groups() {
                let mut buckets = group.to_vec();
                buckets.sort_unstable();
                buckets.dedup();
                prop_assert_eq!(buckets.len(), group.len());
                prop_assert!(group.len() <= distinct.len());
            }
            prop_assert!(collector.marks.groups().all(|group| Some(group) == collector.marks.groups().next()));
        }
    }
}
