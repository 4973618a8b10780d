"""From a data set of images to a map store: inputs, engines, resumable writing."""
