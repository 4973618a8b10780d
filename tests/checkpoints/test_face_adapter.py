"""The face adapter: one file out of a model of any host, into another, and every reason to refuse."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_models import asked_hf, asked_v1, llava_v1, load_v1, question
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from llava_face_plugin.checkpoints import FaceAdapter, apply_adapter, convert, load_adapter, save_adapter
from llava_face_plugin.cli.main import app
from llava_face_plugin.config import FaceConfig
from llava_face_plugin.errors import FaceConfigError, FaceDataError, FaceHostError
from llava_face_plugin.model_files import read_config, write_config
from tests.hosts_hf import tiny_hf

pytestmark = pytest.mark.contract


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("adapter")


@pytest.fixture(scope="module")
def trained(root: Path) -> Path:
    """A trained Llava of transformers, with knowledge."""
    return trained_of("llava", root)


@pytest.fixture(scope="module")
def adapter(root: Path, trained: Path) -> Path:
    save_adapter(trained, root / "face.safetensors")
    return root / "face.safetensors"


def trained_of(family: str, root: Path) -> Path:
    out = root / f"{family}-trained"
    if not out.exists():
        model = tiny_hf.load(tiny_hf.switched_on(family, root))
        tiny_hf.open_gates(model)
        model.save_pretrained(out)
    return out


def logits(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return model(**inputs).logits


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file with its bytes and time."""
    return {
        str(p.relative_to(folder)): (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()
    }


@pytest.mark.parametrize("family", ["llava", "llava_next", "llava_onevision"])
def test_a_plain_model_becomes_the_trained_one(root: Path, tmp_path: Path, family: str) -> None:
    source, plain = trained_of(family, root), root / family
    written = save_adapter(source, tmp_path / "face.safetensors")
    before = contents(plain)
    done = apply_adapter(tmp_path / "face.safetensors", plain, tmp_path / "out")
    assert contents(plain) == before and done.notes == []
    inputs = tiny_hf.batch(family)
    expected = logits(tiny_hf.load(source), inputs)
    assert torch.equal(logits(tiny_hf.load(tmp_path / "out"), inputs), expected)
    assert not torch.equal(logits(tiny_hf.load(plain), tiny_hf.without_maps(inputs)), expected)
    assert FaceConfig.of(read_config(tmp_path / "out")) == FaceConfig.of(read_config(source)) == written.face
    live = tiny_hf.load(tiny_hf.switched_on(family, root))
    load_adapter(live, tmp_path / "face.safetensors")
    assert torch.equal(logits(live, inputs), expected)


def test_the_file_is_small_and_says_what_it_is(adapter: Path, trained: Path) -> None:
    with safe_open(adapter, framework="pt") as stream:
        header = json.loads(stream.metadata()["face_adapter"])
        names = set(stream.keys())
    assert {name.split(".")[0] for name in names} == {"segmentation", "fusion", "knowledge"}
    held = load_file(trained / "model.safetensors")
    face = {n.partition(".face.")[2]: t for n, t in held.items() if ".face." in n}
    assert {n: t.tolist() for n, t in load_file(adapter).items()} == {n: t.tolist() for n, t in face.items()}
    assert (header["format"], header["vision_width"], header["llm_width"], header["host"]) == (
        1,
        32,
        64,
        "transformers",
    )
    assert header["vision"] == {"model_type": "clip_vision_model", "image_size": 56, "patch_size": 14}
    assert header["face"] == read_config(trained)["face"]


def test_large_files_are_linked_and_nothing_else(root: Path, adapter: Path, tmp_path: Path) -> None:
    apply_adapter(adapter, root / "llava", tmp_path / "out")
    base = tmp_path / "out" / "model-base.safetensors"
    assert base.samefile(root / "llava" / "model.safetensors")
    linked = [p.name for p in (tmp_path / "out").iterdir() if p.stat().st_nlink > 1]
    assert linked == [base.name]
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"].values()) == {"model-base.safetensors", "model-face.safetensors"}
    size = sum(t.nbytes for name in set(index["weight_map"].values()) for t in load_file(base.parent / name).values())
    assert index["metadata"]["total_size"] == size


def test_shards_stay_as_they_are(root: Path, adapter: Path, trained: Path, tmp_path: Path) -> None:
    model = tiny_hf.load(root / "llava")
    model.save_pretrained(tmp_path / "llava", max_shard_size="200KB")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(root / "llava" / name, tmp_path / "llava" / name)
    shards = sorted((tmp_path / "llava").glob("model-*.safetensors"))
    assert len(shards) > 2
    apply_adapter(adapter, tmp_path / "llava", tmp_path / "out")
    assert all((tmp_path / "out" / shard.name).samefile(shard) for shard in shards)
    inputs = tiny_hf.batch("llava")
    assert torch.equal(logits(tiny_hf.load(tmp_path / "out"), inputs), logits(tiny_hf.load(trained), inputs))


@pytest.mark.parametrize("sharded", [False, True])
def test_bin_files_get_a_bin_file(root: Path, adapter: Path, trained: Path, tmp_path: Path, sharded: bool) -> None:
    source = tmp_path / "llava"
    shutil.copytree(root / "llava", source)
    weights = load_file(source / "model.safetensors")
    (source / "model.safetensors").unlink()
    names = sorted(weights)
    if sharded:
        halves = {"pytorch_model-00001-of-00002.bin": names[::2], "pytorch_model-00002-of-00002.bin": names[1::2]}
        for file, held in halves.items():
            torch.save({n: weights[n] for n in held}, source / file)
        index = {"metadata": {}, "weight_map": {n: f for f, held in halves.items() for n in held}}
        (source / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    else:
        torch.save(weights, source / "pytorch_model.bin")
    apply_adapter(adapter, source, tmp_path / "out")
    assert (tmp_path / "out" / "pytorch_model-face.bin").exists()
    inputs = tiny_hf.batch("llava")
    assert torch.equal(logits(tiny_hf.load(tmp_path / "out"), inputs), logits(tiny_hf.load(trained), inputs))


def test_the_projector_goes_along_if_asked(root: Path, tmp_path: Path) -> None:
    model = tiny_hf.load(tiny_hf.switched_on("llava", root))
    tiny_hf.open_gates(model)
    with torch.no_grad():
        model.model.multi_modal_projector.linear_1.weight.mul_(1.5)
    model.save_pretrained(tmp_path / "trained")
    inputs, plain = tiny_hf.batch("llava"), root / "llava"
    save_adapter(tmp_path / "trained", tmp_path / "alone.safetensors")
    done = apply_adapter(tmp_path / "alone.safetensors", plain, tmp_path / "alone")
    assert len(done.notes) == 1 and "another projector" in done.notes[0]
    assert not torch.equal(logits(tiny_hf.load(tmp_path / "alone"), inputs), logits(model, inputs))
    save_adapter(model, tmp_path / "both.safetensors", with_projector=True)
    before = contents(plain)
    done = apply_adapter(tmp_path / "both.safetensors", plain, tmp_path / "both")
    assert done.notes == ["the projector was replaced by the adapter's"] and contents(plain) == before
    assert torch.equal(logits(tiny_hf.load(tmp_path / "both"), inputs), logits(model, inputs))
    held = [name for file in (tmp_path / "both").glob("*.safetensors") for name in load_file(file)]
    assert len(held) == len(set(held)), "a loader that goes by files would find two projectors"
    live = tiny_hf.load(tiny_hf.switched_on("llava", root))
    load_adapter(live, tmp_path / "both.safetensors")
    assert torch.equal(logits(live, inputs), logits(model, inputs))


@pytest.mark.parametrize("layout", ["whole", "first stage", "lora"])
def test_llavas_own_layouts(tiny_base: Path, tmp_path: Path, layout: str) -> None:
    """A checkpoint, mm_projector.bin and non_lora_trainables.bin give the same adapter, and it fits both hosts."""
    face = llava_v1(tiny_base, tmp_path / "llava-face", {"knowledge": "made"})
    plain = llava_v1(tiny_base, tmp_path / "llava-plain")
    weights = load_file(face / "model.safetensors")
    projector = {n: t for n, t in weights.items() if "mm_projector" in n}
    same = {n: t for n, t in projector.items() if ".face." not in n}
    save_file(load_file(plain / "model.safetensors") | same, plain / "model.safetensors", metadata={"format": "pt"})
    source, base = face, None
    if layout != "whole":
        source, base = tmp_path / "part", face
        source.mkdir()
        shutil.copyfile(face / "config.json", source / "config.json")
        lora = layout == "lora"
        named = {("base_model.model." if lora else "") + n: t for n, t in projector.items()}
        torch.save(named, source / ("non_lora_trainables.bin" if lora else "mm_projector.bin"))
        if lora:
            (source / "adapter_config.json").write_text("{}")
    written = save_adapter(source, tmp_path / "face.safetensors", base=base)
    assert written.host == "llava" and written.vision["image_size"] == 56
    expected = {n.partition(".face.")[2]: t for n, t in projector.items() if ".face." in n}
    assert all(torch.equal(written.tensors[n], t) for n, t in expected.items())
    apply_adapter(tmp_path / "face.safetensors", plain, tmp_path / "llava-out")
    ids, pixels = question()
    first = asked_v1(load_v1(face), ids, pixels)
    assert torch.equal(asked_v1(load_v1(tmp_path / "llava-out"), ids, pixels), first)
    if layout == "whole":  # and into transformers' classes
        convert(plain, tmp_path / "hf", "hf")
        apply_adapter(tmp_path / "face.safetensors", tmp_path / "hf", tmp_path / "hf-face")
        found = asked_hf(tiny_hf.load(tmp_path / "hf-face"), ids, pixels, 16)
        assert torch.allclose(found[:, : first.shape[1]], first, atol=1e-5)
        live = load_v1(tmp_path / "llava-out")
        with torch.no_grad():
            live.get_model().mm_projector.face.fusion.gate.zero_()
        load_adapter(live, tmp_path / "face.safetensors")
        assert torch.equal(asked_v1(live, ids, pixels), first)


def test_another_tokenizer_gets_its_own_ids(root: Path, adapter: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(root / "llava", tmp_path / "llava"))
    tokenizer = json.loads((source / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    (source / "tokenizer.json").write_text(json.dumps(tokenizer))
    done = apply_adapter(adapter, source, tmp_path / "out")
    assert len(done.notes) == 1 and "other token ids" in done.notes[0]
    block = FaceConfig.of(read_config(tmp_path / "out"))
    assert block is not None and block.knowledge is not None and block == done.face
    old = FaceAdapter.read(adapter).face.knowledge
    assert old is not None
    swap = {vocabulary["a"]: vocabulary["b"], vocabulary["b"]: vocabulary["a"]}
    for attribute, before in zip(block.knowledge.attributes, old.attributes, strict=True):
        assert attribute.tokens == [swap.get(i, i) for i in before.tokens]


Change = Callable[[dict[str, Any]], None]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: h.update(llm_width=48), "fusion.gate has shape"),
        (lambda h: h["face"]["fusion"].update(type="channel"), "not those of the face block"),
        (lambda h: h["face"].update(version=2), "face.version"),
        (lambda h: h.update(format=2), "format 2, this version reads 1"),
        (lambda h: h.update(tensors_sha256="0" * 64), "damaged"),
        (lambda h: h.pop("llm_width"), "header cannot be read"),
    ],
)
def test_a_bad_file_is_refused_in_one_line(adapter: Path, tmp_path: Path, change: Change, message: str) -> None:
    with safe_open(adapter, framework="pt") as stream:
        header = json.loads(stream.metadata()["face_adapter"])
    change(header)
    bad = tmp_path / "bad.safetensors"
    save_file(load_file(adapter), bad, metadata={"face_adapter": json.dumps(header)})
    with pytest.raises((FaceDataError, FaceConfigError), match=message) as caught:
        FaceAdapter.read(bad)
    assert str(bad) in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_no_adapter_is_refused(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(FaceDataError, match="not a face adapter"):
        FaceAdapter.read(trained / "model.safetensors")
    with pytest.raises(FaceDataError, match="no such file"):
        FaceAdapter.read(tmp_path / "absent")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(FaceDataError, match="not a readable safetensors file"):
        FaceAdapter.read(tmp_path / "text")


def test_save_says_what_is_missing(root: Path, trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "face.safetensors"
    with pytest.raises(FaceConfigError, match="face mode is off"):
        save_adapter(root / "llava", out)
    with pytest.raises(FaceDataError, match="holds no face weights"):
        save_adapter(tiny_hf.switched_on("llava", root), out)
    with pytest.raises(FaceHostError, match="face mode is off in this model"):
        save_adapter(tiny_hf.load(root / "llava"), out)
    with pytest.raises(FaceConfigError, match="no such directory"):
        save_adapter(tmp_path / "absent", out)
    half = Path(shutil.copytree(trained, tmp_path / "half"))
    weights = load_file(half / "model.safetensors")
    gone = next(name for name in weights if name.endswith("face.fusion.gate"))
    save_file({n: t for n, t in weights.items() if n != gone}, half / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(FaceDataError, match=r"half.*missing \['fusion.gate'\]"):
        save_adapter(half, out)
    (half / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(FaceDataError, match="model.safetensors: cannot be read"):
        save_adapter(half, out)
    assert not out.exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"text_config": {"hidden_size": 32, "num_attention_heads": 4}},
            "language model are 32 wide",
        ),
        ({"vision_config": {"hidden_size": 16}}, "vision features are 16 wide"),
        ({"vision_config": {"image_size": 28}}, "image_size of its vision tower is 28, the adapter's was 56"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(
    root: Path, adapter: Path, tmp_path: Path, settings: dict[str, dict[str, int]], message: str
) -> None:
    from transformers import AutoConfig, AutoModelForImageTextToText

    config = AutoConfig.from_pretrained(root / "llava")
    for block, values in settings.items():
        for key, value in values.items():
            setattr(getattr(config, block), key, value)
    AutoModelForImageTextToText.from_config(config).save_pretrained(tmp_path / "other")
    with pytest.raises(FaceConfigError, match=message):
        apply_adapter(adapter, tmp_path / "other", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_apply_refuses_and_leaves_nothing_behind(root: Path, adapter: Path, trained: Path, tmp_path: Path) -> None:
    with pytest.raises(FaceConfigError, match="holds face weights already"):
        apply_adapter(adapter, trained, tmp_path / "out")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    with pytest.raises(FaceConfigError, match="exists and is not an empty directory"):
        apply_adapter(adapter, root / "llava", tmp_path / "taken")
    bare = Path(shutil.copytree(root / "llava", tmp_path / "bare", ignore=shutil.ignore_patterns("tokenizer*")))
    with pytest.raises(FaceConfigError, match="its tokenizer is needed"):
        apply_adapter(adapter, bare, tmp_path / "out")
    linear = Path(shutil.copytree(root / "llava", tmp_path / "linear"))
    weights = load_file(linear / "model.safetensors")
    save_file({n: t for n, t in weights.items() if "linear_" not in n}, linear / "model.safetensors")
    with pytest.raises(FaceConfigError, match="has no MLP projector"):
        apply_adapter(adapter, linear, tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bare", "linear", "taken"]


def test_append_does_not_go_on_tiles(root: Path, tmp_path: Path) -> None:
    model = tiny_hf.load(tiny_hf.switched_on("llava", root, fusion="append"))
    save_adapter(model, tmp_path / "append.safetensors")
    with pytest.raises(FaceConfigError, match="'append' adds tokens"):
        apply_adapter(
            tmp_path / "append.safetensors", tiny_hf.build("llava_next", root / "llava_next"), tmp_path / "out"
        )


def test_a_model_in_memory_with_another_block_is_refused(root: Path, adapter: Path) -> None:
    other = tiny_hf.load(tiny_hf.switched_on("llava", root, fusion="channel"))
    with pytest.raises(FaceConfigError, match="fusion.type differ"):
        load_adapter(other, adapter)
    without = tiny_hf.load(tiny_hf.switched_on("llava", root, knowledge=None))
    with pytest.raises(FaceConfigError, match="knowledge differ"):
        load_adapter(without, adapter)


def test_a_lora_in_the_branch_must_be_merged(root: Path, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(target_modules=r".*multi_modal_projector\.face\.segmentation\.widen", r=2)
    model = peft.get_peft_model(tiny_hf.load(tiny_hf.switched_on("llava", root)), config)
    with pytest.raises(FaceDataError, match="LoRA was put into the face branch"):
        save_adapter(model, tmp_path / "face.safetensors")
    assert save_adapter(model.merge_and_unload(), tmp_path / "face.safetensors").tensors


def test_the_commands(root: Path, trained: Path, tmp_path: Path) -> None:
    run = CliRunner()
    file, out = tmp_path / "face.safetensors", tmp_path / "out"
    saved = run.invoke(app, ["adapter", "save", str(trained), str(file), "--with-projector"])
    assert saved.exit_code == 0 and "20 attributes" in saved.stdout and "in the file" in saved.stdout
    applied = run.invoke(app, ["adapter", "apply", str(file), str(root / "llava"), "--out", str(out)])
    assert applied.exit_code == 0 and f"face mode is on in {out}" in applied.stdout
    checked = run.invoke(app, ["doctor", str(out), "--trained"])
    assert checked.exit_code == 0, checked.stdout
    converted = run.invoke(app, ["convert", str(trained), str(tmp_path / "llava-v1"), "--to", "pytorch"])
    assert converted.exit_code == 1 and isinstance(converted.exception, FaceConfigError)
    shutil.copyfile(root / "llava" / "tokenizer.json", trained / "tokenizer.json")
    shutil.copyfile(root / "llava" / "tokenizer_config.json", trained / "tokenizer_config.json")
    converted = run.invoke(app, ["convert", str(trained), str(tmp_path / "llava-v1"), "--to", "llava"])
    assert converted.exit_code == 0 and "llava_llama, with face mode" in converted.stdout
    assert read_config(tmp_path / "llava-v1")["mm_projector_type"] == "face+mlp2x_gelu"


def test_a_checkpoint_with_a_stale_part_beside_it_is_refused(root: Path, trained: Path, tmp_path: Path) -> None:
    mixed = Path(shutil.copytree(root / "llava", tmp_path / "mixed"))
    write_config(mixed, read_config(mixed) | {"face": read_config(trained)["face"]})
    torch.save({"model.mm_projector.face.fusion.gate": torch.zeros(64)}, mixed / "mm_projector.bin")
    with pytest.raises(FaceDataError, match="keep the one that counts"):
        save_adapter(mixed, tmp_path / "face.safetensors")
