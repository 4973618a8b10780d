"""One file a data set: the user's own copy becomes LLaVA conversations and a knowledge file."""
