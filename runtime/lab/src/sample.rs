//! A model writes: which token comes next, and text from token after token.
//!
//! Logits are divided by the temperature (0: the likeliest token); then top-k keeps the k likeliest, top-p (Holtzman et al. 2020) the smallest set of
//! likeliest ones with at least that share of what is left, min-p (Nguyen et al. 2024) those with at least that share of the likeliest's
//! probability; then one is drawn. Draws are Philox numbers of the purpose `sample`, addressed by (seed, step, place), so a text
//! is the same whenever it is asked for again. Ties are broken by the lower id.

use cs336_compiler::check::hir::SampleSpec;
use cs336_compiler::scalar::{Dist, random};
use cs336_data::Tokenizer;

use crate::error::LabError;
use crate::machine::Machine;

/// How tokens are chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// Divides the logits; 0 takes the likeliest.
    pub temperature: f64,
    /// Keep the k likeliest.
    pub top_k: Option<u64>,
    /// Keep the likeliest with this total probability.
    pub top_p: Option<f64>,
    /// Keep those at least this share of the likeliest.
    pub min_p: Option<f64>,
}

impl Choice {
    /// As a program says.
    pub fn of(spec: &SampleSpec) -> Self {
        let &SampleSpec { temperature, top_k, top_p, min_p, .. } = spec;
        Self { temperature, top_k, top_p, min_p }
    }
}

/// The candidates that are left with their probabilities, likeliest first. Logits that are NaN or -inf are no candidates.
pub fn candidates(logits: &[f32], choice: Choice) -> Vec<(u32, f64)> {
    let mut left: Vec<(u32, f64)> = (0..)
        .zip(logits)
        .filter(|(_, logit)| !logit.is_nan() && **logit > f32::NEG_INFINITY)
        .map(|(id, logit)| (id, f64::from(*logit)))
        .collect();
    left.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    if choice.temperature <= 0.0 {
        left.truncate(1);
    }
    if let Some(k) = choice.top_k {
        left.truncate(usize::try_from(k.max(1)).unwrap_or(usize::MAX));
    }
    let Some(&(_, most)) = left.first() else { return left };
    let temperature = if choice.temperature > 0.0 { choice.temperature } else { 1.0 };
    for (_, value) in &mut left {
        *value = ((*value - most) / temperature).exp();
    }
    normalize(&mut left);
    if let Some(p) = choice.top_p {
        let mut mass = 0.0;
        let enough = left.iter().position(|(_, probability)| {
            mass += probability;
            mass >= p
        });
        left.truncate(enough.map_or(left.len(), |at| at + 1));
        normalize(&mut left);
    }
    if let Some(share) = choice.min_p {
        let least = share * left[0].1;
        left.retain(|(_, probability)| *probability >= least);
        normalize(&mut left);
    }
    left
}

/// The token that the number `unit` in [0, 1) draws; `None` if no logit is a number.
pub fn pick(logits: &[f32], choice: Choice, unit: f64) -> Option<u32> {
    let left = candidates(logits, choice);
    let mut mass = 0.0;
    let drawn = left.iter().find(|(_, probability)| {
        mass += probability;
        unit < mass
    });
    // Rounding may leave the sum a little below 1.
    drawn.or(left.last()).map(|(id, _)| *id)
}

/// What to write.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The start.
    pub prompt: &'a str,
    /// New tokens.
    pub length: u64,
    /// How they are chosen.
    pub choice: Choice,
    /// The run's seed.
    pub seed: u64,
    /// Optimizer steps done: another step, other draws.
    pub step: u64,
    /// Positions that the model knows.
    pub context: usize,
}

/// Writes a text; `sink` gets each piece as soon as its characters are complete. Gives the whole text without the prompt. It ends early
/// where the model ends the document.
pub fn generate(
    machine: &mut dyn Machine,
    tokenizer: &Tokenizer,
    request: Request<'_>,
    sink: &mut dyn FnMut(&str),
) -> Result<String, LabError> {
    let eos = tokenizer.eos();
    let mut ids: Vec<i32> = to_i32(&tokenizer.encode(request.prompt)?);
    if ids.is_empty() {
        // A text begins behind the end of another one; a tokenizer without that token begins anywhere.
        ids.push(eos.unwrap_or(0) as i32);
    }
    let capacity = request.context.min(ids.len() + request.length as usize).max(1);
    let (mut decoder, mut text) = (tokenizer.decoder(), String::new());
    // The model sees its last `capacity` tokens. Where those are full, it reads the newer half again and goes on.
    let mut seen = 0;
    let mut logits = Vec::new();
    for place in 0..request.length {
        if seen == 0 || seen >= capacity {
            let room = if ids.len() < capacity { ids.len() } else { capacity.div_ceil(2) };
            let window = &ids[ids.len() - room..];
            logits = machine.prefill(window, capacity)?;
            seen = room;
        } else if let Some(&last) = ids.last() {
            logits = machine.decode(last, seen)?;
            seen += 1;
        }
        // A vocabulary may have fewer tokens than the model has places for; those others are nobody's.
        logits.truncate(tokenizer.vocab_size());
        let unit = random(
            Dist::Uniform,
            request.seed,
            SAMPLE,
            [place as u32, (place >> 32) as u32, 0],
            request.step as u32,
        );
        let Some(id) = pick(&logits, request.choice, unit) else { break };
        if Some(id) == eos {
            break;
        }
        ids.push(id as i32);
        let piece = decoder.push(id)?;
        if !piece.is_empty() {
            sink(&piece);
            text += &piece;
        }
    }
    let rest = decoder.finish();
    if !rest.is_empty() {
        sink(&rest);
    }
    Ok(text + &rest)
}

/// The stream of the purpose `sample`: the first eight bytes of its name.
const SAMPLE: u64 = u64::from_le_bytes(*b"sample\0\0");

fn normalize(left: &mut [(u32, f64)]) {
    let sum: f64 = left.iter().map(|(_, probability)| probability).sum();
    for (_, probability) in left {
        *probability /= sum;
    }
}

fn to_i32(ids: &[u32]) -> Vec<i32> {
    ids.iter().map(|id| *id as i32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::fake::FakeMachine;

    const PLAIN: Choice = Choice { temperature: 1.0, top_k: None, top_p: None, min_p: None };

    fn logits(probabilities: &[f64]) -> Vec<f32> {
        probabilities.iter().map(|p| p.ln() as f32).collect()
    }

    fn ids(choice: Choice, probabilities: &[f64]) -> Vec<u32> {
        candidates(&logits(probabilities), choice).iter().map(|(id, _)| *id).collect()
    }

    #[test]
    fn what_is_kept() {
        let p = [0.1, 0.5, 0.15, 0.25];
        assert_eq!(ids(PLAIN, &p), [1, 3, 2, 0]);
        assert_eq!(ids(Choice { temperature: 0.0, ..PLAIN }, &p), [1]);
        assert_eq!(ids(Choice { top_k: Some(2), ..PLAIN }, &p), [1, 3]);
        assert_eq!(ids(Choice { top_p: Some(0.5 - 1e-6), ..PLAIN }, &p), [1]);
        assert_eq!(ids(Choice { top_p: Some(0.6), ..PLAIN }, &p), [1, 3]);
        assert_eq!(ids(Choice { top_p: Some(1.0), ..PLAIN }, &p), [1, 3, 2, 0]);
        assert_eq!(ids(Choice { min_p: Some(0.4), ..PLAIN }, &p), [1, 3]);
        assert_eq!(
            ids(Choice { top_k: Some(1), top_p: Some(0.1), min_p: Some(1.0), ..PLAIN }, &p),
            [1]
        );
        // Equal logits: the lower id first.
        assert_eq!(ids(Choice { temperature: 0.0, ..PLAIN }, &[0.25; 4]), [0]);
        assert_eq!(candidates(&[f32::NAN, f32::NEG_INFINITY], PLAIN), []);
        assert_eq!(pick(&[f32::NAN, 0.0], PLAIN, 0.99), Some(1));
    }

    #[test]
    fn top_p_is_of_what_top_k_has_left() {
        let p = [0.4, 0.3, 0.2, 0.1];
        // Of the two left, the first has 4/7.
        let choice = Choice { top_k: Some(2), top_p: Some(0.55), ..PLAIN };
        assert_eq!(ids(choice, &p), [0]);
    }

    #[test]
    fn temperature_and_frequencies() {
        let p = [0.7, 0.2, 0.1];
        let half = candidates(&logits(&p), Choice { temperature: 0.5, ..PLAIN });
        let sum: f64 = p.iter().map(|p| p * p).sum();
        for (id, probability) in half {
            let expected = p[id as usize] * p[id as usize] / sum;
            assert!((probability - expected).abs() < 1e-6);
        }
        let mut counts = [0.0; 3];
        for place in 0..30_000 {
            let unit = random(Dist::Uniform, 1, SAMPLE, [place, 0, 0], 5);
            counts[pick(&logits(&p), PLAIN, unit).expect("a token") as usize] += 1.0 / 30_000.0;
        }
        for (count, p) in counts.iter().zip(p) {
            assert!((count - p).abs() < 0.01, "{counts:?}");
        }
    }

    #[test]
    fn a_text_is_the_same_when_asked_again_and_its_pieces_are_the_whole() {
        let tokenizer = Tokenizer::bytes(&[]).expect("no special tokens");
        let mut machine = FakeMachine::new(256, 4);
        let request =
            Request { prompt: "Once", length: 40, choice: PLAIN, seed: 7, step: 100, context: 16 };
        let mut pieces = String::new();
        let mut write = |request: Request<'_>| {
            pieces.clear();
            let text = generate(&mut machine, &tokenizer, request, &mut |piece| pieces += piece)
                .expect("text");
            assert_eq!(text, pieces);
            text
        };
        let text = write(request);
        assert_eq!(write(request), text);
        assert_ne!(write(Request { step: 101, ..request }), text);
        assert_eq!(write(Request { length: 0, ..request }), "");
        // Longer than the context, without a prompt.
        assert!(!write(Request { prompt: "", ..request }).is_empty());
        // What the model saw never exceeds its context.
        assert!(machine.longest <= 16, "{}", machine.longest);
    }
}
