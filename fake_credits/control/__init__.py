"""The server of the control plane, through which test suites in any language manage a live server's sandboxes."""
