"""One HTML page that tells the story of a training, or of several side by side."""
