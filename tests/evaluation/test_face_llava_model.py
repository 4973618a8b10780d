"""The classes that lmms-eval makes: arguments, requests of several tasks, images, agreement with ``llava_hf``."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from face_llava_models import GREEDY, Request, picture, simple_requests, write_transformers_llava

pytest.importorskip("lmms_eval", reason="needs the extra eval")

from llava_face_plugin.errors import FaceConfigError, FaceDataError, FaceHostError
from llava_face_plugin.evaluation import scoring
from llava_face_plugin.evaluation.model import registry
from llava_face_plugin.evaluation.model.arguments import QUESTIONS, Arguments
from llava_face_plugin.evaluation.model.face_llava import FaceLlava, FaceLlavaChat
from llava_face_plugin.evaluation.model.generation import MAX_NEW_TOKENS, Generation
from llava_face_plugin.evaluation.model.host import load_host
from llava_face_plugin.evaluation.model.messages import plain, shown
from llava_face_plugin.evaluation.model.visual_cache import VisualCache


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_transformers_llava(tmp_path_factory.mktemp("model") / "hf")


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without a chat template."""
    return write_transformers_llava(tmp_path_factory.mktemp("model") / "bare", chat=None)


@pytest.fixture
def model(checkpoint: Path) -> FaceLlava:
    return FaceLlava(pretrained=str(checkpoint), device="cpu")


@pytest.fixture
def chat(checkpoint: Path) -> FaceLlavaChat:
    return FaceLlavaChat(pretrained=str(checkpoint), device="cpu")


def documents(count: int, asked: int = 3) -> list[dict[str, Any]]:
    return [
        {"question": f"Is the person {word} {n}?", "visuals": [picture(n)]}
        for n in range(count)
        for word in ("smiling", "old", "angry", "sad")[:asked]
    ]


def texts(results: list[Any]) -> list[str]:
    return [result.text for result in results]


def test_the_manifest_names_both_classes() -> None:
    from lmms_eval.models.registry_v2 import ModelRegistryV2

    models = ModelRegistryV2()
    for manifest in registry.manifests():
        models.register_manifest(manifest)
    assert models.get_model_class("face_llava") is FaceLlavaChat
    assert models.get_model_class("face_llava", force_simple=True) is FaceLlava


@pytest.mark.parametrize("which", ["checkpoint", "bare"])
def test_answers_are_those_of_llava_hf(which: str, request: pytest.FixtureRequest) -> None:
    pytest.importorskip("decord", reason="llava_hf imports it")
    path = str(request.getfixturevalue(which))
    from lmms_eval.models.simple.llava_hf import LlavaHf

    ours = FaceLlava(pretrained=path, device="cpu", images_per_batch=4)
    theirs = LlavaHf(pretrained=path, device="cpu", device_map="cpu", dtype="float32", batch_size=1)
    docs = [*documents(6), {"question": "Same person?", "visuals": [picture(1), picture(2)]}]
    answers = texts(ours.generate_until(simple_requests(ours, docs)))
    assert answers == theirs.generate_until(simple_requests(theirs, docs)) and any(answers)


def test_chat_answers_are_those_of_llava_hf(chat: FaceLlavaChat, checkpoint: Path) -> None:
    pytest.importorskip("decord", reason="llava_hf imports it")
    from lmms_eval.models.chat.llava_hf import LlavaHf

    theirs = LlavaHf(pretrained=str(checkpoint), device="cpu", device_map="cpu", dtype="float32", batch_size=1)
    got = []
    for asked in (chat, theirs):
        requests = chat_requests(asked, documents(4))
        got.append([(r.text, r.token_counts.output_tokens) for r in asked.generate_until(requests)])
    assert got[0] == got[1] and any(text for text, _ in got[0])


def chat_requests(model: Any, docs: list[dict[str, Any]], task: str = "talk") -> list[Request]:
    model.task_dict[task] = {"test": docs}

    def messages(doc: dict[str, Any]) -> list[dict[str, Any]]:
        content = [{"type": doc.get("media", "image"), "url": visual} for visual in doc["visuals"]]
        return [{"role": "user", "content": [*content, {"type": "text", "text": doc["question"]}]}]

    return [Request(doc["question"], messages, dict(GREEDY), n, task, "test") for n, doc in enumerate(docs)]


def test_simple_and_chat_say_the_same(model: FaceLlava, chat: FaceLlavaChat) -> None:
    simple = model.generate_until(simple_requests(model, documents(5)))
    assert simple == chat.generate_until(chat_requests(chat, documents(5)))
    assert chat.engine.encoded == 5


def test_tasks_may_be_mixed(model: FaceLlava) -> None:
    """Two tasks with their own documents, images and arguments, request by request; nothing is changed in passing."""
    one = simple_requests(model, documents(4), "one")
    two = simple_requests(model, [{**d, "question": "Why? " + d["question"]} for d in documents(4)[::-1]], "two",
                          {**GREEDY, "max_new_tokens": 3, "until": ["x"]})  # fmt: skip
    mixed = [request for pair in zip(one, two, strict=True) for request in pair]
    before = copy.deepcopy([request.args[1] for request in mixed])
    answers = model.generate_until(mixed)
    assert [request.args[1] for request in mixed] == before
    assert answers[::2] == model.generate_until(one) and answers[1::2] == model.generate_until(two)
    assert all(answer.token_counts.output_tokens <= 3 for answer in answers[1::2])
    assert model.generate_until([]) == []


def rows(pictures: Path, asked: int = 10) -> list[dict[str, Any]]:
    """Rows as in our question files: yes/no and choice questions about three images and one pair, in mixed order."""
    for n in range(3):
        picture(n).save(pictures / f"{n}.png")
    return [
        {"question_id": f"{names}-{n}", "image_id": names[0], "cluster": names[0], "images": names, "video": "",
         "kind": "choice" if n % 4 == 0 else "yes_no", "options": ["young", f"old {n}"], "question": f"Is it {n}?",
         "image_root": str(pictures)}
        for n in range(asked) for names in (["0.png"], ["1.png"], ["2.png"], ["0.png", "1.png"])
    ]  # fmt: skip


WORDED = {"pre_prompt": "Look. ", "post_prompt": " Answer yes or no."}


def task_requests(
    model: Any, docs: list[dict[str, Any]], opened: list[str], messages: Any = scoring.doc_to_messages
) -> list[Request]:
    """As lmms-eval makes them of our YAMLs; ``opened`` gets the images of each call of ``messages``."""
    model.task_dict["file"] = {"test": docs}

    def doc_to_messages(doc: dict[str, Any]) -> Any:
        opened.append(" ".join(doc["images"]))
        return messages(doc, WORDED)

    return [
        Request(scoring.doc_to_text(doc, WORDED), doc_to_messages, dict(GREEDY), n, "file", "test")
        for n, doc in enumerate(docs)
    ]


def test_messages_of_question_files_are_made_once_an_image(checkpoint: Path, tmp_path: Path) -> None:
    """Same answers as ``llava_hf``, same prompts as from each row's own messages."""
    pytest.importorskip("decord", reason="llava_hf imports it")
    from lmms_eval.models.chat.llava_hf import LlavaHf

    docs, opened = rows(tmp_path), []  # type: tuple[list[dict[str, Any]], list[str]]
    chat = FaceLlavaChat(pretrained=str(checkpoint), device="cpu", margin=0)  # one asked again opens its images
    answers = chat.generate_until(task_requests(chat, docs, opened))
    # Each image or pair and kind for its messages; then images 0, 1 and 2 to encode them.
    assert len(opened) == 4 * 2 + 3 and chat.engine.encoded == 3
    theirs = LlavaHf(pretrained=str(checkpoint), device="cpu", device_map="cpu", dtype="float32", batch_size=1)
    assert texts(answers) == texts(theirs.generate_until(task_requests(theirs, docs, [])))
    assert len(set(texts(answers))) > 3

    prompts = [chat._question(*request.args).prompt for request in task_requests(chat, docs, [])]
    rendered = [chat.engine.host.render_chat(shown(plain(scoring.doc_to_messages(doc, WORDED)))) for doc in docs]
    assert prompts == rendered


def test_messages_that_say_something_else_are_made_for_each_question(chat: FaceLlavaChat, tmp_path: Path) -> None:
    """A task of a user's own, on our rows: its texts are not the request's context."""

    def thinks(doc: dict[str, Any], kwargs: dict[str, str]) -> Any:
        (turn,) = scoring.doc_to_messages(doc, kwargs)
        return [
            {"role": "user", "content": [*turn["content"], {"type": "text", "text": f"Think of {doc['question']}"}]}
        ]

    docs, opened = rows(tmp_path), []  # type: tuple[list[dict[str, Any]], list[str]]
    requests = task_requests(chat, docs, opened, thinks)
    prompts = [chat._question(*request.args).prompt for request in requests]
    assert len(opened) == len(docs)
    assert all(f"Think of {doc['question']}" in prompt for doc, prompt in zip(docs, prompts, strict=True))


def test_the_report_counts_one_call(chat: FaceLlavaChat, tmp_path: Path) -> None:
    from loguru import logger

    docs, told = rows(tmp_path), []  # type: tuple[list[dict[str, Any]], list[str]]
    sink = logger.add(told.append, format="{message}", level="INFO")
    chat.engine.margin = 0.0
    try:
        for _ in range(2):
            chat.generate_until(task_requests(chat, docs, []))
    finally:
        logger.remove(sink)
    assert ["40 answers, 3 images encoded" in told[0], "40 answers, 0 images encoded" in told[1]] == [True, True]


def test_images_of_question_files_are_looked_at_once(checkpoint: Path) -> None:
    model = FaceLlava(pretrained=str(checkpoint), device="cpu", margin=0)  # an answer asked again opens its image
    calls: list[str] = []
    pictures = {f"{n}.png": picture(n) for n in range(3)}
    docs = [
        {"question_id": f"{name}-{n}", "image_id": name, "cluster": name, "kind": "yes_no", "images": [name],
         "image_root": "/somewhere", "video": "", "question": f"Is it {n}?"}
        for n in range(10) for name in pictures
    ]  # fmt: skip

    def doc_to_visual(doc: dict[str, Any]) -> list[Any]:
        calls.append(doc["images"][0])
        return [pictures[doc["images"][0]]]

    model.task_dict["file"] = {"test": docs}
    requests = [Request(d["question"], dict(GREEDY), doc_to_visual, n, "file", "test") for n, d in enumerate(docs)]
    answers = model.generate_until(requests)
    assert sorted(calls) == sorted([*pictures, *pictures])  # for its key, and to encode it
    assert model.engine.encoded == 3 and len(set(texts(answers))) > 3


def test_paths_are_read_as_pictures_are(model: FaceLlava, tmp_path: Path) -> None:
    picture(1).save(tmp_path / "1.png")
    docs = [{"question": "Is it?", "visuals": [visual]} for visual in (picture(1), str(tmp_path / "1.png"))]
    first, second = model.generate_until(simple_requests(model, docs))
    assert first == second


@pytest.mark.parametrize("media", ["clip.mp4", 3.5, {"array": [1]}, "nothing.png"])
def test_what_is_no_image_is_refused(model: FaceLlava, chat: FaceLlavaChat, media: Any) -> None:
    docs = [{"question": "What?", "visuals": [media], "media": "image" if media == "nothing.png" else "video"}]
    told = "missing|cannot be read" if media == "nothing.png" else "task (demo|talk), document 0: .*not an image"
    with pytest.raises(FaceDataError, match=told):
        model.generate_until(simple_requests(model, docs))
    with pytest.raises(FaceDataError, match=told):
        chat.generate_until(chat_requests(chat, docs))


def test_other_requests_are_refused(model: FaceLlava) -> None:
    for method in (model.loglikelihood, model.generate_until_multi_round):
        with pytest.raises(FaceHostError, match="generate_until tasks only"):
            method([])


def test_what_lmms_eval_reads_of_a_model(model: FaceLlava) -> None:
    assert (model.rank, model.world_size, model.device, model.batch_size) == (0, 1, torch.device("cpu"), QUESTIONS)
    assert model.accelerator.num_processes == 1


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"pretrained": "x", "batchsize": 3}, "unknown face_llava argument 'batchsize'.*batch_size.*known: pretrained"),
        ({}, "needs pretrained"),
        ({"pretrained": "x", "dtype": "int8"}, "dtype='int8'"),
        ({"pretrained": "x", "batch_size": 0}, "batch_size=0: at least 1"),
        ({"pretrained": "x", "batch_size": "many"}, "batch_size='many' is not a number"),
        ({"pretrained": "x", "images_per_batch": 1.5}, "not a whole number"),
        ({"pretrained": "x", "cache_mb": -1}, "cannot be negative"),
        ({"pretrained": "x", "margin": "nan"}, "not finite"),
        ({"pretrained": "x", "exact": "maybe"}, "neither True nor False"),
        ({"pretrained": "x", "attn_implementation": "flash_attention_2"}, "sdpa, eager"),
    ],
)
def test_wrong_arguments_are_told(given: dict[str, Any], told: str) -> None:
    with pytest.raises(FaceConfigError, match=told):
        FaceLlava(**given)


def test_arguments_as_lmms_eval_gives_them() -> None:
    given = {"pretrained": "x", "batch_size": "8", "exact": True, "margin": 0, "cache_mb": "10", "device": None}
    read = Arguments.of(given)
    assert (read.batch_size, read.exact, read.margin, read.cache_mb, read.device) == (8, True, 0.0, 10, None)
    assert [Arguments.of({"pretrained": "x", "batch_size": n}).batch_size for n in (1, "1", "auto", 2)] == [
        64,
        64,
        64,
        2,
    ]
    with pytest.raises(FaceConfigError, match="no torch device"):
        Arguments("x", device="gpu").device_for(0, 1)
    if not torch.cuda.is_available():
        with pytest.raises(FaceHostError, match="CUDA"):
            Arguments("x", device="cuda:1").device_for(0, 1)


@pytest.mark.parametrize(
    "config",
    [
        '{"model_type": "vipllava", "architectures": ["VipLlavaForConditionalGeneration"], "text_config": {}}',
        '{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}',
        "{}",
    ],
)
def test_models_of_other_hosts_are_refused(tmp_path: Path, config: str) -> None:
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(FaceHostError, match="not a model that face_llava knows"):
        load_host(Arguments(str(tmp_path)), torch.device("cpu"))


def test_a_long_reason_is_one_short_line(tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoConfig

    (tmp_path / "config.json").write_text((checkpoint / "config.json").read_text())

    def refuse(*_: Any, **__: Any) -> None:
        raise ImportError("\nneeds\n  torchvision " + "x" * 1000)

    monkeypatch.setattr(AutoConfig, "from_pretrained", refuse)
    with pytest.raises(FaceHostError) as caught:
        load_host(Arguments(str(tmp_path)), torch.device("cpu"))
    said = str(caught.value).partition("cannot load it: ")[2]
    assert said.startswith("needs torchvision xxx") and len(said) == 300


def test_a_directory_without_weights_is_told(tmp_path: Path, checkpoint: Path) -> None:
    (tmp_path / "config.json").write_text((checkpoint / "config.json").read_text())
    with pytest.raises(FaceHostError, match="transformers cannot load it"):
        load_host(Arguments(str(tmp_path)), torch.device("cpu"))
    with pytest.raises(FaceHostError, match="model_base is for"):
        load_host(Arguments(str(checkpoint), model_base="x"), torch.device("cpu"))
    with pytest.raises(FaceConfigError):
        load_host(Arguments(str(tmp_path / "absent")), torch.device("cpu"))


def test_generation_arguments() -> None:
    plain = Generation.of({})
    assert (plain.max_new_tokens, plain.until, plain.greedy) == (MAX_NEW_TOKENS, (), True)
    assert Generation.of({"until": "x"}).until == ("x",) and Generation.of({"until": ["", "a"]}).until == ("a",)
    assert Generation.of({"temperature": 0.5}).options == {"do_sample": True, "temperature": 0.5}
    assert Generation.of({"do_sample": True, "top_k": 3}).options == {"do_sample": True, "temperature": 1.0, "top_k": 3}
    assert Generation.of({"do_sample": False, "temperature": 1, "top_p": 0.3, "num_beams": 1, "use_cache": 1}).greedy
    for wrong in ({"max_new_tokens": 0}, {"max_new_tokens": "3"}, {"until": [3]}):
        with pytest.raises(FaceConfigError, match="generation_kwargs"):
            Generation.of(wrong)


def test_visual_cache_keeps_the_last_used_within_its_bound() -> None:
    cache = VisualCache(1)  # 10^6 bytes: two entries of 100 x 1000 float32
    tokens = torch.zeros(100, 1000)
    for key in "abc":
        cache.put(key, tokens)
        assert cache.get("a") is not None or key == "c"
        assert cache.size <= 1_000_000
    assert len(cache) == 2 and cache.get("b") is None and cache.get("a") is not None
    cache.put("big", torch.zeros(1000, 1000))
    assert cache.get("big") is None and len(cache) == 2
    view = torch.zeros(8, 10, 10)[1]
    cache.clear()
    cache.put("view", view)
    assert cache.size == 400 and cache.get("view").untyped_storage().nbytes() == 400  # type: ignore[union-attr]
