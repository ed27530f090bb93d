"""Pictures of answers: contact sheets and HTML reports."""
