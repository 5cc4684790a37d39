"""Universal BI: questions about tables, answered with read-only SQL. Small, but real."""

VERSION = "1.0.0"
