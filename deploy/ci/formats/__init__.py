"""Where a check report is read: terminal, job summary, annotations, JUnit, Code Quality, comments, a page.

`registry` has them all by name and is what ``deploy check`` calls. `verdict` says which row is graver and what it comes
to, `figures` how its numbers are written; one file for each format follows, and each is made from the report alone.
`comment` is posted by `posting`: `pull_request` and `merge_request` speak to a server through `web`, and `conversation`
keeps it one comment. `places` names files from the root of the repository.
"""

__all__: list[str] = []
