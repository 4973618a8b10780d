"""Face-Human-Bench: one letter of two to four, read strictly and as the paper reads it before it asks GPT-3.5."""

from llava_face_plugin.evaluation.suites.human_bench import METRICS, record
from llava_face_plugin.evaluation.suites.shared import suite_scorer

process_results = suite_scorer(record, METRICS)
