"""Human-readable output: tables, plots and pages.

`answer` holds the headline result; `tables`, `layer_tables`, `load_table` and `plan_text` derive a `table.Table`;
`terminal`, `markdown` and `page` show both, `layers_shown` does in Python. `drawing` and `plan_picture` draw; `pages`
has the templates; `formatting` writes numbers.
"""

__all__: list[str] = []
