"""crosswheel: cross-builds TensorFlow and its neighbours into wheels, and proves that each wheel fits its target."""
