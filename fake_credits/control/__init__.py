"""Own the control plane: what a suite in another language asks of a server's sandboxes; know no API operation."""
