"""Instance files on disk: plain PS3.10, written once, never changed, never named after anything a peer sent. CONTRACT: see files.py."""
