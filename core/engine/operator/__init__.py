"""Commands of the operator: kill levels, stages, acknowledgements, queries."""
