"""The recipes: they parse, their dry runs train, and the rehearsal over several hosts ends well."""

from __future__ import annotations

import os
import subprocess
import sysconfig
from pathlib import Path

import pytest

pytestmark = pytest.mark.launch

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
RECIPES = SCRIPTS / "recipes"
SHELL = [*RECIPES.glob("*.sh"), *RECIPES.glob("*.sbatch"), *(SCRIPTS / "rehearsal").glob("*.sh"),
         *(SCRIPTS / "rehearsal" / "shims").iterdir()]  # fmt: skip


@pytest.mark.parametrize("script", SHELL, ids=lambda path: path.name)
def test_shell_parses(script: Path) -> None:
    result = subprocess.run(["bash", "-n", script], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def run(command: list[str], cwd: Path, **env: str) -> str:
    """As a user of this environment would: its programs come first."""
    path = f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}"
    result = subprocess.run(
        command, cwd=cwd, env={**os.environ, "PATH": path, "COLUMNS": "200", **env}, text=True, timeout=900,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-4000:]
    return result.stdout


@pytest.mark.parametrize(
    ("host", "recipe"),
    [
        ("transformers", "torchrun.sh"),
        *(
            pytest.param(host, recipe, marks=pytest.mark.scale)
            for host, recipe in (
                ("llava", "torchrun.sh"), ("llava", "single_gpu.sh"), ("llava", "deepspeed_hostfile.sh"),
                ("transformers", "single_gpu.sh"), ("transformers", "deepspeed_hostfile.sh"),
            )
        ),
    ],
)  # fmt: skip
def test_dry_run(tmp_path: Path, host: str, recipe: str) -> None:
    printed = run(["bash", str(RECIPES / recipe), "--dry-run"], tmp_path, HOST=host, DRY_RUN_DIR=str(tmp_path / "dry"))
    assert printed.count("healthy") == 2 and "not healthy" not in printed, printed[-3000:]
    assert (tmp_path / "dry" / f"llava-{host}-trained" / "model.safetensors").is_file()


def test_a_run_without_face_mode_stops_before_it_trains(tmp_path: Path) -> None:
    """The preflight: the directory was never switched on."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    path = f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}"
    result = subprocess.run(
        ["bash", RECIPES / "single_gpu.sh"], cwd=tmp_path, capture_output=True, text=True, timeout=120,
        env={**os.environ, "PATH": path, "MODEL_DIR": "model", "TRAIN": "/nonexistent/train.py"},
    )  # fmt: skip
    assert result.returncode != 0 and "not healthy" in result.stdout and "nonexistent" not in result.stderr


@pytest.mark.scale
@pytest.mark.parametrize("way", ["torchrun", "deepspeed", "slurm"])
@pytest.mark.parametrize("host", ["llava", "transformers"])
def test_rehearsal_over_two_hosts(tmp_path: Path, way: str, host: str) -> None:
    if os.geteuid() != 0 or subprocess.run(["unshare", "--net", "true"], capture_output=True).returncode:
        pytest.skip("network namespaces need root")
    printed = run(["bash", str(SCRIPTS / "rehearsal" / "multi_host.sh"), way], tmp_path, HOST=host)
    assert f"{way} over 2 hosts, {host}: ok" in printed
    left = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout
    assert not [name for name in left.split() if name.startswith("lf")]
