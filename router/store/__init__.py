"""Instance files on disk: plain PS3.10, written once, never changed, never named after anything a peer sent.

`files` is the door, `writer` and `reading` the two ways through it, `blanks` the names made ahead, `listing` what
start-up looks at.
"""
