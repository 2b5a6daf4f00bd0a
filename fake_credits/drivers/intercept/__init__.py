"""Own interception: requests that an application's own HTTP library sends are answered in process by a sandbox."""
