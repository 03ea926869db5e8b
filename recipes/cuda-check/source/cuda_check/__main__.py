"""python -m cuda_check [--json]: exit status 0 if everything works, 1 if something does not."""

import json
import sys

import cuda_check

USAGE = "usage: python -m cuda_check [--json]"


def main(arguments):
    """Prints the report; returns the exit status (2 for other arguments than ``--json``)."""
    if arguments not in ([], ["--json"]):
        sys.stderr.write(USAGE + "\n")
        return 2
    report = cuda_check.check()
    if arguments:
        print(json.dumps(report.as_json(), indent=1, sort_keys=True))
    else:
        print(report.text())
    return 0 if report.works else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
