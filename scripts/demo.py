"""What demo.sh runs: LLaVA's unmodified training and evaluation, face mode off and on, side by side."""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from demo_table import Run, write_results
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from llava_face_plugin.data.prepared import Prepared
from llava_face_plugin.errors import FaceDataError, FaceError
from llava_face_plugin.evaluation.closed import group_accuracy, read_answers, rule_breaking_share, score
from llava_face_plugin.knowledge.file import Knowledge
from llava_face_plugin.switch import enable
from llava_face_plugin.tiny import build_tiny

console = Console()
TINY = {"hidden": 128, "layers": 2, "image_size": 84, "vision_hidden": 64, "vision_layers": 2}
BATCH = 8
QUESTIONS = 6  # an image, in one conversation
ENVIRONMENT = {"LLAVA_FACE_CPU_DRY_RUN": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONUNBUFFERED": "1"}


def main(
    data: Annotated[Path | None, typer.Option(help="A folder in CelebA's or CelebAMask-HQ's layout.")] = None,
    out: Annotated[Path, typer.Option(help="Where everything is written.")] = Path("demo_output"),
    preset: Annotated[str, typer.Option(help="light | faceinsight")] = "light",
    images: Annotated[int, typer.Option(min=16, help="Training images.")] = 1600,
    val_images: Annotated[int, typer.Option(min=4, help="Held-out images.")] = 40,
    epochs: Annotated[int, typer.Option(min=1)] = 5,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each mode; the table shows mean and spread.")] = 1,
    without: Annotated[list[str] | None, typer.Option(help="Rule group to leave out, e.g. gender.")] = None,
    maps: Annotated[Path | None, typer.Option(help="A map store of --data's images (llava-face segment).")] = None,
) -> None:
    """Train a tiny LLaVA with face mode off and on, on the same data and seeds, and compare."""
    start = time.monotonic()
    out = out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    prepared = prepare(data, out / "data", images, val_images)
    bases = build_bases(out, prepared, preset, without or [], maps.resolve() if maps else None)
    steps = epochs * -(-prepared.rows["train"] // BATCH)
    runs = []
    for seed in range(seeds):
        adapter = write_adapter(out / f"start-{seed}.bin", bases["off"], seed)
        for mode, base in bases.items():
            runs.append(train_and_score(mode, base, prepared, out, adapter, seed, epochs, steps))
    protocol = {
        "data": str(data) if data else "made (drawn faces)", "train_images": prepared.rows["train"],
        "questions": prepared.rows["val questions"], "preset": preset, "epochs": epochs, "batch": BATCH, "seeds": seeds,
        "model": "random tiny Llama (hidden 128, 2 layers), random frozen CLIP tower 84/14: the figures show that "
        "the parts work, not what a trained LLaVA gains",
        "command": " ".join(["scripts/demo.sh", *sys.argv[1:]]), "torch": torch.__version__,
    }  # fmt: skip
    write_results(out, runs, protocol, prepared)
    console.print(f"\nreport: {out / 'report.html'}   table: {out / 'results.json'}")
    console.print(f"done in {time.monotonic() - start:.0f} s")


def prepare(data: Path | None, out: Path, images: int, val_images: int) -> Prepared:
    """Drawn faces, or the user's own copy of a data set."""
    from llava_face_plugin.data import made
    from llava_face_plugin.data.datasets import ReadOptions
    from llava_face_plugin.data.prepare import prepare as prepare_dataset
    from llava_face_plugin.data.prepared import write_knowledge
    from llava_face_plugin.data.splits import SplitOptions

    with progress_bar() as bar:
        tasks: dict[str, Any] = {}

        def report(what: str, done: int, total: int) -> None:
            tasks.setdefault(what, bar.add_task(what, total=total) if what not in tasks else None)
            bar.update(tasks[what], completed=done)

        if data is None:
            prepared = made.make(
                out, images, val_images, seed=0, size=(134, 164), k=QUESTIONS, text_only=images // 16, progress=report
            )
            write_knowledge(prepared, "made")
            return prepared
        splits = SplitOptions(limit=images, val_limit=val_images, holdout=val_images, k=QUESTIONS, seed=0)
        prepared = prepare_dataset(layout(data), data, out, ReadOptions(progress=report), splits)
    for note in prepared.notes:
        console.print(f"note: {note}", markup=False)
    return prepared


def layout(data: Path) -> str:
    """``celeba`` or ``celebamask_hq``, by the files that are there."""
    if any(data.glob("**/list_attr_celeba.*")):
        return "celeba"
    if (data / "CelebA-HQ-img").is_dir() or ((data / "images").is_dir() and (data / "masks").is_dir()):
        return "celebamask_hq"
    raise FaceDataError(
        f"{data}: neither CelebA (list_attr_celeba.txt, img_align_celeba/) nor CelebAMask-HQ (CelebA-HQ-img/ and "
        "CelebAMask-HQ-mask-anno/, or images/ and masks/)"
    )


def build_bases(out: Path, prepared: Prepared, preset: str, without: list[str], maps: Path | None) -> dict[str, Path]:
    """The same random LLM twice: as it is, and with the flag."""
    off, on = out / "base-off", out / "base-on"
    build_tiny(off, **TINY, seed=0)
    settings: dict[str, Any] = {}
    if maps is not None:  # by the image's path in training, by its pixels when questions are answered
        settings["segmentation"] = {"maps": str(maps), "parser": {"type": "precomputed", "path": str(maps)}}
    elif "map index" in prepared.files:
        settings["segmentation"] = {"parser": {"type": "precomputed", "path": str(prepared.files["map index"])}}
    for name in ("config.json",):
        (on / name).unlink(missing_ok=True)
    for link in on.glob("*") if on.exists() else ():
        link.unlink()
    enable(off, preset=preset, knowledge=prepared.files["knowledge"], settings=settings, without=without, out=on)
    return {"off": off, "on": on}


def write_adapter(path: Path, base: Path, seed: int) -> Path:
    """A random projector: LLaVA does not seed its own, and both modes must start alike."""
    hidden = json.loads((base / "config.json").read_text())["hidden_size"]
    vision = json.loads((base / "clip" / "config.json").read_text())["vision_config"]["hidden_size"]
    torch.manual_seed(seed)
    layers = {"0": torch.nn.Linear(vision, hidden), "2": torch.nn.Linear(hidden, hidden)}
    torch.save(
        {f"model.mm_projector.{i}.{k}": v for i, layer in layers.items() for k, v in layer.state_dict().items()},
        path,
    )
    return path


def train_and_score(
    mode: str, base: Path, prepared: Prepared, out: Path, adapter: Path, seed: int, epochs: int, steps: int
) -> Run:
    """Upstream's train_mem.py, then upstream's model_vqa_loader.py on the held-out questions."""
    import llava

    package = Path(llava.__path__[0])
    run = Run(mode, seed)
    checkpoint = out / f"llava-{mode}-{seed}"
    flags = {
        "model_name_or_path": base, "version": "v1", "data_path": prepared.files["train"],
        "image_folder": prepared.image_folder, "vision_tower": out / "base-off" / "clip",
        "pretrain_mm_mlp_adapter": adapter, "mm_projector_type": "mlp2x_gelu", "mm_vision_select_layer": -2,
        "mm_use_im_start_end": False, "mm_use_im_patch_token": False, "image_aspect_ratio": "pad",
        "group_by_modality_length": True, "output_dir": checkpoint, "num_train_epochs": epochs,
        "per_device_train_batch_size": BATCH, "learning_rate": 2e-3, "weight_decay": 0.0, "warmup_ratio": 0.03,
        "lr_scheduler_type": "cosine", "logging_steps": 1, "save_strategy": "no", "model_max_length": 2048,
        "gradient_checkpointing": False, "lazy_preprocess": True, "dataloader_num_workers": 1, "bf16": False,
        "report_to": "none", "seed": seed,
    }  # fmt: skip
    arguments = [text for key, value in flags.items() for text in (f"--{key}", str(value))]
    title = f"train, face mode {mode}" + (f", seed {seed}" if seed else "")
    run.memory_mib = watch([package / "train" / "train_mem.py", *arguments], title, steps, out / f"{mode}-{seed}.log")
    history = json.loads((checkpoint / "trainer_state.json").read_text())["log_history"]
    run.curve = [{k: float(v) for k, v in entry.items()} for entry in history if "loss" in entry]
    run.losses = final_losses(run.curve)
    run.step_ms = 1000 * float(next(e["train_runtime"] for e in history if "train_runtime" in e)) / len(run.curve)
    run.parameters = parameter_count(checkpoint)
    evaluate(run, checkpoint, prepared, package, out)
    return run


def final_losses(curve: list[dict[str, float]]) -> dict[str, float]:
    """Means over the last tenth of the steps; L_bce and L_c over those steps that had labelled faces."""
    last = curve[-max(1, len(curve) // 10) :]
    means = {"loss_lm": statistics.fmean(e.get("loss_lm", e["loss"]) for e in last)}
    for key in ("loss_bce", "loss_logic"):
        values = [e[key] for e in curve if e.get("loss_bce")][-len(last) :]
        if values:
            means[key] = statistics.fmean(values)
    return means


def evaluate(run: Run, checkpoint: Path, prepared: Prepared, package: Path, out: Path) -> None:
    """Fills in accuracy, groups and rule violations."""
    questions = prepared.files["val questions"]
    answers = out / f"answers-{run.mode}-{run.seed}.jsonl"
    command = [
        package / "eval" / "model_vqa_loader.py", "--model-path", checkpoint, "--image-folder",
        prepared.image_folder, "--question-file", questions, "--answers-file", answers, "--conv-mode", "vicuna_v1",
        "--temperature", 0, "--max_new_tokens", 2,
    ]  # fmt: skip
    watch(
        command,
        f"answer questions, face mode {run.mode}",
        prepared.rows["val questions"],
        out / "answers.log",
    )
    found = read_answers(questions, answers)
    knowledge = Knowledge.load(prepared.files["knowledge"])
    run.score = score(found)
    run.groups = group_accuracy(found, "Male") if "Male" in knowledge.vocabulary else {}
    run.rule_breaking = rule_breaking_share(found, knowledge.rules, knowledge.vocabulary)


def parameter_count(checkpoint: Path) -> int:
    """Parameters in a checkpoint."""
    from safetensors import safe_open

    total = 0
    for file in checkpoint.glob("*.safetensors"):
        with safe_open(str(file), framework="pt") as stream:
            total += sum(torch.Size(stream.get_slice(key).get_shape()).numel() for key in stream.keys())  # noqa: SIM118
    return total


def watch(command: list[Any], title: str, total: int, log: Path) -> float:
    """Runs a Python script with a progress bar; returns its peak memory in MiB. Raises ``SystemExit`` if it fails."""
    done = re.compile(r"'loss': |(\d+)/\d+ \[")
    with progress_bar() as bar, log.open("w") as sink:
        task = bar.add_task(title, total=total)
        process = subprocess.Popen(
            [sys.executable, *map(str, command)], env={**os.environ, **ENVIRONMENT}, text=True, bufsize=1,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            sink.write(line)
            for match in done.finditer(line):
                if match.group(1):
                    bar.update(task, completed=int(match.group(1)))
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{title}: failed with exit code {process.returncode}; see {log}")
        bar.update(task, completed=total)
    return usage.ru_maxrss / 1024


def progress_bar() -> Progress:
    return Progress(
        TextColumn("{task.description:<36}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TimeRemainingColumn(), console=console,
    )  # fmt: skip


if __name__ == "__main__":
    try:
        typer.run(main)
    except FaceError as error:
        sys.exit(f"error: {error}")
