"""Attention on the first GPU, ours beside PyTorch's flash and cuDNN kernels: forward and backward, causal, bf16, milliseconds.

    python3 tests/bench/attention.py CS336C

Ours are the kernels of the programs `attention_..` in gpu.cs336, as `cs336c profile` times them; the peers' are the same shapes by
torch.nn.functional.scaled_dot_product_attention. The least of several repetitions counts.
"""

import json
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
# rows, heads, positions, width of a head
SHAPES = {"attention_16k": (1, 16, 16_384, 64), "attention_1k": (32, 12, 1024, 64), "attention_4k": (4, 16, 4096, 128)}


def ours(command, program):
    line = [command, "profile", os.path.join(HERE, "gpu.cs336"), program, "--device", "cuda", "--steps", "5", "--json"]
    out = subprocess.run(line, capture_output=True, text=True, check=True).stdout
    found = json.loads(next(l for l in out.splitlines() if l.startswith("{")))
    rows = {row["kind"]: 1e3 * row["seconds"] / row["launches"] for row in found["measured"]["rows"] if row["kind"].startswith("attention")}
    return rows["attention"], rows["attention gradient"]


def peer(shape, backend):
    import torch
    from torch.nn.attention import sdpa_kernel
    from torch.nn.functional import scaled_dot_product_attention

    q, k, v, g = (torch.randn(shape, device="cuda", dtype=torch.bfloat16) for _ in range(4))
    for x in (q, k, v):
        x.requires_grad_()
    forward, backward = [], []
    with sdpa_kernel(backend):
        for _ in range(10):
            marks = [torch.cuda.Event(enable_timing=True) for _ in range(3)]
            marks[0].record()
            out = scaled_dot_product_attention(q, k, v, is_causal=True)
            marks[1].record()
            torch.autograd.grad(out, (q, k, v), g)
            marks[2].record()
            torch.cuda.synchronize()
            forward.append(marks[0].elapsed_time(marks[1]))
            backward.append(marks[1].elapsed_time(marks[2]))
    return min(forward), min(backward)


def main():
    from torch.nn.attention import SDPBackend

    for program, shape in SHAPES.items():
        found = {"ours": ours(sys.argv[1], program)}
        found["flash"] = peer(shape, SDPBackend.FLASH_ATTENTION)
        found["cuDNN"] = peer(shape, SDPBackend.CUDNN_ATTENTION)
        print(f"B {shape[0]} H {shape[1]} T {shape[2]} d {shape[3]}")
        for who, (forward, backward) in found.items():
            print(f"  {who:6} {forward:7.3f} + {backward:7.3f} = {forward + backward:7.3f} ms", flush=True)


if __name__ == "__main__":
    main()
