"""The first stage: where tasks come from, and which of them are practice, anchors and exam."""
