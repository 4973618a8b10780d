"""The model classes that lmms-eval makes: ``FaceLlava`` for simple tasks, ``FaceLlavaChat`` for chat tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts
from lmms_eval.api.model import lmms
from loguru import logger
from tqdm import tqdm

from ...errors import FaceHostError
from .arguments import Arguments
from .engine import Engine
from .generation import Generation
from .host import Message, load_host
from .messages import Turns, media, plain, shown, texts
from .questions import ImageRef, Question, from_visuals, image_names


class FaceLlava(lmms):  # type: ignore[misc]
    """LLaVA of any host on face tasks. Arguments: see ``Arguments``.

    Raises ``FaceConfigError`` for unknown or wrong arguments and ``FaceHostError`` for a model that is not known.
    """

    is_simple = True

    def __init__(self, **given: Any) -> None:
        super().__init__()
        arguments = Arguments.of(given)
        # Accelerate must know before it makes its process group whether that is for the CPU (gloo).
        on_cpu = str(arguments.device or "").startswith("cpu") or not torch.cuda.is_available()
        self.accelerator = Accelerator(cpu=on_cpu)
        self._rank, self._world_size = self.accelerator.process_index, self.accelerator.num_processes
        self.device = arguments.device_for(self.accelerator.local_process_index, self._world_size)
        self.engine = Engine(load_host(arguments, self.device), arguments)
        self.batch_size_per_gpu = arguments.batch_size
        self._clips = arguments.clips(self.device) if self.engine.host.reads_video else None
        self._known_images: dict[Any, tuple[ImageRef, ...]] = {}
        self._known_turns: dict[Any, Turns] = {}

    @property
    def batch_size(self) -> int:
        """Questions a step; lmms-eval writes it into its results."""
        return self.batch_size_per_gpu

    def generate_until(self, requests: list[Instance]) -> list[GenerationResult]:
        """One result a request, in their order; requests of several tasks may be mixed.

        Raises ``FaceDataError`` for images and videos that cannot be read, for audio, and for video where the model
        reads none.
        """
        self._known_images, self._known_turns = {}, {}
        before = self._counts()
        reading = tqdm(requests, disable=self.rank != 0, desc="Reading questions")
        questions = [self._question(*request.args) for request in reading]
        with tqdm(total=len(requests), disable=self.rank != 0, desc="Model Responding") as bar:
            answers = self.engine.answer(questions, bar.update)
        self._report(len(requests), [now - then for now, then in zip(self._counts(), before, strict=True)])
        return [
            GenerationResult(a.text, TokenCounts(input_tokens=a.input_tokens, output_tokens=a.output_tokens))
            for a in answers
        ]

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Raises ``FaceHostError``: lmms-eval 0.7.3 has no loglikelihood request that works for both kinds of task."""
        raise FaceHostError("face_llava answers generate_until tasks only; loglikelihood is not supported")

    def generate_until_multi_round(self, requests: list[Instance]) -> list[str]:
        """Raises ``FaceHostError``."""
        raise FaceHostError("face_llava answers generate_until tasks only; several rounds are not supported")

    def _question(
        self,
        context: str,
        generation: Mapping[str, Any],
        doc_to_visual: Callable[[Any], Any],
        doc_id: int,
        task: str,
        split: str,
    ) -> Question:
        def visuals() -> Any:
            return doc_to_visual(self.task_dict[task][split][doc_id])

        images = self._images(visuals, doc_id, task, split)
        kind = images[0].kind if images else "image"
        return Question(self.engine.host.render(context, len(images), kind), images, Generation.of(generation))

    def _images(self, visuals: Callable[[], Any], doc_id: int, task: str, split: str) -> tuple[ImageRef, ...]:
        """The images of a document; those that our question files name are looked at once a task."""
        where = f"task {task}, document {doc_id}"
        names = image_names(self.task_dict[task][split][doc_id])
        if names is None:
            return from_visuals(visuals(), where, visuals, self._clips)
        key = (task, split, names)
        if key not in self._known_images:
            self._known_images[key] = from_visuals(visuals(), where, visuals, self._clips)
        return self._known_images[key]

    def _counts(self) -> tuple[int, int, int]:
        """Of all calls so far."""
        return self.engine.encoded, self.engine.asked_again, self.engine.one_by_one

    def _report(self, answers: int, counts: Sequence[int]) -> None:
        encoded, again, alone = counts
        notes = [
            f"{answers} answers, {encoded} images encoded, {again} answers near a tie asked again, "
            f"{alone} answered one by one",
            *self.engine.host.notes(),
        ]
        logger.info("face_llava: {}", "; ".join(notes))


class FaceLlavaChat(FaceLlava):
    """The same for tasks with messages (``doc_to_messages``, ours among them): what lmms-eval runs by default.

    Messages hold opened images, so for rows of our question files they are made once for the same images: where their
    one text is the request's context (what ``doc_to_text`` gives), the other questions put theirs in its place.
    """

    is_simple = False

    def _question(  # type: ignore[override]
        self,
        context: str,
        doc_to_messages: Callable[[Any], Any],
        generation: Mapping[str, Any],
        doc_id: int,
        task: str,
        split: str,
    ) -> Question:
        def messages() -> Sequence[Message]:
            return plain(doc_to_messages(self.task_dict[task][split][doc_id]))

        doc = self.task_dict[task][split][doc_id]
        names = image_names(doc)
        # The kind, too: a task of a user's own may word one kind in its messages only.
        key = names and (task, split, doc["kind"], names)
        known = self._known_turns.get(key)
        if known is None:
            given = messages()
            where = f"task {task}, document {doc_id}"
            images = from_visuals(media(given), where, lambda: media(messages()), self._clips)
            known = Turns(shown(given), images)
            if key and texts(given) == [context]:
                self._known_turns[key] = known
            turns = known.shown
        else:
            turns = known.asking(context)
        return Question(self.engine.host.render_chat(turns), known.images, Generation.of(generation))
