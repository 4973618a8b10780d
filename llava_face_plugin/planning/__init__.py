"""``llava-face plan``: memory, FLOPs and step time of a training run, from shapes alone, with face mode off and on.

shapes (catalogue, read) -> skeleton of real modules -> one traced step without data (tracing) -> sharing (memory)
"""
