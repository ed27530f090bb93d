"""Pictures of query results: contact sheets and HTML reports."""
