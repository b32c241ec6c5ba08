"""Prints a tag's points in a directory of event files, as TensorBoard reads them."""

import json
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

events = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0})
events.Reload()
print(json.dumps([{"Step": e.step, "Wall": e.wall_time, "Value": e.value} for e in events.Scalars(sys.argv[2])]))
