"""Reads back what `cs336c export tensorboard` wrote, with TensorBoard's own reader, and compares it with `metrics.jsonl`.

    pip install tensorboard
    cs336c export tensorboard --runs runs --out events
    python3 tests/bench/read_events.py runs events
"""

import json
import math
import pathlib
import sys

import numpy
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

runs, events = map(pathlib.Path, sys.argv[1:3])
checked = 0
for metrics in sorted(runs.rglob("metrics.jsonl")):
    folder = metrics.parent.relative_to(runs)
    read = EventAccumulator(str(events / folder), size_guidance={"scalars": 0})
    read.Reload()
    wanted = {}
    for line in metrics.read_text().splitlines():
        row = json.loads(line)
        for name, value in row.items():
            if name != "step":
                value = math.nan if value is None else value
                wanted.setdefault(name.replace(":", "/", 1), []).append((row["step"], value))
    assert set(read.Tags()["scalars"]) == set(wanted), (folder, read.Tags()["scalars"], set(wanted))
    for tag, points in wanted.items():
        found = [(e.step, e.value) for e in read.Scalars(tag)]
        assert [s for s, _ in found] == [s for s, _ in points], (folder, tag)
        for (step, a), (_, b) in zip(found, points):
            same = numpy.float32(a) == numpy.float32(b) or (math.isnan(a) and math.isnan(b))
            assert same, (folder, tag, step, a, b)
            checked += 1
print(f"{checked} values agree")
assert checked > 0
