//! Fused loops against their meaning in f64, and the error of the transcendental functions.

use cs336_compiler::kernel::{
    Access, ColReduce, Effect, Guard, Indirect, Inst, Kernel, Literal, Loop, Stage,
};
use cs336_compiler::scalar::{BinOp, DType, Dist, ReduceOp, UnOp};

use crate::host::oracle::{Memory, distance, eval_col_reduce, eval_loop, launch, noise, operand};

fn load(operand: u32) -> Inst {
    Inst::Load { operand, indirect: vec![], guards: vec![], outside: Literal::new(0.0) }
}

fn number(x: f64) -> Inst {
    Inst::Const(Literal::new(x), DType::F32)
}

fn stage(insts: Vec<Inst>, effects: Vec<Effect>) -> Stage {
    Stage { per_row: false, insts, effects }
}

/// Same result as the oracle, to `tolerance`, and the same bits with two threads.
fn check_loop(k: &Loop, memories: &[Memory], params: &[f64], tolerance: f64, name: &str) {
    let want = eval_loop(k, memories, params);
    let got = launch(&Kernel::Loop(k.clone()), memories, params, 1);
    for (i, (g, w)) in got.iter().zip(&want).enumerate() {
        let d = distance(g, w);
        assert!(d <= tolerance, "{name}: operand {i} differs by {d:e}\n{g:?}\n{w:?}");
    }
    let again = launch(&Kernel::Loop(k.clone()), memories, params, 2);
    let bits = |m: &[Memory]| m.iter().flatten().map(|v| v.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&got), bits(&again), "{name}: threads change the result");
}

/// y = f(x) elementwise over one axis.
fn map(x: Vec<f64>, insts: impl Fn(Inst) -> Vec<Inst>) -> (Loop, Vec<Memory>) {
    let n = x.len();
    let insts = insts(load(0));
    let value = insts.len() as u32 - 1;
    let k = Loop {
        rows: vec![],
        cols: vec![n],
        operands: vec![
            operand(DType::F32, &[1], Access::Read),
            operand(DType::F32, &[1], Access::Write),
        ],
        stages: vec![stage(insts, vec![Effect::Store { operand: 1, value }])],
        row_values: 0,
        params: vec![],
    };
    (k, vec![x, vec![0.0; n]])
}

const SIZES: [usize; 6] = [1, 3, 5, 17, 64, 257];

#[test]
fn a_softmax_row_is_reduced_and_written() {
    for rows in [1, 3] {
        for n in SIZES {
            let k = Loop {
                rows: vec![rows],
                cols: vec![n],
                operands: vec![
                    operand(DType::F32, &[n as i64, 1], Access::Read),
                    operand(DType::F32, &[n as i64, 1], Access::Write),
                    operand(DType::F32, &[1, 0], Access::Write),
                ],
                stages: vec![
                    stage(
                        vec![load(0)],
                        vec![Effect::Reduce { op: ReduceOp::Max, value: 0, into: 0 }],
                    ),
                    stage(
                        vec![
                            load(0),
                            Inst::Row(0),
                            Inst::Binary(BinOp::Sub, 0, 1),
                            Inst::Unary(UnOp::Exp, 2),
                        ],
                        vec![
                            Effect::Store { operand: 1, value: 3 },
                            Effect::Reduce { op: ReduceOp::Sum, value: 3, into: 1 },
                        ],
                    ),
                    Stage {
                        per_row: true,
                        insts: vec![
                            Inst::Row(1),
                            Inst::Unary(UnOp::Log, 0),
                            Inst::Row(0),
                            Inst::Binary(BinOp::Add, 1, 2),
                        ],
                        effects: vec![Effect::Store { operand: 2, value: 3 }],
                    },
                ],
                row_values: 2,
                params: vec![],
            };
            let x = noise(rows * n, 1).iter().map(|v| v * 8.0).collect();
            let memories = [x, vec![0.0; rows * n], vec![0.0; rows]];
            check_loop(&k, &memories, &[], 1e-6, "softmax");
        }
    }
}

#[test]
fn every_storage_type_is_read_and_written() {
    let types = [DType::F32, DType::Bf16, DType::F16, DType::I32, DType::Bool];
    for from in types {
        for to in types {
            for (n, stride) in [(1, 1), (5, 1), (67, 1), (18, 2), (7, -1)] {
                let x: Memory = noise(n * 2, 3).iter().map(|v| (v * 5.0).round()).collect();
                let x: Memory = if from == DType::Bool {
                    x.iter().map(|v| f64::from(*v > 0.0)).collect()
                } else {
                    x
                };
                let mut source = operand(from, &[stride], Access::Read);
                source.offset = if stride < 0 { n as i64 } else { 0 };
                let k = Loop {
                    rows: vec![],
                    cols: vec![n],
                    operands: vec![source, operand(to, &[1], Access::Write)],
                    stages: vec![stage(
                        vec![load(0), Inst::Cast(to, 0)],
                        vec![Effect::Store { operand: 1, value: 1 }],
                    )],
                    row_values: 0,
                    params: vec![],
                };
                check_loop(&k, &[x, vec![0.0; n]], &[], 0.0, &format!("{from:?} to {to:?}"));
            }
        }
    }
}

#[test]
fn halves_round_as_the_scalar_rules_say() {
    let mut x: Memory = noise(400, 5);
    for (i, v) in x.iter_mut().enumerate() {
        *v = f64::from((*v * 2f64.powi(i as i32 % 50 - 30)) as f32);
    }
    x.extend([65504.0, 65519.0, 65520.0, 7e4, -1e30, 0.0, f64::INFINITY, f64::NAN]);
    for dtype in [DType::Bf16, DType::F16] {
        let (k, m) = map(x.clone(), |x| vec![x, Inst::Cast(dtype, 0)]);
        check_loop(&k, &m, &[], 0.0, "cast");
    }
}

#[test]
fn guards_and_indices_choose_what_is_read() {
    for n in SIZES {
        // y[r, c] = x[r, c - 2] where that exists, else -7; plus table[index[r], c].
        let guard = Guard { terms: vec![(1, 1)], offset: -2, limit: n as i64 };
        let rows_guard = Guard { terms: vec![(0, 1)], offset: 0, limit: 3 };
        let outside = Literal::new(-7.0);
        let mut x = operand(DType::F32, &[n as i64, 1], Access::Read);
        x.offset = -2;
        let by_row = Indirect { index: 1, stride: n as i64, limit: 5 };
        let by_column = Indirect { index: 4, stride: 1, limit: n as i64 };
        let k = Loop {
            rows: vec![4],
            cols: vec![n],
            operands: vec![
                x,
                operand(DType::I32, &[1, 0], Access::Read),
                operand(DType::F32, &[0, 1], Access::Read),
                operand(DType::I32, &[0, 1], Access::Read),
                operand(DType::F32, &[0, 0], Access::Read),
                operand(DType::F32, &[n as i64, 1], Access::Write),
            ],
            stages: vec![stage(
                vec![
                    Inst::Load {
                        operand: 0,
                        indirect: vec![],
                        guards: vec![guard, rows_guard],
                        outside,
                    },
                    load(1),
                    Inst::Load { operand: 2, indirect: vec![by_row], guards: vec![], outside },
                    Inst::Binary(BinOp::Add, 0, 2),
                    load(3),
                    Inst::Load { operand: 4, indirect: vec![by_column], guards: vec![], outside },
                    Inst::Binary(BinOp::Mul, 3, 5),
                    Inst::Coord(1),
                    Inst::Coord(0),
                    Inst::Binary(BinOp::Mul, 7, 8),
                    Inst::Cast(DType::F32, 9),
                    Inst::Binary(BinOp::Sub, 6, 10),
                ],
                vec![Effect::Store { operand: 5, value: 11 }],
            )],
            row_values: 0,
            params: vec![],
        };
        let columns = (0..n).map(|c| ((c * 7) % (n + 2)) as f64 - 1.0).collect();
        let memories = [
            noise(4 * n, 1),
            vec![4.0, -1.0, 0.0, 5.0],
            noise(5 * n, 2),
            columns,
            noise(n, 4),
            vec![0.0; 4 * n],
        ];
        check_loop(&k, &memories, &[], 1e-6, "guards");
    }
}

#[test]
fn integers_truth_values_and_parameters() {
    for n in SIZES {
        let int = |x: f64| Inst::Const(Literal::new(x), DType::I32);
        let insts = vec![
            load(0),
            Inst::Coord(0),
            Inst::Binary(BinOp::Sub, 0, 1),
            int(3.0),
            Inst::Binary(BinOp::Mod, 2, 3),
            Inst::Binary(BinOp::Lt, 4, 3),
            Inst::Binary(BinOp::Eq, 4, 1),
            Inst::Unary(UnOp::Not, 6),
            Inst::Binary(BinOp::And, 5, 7),
            Inst::Param(0, DType::F32),
            Inst::Param(1, DType::I32),
            Inst::Cast(DType::F32, 10),
            Inst::Select(8, 9, 11),
            Inst::Unary(UnOp::Abs, 2),
            Inst::Binary(BinOp::Max, 13, 4),
            Inst::Cast(DType::F32, 14),
            Inst::Binary(BinOp::Add, 12, 15),
        ];
        let k = Loop {
            rows: vec![],
            cols: vec![n],
            operands: vec![
                operand(DType::I32, &[1], Access::Read),
                operand(DType::F32, &[1], Access::Accumulate),
                operand(DType::I32, &[0], Access::Write),
            ],
            stages: vec![
                stage(
                    insts.clone(),
                    vec![
                        Effect::Store { operand: 1, value: 16 },
                        Effect::Reduce { op: ReduceOp::Sum, value: 8, into: 0 },
                    ],
                ),
                Stage {
                    per_row: true,
                    insts: vec![Inst::Row(0)],
                    effects: vec![Effect::Store { operand: 2, value: 0 }],
                },
            ],
            row_values: 1,
            params: vec![DType::F32, DType::I32],
        };
        let x: Memory = noise(n, 9).iter().map(|v| (v * 20.0).round()).collect();
        check_loop(&k, &[x, vec![1.0; n], vec![0.0]], &[0.25, -3.0], 1e-6, "integers");
    }
}

#[test]
fn draws_are_those_of_the_scalar_rules() {
    for dist in [Dist::Uniform, Dist::Normal] {
        let draw = Inst::Random {
            dist,
            stream: 0xdead_beef_1234,
            counters: [0, 1, 2],
            seed: [0, 1],
            step: 2,
        };
        let k = Loop {
            rows: vec![3],
            cols: vec![17],
            operands: vec![operand(DType::F32, &[17, 1], Access::Write)],
            stages: vec![stage(
                vec![
                    Inst::Coord(1),
                    Inst::Coord(0),
                    Inst::Const(Literal::new(5.0), DType::I32),
                    draw,
                ],
                vec![Effect::Store { operand: 0, value: 3 }],
            )],
            row_values: 0,
            params: vec![DType::I32, DType::I32, DType::I32],
        };
        let params = [4_000_000_000.0, 3.0, 12.0];
        check_loop(&k, &[vec![0.0; 51]], &params, 1e-6, "random");
    }
}

#[test]
fn more_than_one_column_axis() {
    for (a, b) in [(3, 17), (5, 1), (2, 64)] {
        let k = Loop {
            rows: vec![2, 2],
            cols: vec![a, b],
            operands: vec![
                operand(
                    DType::F32,
                    &[(a * b) as i64, 2 * (a * b) as i64, 1, a as i64],
                    Access::Read,
                ),
                operand(DType::F32, &[2, 1, 0, 0], Access::Write),
            ],
            stages: vec![
                stage(vec![load(0)], vec![Effect::Reduce { op: ReduceOp::Min, value: 0, into: 0 }]),
                stage(
                    vec![load(0), Inst::Row(0), Inst::Binary(BinOp::Sub, 0, 1)],
                    vec![Effect::Reduce { op: ReduceOp::Sum, value: 2, into: 1 }],
                ),
                Stage {
                    per_row: true,
                    insts: vec![Inst::Row(1)],
                    effects: vec![Effect::Store { operand: 1, value: 0 }],
                },
            ],
            row_values: 2,
            params: vec![],
        };
        check_loop(&k, &[noise(4 * a * b, 2), vec![0.0; 4]], &[], 1e-6, "two columns");
    }
}

#[test]
fn column_reductions_agree_whatever_the_threads() {
    for (outer, reduced, cols) in
        [(1, 1, 1), (2, 40, 17), (1, 300, 257), (3, 7, 1), (1, 0, 5), (1, 5000, 64)]
    {
        for chunks in [1, 16] {
            let (r, c) = (reduced as i64, cols as i64);
            let k = ColReduce {
                outer: vec![outer],
                reduced: vec![reduced],
                cols: vec![cols],
                chunks,
                operands: vec![
                    operand(DType::Bf16, &[r * c, c, 1], Access::Read),
                    operand(DType::F32, &[c, 0, 1], Access::Accumulate),
                    operand(DType::F32, &[c, 0, 1], Access::Write),
                    operand(DType::I32, &[c, 0, 1], Access::Write),
                ],
                insts: vec![
                    load(0),
                    Inst::Binary(BinOp::Mul, 0, 0),
                    number(0.5),
                    Inst::Binary(BinOp::Lt, 0, 2),
                ],
                results: vec![(ReduceOp::Sum, 1, 1), (ReduceOp::Max, 0, 2), (ReduceOp::Sum, 3, 3)],
                params: vec![],
            };
            let n = outer * cols;
            let m = [noise(n * reduced, 1), vec![1.0; n], vec![0.0; n], vec![0.0; n]];
            let want = eval_col_reduce(&k, &m, &[]);
            let kernel = Kernel::ColReduce(k);
            let got = launch(&kernel, &m, &[], 1);
            if reduced > 0 {
                for (g, w) in got.iter().zip(&want) {
                    assert!(distance(g, w) < 5e-5, "{reduced} {cols}: {}", distance(g, w));
                }
            } else {
                assert!(got[1].iter().all(|v| *v == 1.0), "nothing is added");
                assert!(got[2].iter().all(|v| *v == f64::NEG_INFINITY));
            }
            assert_eq!(got, launch(&kernel, &m, &[], 2));
        }
    }
}

#[test]
fn a_nan_survives_comparisons_and_reductions() {
    let x: Memory = vec![1.0, f64::NAN, -2.0, 0.5, 3.0, f64::NAN, f64::INFINITY];
    for op in [BinOp::Min, BinOp::Max, BinOp::Mul, BinOp::Lt, BinOp::Ne] {
        let (k, m) = map(x.clone(), |x| vec![x, number(0.0), Inst::Binary(op, 0, 1)]);
        check_loop(&k, &m, &[], 0.0, &format!("{op:?}"));
    }
    for op in [UnOp::Sign, UnOp::IsFinite, UnOp::Not, UnOp::Floor, UnOp::Round, UnOp::Ceil] {
        let (k, m) = map(x.clone(), |x| vec![x, Inst::Unary(op, 0)]);
        check_loop(&k, &m, &[], 0.0, &format!("{op:?}"));
    }
}

#[test]
fn large_maps_do_not_depend_on_threads() {
    let (k, m) = map(noise(100_003, 4), |x| vec![x, Inst::Unary(UnOp::Exp, 0)]);
    check_loop(&k, &m, &[], 1e-6, "large");
}

/// Units in the last place of an f32 between a result and the true value.
fn ulps(got: f64, want: f64) -> f64 {
    let rounded = want as f32;
    if got.is_nan() && rounded.is_nan() || got as f32 == rounded {
        return 0.0;
    }
    if !got.is_finite() || !rounded.is_finite() {
        return if got.is_nan() || rounded.is_nan() { f64::INFINITY } else { 1.0 };
    }
    let exponent = want.abs().log2().floor().max(-126.0);
    (got - want).abs() / 2f64.powf(exponent - 23.0)
}

#[test]
fn transcendental_functions_are_accurate() {
    let table: [(UnOp, f64, f64, f64); 9] = [
        (UnOp::Exp, -110.0, 95.0, 2.0),
        (UnOp::Log, -1.0, 50.0, 2.0),
        (UnOp::Tanh, -12.0, 12.0, 2.5),
        (UnOp::Erf, -6.0, 6.0, 2.5),
        (UnOp::Sigmoid, -110.0, 110.0, 3.0),
        (UnOp::Rsqrt, -1.0, 100.0, 1.5),
        (UnOp::Sin, -60.0, 60.0, 2.0),
        (UnOp::Cos, -60.0, 60.0, 2.0),
        (UnOp::Sqrt, -1.0, 100.0, 0.5),
    ];
    for (op, low, high, most) in table {
        let n = 20_000;
        let mut x: Memory =
            (0..n).map(|i| low + (high - low) * (i as f64 + 0.37) / n as f64).collect();
        for i in 0..2000 {
            // All magnitudes, both signs.
            let tiny = 2f64.powf(-140.0 + f64::from(i) * 0.13);
            x.extend([tiny, -tiny]);
        }
        x.extend([0.0, -0.0, 1.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 1e5, -3e8, 2e30]);
        let x: Memory = x.iter().map(|v| f64::from(*v as f32)).collect();
        let (k, m) = map(x.clone(), |x| vec![x, Inst::Unary(op, 0)]);
        let got = launch(&Kernel::Loop(k), &m, &[], 1).swap_remove(1);
        let mut worst = (0.0, 0.0, 0.0);
        for (x, y) in x.iter().zip(&got) {
            let off = ulps(*y, op.eval(*x));
            if off > worst.0 {
                worst = (off, *x, *y);
            }
        }
        assert!(worst.0 <= most, "{op:?}: {} ulps at {:e}: {:e}", worst.0, worst.1, worst.2);
    }
}

#[test]
fn vectors_and_single_columns_give_the_same_bits() {
    let ops = [UnOp::Exp, UnOp::Log, UnOp::Tanh, UnOp::Erf, UnOp::Sigmoid, UnOp::Sin, UnOp::Cos];
    for op in ops {
        let x: Memory = noise(7, 11).iter().map(|v| v * 3.0).chain([4e4]).collect();
        let run = |x: Vec<f64>| {
            let (k, m) = map(x, |x| vec![x, Inst::Unary(op, 0)]);
            launch(&Kernel::Loop(k), &m, &[], 1).swap_remove(1)
        };
        let together = run(x.clone());
        let alone: Memory = x.iter().map(|v| run(vec![*v])[0]).collect();
        assert_eq!(
            together.iter().map(|v| v.to_bits()).collect::<Vec<_>>(),
            alone.iter().map(|v| v.to_bits()).collect::<Vec<_>>(),
            "{op:?}"
        );
    }
}
