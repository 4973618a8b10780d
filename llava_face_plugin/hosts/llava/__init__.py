"""What LLaVA 1.5's own package and LLaVA-NeXT's share: both are called ``llava``, and one grew out of the other."""
