"""``face_llava``: LLaVA checkpoints of any host in lmms-eval, many questions about an image at the cost of few."""
