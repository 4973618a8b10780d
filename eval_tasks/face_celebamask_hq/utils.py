"""CelebAMask-HQ: yes/no about parts; choices about their size."""

from llava_face_plugin.evaluation.scoring import CHOICE, YES_NO, scorer

presence = scorer(*YES_NO)
size = scorer(*CHOICE)
