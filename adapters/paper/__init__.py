"""A simulated broker: matches orders against an adapter's own quotes, with faults on request.

The matching core (`exchange`, `trading`, `matching`, `book`) has no clock, socket or file: times and quotes go in,
reports come out. `adapter` wraps a platform's adapter with it; `store` keeps the account on disk.
"""
