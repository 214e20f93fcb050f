"""From JPEGs to answers: detector, classifier, and what writes and draws their predictions."""
