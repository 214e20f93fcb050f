"""Our calls against the signatures of the installed torch_tensorrt."""

from __future__ import annotations

from pathlib import Path

from tests.backends.dryrun import real_library


def test_nothing_we_say_is_dropped(shared: Path):
    answer = real_library(shared, "signatures")
    assert answer["dropped"] == answer["unknown_to_settings"] == answer["dropped_by_save"] == []
    assert answer["inputs"] == [[[n, 64, 38, 38] for n in (1, 8, 8)], [[n, 128, 19, 19] for n in (1, 8, 8)]]
    assert answer["refused"] == ["enabled_precisions", "use_explicit_typing", "optimisation_level"]
    assert answer["cudagraphs"] and answer["load"]
