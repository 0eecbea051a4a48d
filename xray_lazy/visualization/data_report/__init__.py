"""Data sets as people look at them: charts of what they have, images with annotations, and the faulty ones."""
