"""The server side of the control plane, with which test suites in any language manage a live server's sandboxes."""
