"""Commands of a person: kill levels, stages, acknowledgements, queries."""
