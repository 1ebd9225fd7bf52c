"""Results of other load clients as records: `forms` knows their files, `table` makes runs, `read` is asked."""
