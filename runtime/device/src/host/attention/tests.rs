//! Attention against the interpreter of kernels.

use cs336_compiler::kernel::{
    Access, AttentionKernel, BinOp, DType, Expr, Kernel, KeyBound, Literal, Operand, UnOp,
};
use cs336_compiler::scalar::{Inst, Runtime};

use crate::host::oracle::{Memory, distance, interpret, launch, noise, operand};

/// How large, and what is special.
#[derive(Debug, Clone, Copy)]
struct Case {
    batch: usize,
    groups: usize,
    seq: usize,
    keys: usize,
    over: usize,
    values: usize,
    dtype: DType,
    /// 0: everything is seen; 1: causal, with a soft cap and documents; 2: a window that leaves some rows empty.
    mask: usize,
    /// A bias per group and key is captured, added to the score and wants a gradient.
    bias: bool,
}

impl Case {
    fn kernel(&self, backward: bool) -> AttentionKernel {
        let Self { batch: b, groups: g, seq, keys, over, values, dtype, mask, bias } = *self;
        // Axes: batch, group, seq, key, over, value.
        let dense = |extents: [usize; 6]| {
            let mut strides = [0i64; 6];
            let mut step = 1;
            for (s, e) in strides.iter_mut().zip(extents).rev() {
                if e > 0 {
                    *s = step;
                    step *= e as i64;
                }
            }
            strides.to_vec()
        };
        let of = |extents, dtype, access| -> Operand { operand(dtype, &dense(extents), access) };
        let (q_axes, k_axes) = ([b, g, seq, 0, over, 0], [b, 0, 0, keys, over, 0]);
        let (v_axes, o_axes) = ([b, 0, 0, keys, 0, values], [b, g, seq, 0, 0, values]);
        let (lse, bias_axes) = ([b, g, seq, 0, 0, 0], [0, g, 0, keys, 0, 0]);
        let mut operands = vec![
            of(q_axes, dtype, Access::Read),
            of(k_axes, dtype, Access::Read),
            of(v_axes, dtype, Access::Read),
        ];
        let mut captured = 0;
        if bias {
            operands.push(of(bias_axes, DType::F32, Access::Read));
            captured += 1;
        }
        let doc = captured;
        if mask == 1 {
            operands.push(of([b, 0, 0, keys, 0, 0], DType::I32, Access::Read));
            captured += 1;
        }
        if backward {
            operands.push(of(o_axes, dtype, Access::Read));
            operands.push(of(lse, DType::F32, Access::Read));
            operands.push(of(o_axes, dtype, Access::Read));
            operands.push(of(q_axes, dtype, Access::Write));
            operands.push(of(k_axes, dtype, Access::Write));
            operands.push(of(v_axes, dtype, Access::Write));
            if bias {
                operands.push(of(bias_axes, DType::F32, Access::Write));
            }
        } else {
            operands.push(of(o_axes, dtype, Access::Write));
            operands.push(of(lse, DType::F32, Access::Write));
        }

        let mut score = Expr::arg(0);
        if bias {
            let bias = score.push(Inst::Arg(1));
            score.result = score.push(Inst::Binary(BinOp::Add, score.result, bias));
        }
        if mask == 1 {
            // 2 tanh(s / 2)
            let two = score.push(Inst::Const(Literal::new(2.0)));
            let d = score.push(Inst::Binary(BinOp::Div, score.result, two));
            let t = score.push(Inst::Unary(UnOp::Tanh, d));
            score.result = score.push(Inst::Binary(BinOp::Mul, two, t));
        }
        let mut seen = Expr::constant(1.0);
        let (mut upper, mut lower) = (vec![], vec![]);
        if mask > 0 {
            let key = seen.push(Inst::Pos(0));
            let query = seen.push(Inst::Pos(1));
            let start = seen.push(Inst::Runtime(Runtime::Position));
            let query = seen.push(Inst::Binary(BinOp::Add, query, start));
            seen.result = seen.push(Inst::Binary(BinOp::Le, key, query));
            let bound = |offset| KeyBound { axis: Some(2), offset, plus_position: true };
            if mask == 1 {
                let doc = seen.push(Inst::Arg(1 + doc as u32));
                let zero = seen.push(Inst::Const(Literal::new(0.0)));
                let same = seen.push(Inst::Binary(BinOp::Ne, doc, zero));
                seen.result = seen.push(Inst::Binary(BinOp::And, seen.result, same));
                upper.push(bound(0));
            } else {
                // query - 6 <= key <= query - 3: the first rows see nothing.
                let three = seen.push(Inst::Const(Literal::new(3.0)));
                let near = seen.push(Inst::Binary(BinOp::Add, key, three));
                let a = seen.push(Inst::Binary(BinOp::Le, near, query));
                let six = seen.push(Inst::Const(Literal::new(6.0)));
                let far = seen.push(Inst::Binary(BinOp::Add, key, six));
                let b = seen.push(Inst::Binary(BinOp::Le, query, far));
                seen.result = seen.push(Inst::Binary(BinOp::And, a, b));
                upper.push(bound(-3));
                lower.push(bound(-6));
            }
        }
        let arguments = 0..=captured as u32;
        let slopes = arguments.map(|a| cs336_compiler::graph::scalar_grad::d(&score, a));
        AttentionKernel {
            batch: vec![b],
            queries: vec![g, seq],
            keys,
            over,
            values: vec![values],
            scale: Literal::new(0.37),
            score_grads: if backward { slopes.collect() } else { vec![] },
            score,
            mask: seen,
            pos: vec![3, 2],
            runtime: vec![Runtime::Position],
            upper,
            lower,
            captured,
            wants: if backward { (0..captured).map(|c| bias && c == 0).collect() } else { vec![] },
            operands,
        }
    }

    fn inputs(&self, k: &AttentionKernel) -> Vec<Memory> {
        let extents = Kernel::Attention(k.clone()).extents();
        (k.operands.iter().enumerate())
            .map(|(i, o)| {
                let n: usize = (extents.iter().zip(&o.strides))
                    .map(|(e, s)| if *s == 0 { 1 } else { *e })
                    .product();
                let x = noise(n, 20 + i as u64);
                if o.dtype == DType::I32 {
                    // Few positions belong to no document.
                    x.iter().map(|v| f64::from(*v > -0.8)).collect()
                } else {
                    x
                }
            })
            .collect()
    }
}

fn cases() -> Vec<Case> {
    let base = Case {
        batch: 2,
        groups: 2,
        seq: 5,
        keys: 7,
        over: 3,
        values: 4,
        dtype: DType::F32,
        mask: 0,
        bias: false,
    };
    let mut all = Vec::new();
    for mask in 0..3 {
        for bias in [false, true] {
            all.push(Case { mask, bias, ..base });
            all.push(Case { mask, bias, seq: 70, keys: 90, over: 16, values: 17, ..base });
            all.push(Case { mask, bias, groups: 1, seq: 1, keys: 33, ..base });
        }
        all.push(Case { mask, dtype: DType::Bf16, seq: 17, keys: 20, ..base });
        all.push(Case { mask, batch: 1, groups: 3, seq: 130, keys: 140, over: 1, ..base });
    }
    all
}

/// With 16-bit results one rounding may fall the other way.
fn limit(dtype: DType) -> f64 {
    if dtype == DType::F32 { 3e-5 } else { 2e-2 }
}

#[test]
fn forward_agrees_with_the_interpreter() {
    for case in cases() {
        let k = case.kernel(false);
        let inputs = case.inputs(&k);
        let kernel = Kernel::Attention(k);
        let want = interpret(&kernel, &inputs, &[2.0]);
        let got = launch(&kernel, &inputs, &[2.0], 1);
        for (i, (g, w)) in got.iter().zip(&want).enumerate() {
            let d = distance(g, w);
            assert!(d < limit(case.dtype), "{case:?} operand {i}: {d:e}");
        }
        assert_eq!(got, launch(&kernel, &inputs, &[2.0], 2), "{case:?}");
    }
}

#[test]
fn backward_agrees_with_the_interpreter() {
    for case in cases() {
        let forward = case.kernel(false);
        let inputs = case.inputs(&forward);
        let done = interpret(&Kernel::Attention(forward.clone()), &inputs, &[2.0]);
        let k = case.kernel(true);
        let mut inputs = case.inputs(&k);
        let first = 3 + k.captured;
        inputs[..first + 2].clone_from_slice(&done);
        let kernel = Kernel::AttentionGrad(k);
        let want = interpret(&kernel, &inputs, &[2.0]);
        let got = launch(&kernel, &inputs, &[2.0], 1);
        for (i, (g, w)) in got.iter().zip(&want).enumerate() {
            let d = distance(g, w);
            assert!(d < 4.0 * limit(case.dtype), "{case:?} operand {i}: {d:e}");
        }
        assert_eq!(got, launch(&kernel, &inputs, &[2.0], 2), "{case:?}");
    }
}

#[test]
fn keys_that_problems_share_collect_their_gradients() {
    let case = Case {
        batch: 3,
        groups: 2,
        seq: 9,
        keys: 11,
        over: 4,
        values: 5,
        dtype: DType::F32,
        mask: 1,
        bias: false,
    };
    let mut k = case.kernel(true);
    // One set of keys for all problems: k and dk lose the batch axis.
    let dk = 3 + k.captured + 4;
    for operand in [1, dk] {
        k.operands[operand].strides[0] = 0;
    }
    let mut inputs = case.inputs(&k);
    let lse = 3 + k.captured + 1;
    inputs[lse].fill(1.0);
    let kernel = Kernel::AttentionGrad(k);
    let want = interpret(&kernel, &inputs, &[0.0]);
    let got = launch(&kernel, &inputs, &[0.0], 2);
    for (g, w) in got.iter().zip(&want) {
        assert!(distance(g, w) < 1e-4, "{}", distance(g, w));
    }
}
