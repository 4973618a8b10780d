"""After a rehearsal, ``check_run.py OUT RANKS``: the ranks trained together, and what was saved loads and has moved."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from safetensors.torch import load_file


def check(out: Path, ranks: int) -> None:
    state = json.loads((out / "trainer_state.json").read_text())
    data = json.loads((out.parent / "faces" / "train.json").read_text())
    batch = 2  # dry_run.sh
    expected = state["global_step"] * batch * ranks / len(data)
    assert abs(state["epoch"] - expected) < 0.2 * expected, f"epoch {state['epoch']}: not {ranks} ranks at work"
    losses = [entry["loss"] for entry in state["log_history"] if "loss" in entry]
    assert len(losses) == state["global_step"], losses
    weights = load_file(out / "model.safetensors")
    gates = [value for name, value in weights.items() if name.endswith("face.fusion.gate")]
    assert len(gates) == 1 and gates[0].abs().max() > 0, "the gate never opened: nothing was trained"
    print(f"{out}: {state['global_step']} steps of {batch * ranks} samples, losses {losses}, gate opened")


if __name__ == "__main__":
    check(Path(sys.argv[1]), int(sys.argv[2]))
