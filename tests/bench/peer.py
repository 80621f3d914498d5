"""Optimizer steps of the models of tests/bench/models.cs336 in PyTorch and JAX, timed; tests/bench/steps.py runs it beside ours.

    python3 tests/bench/peer.py MODEL eager|compiled|jax STEPS

Prints one line of JSON: seconds to the first step's end (compilation included), the median of the steps after it, peak memory in bytes.
"""

import json
import math
import resource
import statistics
import sys
import time

MODELS = {
    # layers, width, heads, ff, vocab, rows, seq, tied
    "gpt2_124m": ("gpt2", 12, 768, 12, 3072, 50_257, 4, 64, True),
    "llama_162m": ("llama", 12, 768, 12, 2048, 50_304, 4, 64, False),
    "course": ("llama", 4, 512, 16, 1344, 10_000, 32, 256, False),
    "characters": ("gpt2", 4, 128, 4, 512, 65, 12, 64, True),
    # On the first GPU, bf16 beside f32 weights.
    "gpu_llama_162m": ("llama", 12, 768, 12, 2048, 50_304, 32, 1024, False),
    "gpu_llama_407m": ("llama", 24, 1024, 16, 2752, 50_304, 16, 1024, False),
    "gpu_course": ("llama", 4, 512, 16, 1344, 10_000, 64, 256, False),
    "gpu_gpt2_124m": ("gpt2", 12, 768, 12, 3072, 50_304, 64, 1024, True),
}
CLIP = {"characters": 1.0}
THREADS = 2


def ids(rows, seq, vocab):
    spread = lambda at: (at * 2_654_435_761 >> 8) % vocab
    flat = [spread(at) for at in range(rows * seq + 1)]
    row = lambda r, shift: flat[r * seq + shift : r * seq + shift + seq]
    return [row(r, 0) for r in range(rows)], [row(r, 1) for r in range(rows)]


def torch_step(name, compiled):
    import torch
    import torch.nn as nn
    import torch.nn.functional as F

    torch.set_num_threads(THREADS)
    torch.manual_seed(1)
    kind, layers, width, heads, ff, vocab, rows, seq, tied = MODELS[name]
    bias = kind == "gpt2" and name != "characters"
    linear = lambda a, b: nn.Linear(a, b, bias=bias)

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            norm = (lambda: nn.LayerNorm(width, bias=bias)) if kind == "gpt2" else (lambda: nn.RMSNorm(width, eps=1e-5))
            self.norm1, self.norm2 = norm(), norm()
            self.qkv, self.out = linear(width, 3 * width), linear(width, width)
            self.up, self.down = linear(width, ff), linear(ff, width)
            self.gate = linear(width, ff) if kind == "llama" else None

        def forward(self, x, cos, sin):
            b, t, _ = x.shape
            q, k, v = self.qkv(self.norm1(x)).view(b, t, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
            if kind == "llama":
                def turn(z):
                    first, second = z.chunk(2, -1)
                    return torch.cat([first * cos - second * sin, first * sin + second * cos], -1)
                q, k = turn(q), turn(k)
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(y.transpose(1, 2).reshape(b, t, width))
            h = self.norm2(x)
            if kind == "llama":
                return x + self.down(F.silu(self.gate(h)) * self.up(h))
            return x + self.down(F.gelu(self.up(h), approximate="none" if name == "characters" else "tanh"))

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(vocab, width)
            self.positions = nn.Embedding(seq, width) if kind == "gpt2" else None
            self.blocks = nn.ModuleList(Block() for _ in range(layers))
            self.norm = nn.LayerNorm(width, bias=bias) if kind == "gpt2" else nn.RMSNorm(width, eps=1e-5)
            self.head = nn.Linear(width, vocab, bias=False)
            if tied:
                self.head.weight = self.table.weight
            for p in self.parameters():
                if p.dim() == 2:
                    nn.init.normal_(p, std=0.02)
            half = width // heads // 2
            angles = torch.outer(torch.arange(seq), 10_000 ** (-torch.arange(half) / half))
            self.register_buffer("cos", angles.cos())
            self.register_buffer("sin", angles.sin())

        def forward(self, x, y):
            h = self.table(x)
            if self.positions is not None:
                h = h + self.positions.weight
            for block in self.blocks:
                h = block(h, self.cos, self.sin)
            return F.cross_entropy(self.head(self.norm(h)).flatten(0, 1), y.flatten())

    gpu = name.startswith("gpu_")
    device = "cuda" if gpu else "cpu"
    model = Model().to(device)
    x, y = (torch.tensor(z, device=device) for z in ids(rows, seq, vocab))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    clip = CLIP.get(name)
    run = torch.compile(model) if compiled else model

    def step():
        with torch.autocast(device, torch.bfloat16, enabled=gpu):
            loss = run(x, y)
        loss.backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return step


def jax_step(name):
    import os

    os.environ["XLA_FLAGS"] = f"--xla_cpu_multi_thread_eigen=true intra_op_parallelism_threads={THREADS}"
    import jax
    import jax.numpy as jnp

    kind, layers, width, heads, ff, vocab, rows, seq, tied = MODELS[name]
    keys = iter(jax.random.split(jax.random.key(1), 8 * layers + 8))
    normal = lambda *shape: 0.02 * jax.random.normal(next(keys), shape, jnp.float32)
    dh, half = width // heads, width // heads // 2
    weights = {
        "table": normal(vocab, width),
        "norm": jnp.ones(width),
        "blocks": {
            "norm1": jnp.ones((layers, width)),
            "norm2": jnp.ones((layers, width)),
            "qkv": normal(layers, width, 3 * width),
            "out": normal(layers, width, width),
            "up": normal(layers, width, ff),
            "down": normal(layers, ff, width),
        },
    }
    if kind == "llama":
        weights["blocks"]["gate"] = normal(layers, width, ff)
    else:
        weights["positions"] = normal(seq, width)
    if not tied:
        weights["head"] = normal(vocab, width)
    angles = jnp.outer(jnp.arange(seq), 10_000.0 ** (-jnp.arange(half) / half))
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    causal = jnp.tril(jnp.ones((seq, seq), bool))

    def norm(x, gain):
        if kind == "gpt2":
            x = x - x.mean(-1, keepdims=True)
        return x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-5) * gain

    def turn(z):
        first, second = jnp.split(z, 2, -1)
        return jnp.concatenate([first * cos - second * sin, first * sin + second * cos], -1)

    def block(x, w):
        b, t, _ = x.shape
        q, k, v = (norm(x, w["norm1"]) @ w["qkv"]).reshape(b, t, 3, heads, dh).transpose(2, 0, 3, 1, 4)
        if kind == "llama":
            q, k = turn(q), turn(k)
        scores = jnp.where(causal, q @ k.swapaxes(-1, -2) / math.sqrt(dh), -jnp.inf)
        y = (jax.nn.softmax(scores) @ v).transpose(0, 2, 1, 3).reshape(b, t, width)
        x = x + y @ w["out"]
        h = norm(x, w["norm2"])
        if kind == "llama":
            return x + (jax.nn.silu(h @ w["gate"]) * (h @ w["up"])) @ w["down"], None
        return x + jax.nn.gelu(h @ w["up"], approximate=name != "characters") @ w["down"], None

    def loss(w, x, y):
        h = w["table"][x]
        if kind == "gpt2":
            h = h + w["positions"]
        h, _ = jax.lax.scan(block, h, w["blocks"])
        logits = norm(h, w["norm"]) @ (w["table"] if tied else w["head"]).T
        picked = jnp.take_along_axis(logits, y[..., None], -1)[..., 0]
        return (jax.nn.logsumexp(logits, -1) - picked).mean()

    clip = CLIP.get(name)

    def update(state, x, y):
        w, m, v, t = state
        value, g = jax.value_and_grad(loss)(w, x, y)
        if clip:
            size = jnp.sqrt(sum((z * z).sum() for z in jax.tree.leaves(g)))
            g = jax.tree.map(lambda z: z * jnp.minimum(1.0, clip / (size + 1e-6)), g)
        t = t + 1
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = jax.tree.map(lambda v, g: 0.95 * v + 0.05 * g * g, v, g)
        new = lambda w, m, v: w * (1 - 1e-5) - 1e-4 * (m / (1 - 0.9**t)) / (jnp.sqrt(v / (1 - 0.95**t)) + 1e-8)
        return (jax.tree.map(new, w, m, v), m, v, t), value

    update = jax.jit(update, donate_argnums=0)
    zeros = lambda: jax.tree.map(jnp.zeros_like, weights)
    x, y = (jnp.array(z) for z in ids(rows, seq, vocab))
    held = [(weights, zeros(), zeros(), jnp.float32(0))]

    def step():
        held[0], value = update(held[0], x, y)
        return float(value)

    return step


def main():
    name, how, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
    began = time.perf_counter()
    step = jax_step(name) if how == "jax" else torch_step(name, how == "compiled")
    built = time.perf_counter()
    losses, times = [step()], []
    first = time.perf_counter() - built
    for _ in range(steps):
        from_ = time.perf_counter()
        losses.append(step())
        times.append(time.perf_counter() - from_)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if name.startswith("gpu_"):
        import torch

        peak = torch.cuda.max_memory_allocated()
    print(json.dumps({"model": name, "how": how, "first": first, "median": statistics.median(times), "least": min(times), "peak": peak, "built": built - began, "losses": losses[:3]}))


if __name__ == "__main__":
    main()
