"""The server side of the control plane, which manages a live server's sandboxes for test suites in any language."""
