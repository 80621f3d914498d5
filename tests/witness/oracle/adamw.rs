//! AdamW (Loshchilov and Hutter 2019) with clipping by the global norm and a cosine schedule, spelled out in f64.

use std::collections::BTreeMap;

use candle_core::{Device, Result, Tensor, Var};

use super::Weights;

/// Its settings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AdamW {
    pub(crate) peak: f64,
    pub(crate) warmup: f64,
    pub(crate) floor: f64,
    pub(crate) betas: (f64, f64),
    pub(crate) eps: f64,
    pub(crate) decay: f64,
    pub(crate) clip: f64,
}

/// One weight with its moments.
struct Trained {
    var: Var,
    m: Vec<f64>,
    v: Vec<f64>,
    decays: bool,
}

/// What a step saw, in f64.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) loss: f64,
    pub(crate) grad_norm: f64,
    pub(crate) lr: f64,
}

impl AdamW {
    /// Trains for `steps` steps on one batch, with gradients by candle. `decays` says which weights decay.
    pub(crate) fn run(
        &self,
        start: &Weights,
        decays: impl Fn(&str) -> bool,
        loss: impl Fn(&Weights) -> Result<Tensor>,
        steps: usize,
    ) -> Result<Vec<Seen>> {
        let mut trained: BTreeMap<String, Trained> = BTreeMap::new();
        for (name, t) in &start.by_name {
            let n = t.elem_count();
            let var = Var::from_tensor(t)?;
            let entry = Trained { var, m: vec![0.0; n], v: vec![0.0; n], decays: decays(name) };
            trained.insert(name.clone(), entry);
        }
        let mut seen = Vec::new();
        for t in 1..=steps {
            let by_name = trained.iter().map(|(n, w)| (n.clone(), w.var.as_tensor().clone()));
            let now = Weights { by_name: by_name.collect() };
            let loss = loss(&now)?;
            let store = loss.backward()?;
            let mut grads: BTreeMap<String, Vec<f64>> = BTreeMap::new();
            for (name, w) in &trained {
                let Some(g) = store.get(w.var.as_tensor()) else {
                    candle_core::bail!("`{name}` has no gradient");
                };
                grads.insert(name.clone(), g.flatten_all()?.to_vec1()?);
            }
            let square: f64 = grads.values().flatten().map(|g| g * g).sum();
            let (grad_norm, lr) = (square.sqrt(), self.lr(t as f64 / steps as f64));
            for (name, w) in &mut trained {
                self.update(w, &grads[name], grad_norm, lr, t as i32)?;
            }
            seen.push(Seen { loss: loss.to_scalar()?, grad_norm, lr });
        }
        Ok(seen)
    }

    /// Linear warm-up, then half a cosine from the peak to `floor * peak`.
    pub(crate) fn lr(&self, x: f64) -> f64 {
        if x < self.warmup {
            return self.peak * x / self.warmup;
        }
        let half = (std::f64::consts::PI * (x - self.warmup) / (1.0 - self.warmup)).cos();
        self.peak * (self.floor + (1.0 - self.floor) * 0.5 * (1.0 + half))
    }

    fn update(&self, w: &mut Trained, g: &[f64], norm: f64, lr: f64, t: i32) -> Result<()> {
        let scale = (self.clip / (norm + 1e-6)).min(1.0);
        let (b1, b2) = self.betas;
        let shape = w.var.as_tensor().shape().clone();
        let mut values: Vec<f64> = w.var.as_tensor().flatten_all()?.to_vec1()?;
        for i in 0..values.len() {
            let h = g[i] * scale;
            w.m[i] = b1 * w.m[i] + (1.0 - b1) * h;
            w.v[i] = b2 * w.v[i] + (1.0 - b2) * h * h;
            let (m, v) = (w.m[i] / (1.0 - b1.powi(t)), w.v[i] / (1.0 - b2.powi(t)));
            let decay = if w.decays { self.decay * values[i] } else { 0.0 };
            values[i] -= lr * (m / (v.sqrt() + self.eps) + decay);
        }
        w.var.set(&Tensor::from_vec(values, shape, &Device::Cpu)?)
    }
}
