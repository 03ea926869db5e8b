"""What dm-tree's build_defs.bzl uses of bazel_skylib."""

def _uniq(iterable):
    return {element: None for element in iterable}.keys()

collections = struct(uniq = _uniq)
