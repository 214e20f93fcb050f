"""From JPEGs to predictions: detector, classifier, and what writes and draws what they find."""
