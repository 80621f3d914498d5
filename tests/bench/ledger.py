"""How long the ledger takes: writes runs as folders, then asks them.

    python3 tests/bench/ledger.py target/release/cs336c [runs]

Prints seconds for the first question (every folder is read), for the same again (nothing changed), after one run has changed, and for
SQL. Each is the best of three, with files in the system's cache. The folders are written to a temporary place and removed.
"""

import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

MEANING = """batch = 65536.0 tokens
budget = {budget} FLOPs
data = files({{pattern = "corpus/*.txt"}}) |> encode({{tokenizer = tokenizer {{
kind = "bytes"
}}}}) |> pack({{seq = 1024.0}})
model = llama({{layers = {layers}.0, d = {d}.0, heads = 8.0, ff = {ff}.0, vocab = 257.0, tied = false}})
optimizer = adamw({{lr = cosine({{peak = {lr}, warmup = 0.02, floor = 0.1}}), betas = [0.9, 0.95], decay = 0.1, clip = 1.0}})
seed = {seed}.0
definitions {{
{definitions}
}}
"""


def write(root, i, draw):
    budget = draw.choice([1e17, 3e17, 1e18, 3e18, 1e19])
    layers, d, lr = draw.randint(2, 24), 64 * draw.randint(2, 24), draw.choice([1e-3, 3e-3])
    params = 12 * layers * d * d
    meaning = MEANING.format(
        budget=budget, layers=layers, d=d, ff=4 * d, lr=lr, seed=i,
        definitions="\n".join(f"Layer{k} = Layer fn Layer{k}[d] {{ {'x' * 200} }}" for k in range(20)),
    )
    folder = root / "runs" / f"sweep{i // 100}" / f"{i % 100:02}-{i:08x}"
    folder.mkdir(parents=True)
    manifest = {
        "version": 1, "name": f"sweep{i // 100}/{i % 100:02}", "key": f"{i:064x}",
        "inputs": {"meaning": meaning, "data": {"data": "aa"}, "numerics": 1, "device": None},
        "sources": [["a.cs336", "x" * 3000]], "seeds": {"order": i}, "cs336c": "0.1.0",
        "machine": {"os": "linux", "arch": "x86_64", "threads": 2}, "created": 1_700_000_000 + i,
    }
    tokens = budget / 6 / params
    loss = 1.7 + 400 / params**0.34 + 400 / tokens**0.28 + draw.gauss(0, 0.01)
    result = {"version": 1, "step": 100, "tokens": tokens, "flops": budget, "params": params,
              "seconds": 100.0, "loss": loss + 0.1, "valid_loss": loss}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2))
    (folder / "result.json").write_text(json.dumps(result))
    return folder


def seconds(binary, root, *words):
    start = time.perf_counter()
    done = subprocess.run([binary, "query", *words], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return time.perf_counter() - start, done.stdout


def main():
    binary = os.path.abspath(sys.argv[1])
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 10_000
    draw = random.Random(1)
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        folders = [write(root, i, draw) for i in range(count)]
        best = "runs |> keep(.valid_loss < 9) |> best_by(.valid_loss, per = .budget)"

        def first():
            (root / "runs" / "index.parquet").unlink(missing_ok=True)
            return seconds(binary, root, best)

        def changed():
            path = folders[count // 2] / "result.json"
            path.write_text(path.read_text() + " ")
            return seconds(binary, root, best)

        sql = "select budget, min(valid_loss) as least, count(*) as n from runs group by budget order by budget"
        for name, ask in [
            ("every folder read", first),
            ("nothing changed", lambda: seconds(binary, root, best)),
            ("one run changed", changed),
            ("SQL", lambda: seconds(binary, root, "--sql", sql)),
        ]:
            tries = [ask() for _ in range(3)]
            print(f"{name:<20} {min(t for t, _ in tries):7.3f} s   {len(tries[0][1].splitlines()) - 1} rows")


main()
