"""Single fused chains, ours beside PyTorch's, eager and compiled, in L2, L3 and memory.

    cargo build --release -p cs336-device --example chains
    python chains.py target/release/examples/chains [--rounds R] [--threads N]

By turns; prints the median rate of each in GB/s (bytes that must move: each input read once, each output written once), the rate of copying as
ours measures it as a chain like the others, and the time of ours over eager and over compiled. Needs torch.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time

SIZES = {"L2": (64, 1024), "L3": (1024, 1024), "DRAM": (16 * 1024, 2048)}
MOVED = {"copy": 2, "gelu_bias": 2, "rmsnorm": 2, "rmsnorm_backward": 4, "softmax": 2, "cross_entropy_backward": 2, "adamw": 7}


def functions(torch):
    F = torch.nn.functional

    def norm(x, y):
        return F.rms_norm(x, (x.shape[-1],), y, 1e-5)

    def norm_backward(x, y, d):
        out = norm(x, y)
        return out, *torch.autograd.grad(out, (x, y), d)

    def entropy_backward(x, y, d):
        out = F.cross_entropy(x, y, reduction="none")
        return out, *torch.autograd.grad(out, (x,), d)

    def adamw(w, g, m, v):
        m.lerp_(g, 0.1)
        v.mul_(0.95).addcmul_(g, g, value=0.05)
        w.mul_(1 - 1e-4).addcdiv_(m / 0.1, (v / 0.05).sqrt_().add_(1e-8), value=-1e-3)

    return {
        "copy": lambda x: x * 2,
        "gelu_bias": lambda x, y: F.gelu(x + y),
        "rmsnorm": norm,
        "rmsnorm_backward": norm_backward,
        "softmax": lambda x: F.softmax(x, -1),
        "cross_entropy_backward": entropy_backward,
        "adamw": adamw,
    }


def peer(how, threads):
    import torch

    torch.set_num_threads(threads)
    for name, function in functions(torch).items():
        for size, (rows, columns) in SIZES.items():
            backward = name.endswith("backward")
            table = lambda: torch.rand(rows, columns)
            if name == "adamw":
                given = [table(), table(), table(), table()]
            elif name == "cross_entropy_backward":
                given = [table().requires_grad_(), torch.randint(columns, (rows,)), torch.rand(rows)]
            elif name.startswith("rmsnorm") or name == "gelu_bias":
                given = [table(), torch.rand(columns)]
                if backward:
                    given = [t.requires_grad_() for t in given] + [table()]
            else:
                given = [table()]
            torch.compiler.reset()
            run = torch.compile(function) if how == "compiled" else function
            with torch.set_grad_enabled(backward):
                for _ in range(3):
                    run(*given)
                times, begin = [], time.perf_counter()
                while len(times) < 5 or time.perf_counter() - begin < 0.3:
                    before = time.perf_counter()
                    run(*given)
                    times.append(time.perf_counter() - before)
            seconds = statistics.median(times)
            rate = 4 * MOVED[name] * rows * columns / seconds / 1e9
            print(json.dumps({"chain": name, "size": size, "seconds": seconds, "gb_per_s": rate}), flush=True)


def rates(command):
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {(line["chain"], line["size"]): line["gb_per_s"] for line in lines}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("ours")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peers", default="eager,compiled")
    args = parser.parse_args()
    peers = args.peers.split(",")
    found = {who: [] for who in ["ours", *peers]}
    for _ in range(args.rounds):
        found["ours"].append(rates([args.ours, str(args.threads)]))
        for how in peers:
            found[how].append(rates([sys.executable, __file__, "--peer", how, str(args.threads)]))
    print("| chain | size | " + " | ".join(found) + " | of copying | " + " | ".join(f"ours / {p}" for p in peers) + " |")
    print("|---" * (4 + 2 * len(peers)) + "|")
    for name in MOVED:
        for size in SIZES:
            rate = {who: statistics.median(turn[name, size] for turn in turns) for who, turns in found.items()}
            copy = statistics.median(turn["copy", size] for turn in found["ours"])
            shown = " | ".join(f"{value:.1f}" for value in rate.values())
            ratios = " | ".join(f"{rate[p] / rate['ours']:.2f}" for p in peers)
            print(f"| {name} | {size} | {shown} | {rate['ours'] / copy:.0%} | {ratios} |")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--peer"]:
        peer(sys.argv[2], int(sys.argv[3]))
    else:
        main()
