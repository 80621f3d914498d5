//! The graph of generation: some positions of one sequence, with caches.

use super::TrainParts;
use crate::check::eval::Eval;
use crate::check::trace::{EmitKind, Mode, conform};
use crate::graph::{Affine, Graph, Name};
use crate::programs::{StateInfo, StateStart};

impl Eval<'_> {
    /// `n` positions of one sequence at `Position`, with caches for `capacity`: output `logits` of the last position.
    pub fn decode_graph(
        &mut self,
        parts: &TrainParts,
        n: usize,
        capacity: usize,
    ) -> Option<(Graph, Vec<StateInfo>)> {
        let model = self.start(&parts.model, Mode::Decode(capacity), parts.compute, 1, n)?;
        let columns = self.columns(None);
        let made = (|| {
            let fields = self.output_fields(&model, &columns, parts.span)?;
            let (v, _) = fields.fields.values().next()?;
            let x = self.tensor_node(v.clone(), parts.span)?;
            let b = self.t().b();
            let last = Affine { terms: vec![], offset: n as i64 - 1 };
            let first = Affine { terms: vec![], offset: 0 };
            let x = b.window(x, &Name::from("seq"), last, &[], 0.0).ok()?;
            let x = b.window(x, &Name::from("batch"), first, &[], 0.0).ok()?;
            b.output("logits", x, None);
            let emits = std::mem::take(&mut self.t().levels[0].emits);
            for e in emits {
                if e.kind == EmitKind::Cache {
                    let want = self.t().caches[&e.name].clone();
                    let node = conform(self.t().b(), e.node, &want);
                    self.t().b().output(e.name.as_str(), node, Some(&e.name));
                }
            }
            Some(())
        })();
        let trace = self.trace.take()?;
        made?;
        let caches = trace
            .caches
            .iter()
            .map(|(name, ty)| StateInfo {
                name: Name::from(name.as_str()),
                ty: ty.clone(),
                start: StateStart::Number(0.0),
            })
            .collect();
        Some((trace.levels.into_iter().next()?.b.graph, caches))
    }
}
