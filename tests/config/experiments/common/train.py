"""How long and where to."""

train = {"output_dir": "output/tiny", "max_iter": 90, "device": "cpu", "amp": {"enabled": False}, "seed": None}
