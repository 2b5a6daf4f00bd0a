"""The control plane's server: it governs a live server's sandboxes for suites in any language."""
