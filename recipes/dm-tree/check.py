"""dm-tree's own tests, all of them, in one process."""

import json
import sys
import unittest

from absl import flags

flags.FLAGS(sys.argv[:1])
suite = unittest.defaultTestLoader.loadTestsFromName("tree.tree_test")
result = unittest.TextTestRunner(verbosity=2).run(suite)
failures = len(result.failures) + len(result.errors) + len(result.unexpectedSuccesses)
with open(sys.argv[1], "w") as out:
    json.dump({"tests": result.testsRun, "failures": failures, "skipped": len(result.skipped)}, out)
sys.exit(1 if failures else 0)
