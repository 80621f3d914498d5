"""The peer of experiments/shakespeare.cs336 in PyTorch: the same model, recipe and held-out text, several seeds.

    python3 tests/bench/character_model.py TEXT [SEEDS]

Prints, for each seed, the loss (nats per character) on the whole held-out tenth in windows of 64 characters, and their mean: the
figure that the experiment's own loss is compared with. Recipe: Karpathy's nanoGPT, README, character-level on a small machine.
"""

import math
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

LAYERS, WIDTH, HEADS, CONTEXT, BATCH, STEPS = 4, 128, 4, 64, 12, 2000
PEAK, FLOOR, WARMUP, DECAY, CLIP = 1e-3, 1e-4, 100, 0.1, 1.0


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH, bias=False)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.out = nn.Linear(WIDTH, WIDTH, bias=False)
        self.norm2 = nn.LayerNorm(WIDTH, bias=False)
        self.up = nn.Linear(WIDTH, 4 * WIDTH, bias=False)
        self.down = nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, x):
        batch, seq, _ = x.shape
        heads = self.qkv(self.norm1(x)).view(batch, seq, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(heads[0], heads[1], heads[2], is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, seq, WIDTH))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Model(nn.Module):
    def __init__(self, vocab):
        super().__init__()
        self.table = nn.Embedding(vocab, WIDTH)
        self.positions = nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH, bias=False)
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                last = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * LAYERS) if last else 0.02)

    def forward(self, ids):
        x = self.table(ids) + self.positions.weight[: ids.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.norm(x) @ self.table.weight.T


def rate(step):
    if step < WARMUP:
        return PEAK * (step + 1) / (WARMUP + 1)
    share = (step - WARMUP) / (STEPS - WARMUP)
    return FLOOR + 0.5 * (1 + math.cos(math.pi * share)) * (PEAK - FLOOR)


@torch.no_grad()
def held_out(model, ids):
    rows = (len(ids) - 1) // CONTEXT
    x = ids[: rows * CONTEXT].view(rows, CONTEXT)
    y = ids[1 : rows * CONTEXT + 1].view(rows, CONTEXT)
    total = 0.0
    for i in range(0, rows, 256):
        logits = model(x[i : i + 256])
        total += F.cross_entropy(logits.flatten(0, 1), y[i : i + 256].flatten(), reduction="sum").item()
    return total / (rows * CONTEXT)


def run(seed, train, valid, vocab, device):
    torch.manual_seed(seed)
    model = Model(vocab).to(device)
    matrices = [w for w in model.parameters() if w.dim() >= 2]
    vectors = [w for w in model.parameters() if w.dim() < 2]
    groups = [{"params": matrices, "weight_decay": DECAY}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=PEAK, betas=(0.9, 0.99))
    offsets = torch.arange(CONTEXT, device=device)
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        at = torch.randint(len(train) - CONTEXT, (BATCH,)).to(device)[:, None] + offsets
        loss = F.cross_entropy(model(train[at]).flatten(0, 1), train[at + 1].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
    return held_out(model, valid)


def main():
    text = open(sys.argv[1], encoding="utf-8").read()
    seeds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    device = "cuda" if torch.cuda.is_available() else "cpu"
    letters = sorted(set(text))
    ids = torch.tensor([letters.index(c) for c in text], device=device)
    cut = int(0.9 * len(ids))
    losses = []
    for seed in range(seeds):
        began = time.time()
        losses.append(run(seed, ids[:cut], ids[cut:], len(letters), device))
        print(f"seed {seed}: held-out loss {losses[-1]:.4f} ({time.time() - began:.0f} s)", flush=True)
    mean = sum(losses) / len(losses)
    print(f"mean {mean:.4f}, from {min(losses):.4f} to {max(losses):.4f}")


if __name__ == "__main__":
    main()
