//! Makes the built-in model's weights from labelled fixtures: the same input gives the same bytes, on every machine.
//!
//! A multinomial logistic regression over hashed marks, by Adagrad in a fixed order on one thread: the votes of 2^16 buckets for seven
//! intents. Then whole-number weights, a temperature from messages that the training did not see, and a threshold below which the
//! model abstains. `docs/builtin-model.md` says what was tried instead.

use crate::model::builtin::{BUCKETS, Builtin, Intent, softmax};
use crate::model::features;
use crate::model::Question;
use crate::replay::fixture::Fixture;

/// One message to learn from.
#[derive(Debug, Clone)]
pub struct Example {
    /// Its marks.
    pub marks: features::Marks,
    /// What is meant by it.
    pub intent: usize,
    /// Who wrote it: messages of one batch are never on both sides of a split.
    pub batch: String,
    /// How much it counts.
    pub weight: f32,
}

/// How the training goes.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Passes over all messages.
    pub epochs: usize,
    /// Step size at the start.
    pub rate: f32,
    /// Pull towards zero.
    pub decay: f32,
    /// Share of the probability that is spread over all intents.
    pub smoothing: f32,
    /// Share of marks left out at random in every pass.
    pub dropout: f32,
}

impl Default for Plan {
    fn default() -> Self {
        Self { epochs: 12, rate: 0.12, decay: 1e-5, smoothing: 0.06, dropout: 0.3 }
    }
}

fn env(name: &str, or: f32) -> f32 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(or)
}

/// x
pub fn plan_from_env() -> Plan {
    let d = Plan::default();
    Plan { epochs: env("EPOCHS", d.epochs as f32) as usize, rate: env("RATE", d.rate), decay: env("DECAY", d.decay), smoothing: env("SMOOTH", d.smoothing), dropout: env("DROP", d.dropout) }
}

/// Turns fixtures into examples; those without an intent are left out.
pub fn examples(fixtures: &[Fixture]) -> Vec<Example> {
    fixtures
        .iter()
        .filter_map(|fixture| {
            let intent = Intent::from_word(fixture.intent()?)? as usize;
            let question = Question::from_request(&fixture.request, Vec::new());
            let tag = |name: &str| fixture.tags.iter().find_map(|tag| tag.strip_prefix(name)).unwrap_or_default();
            let weight = match tag("origin:") { "template" => env("WT", 0.5), "composed" => env("WC", 0.5), "aff" => 0.5, _ => 1.0 };
            Some(Example { marks: features::marks(&question), intent, batch: format!("{}/{}", tag("author:"), tag("batch:")), weight })
        })
        .collect()
}

/// A small generator whose numbers are the same everywhere (SplitMix64).
pub struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Unquantised weights.
pub struct Weights {
    table: Vec<[f32; 7]>,
    bias: [f32; 7],
}

/// Trains on the given examples.
pub fn fit(examples: &[&Example], plan: &Plan) -> Weights {
    let mut table = vec![[0f32; 7]; BUCKETS];
    let mut gsq = vec![[1e-2f32; 7]; BUCKETS];
    let mut bias = [0f32; 7];
    let mut bsq = [1e-2f32; 7];
    let mut order: Vec<usize> = (0..examples.len()).collect();
    let mut random = Random(0x5eed);
    let mut kept: Vec<(u32, f32)> = Vec::new();
    for _epoch in 0..plan.epochs {
        for i in (1..order.len()).rev() {
            order.swap(i, (random.next() % (i as u64 + 1)) as usize);
        }
        for &index in &order {
            let ex = examples[index];
            kept.clear();
            let cut = (plan.dropout * 65536.0) as u64;
            let mut bits = 0u64;
            let mut k = 0;
            for group in ex.marks.groups() {
                let from = kept.len();
                for b in group {
                    if k % 4 == 0 { bits = random.next(); }
                    k += 1;
                    if (bits & 0xffff) >= cut { kept.push((*b, 0.0)); }
                    bits >>= 16;
                }
                let n = 1.0 / ((kept.len() - from).max(1) as f32).sqrt();
                for e in &mut kept[from..] { e.1 = n; }
            }
            let mut logits = bias;
            for (b, norm) in &kept {
                let row = &table[*b as usize];
                for k in 0..7 { logits[k] += row[k] * norm; }
            }
            let p = softmax(logits);
            let mut g = [0f32; 7];
            for k in 0..7 {
                let target = plan.smoothing / 7.0 + if k == ex.intent { 1.0 - plan.smoothing } else { 0.0 };
                g[k] = (p[k] - target) * ex.weight;
            }
            for (b, norm) in &kept {
                let row = &mut table[*b as usize];
                let sq = &mut gsq[*b as usize];
                for k in 0..7 {
                    let grad = g[k] * norm + plan.decay * row[k];
                    sq[k] += grad * grad;
                    row[k] -= plan.rate * grad / sq[k].sqrt();
                }
            }
            for k in 0..7 {
                bsq[k] += g[k] * g[k];
                bias[k] -= plan.rate * g[k] / bsq[k].sqrt();
            }
        }
    }
    Weights { table, bias }
}

impl Weights {
    /// Whole-number weights.
    pub fn quantised(&self, temperature: f32, threshold: f32) -> Builtin {
        let mut sizes: Vec<f32> = self.table.iter().flatten().map(|w| w.abs()).filter(|w| *w > 0.0).collect();
        sizes.sort_by(f32::total_cmp);
        let top = sizes.get((sizes.len() as f32 * 0.9995) as usize).copied().unwrap_or(1.0);
        let scale = top / 127.0;
        let table = self.table.iter().map(|row| row.map(|w| (w / scale).round().clamp(-127.0, 127.0) as i8)).collect();
        Builtin { table, scale, bias: self.bias, temperature, threshold }
    }
}
