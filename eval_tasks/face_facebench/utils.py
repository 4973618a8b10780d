"""FaceBench: what is scored, by type of question."""

from llava_face_plugin.evaluation.suites import facebench
from llava_face_plugin.evaluation.suites.shared import suite_scorer

choice = suite_scorer(facebench.choice_record, facebench.CHOICE)
multiple = suite_scorer(facebench.multiple_record, facebench.MULTIPLE)
open_ = suite_scorer(facebench.open_record, facebench.OPEN)
