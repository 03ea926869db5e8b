"""What works and what does not, each in a sentence that says what to do."""

from cuda_check import libraries

# cudaError_t (driver_types.h): the numbers are the same in all versions.
NO_DRIVER, NO_DEVICE = 35, 100
NO_KERNEL_IMAGE = (209, 48)


class Finding(object):
    """One thing that was looked at: ``subject``, whether it ``works``, and a sentence."""

    def __init__(self, subject, works, sentence):
        self.subject = subject
        self.works = works
        self.sentence = sentence

    def as_json(self):
        return {"subject": self.subject, "works": self.works, "sentence": self.sentence}


class Report(object):
    """All findings, and the numbers behind them (``facts``)."""

    def __init__(self):
        self.findings = []
        self.facts = {}

    @property
    def works(self):
        return all(finding.works for finding in self.findings)

    def add(self, subject, works, sentence):
        self.findings.append(Finding(subject, works, sentence))

    def as_json(self):
        return {
            "works": self.works,
            "findings": [finding.as_json() for finding in self.findings],
            "facts": self.facts,
        }

    def text(self):
        width = max(len(finding.subject) for finding in self.findings)
        lines = []
        for finding in self.findings:
            mark = "ok  " if finding.works else "FAIL"
            lines.append("{0}  {1}  {2}".format(mark, finding.subject.ljust(width), finding.sentence))
        lines.append("CUDA works here." if self.works else "CUDA does not work here as it should.")
        return "\n".join(lines)


def check():
    """Looks at everything; returns a :class:`Report`. Nothing is raised for what is missing or broken."""
    report = Report()
    report.facts["preloaded"] = libraries.preload()
    runtime = _load(report, "_runtime", "runtime", "the CUDA runtime")
    devices = _runtime(report, runtime) if runtime else []
    working = [device["number"] for device in devices if _device(report, runtime, device)]
    _library(report, "_blas", "cuBLAS", _blas_version, working)
    _library(report, "_dnn", "cuDNN", _dnn_version, working)
    return report


def _load(report, name, subject, title):
    module, why = libraries.load(name)
    if module is not None:
        return module
    library = libraries.missing(why)
    if library:
        sentence = ("{0} is not found: install the package that has it, or name its folder in LD_LIBRARY_PATH").format(
            library
        )
    else:
        sentence = "{0} does not load: {1}".format(title, why)
    report.add(subject, False, sentence)
    return None


# --- runtime, driver, GPUs --------------------------------------------------------------------------------------------


def version(number):
    """CUDA's version as people write it: 12040 is 12.4."""
    return "{0}.{1}".format(number // 1000, number % 1000 // 10)


def _runtime(report, runtime):
    """Tells of runtime and driver; returns the GPUs."""
    versions = runtime.versions()
    report.facts["versions"] = versions
    found, compiled = version(versions["runtime"]), version(versions["compiled"])
    same = versions["runtime"] // 1000 == versions["compiled"] // 1000
    text = "CUDA {0}" if found == compiled else "CUDA {0}; this package was compiled with {1}"
    if versions["runtime"] == 0:
        # Up to CUDA 11, the runtime says its own version only where there is a driver.
        same, text = True, "it loads; this package was compiled with CUDA {1}"
    report.add("runtime", same, text.format(found, compiled))
    listed = runtime.devices()
    report.facts["devices"] = listed
    error = listed["error"]
    if versions["driver"] == 0:
        report.add("driver", False, "there is no NVIDIA driver: libcuda.so.1 is not found, or belongs to no GPU")
        return []
    driver = version(versions["driver"])
    if error and error["number"] == NO_DRIVER:
        text = "the driver knows CUDA up to {0}, and the runtime is {1}: a newer driver (or JetPack) is wanted"
        report.add("driver", False, text.format(driver, found))
        return []
    report.add("driver", True, "knows CUDA up to {0}".format(driver))
    if error:
        what = "the driver finds no GPU" if error["number"] == NO_DEVICE else error["text"]
        report.add("GPU", False, "{0} ({1})".format(what, error["name"]))
    return listed["devices"]


def _device(report, runtime, device):
    """Tells of a GPU and of the kernel on it; returns whether it works."""
    subject = "GPU {0}".format(device["number"])
    if device["error"]:
        report.add(subject, False, device["error"]["text"])
        return False
    capability = "{0}.{1}".format(*device["capability"])
    memory = device["memory"] / float(1 << 30)
    text = "{0}, compute capability {1}, {2:.1f} GiB".format(device["name"], capability, memory)
    report.add(subject, True, text + (", shared with the processor" if device["integrated"] else ""))
    ran = runtime.kernel(device["number"])
    report.facts.setdefault("kernels", []).append(ran)
    error = ran["error"]
    if error and error["number"] in NO_KERNEL_IMAGE:
        text = "this package has no code for compute capability {0}: build it with --capability {0}"
        report.add("kernel", False, text.format(capability))
        return False
    if error:
        report.add("kernel", False, "{0}: {1} ({2})".format(ran["call"], error["text"], error["name"]))
        return False
    if ran["wrong"]:
        report.add("kernel", False, "{0} elements of its result are wrong".format(ran["wrong"]))
        return False
    report.add("kernel", True, _kernel_text(ran, device["capability"]))
    return True


def _kernel_text(ran, capability):
    code = ran["binary_version"]
    text = "ran from the code for sm_{0}".format(code)
    if code // 10 != capability[0]:
        text = "ran from PTX for compute_{0}, which the driver compiled: the first start is slow".format(code)
    return "{0}; the first start took {1:.1f} ms".format(text, ran["milliseconds"])


# --- cuBLAS and cuDNN -------------------------------------------------------------------------------------------------


def _blas_version(versions):
    return tuple(versions["library"]), tuple(versions["compiled"])


def _dnn_version(versions):
    return dnn_version(versions["library"]), dnn_version(versions["compiled"])


def dnn_version(number):
    """cuDNN's version: 8907 is 8.9.7, and since 9 there is a digit more: 90600 is 9.6.0."""
    if number >= 10000:
        return (number // 10000, number % 10000 // 100, number % 100)
    return (number // 1000, number % 1000 // 100, number % 100)


def _library(report, name, title, read, devices):
    if not libraries.built(name):
        report.add(title, True, "not looked at: this package was built without it")
        return
    module = _load(report, name, title, title)
    if module is None:
        return
    versions = module.versions()
    report.facts[title] = versions
    found, compiled = read(versions)
    told = ".".join(str(part) for part in found)
    if found[0] != compiled[0]:
        wanted = ".".join(str(part) for part in compiled)
        report.add(title, False, "{0}, and this package was compiled with {1}".format(told, wanted))
        return
    if not devices:
        report.add(title, True, "{0}; not called, as there is no GPU that works".format(told))
        return
    called = module.call(devices[0])
    report.facts[title + " call"] = called
    if called["status"]:
        text = "{0}; {1} failed with status {2} {3}".format(
            told, called["call"], called["status"], called.get("text", "")
        )
        report.add(title, False, text.rstrip())
    elif called["wrong"]:
        report.add(title, False, "{0}; {1} elements of its result are wrong".format(told, called["wrong"]))
    else:
        report.add(title, True, "{0}; a call on GPU {1} gave the right result".format(told, devices[0]))
