#!/usr/bin/env python3
"""sdpa.py: decode attention beside PyTorch's scaled_dot_product_attention on the same GPU, in turns.

usage: sdpa.py BENCH_CUDA_ATTENTION [TURNS]

BENCH_CUDA_ATTENTION is the built tests/bench/bench_cuda_attention.c. Rates are bytes of keys and
values a second, medians over turns; where there is no PyTorch it says so.
"""
import statistics
import subprocess
import sys

try:
    import torch
except ImportError:
    print("there is no PyTorch here: nothing is compared")
    sys.exit(0)
if not torch.cuda.is_available():
    print("PyTorch sees no GPU: nothing is compared")
    sys.exit(0)

CASES = [(1 << 20, 4, 7), (1 << 17, 4, 7), (1 << 20, 1, 7), (1 << 17, 1, 7)]
HEAD_DIM = 128


class Sdpa:
    """PyTorch over contiguous BF16 keys and values, several sets of them where one stays in the cache."""

    def __init__(self, tokens, kv_heads, heads):
        self.bytes = tokens * kv_heads * HEAD_DIM * 4
        sets = max(1, min(16, (1 << 30) // self.bytes + 1))
        options = {"device": "cuda", "dtype": torch.bfloat16}
        shape = (1, kv_heads, tokens, HEAD_DIM)
        self.kv = [(torch.randn(shape, **options), torch.randn(shape, **options)) for _ in range(sets)]
        self.query = torch.randn(1, kv_heads * heads, 1, HEAD_DIM, **options)
        self.flush = torch.empty(256 << 20, dtype=torch.int8, device="cuda")
        self.calls = max(1, min(16, 2_000_000_000 // self.bytes))
        for _ in range(3):
            self.attend(0)
        torch.cuda.synchronize()
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            for call in range(self.calls):
                self.attend(call)

    def attend(self, call):
        key, value = self.kv[call % len(self.kv)]
        return torch.nn.functional.scaled_dot_product_attention(self.query, key, value, enable_gqa=True)

    def rate(self, mode):
        """Queued behind other calls in a graph, or alone behind work that empties the cache."""
        times = []
        for turn in range(18):
            if mode == "alone":
                self.flush.zero_()
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            if mode == "alone":
                self.attend(turn)
            else:
                self.graph.replay()
            end.record()
            end.synchronize()
            if turn >= 3:
                times.append(begin.elapsed_time(end) / (1 if mode == "alone" else self.calls))
        return self.bytes / statistics.median(times) / 1e6


def main():
    turns = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    bench = subprocess.Popen([sys.argv[1], "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ours(tokens, kv_heads, heads, page, order, mode):
        bench.stdin.write(f"bf16 {HEAD_DIM} {tokens} {kv_heads} {heads} {page} {order} {mode}\n")
        bench.stdin.flush()
        return float(bench.stdout.readline())

    for tokens, kv_heads, heads in CASES:
        sdpa = Sdpa(tokens, kv_heads, heads)
        for mode in ("queued", "alone"):
            rates = {"SDPA": []}
            for name, page, order in (
                ("contiguous", tokens, "order"),
                ("pages of 16 in order", 16, "order"),
                ("scattered", 16, "scatter"),
            ):
                rates[name] = []
                for _ in range(turns):
                    rates["SDPA"].append(sdpa.rate(mode))
                    rates[name].append(ours(tokens, kv_heads, heads, page, order, mode))
            median = {name: statistics.median(values) for name, values in rates.items()}
            print(
                f"{tokens} tokens, {kv_heads} x {heads} heads, {mode}, GB/s: "
                + ", ".join(f"{name} {rate:.0f} ({rate / median['SDPA']:.3f})" for name, rate in median.items()),
                flush=True,
            )
        del sdpa
    bench.stdin.close()
    bench.wait()


main()
