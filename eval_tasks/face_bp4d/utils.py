"""BP4D: one yes/no question an action unit."""

from llava_face_plugin.evaluation.action_unit_scoring import unit_scorer
from llava_face_plugin.evaluation.scoring import YES_NO

process_results = unit_scorer(*YES_NO)
