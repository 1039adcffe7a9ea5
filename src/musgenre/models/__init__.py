"""The network of feature, backbone and head, and the classifier that predicts, saves, loads and explains with it."""
