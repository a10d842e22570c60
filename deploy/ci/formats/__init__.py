"""Output formats of a check report: terminal, job summary, annotations, JUnit, Code Quality, comments, a page.

``deploy check`` calls `registry`, which has them all by name. `verdict` orders the rows and sums them up, and `figures`
formats their numbers; each format has its own file and is made from the report alone. `posting` posts the `comment`:
`pull_request` and `merge_request` talk to a server through `web`, and `conversation` keeps it to one comment. `places`
gives file paths from the root of the repository.
"""

__all__: list[str] = []
