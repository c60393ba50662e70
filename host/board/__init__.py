"""A board that is reached over SSH, for tools that have to run where an accelerator is: docs/jetson.md.

`ssh` is the connection, `guard` what waits there and leaves the board as it was, `facts` and `state` what the
board is and how it is just now, `carry` its store of files, `image` a tool's image there.
`host.engines.board` runs tools with them.
"""
