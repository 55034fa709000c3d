"""How commands ask the running router: a Unix socket in the state folder, one line of JSON each way.

The journal has one writer, and what was never journalled is known only to the process itself. `language` holds the
questions and answers, `server` is the router's side, `client` that of the commands.
"""
