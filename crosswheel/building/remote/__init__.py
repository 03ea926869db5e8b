"""Bazel's remote cache and remote execution: the one exception to a build's having no network.

A container keeps having none. A unix socket is mounted into the container of a step that runs Bazel, and leads to a
forwarder in this process, which reaches the one endpoint that the user named, and nothing else there than a cache's own
requests. TLS and credentials stay on this side. Nothing of it is in a key.

:mod:`.endpoints` has what the user says, :mod:`.opening` opens the way for one step, :mod:`.http` and :mod:`.rpc`
forward, :mod:`.relay` runs in the container, because old versions of Bazel do not speak to a unix socket.
"""
