"""Optimizer steps, ours beside PyTorch's and JAX's, in turn on one machine.

    python3 tests/bench/steps.py CS336C [--models characters,course] [--peers eager,compiled,jax] [--rounds 3] [--python PYTHON]

CS336C is the built command; PYTHON one that has torch and jax (`pip install torch jax` in a virtual environment). Each round runs each
in a process of its own, two threads each; the models whose names begin with `gpu_` run on the first GPU. Prints for each model the machine's two ceilings as ours measures them in the same run, the median of the
rounds' median steps, the time to the end of the first step, the peak of memory, and the ratio of ours to the best peer.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
STEPS = {"gpt2_124m": 4, "llama_162m": 4, "course": 3, "characters": 40}
GPU = {"gpu_llama_162m": 30, "gpu_llama_407m": 30, "gpu_course": 60, "gpu_gpt2_124m": 30}


def ours(command, model):
    watch = "import resource, subprocess, sys; r = subprocess.run(sys.argv[1:]); print('peak', resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024); sys.exit(r.returncode)"
    line = [command, "profile", os.path.join(HERE, "gpu.cs336" if model in GPU else "models.cs336"), model, "--steps", str({**STEPS, **GPU}[model]), "--threads", "2", "--device", "cuda" if model in GPU else "cpu", "--json"]
    out = subprocess.run([sys.executable, "-c", watch, *line], capture_output=True, text=True, check=True).stdout.splitlines()
    found = json.loads(next(l for l in out if l.startswith("{")))
    measured, machine = found["measured"], found["machine"]
    kinds = {}
    for row in measured["rows"]:
        kinds[row["kind"]] = kinds.get(row["kind"], 0.0) + row["seconds"]
    return {
        "median": found["median"],
        "first": found["compile"] + measured["load"] + measured["first"],
        "work": found["compile"] + measured["load"],
        # What a plan takes is all that it takes on the GPU.
        "peak": measured["memory"] if model in GPU else int(next(l for l in out if l.startswith("peak")).split()[1]),
        "gflops": machine["gemm_gflops"],
        "gb": machine["copy_gb_per_s"],
        "floor": measured["floor"],
        "rate": found["executed_flops"] / found["median"] / 1e9,
        "dense": found["executed_flops"] / max(1e-9, sum(s for k, s in kinds.items() if k == "contraction" or k.startswith("attention"))) / 1e9,
        "losses": measured["losses"][:3],
    }


def peer(python, model, how):
    line = [python, os.path.join(HERE, "peer.py"), model, how, str({**STEPS, **GPU}[model])]
    done = subprocess.run(line, capture_output=True, text=True)
    if done.returncode != 0:
        print(f"{model} {how}: {done.stderr.strip().splitlines()[-1] if done.stderr else 'failed'}", file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("command")
    parser.add_argument("--models", default=",".join(STEPS))
    parser.add_argument("--peers", default="eager,compiled,jax")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--python", default=sys.executable)
    asked = parser.parse_args()
    peers = [p for p in asked.peers.split(",") if p]
    for model in asked.models.split(","):
        runs = {how: [] for how in ["ours", *peers]}
        for _ in range(asked.rounds):
            runs["ours"].append(ours(asked.command, model))
            for how in peers:
                found = peer(asked.python, model, how)
                if found:
                    runs[how].append(found)
        mid = lambda how, what: statistics.median(r[what] for r in runs[how])
        print(f"\n{model}: {mid('ours', 'gflops'):.0f} GFLOP/s in square products, {mid('ours', 'gb'):.1f} GB/s copying, floor {1e3 * mid('ours', 'floor'):.1f} ms")
        print(f"{'':10} {'step':>10} {'first step':>11} {'memory':>9}")
        for how, found in runs.items():
            if found:
                print(f"{how:10} {1e3 * mid(how, 'median'):8.1f} ms {mid(how, 'first'):9.2f} s {mid(how, 'peak') / 2**20:5.0f} MiB")
        known = [how for how in peers if runs[how]]
        ratio = lambda what, among: mid("ours", what) / min(mid(how, what) for how in among)
        print(f"ours: {mid('ours', 'median') / mid('ours', 'floor'):.2f} of the floor, {mid('ours', 'rate'):.0f} GFLOP/s whole, {mid('ours', 'dense'):.0f} in contractions and attention; {mid('ours', 'work'):.2f} s to compile")
        if known:
            print(f"ours / best peer: step {ratio('median', known):.2f}, memory {ratio('peak', known):.2f}")
        if runs.get("compiled"):
            print(f"ours / compiled: step {ratio('median', ['compiled']):.2f}, first step {ratio('first', ['compiled']):.3f}, memory {ratio('peak', ['compiled']):.2f}")
        print("losses:", {how: [round(l, 4) for l in found[0]["losses"]] for how, found in runs.items() if found}, flush=True)


if __name__ == "__main__":
    main()
