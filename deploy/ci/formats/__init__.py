"""Where a check report is read: terminal, job summary, annotations, JUnit, Code Quality, comments, a page.

`registry` has them all by name and is what ``deploy check`` calls. `verdict` says which row is graver and what it comes
to, `figures` how its numbers are written; one file for each format follows, and each is made from the report alone.
`comment` is posted by `pull_request` and `merge_request`, which speak to a server through `web`.
"""

__all__: list[str] = []
