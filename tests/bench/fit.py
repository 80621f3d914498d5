"""Fits of the Chinchilla points: vectorised SciPy with analytic gradients and `cargo run --release -p cs336-fit --example epoch`, by turns.

    python fit.py EPOCH_CSV EPOCH_BINARY [--threads N] [--rounds R]

Prints seconds of each turn and the ratio of the least ones, for the 4,500 published starts and for 4,000 resamplings. Needs numpy and scipy; SciPy
uses one process per thread, so that both sides have as many cores.
"""

import argparse
import itertools
import os
import subprocess
import time

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import multiprocessing

import numpy as np
from scipy.optimize import minimize

DELTA = 1e-3


def points(path):
    table = np.loadtxt(path, delimiter=",", skiprows=1, usecols=(3, 4, 6), comments=None)
    keep = table[:, 2] < np.sort(table[:, 2])[-5]
    n, c, loss = table[keep].T
    return np.log(n), np.log(c / (6 * n)), np.log(loss)


def objective(x, ln_n, ln_d, ln_loss):
    a, b, e, alpha, beta = x
    terms = np.stack([a - alpha * ln_n, b - beta * ln_d, np.full_like(ln_n, e)])
    most = terms.max(axis=0)
    exps = np.exp(terms - most)
    total = exps.sum(axis=0)
    r = most + np.log(total) - ln_loss
    clipped = np.clip(r, -DELTA, DELTA)
    value = (clipped * (r - 0.5 * clipped)).sum()
    share = exps / total * clipped
    ga, gb, ge = share.sum(axis=1)
    return value, np.array([ga, gb, ge, -(share[0] * ln_n).sum(), -(share[1] * ln_d).sum()])


def one_start(job):
    start, data = job
    found = minimize(objective, start, args=data, jac=True, method="L-BFGS-B")
    return found.fun


def one_resample(job):
    seed, start, data = job
    rows = np.random.default_rng(seed).integers(0, len(data[0]), len(data[0]))
    found = minimize(objective, start, args=tuple(v[rows] for v in data), jac=True, method="BFGS")
    return found.x[3]


def scipy_turn(mode, data, threads):
    if mode == "grid":
        grid = itertools.product(range(0, 30, 5), range(0, 30, 5), (-1, -0.5, 0, 0.5, 1), (0, 0.5, 1, 1.5, 2), (0, 0.5, 1, 1.5, 2))
        jobs, work = [(np.array(s, float), data) for s in grid], one_start
    else:
        start = np.array([6.0073404, 6.0179186, 0.5267228, 0.33917084, 0.2849083])
        jobs, work = [(seed, start, data) for seed in range(4000)], one_resample
    began = time.perf_counter()
    if threads == 1:
        found = [work(j) for j in jobs]
    else:
        with multiprocessing.Pool(threads) as pool:
            found = pool.map(work, jobs, chunksize=50)
    seconds = time.perf_counter() - began
    return seconds, min(found) if mode == "grid" else float(np.std(found))


def our_turn(mode, path, binary, threads):
    out = subprocess.run([binary, path, mode, str(threads)], capture_output=True, text=True, check=True)
    seconds, value, _, spread, _ = out.stdout.split()
    return float(seconds), float(value) if mode == "grid" else float(spread)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("csv")
    p.add_argument("binary")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--rounds", type=int, default=2)
    args = p.parse_args()
    data = points(args.csv)
    for mode in ("grid", "bootstrap"):
        theirs, ours = [], []
        for _ in range(args.rounds):
            t, their_value = scipy_turn(mode, data, args.threads)
            o, our_value = our_turn(mode, args.csv, args.binary, args.threads)
            theirs.append(t)
            ours.append(o)
            print(f"{mode}: SciPy {t:.2f} s ({their_value:.10g}), ours {o:.4f} s ({our_value:.10g})", flush=True)
        print(f"{mode}, {args.threads} threads: {min(theirs) / min(ours):.0f} times faster")


if __name__ == "__main__":
    main()
